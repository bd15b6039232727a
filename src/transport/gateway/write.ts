/** Writes large answers: pieces joined into chunks, other work in between, no faster than the client reads. */
import type { ServerResponse } from "node:http";
import { sliceBudgetMs } from "../../limits";

const chunkCharacters = 64 * 1024;
/** A client that takes nothing of a large answer for so long is cut off: it holds the answer in memory. */
const stalledMs = 120_000;

/**
 * Resolves when the response takes more, or is gone. Never at once: a sender that only awaits settled promises
 * would keep the event loop from learning that its client went away.
 */
export function whenWritable(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    if (response.destroyed || !response.writableNeedDrain) {
      setImmediate(resolve);
      return;
    }
    const done = (): void => {
      response.off("drain", done);
      response.off("close", done);
      resolve();
    };
    response.on("drain", done);
    response.on("close", done);
  });
}

/** As {@link whenWritable}; a response whose client takes nothing for too long is destroyed. */
async function writableInTime(response: ServerResponse, timeoutMs: number): Promise<void> {
  const timer = setTimeout(() => response.destroy(), timeoutMs);
  await whenWritable(response);
  clearTimeout(timer);
}

/** Writes all pieces; stops early when the response is gone, and ends it when its client takes nothing of it. */
export async function writePieces(
  response: ServerResponse,
  pieces: Iterable<string>,
  timeoutMs = stalledMs,
): Promise<void> {
  let text = "";
  let sliceEndMs = performance.now() + sliceBudgetMs / 2;
  for (const piece of pieces) {
    if (response.destroyed) return;
    text += piece;
    if (text.length >= chunkCharacters) {
      const takesMore = response.write(text);
      text = "";
      // The wait may be over at once, so it does not count as a pause.
      if (!takesMore) await writableInTime(response, timeoutMs);
    }
    if (performance.now() >= sliceEndMs) {
      await new Promise((resolve) => setImmediate(resolve));
      sliceEndMs = performance.now() + sliceBudgetMs / 2;
    }
  }
  if (text !== "" && !response.destroyed) response.write(text);
}
