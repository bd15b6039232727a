/** What an action tells on the page that follows it. Kept for minutes, for those who know the notice's random id. */
import { randomBytes } from "node:crypto";
import type { Html } from "./html";

export interface Notice {
  readonly tone: "ok" | "warn" | "bad";
  /** What happened, figure first: "3 keys deleted at revision 812". */
  readonly text: string;
  /** More of it, such as the commands that do the same. */
  readonly body?: Html;
}

const noticesMax = 512;
const keptMs = 10 * 60_000;

export class Notices {
  readonly #kept = new Map<string, { readonly notice: Notice; readonly untilMs: number }>();

  /** Keeps a notice; the answer is its id. */
  keep(notice: Notice, nowMs: number): string {
    const id = randomBytes(12).toString("base64url");
    this.#kept.set(id, { notice, untilMs: nowMs + keptMs });
    for (const [other, { untilMs }] of this.#kept) {
      if (untilMs >= nowMs && this.#kept.size <= noticesMax) break;
      this.#kept.delete(other);
    }
    return id;
  }

  find(id: string | undefined, nowMs: number): Notice | undefined {
    const kept = id === undefined ? undefined : this.#kept.get(id);
    return kept === undefined || kept.untilMs < nowMs ? undefined : kept.notice;
  }
}
