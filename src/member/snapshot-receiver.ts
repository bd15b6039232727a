/**
 * The follower's side of a snapshot: pulls it into the folder of the next generation, verifies it, reads it, commits
 * it with a record in the log, and then has it become the state. Until that record is on disk nothing of what was
 * there before has changed; from then on a restart finishes what is left (`generations.ts`).
 */
import type { Database } from "bun:sqlite";
import { dirname } from "node:path";
import type { SnapshotPosition } from "../consensus/types";
import { hexId, type LogIndex, type MemberId } from "../ids";
import { diskReserveBytes, sliceBudgetMs, snapshotPieceBytes, snapshotSilenceMs } from "../limits";
import { LoadingState } from "../state/generation";
import type { SnapshotFile } from "../storage/jobs/jobs";
import type { LogBatch } from "../storage/wal/types";
import { databasePathOf, incomingPathOf, removeGeneration } from "./generations";
import type { Clock, Disk, Peers } from "./ports";
import {
  configurationIn,
  dataName,
  decodeManifest,
  manifestBytesMax,
  manifestName,
  sameConfiguration,
  type SnapshotManifest,
} from "./snapshot-manifest";

/** A state that is ready to take the place of the present one. */
export interface ReceivedState {
  readonly position: SnapshotPosition;
  readonly loaded: LoadingState;
  readonly database: Database;
  readonly path: string;
}

export interface SnapshotReceiverParts {
  readonly clock: Clock;
  readonly disk: Disk;
  readonly peers: Peers;
  readonly dataDirectory: string;
  readonly openDatabase: (path: string) => Database;
  /** Checks a copy, off the event loop. */
  readonly examine: (path: string) => Promise<SnapshotFile>;
  /** The leader as this member knows it now. */
  readonly leader: () => MemberId;
  /** The number of the generation in use. */
  readonly generation: () => number;
  /** Appends the record that makes the snapshot count; resolves when it is on disk. */
  readonly commit: (snapshot: NonNullable<LogBatch["snapshot"]>) => Promise<void>;
  /** The state becomes what was received; called once the record is on disk. */
  readonly become: (received: ReceivedState) => Promise<void>;
  /** The snapshot could not be had: the member goes on as it was. */
  readonly failed: (position: SnapshotPosition) => void;
  readonly report: (level: "info" | "warn", message: string, fields?: Record<string, unknown>) => void;
  readonly fatal: (error: unknown) => void;
}

/** How far an install is, for people. */
export interface ReceivingStatus {
  readonly from: MemberId;
  readonly index: LogIndex;
  readonly stage: "fetching" | "verifying" | "reading" | "committing";
  readonly doneBytes: number;
  readonly totalBytes: number;
}

/** Between two tries to reach the sender. */
const retryMs = 250;
/** Shows the sender that its snapshot is still wanted, while it is verified and read. */
const touchMs = 1_000;
/**
 * Written pieces are synced after so many bytes: the log's own syncs wait for one. Measured with 1 GB beside 500 puts/s on
 * one disk: p99 of the puts was 2.1-2.9 times that of before with 4 MiB, 1.4-1.6 with 1 MiB, 1.8 with 512 KiB.
 */
const syncBytes = 1024 ** 2;

/** The member stops: what was received so far is removed at the next start. */
class StoppedError extends Error {
  override readonly name = "StoppedError";
}

export class SnapshotReceiver {
  readonly #parts: SnapshotReceiverParts;
  /** Who announced what last. */
  #announced: { readonly from: MemberId; readonly index: LogIndex } | undefined;
  #status: ReceivingStatus | undefined;
  #stopped = false;
  #running: Promise<void> | undefined;
  /** Counters for metrics. */
  succeeded = 0;
  failed = 0;
  receivedBytes = 0;

  constructor(parts: SnapshotReceiverParts) {
    this.#parts = parts;
  }

  /** What is being installed; undefined when nothing is. */
  get status(): ReceivingStatus | undefined {
    return this.#status;
  }

