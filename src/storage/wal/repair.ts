/** What a start does about the end of the log that it found, so that all it returns is on disk. */
import { assert } from "../../assert";
import type { Disk, DiskFile } from "../../member/ports";
import { isFull } from "./errors";
import { FrameBuilder, frameHeaderBytes, FrameType, sealFrame, viewOf } from "./format";
import { type Boundary, type Scan, scanLog } from "./recovery";
import { segmentName, startRoomBytes } from "./segment";
import type { LogBatch } from "./types";

/** How much is cleared at a time. */
const rewriteChunkBytes = 1024 ** 2;
/** Where a segment is written that counts only from its renaming on. */
export const unfinishedName = "unfinished";

/** Takes the log back to a boundary behind which nothing but markers and torn frames lie, and clears those. */
export async function clearFrom(
  boundary: Boundary,
  scan: Scan,
  disk: Disk,
  directory: string,
): Promise<Scan> {
  const segment = scan.index.segments.at(-1)!;
  const end = segment.used + scan.garbageBytes;
  const zeros = new Uint8Array(Math.min(end - boundary.offset, rewriteChunkBytes));
  for (let at = boundary.offset; at < end; at += zeros.length) {
    segment.file.write(at, zeros.subarray(0, Math.min(zeros.length, end - at)));
  }
  await segment.file.sync();
  disk.syncDirectory(directory);
  segment.used = boundary.offset;
  return { ...scan, end: boundary.position, chain: boundary.chain };
}

/**
 * Writes the frames of which it is not known whether they are on disk into a new segment. A sync of the old one
 * would not do: after a failed sync the system may take pages for written that are not. Nor would writing them
 * anew in place: they may be all there is of an acknowledged write, and a power cut could tear them. The new
 * segment counts from its renaming on, and the old one then ends where the new one begins.
 */
export async function moveUncertain(
  directory: string,
  disk: Disk,
  scan: Scan,
  segmentBytes: number,
): Promise<void> {
  const old = scan.index.segments.at(-1)!;
  const { certain, identity } = scan;
  const batches = scan.uncertain.flatMap(({ frame }) => (frame?.type === FrameType.batch ? [frame] : []));
  const bytes = batches.reduce((sum, frame) => sum + frame.bytes, segmentStartRoomBytes(certain.snapshot));
  // Nothing of the old segment is certain: the new one takes its place.
  const sequence = certain.position === old.position ? old.sequence : old.sequence + 1;
  const unfinished = `${directory}/${unfinishedName}`;
  if (disk.list(directory).includes(unfinishedName)) disk.remove(unfinished);
  const file = disk.open(unfinished, "create");
  try {
    // A member with a full disk should still start, to serve reads and to be helped.
    const allocatedBytes = allocateMost(file, [
      Math.max(segmentBytes, bytes),
      bytes + startRoomBytes(segmentBytes),
      bytes,
    ]);
    const fields = { life: scan.life + 1, synced: certain.position };
    const builder = new FrameBuilder(1024);
    const base = { baseIndex: certain.lastIndex, baseTerm: certain.lastTerm };
    builder.start({ identity, sequence, ...base, allocatedBytes });
    builder.hardState(certain.hardState);
    if (certain.snapshot !== undefined) builder.snapshot(certain.snapshot);
    const start = builder.finish({
      ...fields,
      type: FrameType.start,
      position: certain.position,
      previousChain: certain.chain,
    });
    file.write(0, start.frame);
    let at = start.frame.length + frameHeaderBytes;
    let previousChain = start.chain;
    for (const batch of batches) {
      const frame = old.file.read(batch.offset, batch.bytes).slice();
      const position = certain.position + at;
      previousChain = sealFrame(frame, viewOf(frame), {
        ...fields,
        type: FrameType.batch,
        position,
        previousChain,
      });
      file.write(at, frame);
      at += frame.length;
    }
    await file.sync();
    disk.rename(unfinished, `${directory}/${segmentName(sequence)}`);
    disk.syncDirectory(directory);
    if (sequence !== old.sequence) old.file.truncate(certain.offset);
  } finally {
    file.close();
  }
}

/** Gives a new file the first of these sizes that the disk has room for; throws when it has none for the last. */
function allocateMost(file: DiskFile, sizes: readonly number[]): number {
  for (const bytes of sizes.slice(0, -1)) {
    try {
      file.allocate(bytes);
      return bytes;
    } catch (error) {
      if (!isFull(error)) throw error;
    }
  }
  const least = sizes.at(-1)!;
  file.allocate(least);
  return least;
}

/** Room for a segment's first frame and slot. */
function segmentStartRoomBytes(snapshot: LogBatch["snapshot"]): number {
  const ids =
    snapshot === undefined
      ? 0
      : snapshot.configuration.voters.length + snapshot.configuration.learners.length;
  return 512 + 8 * ids + (snapshot?.digest.length ?? 0);
}

/** Reads the log after its uncertain part was moved: the same log, all of it on disk. */
export function scanAgain(directory: string, disk: Disk, before: Scan): Scan {
  for (const { file } of before.index.segments) file.close();
  const scan = scanLog(directory, disk);
  assert(
    scan.index.lastIndex === before.index.lastIndex &&
      scan.index.lastTerm === before.index.lastTerm &&
      scan.hardState.term === before.hardState.term &&
      scan.hardState.vote === before.hardState.vote &&
      scan.hardState.commit === before.hardState.commit,
    "the log changed while its end was moved",
  );
  return scan;
}

/** Removes the oldest segments one at a time, so that a power cut never leaves a hole between two others. */
export async function removeInOrder(directory: string, disk: Disk, paths: readonly string[]): Promise<void> {
  for (const path of paths) {
    await disk.removeLater(path);
    await disk.syncDirectoryLater(directory);
  }
}
