/** Times of revisions: parameters that take one, and answers that show one. */
import { Type } from "@sinclair/typebox";
import type { Parameter } from "./parameters";
import { Problem } from "./problem";
import type { RestServices } from "./services";

const pattern = "^\\d{4}-\\d{2}-\\d{2}T\\d{2}:\\d{2}:\\d{2}(\\.\\d{1,9})?(Z|[+-]\\d{2}:\\d{2})$";
const expression = new RegExp(pattern);

/** A moment (RFC 3339), as milliseconds since 1970. */
export const timeParameter: Parameter<number> = {
  schema: Type.String({ format: "date-time", pattern }),
  description: "As of this moment (RFC 3339), to a second, instead of a revision.",
  example: "2030-01-02T03:04:05Z",
  read(bytes, name) {
    // A plus of a time zone that nobody escaped was read as a space.
    const text = Buffer.from(bytes).toString("latin1").replace(" ", "+");
    const timeMs = expression.test(text) ? Date.parse(text) : Number.NaN;
    if (Number.isNaN(timeMs)) {
      throw new Problem(
        "bad-parameter",
        `The parameter ${JSON.stringify(name)} must be a time such as 2030-01-02T03:04:05Z.`,
      );
    }
    return timeMs;
  },
};

/** The revision that a query means: the one it names, or the newest one at the time it names; 0 is the newest. */
export async function revisionOf(
  query: {
    readonly revision?: bigint | undefined;
    readonly time?: number | undefined;
    readonly serializable?: boolean | undefined;
  },
  { history }: RestServices,
): Promise<bigint> {
  if (query.time === undefined) return query.revision ?? 0n;
  if (query.revision !== undefined) throw new Problem("bad-parameter", "Give revision or time, not both.");
  const revision = await history.revisionAt(query.time, query.serializable === true);
  if (revision === undefined) {
    throw new Problem("compacted", "Nothing is known of that time: it lies before all retained history.");
  }
  return BigInt(revision);
}

/** The time of a revision as text; undefined when nobody knows it. */
export function timeText(revision: bigint, { history }: RestServices): string | undefined {
  const timeMs = history.timeOf(revision);
  return timeMs === undefined ? undefined : new Date(timeMs).toISOString();
}
