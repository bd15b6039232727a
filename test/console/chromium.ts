/** A real browser for tests of pages: Chromium, as the system has it. */
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";
import axePath from "axe-core/axe.min.js" with { type: "file" };

export type Theme = "light" | "dark";

export interface Violation {
  readonly id: string;
  readonly impact: string;
  readonly places: readonly string[];
}

/** Where Chromium is; undefined when the system has none. */
export function chromiumPath(): string | undefined {
  return Bun.which("chromium") ?? Bun.which("chromium-browser") ?? Bun.which("google-chrome") ?? undefined;
}

export function startChromium(): Promise<Browser> {
  const executablePath = chromiumPath();
  if (executablePath === undefined)
    throw new Error("these tests need Chromium: install the package chromium");
  return chromium.launch({ executablePath, args: ["--no-sandbox"] });
}

/** A page that notes what goes wrong on it: errors, blocked scripts and styles, requests to elsewhere. */
export async function openPage(
  browser: Browser,
  {
    scripts = true,
    theme = "light",
    width = 1440,
  }: { scripts?: boolean; theme?: Theme; width?: number } = {},
): Promise<{ readonly page: Page; readonly context: BrowserContext; readonly faults: string[] }> {
  const context = await browser.newContext({
    javaScriptEnabled: scripts,
    colorScheme: theme,
    viewport: { width, height: 900 },
    acceptDownloads: true,
  });
  const page = await context.newPage();
  const faults: string[] = [];
  page.on("console", (message) => {
    if (message.type() === "error" && !/status of 4\d\d/.test(message.text())) faults.push(message.text());
  });
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("request", (request) => {
    if (new URL(request.url()).hostname !== "127.0.0.1") faults.push(`asked ${request.url()}`);
  });
  return { page, context, faults };
}

/** Serious and critical findings of axe. The tool is put in from outside, past the page's own policy. */
export async function findings(
  browser: Browser,
  url: string,
  theme: Theme,
  width = 1440,
): Promise<Violation[]> {
  const context = await browser.newContext({
    colorScheme: theme,
    viewport: { width, height: 900 },
    bypassCSP: true,
  });
  try {
    const page = await context.newPage();
    await page.goto(url);
    await page.addScriptTag({ path: axePath });
    const found = (await page.evaluate("axe.run({ resultTypes: ['violations'] })")) as {
      violations: { id: string; impact: string; nodes: { html: string }[] }[];
    };
    return found.violations
      .filter(({ impact }) => impact === "serious" || impact === "critical")
      .map(({ id, impact, nodes }) => ({ id, impact, places: nodes.map(({ html }) => html.slice(0, 200)) }));
  } finally {
    await context.close();
  }
}
