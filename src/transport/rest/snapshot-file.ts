/** A snapshot's file as an answer, whole or from where a download broke off, for REST and the console alike. */
import type { SnapshotInfo } from "../../service/snapshots";
import type { Answer } from "./answer";
import { Problem } from "./problem";
import type { RestServices } from "./services";

/** One range of a file, by RFC 9110 section 14; undefined: all of it. Throws a Problem when it has no such bytes. */
function rangeOf(header: string | undefined, bytes: number): { start: number; end: number } | undefined {
  const found = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header?.trim() ?? "");
  // Another unit, or several ranges: the whole is a valid answer.
  if (found === null) return undefined;
  const [, from = "", to = ""] = found;
  if (from === "" && to === "") return undefined;
  const start = from === "" ? Math.max(0, bytes - Number(to)) : Number(from);
  const end = from === "" || to === "" ? bytes - 1 : Math.min(Number(to), bytes - 1);
  if (from !== "" && to !== "" && Number(to) < Number(from)) return undefined;
  if (start >= bytes || (from === "" && Number(to) === 0)) {
    throw new Problem("range-not-satisfiable", `The file has ${bytes} bytes.`, {
      headers: { "content-range": `bytes */${bytes}` },
    });
  }
  return { start, end };
}

/** The file, from whichever member holds it; `header` finds a header of the request. Throws a Problem. */
export function snapshotFile(
  { snapshots }: Pick<RestServices, "snapshots">,
  info: SnapshotInfo,
  header: (name: string) => string | undefined,
): Answer {
  const tag = `"${info.sha256}"`;
  const ifRange = header("if-range");
  const range = ifRange === undefined || ifRange === tag ? rangeOf(header("range"), info.bytes) : undefined;
  const { start, end } = range ?? { start: 0, end: info.bytes - 1 };
  return {
    status: range === undefined ? 200 : 206,
    headers: {
      "content-type": "application/octet-stream",
      "content-length": String(end - start + 1),
      "content-disposition": `attachment; filename="${info.name}.db"`,
      "accept-ranges": "bytes",
      "x-content-type-options": "nosniff",
      etag: tag,
      ...(range === undefined ? {} : { "content-range": `bytes ${start}-${end}/${info.bytes}` }),
    },
    body: async (writer) => {
      for (let offset = start; offset <= end;) {
        const piece = await snapshots.read(info.name, offset, end - offset + 1);
        if (piece.length === 0) throw new Error(`the snapshot ${info.name} is shorter than it was`);
        offset += piece.length;
        if (!writer.write(piece)) await writer.drained();
        if (writer.over) return;
      }
    },
  };
}
