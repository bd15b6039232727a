/** A real browser that looks at the console, and writes down whatever it should not have met. */
import axeSource from "axe-core/axe.min.js" with { type: "text" };
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";
import { ensureChromium } from "../tools/install";

export interface Look {
  readonly theme?: "light" | "dark";
  readonly width?: number;
  /** Default true. */
  readonly scripts?: boolean;
}

/** What a visit met that no page may cause: requests elsewhere, violations of the policy, errors of scripts. */
export class Incidents {
  readonly found: string[] = [];

  watch(page: Page, origins: ReadonlySet<string>): void {
    page.on("request", (request) => {
      const { origin, protocol } = new URL(request.url());
      if (protocol !== "data:" && !origins.has(origin)) this.found.push(`asked ${request.url()}`);
    });
    page.on("console", (message) => {
      if (/Content Security Policy|Refused to/.test(message.text())) this.found.push(message.text());
    });
    page.on("pageerror", (error) => this.found.push(`script: ${error.message}`));
  }
}

export class TestBrowser {
  readonly incidents = new Incidents();

  private constructor(readonly browser: Browser) {}

  static async launch(): Promise<TestBrowser> {
    const args = ["--no-sandbox", "--disable-dev-shm-usage"];
    return new TestBrowser(await chromium.launch({ executablePath: ensureChromium(), args }));
  }

  context({ theme = "light", width = 1440, scripts = true }: Look = {}): Promise<BrowserContext> {
    return this.browser.newContext({
      viewport: { width, height: 900 },
      colorScheme: theme,
      javaScriptEnabled: scripts,
    });
  }

  /** A page in a context of its own; requests to other origins than these are incidents. */
  async page(origins: readonly string[], look: Look = {}): Promise<Page> {
    const page = await (await this.context(look)).newPage();
    this.incidents.watch(page, new Set(origins));
    page.setDefaultTimeout(15_000);
    return page;
  }

  close(): Promise<void> {
    return this.browser.close();
  }
}

interface AxeResults {
  readonly violations: readonly {
    readonly id: string;
    readonly impact: string | null;
    readonly nodes: readonly { readonly html: string; readonly failureSummary?: string }[];
  }[];
}

/** Serious and critical findings of axe on the page as it is now. */
export async function accessFindings(page: Page): Promise<string[]> {
  // The page's policy lets no script in; the debugger's evaluation is not under it.
  await page.evaluate(axeSource as unknown as string);
  const results = (await page.evaluate("axe.run(document, { resultTypes: ['violations'] })")) as AxeResults;
  return results.violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .flatMap(({ id, nodes }) => nodes.map(({ html }) => `${page.url()} ${id}: ${html.slice(0, 160)}`));
}
