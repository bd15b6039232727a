/**
 * Snapshots for followers whose next entries the log no longer has. The leader copies its database into a scratch
 * file, announces the copy's position through consensus, and lets followers pull it, each at a bounded rate. One
 * copy serves all who need one; it stays for a while after the last read, so that a follower whose connection broke
 * goes on where it was.
 */
import type { Raft } from "../consensus/raft";
import type { SnapshotPosition } from "../consensus/types";
import type { LogIndex, MemberId } from "../ids";
import {
  diskReserveBytes,
  snapshotBytesPerSecond,
  snapshotPieceBytes,
  snapshotRetryMsMax,
  snapshotSilenceMs,
} from "../limits";
import type { SnapshotFile } from "../storage/jobs/jobs";
import type { Clock, Disk, DiskFile } from "./ports";
import { configurationIn, dataName, encodeManifest, manifestName } from "./snapshot-manifest";

export interface SnapshotSenderParts {
  readonly raft: Raft;
  readonly clock: Clock;
  readonly disk: Disk;
  readonly dataDirectory: string;
  /** A new path for a file that does not outlive its use. */
  readonly scratchPath: () => string;
  /** Copies the database, as of now, to a path. */
  readonly copy: (path: string) => Promise<SnapshotFile>;
  /** The first entry that the log still has. */
  readonly firstIndex: () => LogIndex;
  /** Consensus has something to say. */
  readonly wake: () => void;
  readonly report: (level: "info" | "warn", message: string, fields?: Record<string, unknown>) => void;
}

/** A copy that followers may pull. */
interface Offer {
  readonly position: SnapshotPosition;
  readonly file: SnapshotFile;
  readonly handle: DiskFile;
  readonly manifestName: string;
  readonly manifest: Uint8Array;
  readonly dataName: string;
  usedAtMs: number;
}

/** A follower that was told of the offer. */
interface Sending {
  readonly index: LogIndex;
  readonly startedAtMs: number;
  heardAtMs: number;
  doneBytes: number;
}

/** How sending to one follower goes, for people. */
export interface SendingStatus {
  readonly to: MemberId;
  readonly index: LogIndex;
  readonly doneBytes: number;
  readonly totalBytes: number;
}

const nothing = new Uint8Array(0);
const tickMs = 250;
const firstRetryMs = 1_000;
/** A copy that nobody reads stays this long, for those whose connection broke. */
const keepUnusedMs = 30_000;

export class SnapshotSender {
  readonly #parts: SnapshotSenderParts;
  #offer: Offer | undefined;
  /** Someone waits for a copy that is not yet being made. */
  #wanted = false;
  /** Entries behind this one must stay in the log for a copy that is being made. */
  #copyingFrom: LogIndex | undefined;
  #retryMs = firstRetryMs;
  #notBeforeMs = 0;
  readonly #sending = new Map<MemberId, Sending>();
  readonly #buckets = new Map<MemberId, { tokens: number; atMs: number }>();
  #stopped = false;
  /** Counters for metrics. */
  succeeded = 0;
  failed = 0;
  sentBytes = 0;

  constructor(parts: SnapshotSenderParts) {
    this.#parts = parts;
  }

