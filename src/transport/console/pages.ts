/** Every page and every action of the console. */
import { login } from "./login";
import type { Action, Page } from "./page";
import { kit } from "./pages/kit";
import { overview } from "./pages/overview";
import { chooseTheme } from "./theme";

export const pages: readonly Page[] = [overview, kit, login];

/** Signing in and out are the console's own; see console.ts. */
const session: readonly Action[] = ["/login", "/logout"].map((path) => ({
  path,
  section: "overview",
  run: () => ({ kind: "done", to: "/ui/" }),
}));

export const actions: readonly Action[] = [chooseTheme, ...session];
