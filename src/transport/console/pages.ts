/** Every page and every action of the console. */
import { login } from "./login";
import type { Action, Page } from "./page";
import { kit } from "./pages/kit";
import { helpPages } from "./pages/help";
import { keyActions, keyPages } from "./pages/keys/all";
import { member } from "./pages/member";
import { members } from "./pages/members";
import { membershipActions, membershipPages } from "./pages/membership";
import { metrics } from "./pages/metrics";
import { overview } from "./pages/overview";
import { snapshotActions, snapshotPages } from "./pages/snapshots";
import { chooseTheme } from "./theme";

export const pages: readonly Page[] = [
  overview,
  members,
  ...membershipPages,
  member,
  ...keyPages,
  ...snapshotPages,
  metrics,
  ...helpPages,
  kit,
  login,
];

/** Signing in and out are the console's own; see console.ts. */
const session: readonly Action[] = ["/login", "/logout"].map((path) => ({
  path,
  section: "overview",
  run: () => ({ kind: "done", to: "/ui/" }),
}));

export const actions: readonly Action[] = [
  chooseTheme,
  ...membershipActions,
  ...session,
  ...keyActions,
  ...snapshotActions,
];