  start(): void {
    this.#parts.clock.after(tickMs, () => {
      if (this.#stopped) return;
      this.#tick();
      this.start();
    });
  }

  /** Consensus asks for a position that can be sent. */
  wanted(): void {
    this.#wanted = true;
    this.#serve();
  }

  /** A follower says that it could not install what it was sent: the next try is another copy, and not at once. */
  refusedBy(from: MemberId): void {
    const sending = this.#sending.get(from);
    if (sending === undefined) return;
    this.#ended(from, sending, false);
    if (this.#offer?.position.index !== sending.index) return;
    this.#dropOffer();
    this.#backOff();
  }

  /** Entries behind this one are still needed in the log: who installs the snapshot goes on with them. */
  get keepFrom(): LogIndex | undefined {
    const keep = this.#copyingFrom ?? (this.#sending.size > 0 ? this.#offer?.position.index : undefined);
    if (keep === undefined) return undefined;
    const { disk, dataDirectory } = this.#parts;
    // A full disk would stop every write; a follower that has to begin again is the smaller harm.
    return disk.freeBytes(dataDirectory) < 2 * diskReserveBytes ? undefined : keep;
  }

  get status(): SendingStatus[] {
    const offer = this.#offer;
    if (offer === undefined) return [];
    return Array.from(this.#sending, ([to, { index, doneBytes }]) => ({
      to,
      index,
      doneBytes,
      totalBytes: offer.file.bytes,
    }));
  }

  /**
   * A piece of what is offered; see PeerHandler. Waits so that each receiver's rate is kept. Empty when it is not
   * offered any more: a receiver knows how much there should be.
   */
  async readPiece(from: MemberId, name: string, offset: number, bytesMax: number): Promise<Uint8Array> {
    const offer = this.#offer;
    if (offer === undefined || (name !== offer.manifestName && name !== offer.dataName)) {
      return nothing;
    }
    this.#heard(from, offer);
    if (name === offer.manifestName) return offer.manifest.subarray(offset, offset + bytesMax);
    const bytes = Math.max(0, Math.min(bytesMax, snapshotPieceBytes, offer.file.bytes - offset));
    await this.#takeTokens(from, bytes);
    if (this.#stopped || this.#offer !== offer) return nothing;
    const sending = this.#heard(from, offer);
    if (sending !== undefined) sending.doneBytes = Math.max(sending.doneBytes, offset + bytes);
    this.sentBytes += bytes;
    return bytes === 0 ? nothing : offer.handle.read(offset, bytes);
  }

  #heard(from: MemberId, offer: Offer): Sending | undefined {
    const nowMs = this.#parts.clock.monotonicMs();
    offer.usedAtMs = nowMs;
    const sending = this.#sending.get(from);
    if (sending !== undefined) sending.heardAtMs = nowMs;
    return sending;
  }

  /** A token is a byte; a bucket holds a tenth of a second, and at least a piece. */
  async #takeTokens(from: MemberId, bytes: number): Promise<void> {
    const { clock } = this.#parts;
    const nowMs = clock.monotonicMs();
    const capacity = Math.max(snapshotPieceBytes, snapshotBytesPerSecond / 10);
    const bucket = this.#buckets.get(from) ?? { tokens: capacity, atMs: nowMs };
    this.#buckets.set(from, bucket);
    const gained = ((nowMs - bucket.atMs) / 1_000) * snapshotBytesPerSecond;
    bucket.tokens = Math.min(capacity, bucket.tokens + gained) - bytes;
    bucket.atMs = nowMs;
    if (bucket.tokens >= 0) return;
    const waitMs = (-bucket.tokens / snapshotBytesPerSecond) * 1_000;
    await new Promise<void>((resolve) => void clock.after(waitMs, resolve));
  }

  #tick(): void {
    this.#watchSendings();
    this.#serve();
    const offer = this.#offer;
    if (offer === undefined || this.#sending.size > 0) return;
    const { clock, disk, dataDirectory } = this.#parts;
    const unusedMs = clock.monotonicMs() - offer.usedAtMs;
    const tight = disk.freeBytes(dataDirectory) < 2 * diskReserveBytes;
    if (unusedMs >= keepUnusedMs || (tight && unusedMs >= snapshotSilenceMs)) this.#dropOffer();
  }

  /** Who waits for a snapshot is what consensus says; a silent one is reported, and found again when it answers. */
  #watchSendings(): void {
    const { raft, clock, wake } = this.#parts;
    const { role, progress } = raft.status();
    const nowMs = clock.monotonicMs();
    const waiting = new Set(progress.filter(({ state }) => state === "snapshot").map(({ id }) => id));
    for (const [to, sending] of this.#sending) {
      if (!waiting.has(to)) {
        const now = progress.find(({ id }) => id === to);
        this.#ended(to, sending, now !== undefined && now.match >= sending.index);
      } else if (nowMs - sending.heardAtMs >= snapshotSilenceMs) {
        this.#ended(to, sending, false);
        raft.reportSnapshot(to, false);
        wake();
      }
    }
    if (role !== "leader") this.#wanted = false;
  }

  #ended(to: MemberId, { startedAtMs, doneBytes }: Sending, ok: boolean): void {
    this.#sending.delete(to);
    this.#buckets.delete(to);
    if (ok) {
      this.succeeded++;
      this.#retryMs = firstRetryMs;
    } else this.failed++;
    const { report, clock } = this.#parts;
    const tookMs = Math.round(clock.monotonicMs() - startedAtMs);
    if (ok) report("info", "a member installed the snapshot", { to, doneBytes, tookMs });
    else report("warn", "a member did not install the snapshot that it was sent", { to, doneBytes, tookMs });
  }

  /** Announces the copy that there is, or begins a new one. */
  #serve(): void {
    const { clock, firstIndex } = this.#parts;
    if (!this.#wanted || this.#stopped || this.#copyingFrom !== undefined) return;
    const offer = this.#offer;
    if (offer !== undefined && offer.position.index >= firstIndex() - 1) return this.#announce(offer);
    if (clock.monotonicMs() < this.#notBeforeMs) return;
    // One that is too old may still be on its way to somebody, who then gets the new one.
    this.#dropOffer();
    this.#copyingFrom = firstIndex() - 1;
    this.#copy().finally(() => {
      this.#copyingFrom = undefined;
    });
  }

  async #copy(): Promise<void> {
    const { copy, scratchPath, disk, clock, report } = this.#parts;
    const startedAtMs = clock.monotonicMs();
    const path = scratchPath();
    try {
      const file = await copy(path);
      if (this.#stopped) return;
      const position = {
        index: file.appliedIndex,
        term: file.appliedTerm,
        configuration: configurationIn(file.members),
      };
      const offer = {
        position,
        file,
        handle: disk.open(path, "read"),
        manifestName: manifestName(position),
        manifest: encodeManifest(file),
        dataName: dataName(file.digest),
        usedAtMs: clock.monotonicMs(),
      };
      this.#offer = offer;
      report("info", "took a snapshot for members that lag", {
        index: position.index,
        bytes: file.bytes,
        tookMs: Math.round(clock.monotonicMs() - startedAtMs),
      });
      this.#announce(offer);
    } catch (error) {
      if (this.#stopped) return;
      this.#backOff();
      report("warn", "could not take a snapshot for a member that lags, which waits for it", {
        error: String(error),
        retryMs: this.#notBeforeMs - clock.monotonicMs(),
      });
    }
  }

  #backOff(): void {
    this.#notBeforeMs = this.#parts.clock.monotonicMs() + this.#retryMs;
    this.#retryMs = Math.min(snapshotRetryMsMax, this.#retryMs * 2);
  }

  #announce(offer: Offer): void {
    const { raft, clock, wake } = this.#parts;
    this.#wanted = false;
    const nowMs = clock.monotonicMs();
    offer.usedAtMs = nowMs;
    raft.snapshotAvailable(offer.position);
    for (const { id, state } of raft.status().progress) {
      if (state !== "snapshot" || this.#sending.has(id)) continue;
      this.#sending.set(id, {
        index: offer.position.index,
        startedAtMs: nowMs,
        heardAtMs: nowMs,
        doneBytes: 0,
      });
    }
    wake();
  }

  #dropOffer(): void {
    const offer = this.#offer;
    if (offer === undefined) return;
    this.#offer = undefined;
    offer.handle.close();
    this.#parts.disk.removeLater(offer.file.path).catch((error: unknown) => {
      if (this.#stopped) return;
      this.#parts.report("warn", "could not remove a snapshot that nobody needs", { error: String(error) });
    });
  }

  /** What is offered is gone; the file is removed now, or at the next start. */
  stop(): void {
    this.#stopped = true;
    this.#dropOffer();
  }
}
