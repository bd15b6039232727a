/** Light, dark, or what the system says: a choice in a cookie, made by a form that works without scripts. */
import type { Action } from "./page";
import { Problem } from "../rest/problem";

export const themeCookie = "keelson-theme";
const yearSeconds = 365 * 24 * 3_600;

export const chooseTheme: Action = {
  path: "/theme",
  section: "overview",
  run({ form }) {
    const theme = form.text("theme");
    if (theme !== "light" && theme !== "dark" && theme !== "system") {
      throw new Problem("bad-parameter", "A theme is light, dark or system.");
    }
    const maxAge = theme === "system" ? 0 : yearSeconds;
    return {
      kind: "done",
      to: form.text("to") ?? "/ui/",
      cookies: [`${themeCookie}=${theme}; Path=/ui; SameSite=Strict; Max-Age=${maxAge}`],
    };
  },
};
