/** The one place that opens the state database and decides its pragmas, format and schema. */
import type { Database } from "bun:sqlite";

/** Opens (or creates) the state database at `path`, or one in memory, and brings its schema up to date. */
export function openStateDatabase(_path: string): Database {
  throw new Error("not written");
}
