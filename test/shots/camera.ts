/** Takes each state of a page in both themes, wide and narrow. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Page } from "playwright-core";
import type { TestBrowser } from "../console/browser";

const themes = ["light", "dark"] as const;
const widths = [1_440, 390] as const;
/** Longer pages are cut: what is below looks like what is above. */
const heightMax = 2_600;

export class Camera {
  /** Pages that scroll sideways, by name. */
  readonly sideways: string[] = [];
  taken = 0;

  constructor(
    readonly browser: TestBrowser,
    readonly directory: string,
    /** Takes only what has one of these in its name; everything when there are none. */
    readonly only: readonly string[],
  ) {
    mkdirSync(directory, { recursive: true });
  }

  wants(name: string): boolean {
    return this.only.length === 0 || this.only.some((part) => name.includes(part));
  }

  /** The page as it is now; not `whole` is what a window shows of it. */
  async take(name: string, page: Page, { whole = true }: { readonly whole?: boolean } = {}): Promise<void> {
    if (!this.wants(name)) return;
    await page
      .locator("#connection[data-state=live]")
      .waitFor({ timeout: 700 })
      .catch(() => {});
    for (const width of widths) {
      await page.setViewportSize({ width, height: 900 });
      for (const theme of themes) {
        await page.emulateMedia({ colorScheme: theme, reducedMotion: "reduce" });
        await page.evaluate("scrollTo(0, 0)");
        const [height, beyond] = (await page.evaluate(
          "[document.documentElement.scrollHeight, document.documentElement.scrollWidth - innerWidth]",
        )) as [number, number];
        if (beyond > 0) this.sideways.push(`${name} at ${width}: ${beyond} px`);
        await page.screenshot({
          path: join(this.directory, `${name}.${width}.${theme}.png`),
          ...(whole
            ? { fullPage: true, clip: { x: 0, y: 0, width, height: Math.min(height, heightMax) } }
            : {}),
        });
        this.taken++;
      }
    }
    await page.setViewportSize({ width: 1_440, height: 900 });
  }

  /** One picture of what a window of this height shows. */
  async picture(
    name: string,
    page: Page,
    height: number,
    colorScheme: (typeof themes)[number],
  ): Promise<void> {
    await page.setViewportSize({ width: 1_440, height });
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    await page.locator("#connection[data-state=live]").waitFor();
    await page.screenshot({ path: join(this.directory, `${name}.png`) });
    this.taken++;
  }

  /** Goes to each address and takes it. */
  async visit(page: Page, origin: string, addresses: Readonly<Record<string, string>>): Promise<void> {
    for (const [name, path] of Object.entries(addresses)) {
      if (!this.wants(name)) continue;
      await page.goto(origin + path);
      await this.take(name, page);
    }
  }
}
