/**
 * The loop of a member: takes each Ready from consensus, makes it durable, sends its messages and has its
 * committed entries applied. Pipelined: a new batch is taken while older ones are being written.
 */
import type { Raft } from "../consensus/raft";
import type { ConfirmedRead, Entry, HardState, Message, Ready, SnapshotPosition } from "../consensus/types";
import { assert } from "../assert";
import type { LogIndex, MemberId } from "../ids";
import { LogFullError } from "../storage/wal/errors";
import type { DurableLog, LogBatch } from "../storage/wal/types";
import { CommitNews } from "./commit-news";
import { OlderEntries } from "./older-entries";
import type { Clock, Peers } from "./ports";

/** What the loop calls at its stations. */
export interface LoopHost {
  /** Start of a turn: hand waiting proposals and reads to consensus. */
  handIn(): void;
  /**
   * Applies a committed entry. "again": it is too large for one slice, call again with the same entry; "hold":
   * nothing may be applied now, and the host wakes the loop when that is over.
   */
  apply(entry: Entry): "done" | "again" | "hold";
  /** Everything up to this index is applied; called once per run of entries. */
  applied(index: LogIndex): void;
  reads(reads: readonly ConfirmedRead[]): void;
  /** Leadership was lost before these reads were confirmed. */
  readsAbandoned(contexts: readonly number[]): void;
  /** Consensus needs the snapshot of this position, which a leader offers. */
  install(position: SnapshotPosition): void;
  /** Leader: consensus asks for a snapshot to offer. */
  snapshotWanted(): void;
  /** Role, term or leader changed. */
  stateChanged(): void;
  /** The log's disk is full, or has space again. */
  logFull(full: boolean): void;
  /** A broken invariant or a failed disk: the process must end. */
  fatal(error: unknown): void;
}

interface PendingBatch {
  readonly batch: LogBatch;
  /** Absent for the record of a snapshot, of which consensus hears when it is installed. */
  readonly persist: Ready["persist"];
  readonly sendAfterPersist: readonly Message[];
  readonly done?: () => void;
  /** When the log was given it (monotonic milliseconds). */
  readonly givenAtMs: number;
}

/** How long apply may hold the event loop; answers are sent in between, which costs about three times as much. */
const applySliceMs = 3;
/** A full disk is asked again this often. */
const fullDiskRetryMs = 1_000;

export class ConsensusLoop {
  readonly #raft: Raft;
  readonly #log: DurableLog;
  readonly #clock: Clock;
  readonly #peers: Peers;
  readonly #host: LoopHost;
  readonly #news: CommitNews;
  #scheduled = false;
  /** Something was sent that others wait for, and something follows that would hold it up. */
  #flushDue = false;
  #stopped = false;
  /** Batches handed to the log and not yet durable, oldest first. */
  #unpersisted: PendingBatch[] = [];
  #logIsFull = false;
  /** A hard state of which only the commit index moved: it rides along with the next batch. */
  #lazyHardState: HardState | undefined;
  /** Committed entries that wait for apply, from `#queueHead` on. */
  #queue: Entry[] = [];
  #queueHead = 0;
  readonly #olderEntries: OlderEntries;

  constructor(raft: Raft, log: DurableLog, clock: Clock, peers: Peers, host: LoopHost) {
    this.#raft = raft;
    this.#log = log;
    this.#clock = clock;
    this.#peers = peers;
    this.#host = host;
    this.#news = new CommitNews(clock, (messages) => peers.send(messages));
    this.#olderEntries = new OlderEntries(raft, log, clock, () => this.wake());
  }

  /** Committed entries that are not yet applied. */
  get backlog(): number {
    return this.#queue.length - this.#queueHead;
  }

  /** Since when the log has not finished the oldest batch that it was given; undefined: it has all. */
  get unpersistedSinceMs(): number | undefined {
    return this.#unpersisted[0]?.givenAtMs;
  }

