/** Writes large answers: pieces joined into chunks, other work in between, no faster than the client reads. */
import type { ServerResponse } from "node:http";
import { sliceBudgetMs } from "../../limits";

const chunkCharacters = 64 * 1024;

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

/** Writes all pieces; stops early when the response is gone. */
export async function writePieces(response: ServerResponse, pieces: Iterable<string>): Promise<void> {
  let text = "";
  let sliceEndMs = performance.now() + sliceBudgetMs / 2;
  for (const piece of pieces) {
    if (response.destroyed) return;
    text += piece;
    if (text.length >= chunkCharacters) {
      const takesMore = response.write(text);
      text = "";
      // The wait may be over at once, so it does not count as a pause.
      if (!takesMore) await whenWritable(response);
    }
    if (performance.now() >= sliceEndMs) {
      await new Promise((resolve) => setImmediate(resolve));
      sliceEndMs = performance.now() + sliceBudgetMs / 2;
    }
  }
  if (text !== "" && !response.destroyed) response.write(text);
}