  /** A "snapshot" message came; consensus says whether it is needed. */
  announced(from: MemberId, { index }: SnapshotPosition): void {
    if (this.#status === undefined) this.#announced = { from, index };
  }

  /** Consensus needs the snapshot of this position. */
  install(position: SnapshotPosition): void {
    const from = this.#announced?.index === position.index ? this.#announced.from : this.#parts.leader();
    this.#report(from, position, "fetching", 0, 0);
    this.#running = this.#install(from, position).finally(() => {
      this.#status = undefined;
    });
  }

  async #install(from: MemberId, position: SnapshotPosition): Promise<void> {
    const { clock, report, failed, fatal, commit, become } = this.#parts;
    const startedAtMs = clock.monotonicMs();
    let received: ReceivedState & { readonly manifest: SnapshotManifest };
    try {
      received = await this.#prepare(from, position);
    } catch (error) {
      if (this.#stopped) return;
      this.failed++;
      report("warn", "could not install the leader's snapshot; the leader will offer another", {
        from,
        index: position.index,
        error: String(error),
      });
      await this.#discard();
      if (!this.#stopped) failed(position);
      return;
    }
    try {
      const { manifest } = received;
      this.#report(from, position, "committing", manifest.bytes, manifest.bytes);
      await commit({ ...position, digest: manifest.digest });
      if (this.#stopped) return received.database.close();
      await become(received);
      this.succeeded++;
      report("info", "installed the leader's snapshot", {
        from,
        index: position.index,
        revision: manifest.revision,
        bytes: manifest.bytes,
        tookMs: Math.round(clock.monotonicMs() - startedAtMs),
      });
    } catch (error) {
      // The record may be on disk, so there is no way back; a restart finds what counts.
      if (!this.#stopped) fatal(error);
    }
  }

  /** Everything that can still fail without harm. */
  async #prepare(
    from: MemberId,
    position: SnapshotPosition,
  ): Promise<ReceivedState & { readonly manifest: SnapshotManifest }> {
    const { disk, dataDirectory, generation, openDatabase, report } = this.#parts;
    const manifest = decodeManifest(
      await this.#fetch(from, manifestName(position), 0, manifestBytesMax),
      position,
    );
    report("info", "receiving a snapshot from the leader", {
      from: hexId(from),
      index: position.index,
      bytes: manifest.bytes,
    });
    await this.#discard();
    const next = generation() + 1;
    const incoming = incomingPathOf(dataDirectory, next);
    const path = databasePathOf(dataDirectory, next);
    disk.makeDirectory(dirname(incoming));
    await this.#receive(from, position, manifest, incoming);
    const stopTouching = this.#touch(from, position);
    try {
      this.#report(from, position, "verifying", manifest.bytes, manifest.bytes);
      this.#verify(position, manifest, await this.#parts.examine(incoming));
      this.#check();
      disk.rename(incoming, path);
      await disk.syncDirectoryLater(dirname(path));
      await disk.syncDirectoryLater(dataDirectory);
      this.#check();
      this.#report(from, position, "reading", manifest.bytes, manifest.bytes);
      const database = openDatabase(path);
      try {
        return { position, manifest, database, path, loaded: await this.#load(database) };
      } catch (error) {
        database.close();
        throw error;
      }
    } finally {
      stopTouching();
    }
  }

  async #receive(
    from: MemberId,
    position: SnapshotPosition,
    { bytes, digest }: SnapshotManifest,
    path: string,
  ): Promise<void> {
    const { disk, dataDirectory } = this.#parts;
    const freeBytes = disk.freeBytes(dataDirectory);
    if (freeBytes < bytes + diskReserveBytes) {
      throw new Error(
        `it needs ${bytes} bytes and ${diskReserveBytes} in reserve, but ${freeBytes} are free`,
      );
    }
    const file = disk.open(path, "create");
    try {
      let synced = 0;
      for (let offset = 0; offset < bytes;) {
        const piece = await this.#fetch(from, dataName(digest), offset, snapshotPieceBytes);
        if (piece.length === 0 || piece.length > bytes - offset) {
          throw new Error(
            piece.length === 0 ? "the sender does not offer it any more" : "the sender sent more than it has",
          );
        }
        file.write(offset, piece);
        offset += piece.length;
        this.receivedBytes += piece.length;
        this.#report(from, position, "fetching", offset, bytes);
        if (offset - synced < syncBytes && offset < bytes) continue;
        await file.sync();
        this.#check();
        synced = offset;
      }
    } finally {
      file.close();
    }
  }

  /** A piece, however often the connection breaks, until there is no hope that this sender is reached again. */
  async #fetch(from: MemberId, name: string, offset: number, bytesMax: number): Promise<Uint8Array> {
    const { clock, leader } = this.#parts;
    const startedAtMs = clock.monotonicMs();
    for (;;) {
      try {
        const piece = await this.#fetchOnce(from, name, offset, bytesMax);
        this.#check();
        return piece;
      } catch (error) {
        this.#check();
        const led = leader() === from;
        // Another leader has a snapshot of its own.
        if ((!led && leader() !== 0n) || clock.monotonicMs() - startedAtMs >= 2 * snapshotSilenceMs)
          throw error;
      }
      await this.#pause(retryMs);
      this.#check();
    }
  }

  #fetchOnce(from: MemberId, name: string, offset: number, bytesMax: number): Promise<Uint8Array> {
    const { clock, peers } = this.#parts;
    return new Promise((resolve, reject) => {
      const cancel = clock.after(snapshotSilenceMs, () => reject(new Error("the sender does not answer")));
      peers
        .fetchPiece(from, name, offset, bytesMax)
        .then(resolve, reject)
        .finally(() => cancel());
    });
  }

  #touch(from: MemberId, position: SnapshotPosition): () => void {
    const { clock, peers } = this.#parts;
    let done = false;
    const again = (): void => {
      clock.after(touchMs, () => {
        if (done || this.#stopped) return;
        peers.fetchPiece(from, manifestName(position), 0, manifestBytesMax).catch(() => {});
        again();
      });
    };
    again();
    return () => {
      done = true;
    };
  }

  #verify(position: SnapshotPosition, manifest: SnapshotManifest, file: SnapshotFile): void {
    const wrong = (what: string) => new Error(`the snapshot that came is not the one announced: ${what}`);
    if (!Buffer.from(file.digest).equals(manifest.digest)) throw wrong("it has another digest");
    if (file.appliedIndex !== position.index || file.appliedTerm !== position.term) {
      throw wrong(`it holds entry ${file.appliedIndex} of term ${file.appliedTerm}`);
    }
    if (file.revision !== manifest.revision) throw wrong(`it has revision ${file.revision}`);
    if (!sameConfiguration(configurationIn(file.members), position.configuration)) {
      throw wrong("it has another configuration");
    }
  }

  /** Rebuilds the key index, a slice at a time. */
  async #load(database: Database): Promise<LoadingState> {
    const { clock } = this.#parts;
    const loading = new LoadingState(database);
    for (let sliceAtMs = clock.monotonicMs(); !loading.step();) {
      if (clock.monotonicMs() - sliceAtMs < sliceBudgetMs / 2) continue;
      await new Promise<void>((resolve) => clock.soon(resolve));
      this.#check();
      sliceAtMs = clock.monotonicMs();
    }
    return loading;
  }

  /** Removes what an earlier try left. */
  async #discard(): Promise<void> {
    const { disk, dataDirectory, generation, report } = this.#parts;
    const next = generation() + 1;
    try {
      if (disk.list(dataDirectory).includes(`state-${next}`)) {
        await removeGeneration(dataDirectory, next, disk);
      }
    } catch (error) {
      if (this.#stopped) return;
      report("warn", "could not remove what is left of a snapshot", { error: String(error) });
    }
  }

  #report(
    from: MemberId,
    { index }: SnapshotPosition,
    stage: ReceivingStatus["stage"],
    doneBytes: number,
    totalBytes: number,
  ): void {
    this.#status = { from, index, stage, doneBytes, totalBytes };
  }

  #pause(durationMs: number): Promise<void> {
    return new Promise((resolve) => void this.#parts.clock.after(durationMs, resolve));
  }

  #check(): void {
    if (this.#stopped) throw new StoppedError("the member stops");
  }

  /** Gives up what is under way; resolves when nothing of it touches the disk any more. */
  stop(): void {
    this.#stopped = true;
    this.#announced = undefined;
    void this.#running;
  }
}