  /** Something happened that consensus should see: runs a turn once pending input was read. */
  wake(): void {
    if (this.#scheduled || this.#stopped) return;
    this.#scheduled = true;
    this.#clock.soon(this.#turn);
  }

  /** No further turn begins; batches already handed to the log still become durable. */
  stop(): void {
    this.#stopped = true;
    this.#news.stop();
  }

  readonly #turn = (): void => {
    this.#scheduled = false;
    if (this.#stopped) return;
    try {
      this.#host.handIn();
      while (this.#raft.hasReady()) this.#take(this.#raft.ready());
      this.#applyQueued();
      this.#olderEntries.supply();
      while (this.#raft.hasReady()) this.#take(this.#raft.ready());
      if (this.#flushDue) {
        this.#flushDue = false;
        this.#peers.flush?.();
      }
    } catch (error) {
      this.#host.fatal(error);
    }
  };

  /** A member asked for something for which it waits until entries are committed. */
  asked(by: MemberId): void {
    this.#news.asked(by);
  }

  #send(messages: readonly Message[]): void {
    const now = this.#news.sift(messages);
    if (now.length > 0) this.#peers.send(now);
  }

  #take(ready: Ready): void {
    if (ready.stateChanged) this.#host.stateChanged();
    if (ready.sendNow.length > 0) this.#send(ready.sendNow);
    if (ready.persist !== undefined) {
      const pending = {
        batch: { entries: ready.entries, hardState: ready.hardState ?? this.#lazyHardState },
        persist: ready.persist,
        sendAfterPersist: ready.sendAfterPersist,
        givenAtMs: this.#clock.monotonicMs(),
      };
      this.#lazyHardState = undefined;
      this.#unpersisted.push(pending);
      if (!this.#logIsFull) this.#append(pending);
    } else {
      this.#lazyHardState = ready.hardState ?? this.#lazyHardState;
      if (ready.sendAfterPersist.length > 0) this.#send(ready.sendAfterPersist);
    }
    if (ready.install !== undefined) this.#host.install(ready.install);
    if (ready.snapshotWanted) this.#host.snapshotWanted();
    if (ready.committed.length > 0) {
      this.#olderEntries.committed();
      this.#enqueue(ready.committed);
    }
    if (ready.reads.length > 0) this.#host.reads(ready.reads);
    if (ready.abandonedReads.length > 0) this.#host.readsAbandoned(ready.abandonedReads);
    if (ready.wanted.length > 0) this.#olderEntries.wanted(ready.wanted);
  }

  /** Appends the record of a snapshot behind all batches so far; resolves when it is on disk. */
  appendSnapshot(snapshot: NonNullable<LogBatch["snapshot"]>): Promise<void> {
    this.#olderEntries.replaced();
    return new Promise((done) => {
      const givenAtMs = this.#clock.monotonicMs();
      const batch = { entries: [], snapshot };
      const pending = { batch, persist: undefined, sendAfterPersist: [], done, givenAtMs };
      this.#unpersisted.push(pending);
      if (!this.#logIsFull) this.#append(pending);
    });
  }

  /** Committed entries that wait for apply are part of a snapshot that is about to become the state. */
  dropQueue(): void {
    this.#queue = [];
    this.#queueHead = 0;
  }

  #append(pending: PendingBatch): void {
    let bytes = 0;
    for (const { data } of pending.batch.entries) bytes += data.length;
    this.#olderEntries.logged(bytes);
    // The log writes when the turn is over; the others' disks can work meanwhile.
    this.#flushDue = true;
    this.#log.append(pending.batch).then(
      () => this.#persisted(pending),
      (error: unknown) => this.#appendFailed(error),
    );
  }

  #persisted(pending: PendingBatch): void {
    assert(this.#unpersisted.shift() === pending, "log batches became durable out of order");
    if (this.#logIsFull) {
      this.#logIsFull = false;
      this.#host.logFull(false);
      // A log that is being closed takes no more; nobody was told that these are on disk.
      if (!this.#stopped) for (const waiting of this.#unpersisted) this.#append(waiting);
    }
    if (pending.sendAfterPersist.length > 0) {
      this.#send(pending.sendAfterPersist);
      this.#flushDue = true;
    }
    if (pending.persist !== undefined) this.#raft.persisted(pending.persist);
    pending.done?.();
    this.#turn();
  }

  /** A full disk wrote nothing: the oldest batch is tried again until there is space. Any other error is final. */
  #appendFailed(error: unknown): void {
    if (!(error instanceof LogFullError)) return this.#host.fatal(error);
    if (this.#logIsFull) return;
    this.#logIsFull = true;
    this.#host.logFull(true);
    this.#retryFullLog();
  }

  #retryFullLog(): void {
    this.#clock.after(fullDiskRetryMs, () => {
      const oldest = this.#unpersisted[0];
      if (oldest === undefined || this.#stopped) return;
      this.#log.append(oldest.batch).then(
        () => this.#persisted(oldest),
        (error: unknown) => {
          if (error instanceof LogFullError) this.#retryFullLog();
          else this.#host.fatal(error);
        },
      );
    });
  }

  #enqueue(entries: readonly Entry[]): void {
    if (this.#queueHead === this.#queue.length) {
      this.#queue = entries as Entry[];
      this.#queueHead = 0;
      return;
    }
    this.#queue = this.#queue.slice(this.#queueHead).concat(entries);
    this.#queueHead = 0;
  }

  /** Applies for one slice; what is left continues after pending input was served. */
  #applyQueued(): void {
    const startedAtMs = this.#clock.monotonicMs();
    let appliedIndex = 0;
    let outcome: ReturnType<LoopHost["apply"]> = "done";
    let outOfTime = false;
    while (this.#queueHead < this.#queue.length && !outOfTime) {
      const entry = this.#queue[this.#queueHead]!;
      outcome = this.#host.apply(entry);
      if (outcome !== "done") break;
      appliedIndex = entry.index;
      this.#queueHead++;
      // Some entries take a thousand times as long as others, so each one is followed by a look (40 ns).
      outOfTime = this.#clock.monotonicMs() - startedAtMs >= applySliceMs;
    }
    if (appliedIndex > 0) {
      this.#raft.appliedTo(appliedIndex);
      this.#host.applied(appliedIndex);
    }
    if (this.#queueHead < this.#queue.length && outcome !== "hold") this.wake();
  }
}
