/** What an import or a copy would do: read before it is done, and kept for a while for those who confirm it. */
import { randomBytes } from "node:crypto";
import { Problem } from "../../../rest/problem";
import type { ConsoleServices } from "../../page";
import type { Write } from "./batch";
import { getKey } from "./store";

/** Compared before others may work. */
const sliceKeys = 200;
const shownMax = 10;
const keptMs = 15 * 60_000;
const keptBytesMax = 64 * 1024 * 1024;

export interface PlannedKey {
  readonly key: Uint8Array;
  readonly kind: "new" | "changed" | "same";
  readonly bytes: number;
}

/** Writes that were compared with what is stored. */
export interface WritePlan {
  /** The revision that they were compared at. */
  readonly revision: number;
  readonly created: number;
  readonly changed: number;
  readonly same: number;
  /** Keys that would be changed, and that are left alone because overwriting was not asked for. */
  readonly skipped: number;
  readonly bytes: number;
  readonly first: readonly PlannedKey[];
  /** What is left to be written. */
  readonly writes: readonly Write[];
}

/** Compares keys with the newest state. What has the same value already is not written. */
export async function planWrites(
  services: ConsoleServices,
  keys: AsyncIterable<{ readonly key: Uint8Array; readonly value: Uint8Array }>,
  overwrite: boolean,
): Promise<WritePlan> {
  const { revision } = services.store;
  let [created, changed, same, skipped, bytes, seen] = [0, 0, 0, 0, 0, 0];
  const first: PlannedKey[] = [];
  const writes: Write[] = [];
  for await (const { key, value } of keys) {
    if (++seen % sliceKeys === 0) await new Promise<void>((resolve) => setImmediate(resolve));
    const { kv } = await getKey(services, key);
    const kind = kv === undefined ? "new" : Buffer.from(kv.value).equals(value) ? "same" : "changed";
    if (first.length < shownMax && kind !== "same") first.push({ key, kind, bytes: value.length });
    if (kind === "new") created++;
    else if (kind === "same") same++;
    else changed++;
    if (kind === "changed" && !overwrite) skipped++;
    if (kind === "same" || (kind === "changed" && !overwrite)) continue;
    bytes += key.length + value.length;
    if (bytes > keptBytesMax) {
      throw new Problem("too-large", "This is more than 64 MiB at once.", { fix: "Take it in parts." });
    }
    writes.push({ key, value, base: kv?.modRevision ?? 0n });
  }
  return { revision, created, changed, same, skipped, bytes, first, writes };
}

interface Kept {
  readonly plan: WritePlan;
  readonly untilMs: number;
}

/** Plans that were shown and wait for a yes; on this member, while its process lives. */
class Plans {
  readonly #kept = new Map<string, Kept>();

  keep(plan: WritePlan, nowMs: number): string {
    const id = randomBytes(18).toString("base64url");
    this.#kept.set(id, { plan, untilMs: nowMs + keptMs });
    let held = [...this.#kept.values()].reduce((sum, kept) => sum + kept.plan.bytes, 0);
    for (const [other, kept] of this.#kept) {
      if (kept.untilMs >= nowMs && held <= 2 * keptBytesMax) break;
      held -= kept.plan.bytes;
      this.#kept.delete(other);
    }
    return id;
  }

  /** Takes a plan out: it is carried out once. Throws a Problem when it is not there any more. */
  take(id: string | undefined, nowMs: number): WritePlan {
    const kept = id === undefined ? undefined : this.#kept.get(id);
    if (id === undefined || kept === undefined || kept.untilMs < nowMs) {
      throw new Problem("not-found", "What was to be written is not held any more.", {
        fix: "Begin again: plans are kept for 15 minutes, by the member that made them, and used once.",
      });
    }
    this.#kept.delete(id);
    return kept.plan;
  }
}

const plansByServices = new WeakMap<ConsoleServices, Plans>();

export function plansOf(services: ConsoleServices): Plans {
  let plans = plansByServices.get(services);
  if (plans === undefined) plansByServices.set(services, (plans = new Plans()));
  return plans;
}
