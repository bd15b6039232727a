/**
 * The replicated state: takes committed entries in order, answers what they did, and serves reads. Deterministic:
 * no clock, no randomness. Only this class writes to the database.
 */
import type { Database } from "bun:sqlite";
import { assert } from "../assert";
import { toBinaryString } from "../bytes";
import type { Configuration, ConfigurationChange } from "../consensus/types";
import { refuse } from "../errors";
import type { LeaseId, LogIndex, MemberId, Revision, Term } from "../ids";
import { applyCommitBytes } from "../limits";
import type { AlarmMember, Member, RangeRequest, TxnRequest, TxnResponse } from "../proto/gen/etcd/rpc_pb";
import type { Command } from "../proto/gen/keelson/command_pb";
import { type ApplyContext, applyCommand } from "./apply";
import { Generation, LoadingState, RetiredState } from "./generation";
import { HashRun } from "./mvcc/hash-kv";
import { keyRange } from "./mvcc/key-range";
import { type ListingQuery, ListingRun } from "./mvcc/listing";
import { RangeRun, readRevision } from "./mvcc/range";
import type { SweepStep } from "./mvcc/sweep";
import { type KeyVersions, versionsOf } from "./mvcc/versions";
import { Journal } from "./position";
import type {
  Applied,
  ApplyResult,
  LeaseInfo,
  Pin,
  RangeAnswer,
  SlicedHash,
  SlicedListing,
  SlicedRange,
  SlicedTxn,
  StateSizes,
} from "./results";
import { type Steps, TxnRun } from "./txn";
import type { History } from "./types";

export interface StateMachineOptions {
  /** Keys that one slice of a long apply works through before it yields; about 10 µs each. */
  readonly sliceKeys?: number;
}

const sliceKeysDefault = 750;
const stillPending: Applied = { pending: true };

export class StateMachine {
  #now: Generation;
  #context: ApplyContext;
  readonly #sliceKeys: number;
  #aroundCommit: ((commit: () => void) => void) | undefined;
  /** The time of the entry that is being applied, as its proposer saw it. */
  #proposedAtMs = 0;
  /** The entry being applied in slices. */
  #pending: { readonly steps: Steps<ApplyResult>; readonly index: LogIndex; readonly term: Term } | undefined;

  private constructor(generation: Generation, options: StateMachineOptions) {
    this.#sliceKeys = options.sliceKeys ?? sliceKeysDefault;
    this.#now = generation;
    this.#context = contextOf(generation, this.#sliceKeys);
  }

  /**
   * Opens the state in a database of `openStateDatabase`, rebuilding the key index and checking every row, their
   * number and their sum.
   * @throws {DamagedStateError} that says what is wrong and what to do.
   */
  static open(database: Database, options: StateMachineOptions = {}): StateMachine {
    const loading = new LoadingState(database);
    while (!loading.step());
    return new StateMachine(loading.generation, options);
  }

  /**
   * The last entry that the state in a database holds, without opening it.
   * @throws {DamagedStateError}
   */
  static appliedIndexOf(database: Database): LogIndex {
    return new Journal(database).position.appliedIndex;
  }

  /**
   * The state becomes another, read from a snapshot's database; an entry that is being applied is dropped. What was
   * taken from the former state goes on reading it: close it when they are done.
   */
  replace(loaded: LoadingState): RetiredState {
    assert(loaded.done, "the state to come is not read to its end");
    const { position } = loaded.generation.journal;
    assert(
      position.appliedIndex > this.appliedIndex && position.revision >= this.revision,
      `the state at entry ${position.appliedIndex} would take this one back from ${this.appliedIndex}`,
    );
    const retired = new RetiredState(this.#now);
    this.#pending = undefined;
    this.#now = loaded.generation;
    this.#context = contextOf(loaded.generation, this.#sliceKeys);
    return retired;
  }

  /** The open database; only this class writes to it. */
  get database(): Database {
    return this.#now.database;
  }
  /** How watchers read the past, until the state is replaced. */
  get history(): History {
    return this.#now.history;
  }

  /** The last entry applied, flushed or not. */
  get appliedIndex(): LogIndex {
    return this.#now.journal.position.appliedIndex;
  }
  get appliedTerm(): Term {
    return this.#now.journal.position.appliedTerm;
  }
  /** The newest published revision. */
  get revision(): Revision {
    return this.#now.journal.position.revision;
  }
  /** Reads below it are refused; -1 before the first compaction. */
  get compactedRevision(): Revision {
    return this.#now.journal.position.compactedRevision;
  }
  /** Bytes of rows that the open SQLite transaction holds. */
  get unflushedBytes(): number {
    return this.#now.journal.bytes;
  }
  /** The last entry that a commit covers. */
  get flushedIndex(): LogIndex {
    return this.#now.journal.committedIndex;
  }
  /** True between an `apply` that answered `pending` and the `resume` that finishes it. */
  get pending(): boolean {
    return this.#pending !== undefined;
  }

  /** Applies the next entry. `command` is undefined for the empty entry of a new leader. */
  apply(index: LogIndex, term: Term, command: Command | undefined): Applied {
    this.#expect(index);
    this.#proposedAtMs = Number(command?.proposedAtMs ?? 0n);
    const outcome =
      command === undefined ? nothing(this.revision) : applyCommand(this.#context, term, command);
    if ("kind" in outcome) return this.#finish(index, term, outcome);
    this.#pending = { steps: outcome, index, term };
    return this.resume();
  }

  /** Goes on with the pending entry for one more slice. */
  resume(): Applied {
    const pending = this.#pending;
    assert(pending !== undefined, "no entry is being applied");
    const step = pending.steps.next();
    if (!step.done) return stillPending;
    this.#pending = undefined;
    const { slice } = this.#context;
    slice.left = slice.keys;
    return this.#finish(pending.index, pending.term, step.value);
  }

  /**
   * Applies a membership change; its context is an encoded etcdserverpb.Member, or empty for a removal. A change that
   * is refused must not be told to consensus either.
   */
  applyConfiguration(index: LogIndex, term: Term, change: ConfigurationChange): Applied {
    this.#expect(index);
    const { revision } = this;
    const refusal = this.#now.cluster.change(change);
    if (refusal === undefined) return this.#finish(index, term, { kind: "configuration", revision });
    return this.#finish(index, term, { kind: "refused", name: refusal, revision });
  }

  #expect(index: LogIndex): void {
    assert(this.#pending === undefined, "an entry is still being applied");
    assert(index === this.appliedIndex + 1, () => `entry ${index} does not follow ${this.appliedIndex}`);
  }

  #finish(index: LogIndex, term: Term, result: ApplyResult): Applied {
    const { position } = this.#now.journal;
    const changes = this.#now.store.publish();
    assert(
      changes === undefined || (result.kind !== "refused" && result.revision === changes.revision),
      "a result speaks of the revision that was written",
    );
    if (changes !== undefined) {
      this.#now.times.written(changes.revision, this.#proposedAtMs, position.compactedRevision);
    }
    position.appliedIndex = index;
    position.appliedTerm = term;
    if (this.#now.journal.bytes >= applyCommitBytes) this.flush();
    return { pending: false, result, changes };
  }

  /** Commits the open transaction: rows, applied index, revision, row count and sum together. */
  flush(): void {
    assert(this.#pending === undefined, "no commit may fall inside an entry");
    const { journal } = this.#now;
    const writes = journal.bytes > 0 || journal.committedIndex !== this.appliedIndex;
    if (writes && this.#aroundCommit !== undefined) this.#aroundCommit(() => journal.commit());
    else journal.commit();
  }

  /** Has each commit of rows made by `around`, which calls what it is given once and may look at a clock. */
  timeCommits(around: (commit: () => void) => void): void {
    this.#aroundCommit = around;
  }

  /**
   * While on, reads leave no transaction open behind them, so that a checkpoint can start SQLite's WAL over. Every
   * `flush` ends a transaction of reads too; call it at least every second also when nothing is applied.
   */
  holdTransactions(on: boolean): void {
    this.#now.journal.readsAlone = on;
  }
  /** True when `flush` has something to do: rows to commit, or a transaction of reads to end. */
  get flushable(): boolean {
    return this.#now.journal.open || this.#now.journal.committedIndex !== this.appliedIndex;
  }

  /** Answers a range at once. Throws the refusals `compacted` and `futureRev`. */
  range(request: RangeRequest): RangeAnswer {
    const { revision } = this;
    const at = readRevision(this.#now.store, request.revision, revision);
    if (isPlainGet(request)) {
      const record = this.#now.store.record(toBinaryString(request.key), at);
      return record === undefined
        ? { revision, count: 0, more: false, records: [] }
        : { revision, count: 1, more: false, records: [record] };
    }
    const { count, more, records } = new RangeRun(this.#now.store, request, revision, at).all();
    return { revision, count, more, records };
  }

  /** How many keys a range would walk over, cheaply: choose `rangeSliced` above about a thousand. */
  rangeCost(request: RangeRequest): number {
    const { low, high, single } = keyRange(request.key, request.rangeEnd);
    if (single) return 1;
    const keys = this.#now.store.index.countEntries(low, high);
    const limited =
      request.limit > 0n &&
      request.sortOrder === 0 &&
      request.sortTarget === 0 &&
      request.revision <= 0n &&
      !this.pending &&
      request.minModRevision === 0n &&
      request.maxModRevision === 0n &&
      request.minCreateRevision === 0n &&
      request.maxCreateRevision === 0n;
    if (request.countOnly && limited) return 1;
    return limited ? Math.min(keys, Number(request.limit)) : keys;
  }

  /** No record is longer than this: with {@link rangeCost}, what a range may read at most. */
  get longestRecordBytes(): number {
    return this.#now.store.rows.longestBytes;
  }

  /** Answers a range in slices, at a pinned revision. Throws the refusals `compacted` and `futureRev`. */
  rangeSliced(request: RangeRequest): SlicedRange {
    const at = readRevision(this.#now.store, request.revision, this.revision);
    const pin = this.pin(at);
    return new RangeRun(this.#now.store, request, this.revision, at, pin.release);
  }

  /**
   * Lists keys without their values in slices; `revision` 0 is the newest. Throws the refusals `compacted` and
   * `futureRev`.
   */
  listing(query: ListingQuery, revision: Revision): SlicedListing {
    const at = readRevision(this.#now.store, BigInt(revision), this.revision);
    const pin = this.pin(at);
    const run = new ListingRun(this.#now.store, query, at);
    return {
      revision: this.revision,
      at,
      next: (visitsMax) => run.next(visitsMax),
      close: pin.release,
    };
  }

  /** Evaluates a txn that only reads, against published state. Throws refusals. */
  readTxn(request: TxnRequest): TxnResponse {
    const run = this.readTxnSliced(request);
    for (;;) {
      const response = run.next();
      if (response !== undefined) return response;
    }
  }

  /** Like `readTxn`, in slices at a pinned revision. */
  readTxnSliced(request: TxnRequest): SlicedTxn {
    const { keys } = this.#context.slice;
    const steps = new TxnRun(this.#now.store, request, this.revision, { keys, left: keys }, "read").run();
    const pin = this.pin(this.revision);
    return {
      next() {
        const step = steps.next();
        if (!step.done) return undefined;
        pin.release();
        if (step.value.refused !== undefined) throw refuse(step.value.refused);
        return step.value.response;
      },
      close: pin.release,
    };
  }

  /** etcd's HashKV up to `revision` (0 = newest). Throws the refusals `compacted` and `futureRev`. */
  hashKV(revision: Revision): SlicedHash {
    if (revision > 0 && revision < this.compactedRevision) throw refuse("compacted");
    if (revision > this.revision) throw refuse("futureRev");
    const pin = this.pin(this.compactedRevision);
    return new HashRun(this.#now.store, revision === 0 ? this.revision : revision, pin.release);
  }

  /** Keeps physical compaction from removing what a reader at `revision` needs. */
  pin(revision: Revision): Pin {
    return this.#now.store.pins.hold(revision);
  }

  /** True when rows wait to be removed physically. */
  get compactionPending(): boolean {
    return this.#now.sweep.pending;
  }

  /** Looks at about `rowsMax` rows and removes those that compaction made superfluous; about 5 µs a row. */
  compactionStep(rowsMax: number): SweepStep {
    if (this.#pending !== undefined) return { done: false, waiting: true, removed: 0 };
    return this.#now.sweep.step(rowsMax);
  }

  /** Gives up to `pagesMax` free pages back to the file system; true when none are left. */
  vacuumStep(pagesMax: number): boolean {
    if (this.#pending !== undefined) return false;
    this.#now.journal.write(0);
    this.#now.database.run(`PRAGMA incremental_vacuum(${Math.max(1, Math.floor(pagesMax))})`);
    return this.#now.pragma("freelist_count") === 0;
  }

  /** When a revision was written, to a second (milliseconds since 1970); undefined when nobody knows any more. */
  timeOf(revision: Revision): number | undefined {
    return this.#now.times.timeOf(revision);
  }
  /** The newest revision written by a time, to a second; undefined for times before all that is known. */
  revisionAt(timeMs: number): Revision | undefined {
    return this.#now.times.revisionAt(timeMs, this.revision);
  }
  /** Records of a key's retained versions below `before`, newest first, as many as fit; tombstones too. */
  versions(key: string, before: Revision, versionsMax: number, bytesMax: number): KeyVersions {
    return versionsOf(this.#now.store, key, before, versionsMax, bytesMax);
  }

  lease(id: LeaseId): LeaseInfo | undefined {
    const lease = this.#now.leases.get(id);
    return lease === undefined ? undefined : this.#now.leases.info(lease);
  }
  /** The keys of a lease in any order, a millisecond for 100,000; none when there is no such lease. */
  keysOfLease(id: LeaseId): string[] {
    return [...(this.#now.leases.get(id)?.keys ?? [])];
  }
  /** Every lease. */
  leases(): LeaseInfo[] {
    return this.#now.leases.list();
  }
  /** Every lease, one by one; leases may be granted and revoked meanwhile. */
  eachLease(): IteratorObject<LeaseInfo, undefined> {
    return this.#now.leases.each();
  }
  /** Present members, by id. */
  members(): Member[] {
    return this.#now.cluster.members();
  }
  /** True for an id that was removed from the cluster: it never comes back. */
  isRemovedMember(id: MemberId): boolean {
    return this.#now.cluster.isRemoved(id);
  }
  /** Who votes and who only listens, as far as configuration entries were applied. */
  configuration(): Configuration {
    return this.#now.cluster.configuration();
  }
  alarms(): AlarmMember[] {
    return this.#now.cluster.alarms();
  }
  /** The cluster version that members agreed on; undefined until it was decided. */
  get clusterVersion(): string | undefined {
    return this.#now.cluster.version;
  }

  sizes(): StateSizes {
    const now = this.#now;
    return {
      totalBytes: this.fileBytes,
      inUseBytes: this.fileBytes - now.pragma("freelist_count") * now.pageBytes,
      keys: now.store.index.live,
    };
  }

  /** What the database file has or will have, the part in its log included. Asked at every commit. */
  get fileBytes(): number {
    return this.#now.pragma("page_count") * this.#now.pageBytes;
  }

  /** Flushes and lets the database go; the caller closes it. */
  close(): void {
    if (this.#pending === undefined) this.flush();
  }
}

function contextOf({ store, leases, cluster, kept, times }: Generation, keys: number): ApplyContext {
  return { store, leases, cluster, kept, times, slice: { keys, left: keys } };
}

function nothing(revision: Revision): ApplyResult {
  return { kind: "nothing", revision };
}

/** The commonest read: one key, no options. */
function isPlainGet(request: RangeRequest): boolean {
  return request.rangeEnd.length === 0 && !request.keysOnly && !request.countOnly && !isFiltered(request);
}

function isFiltered(request: RangeRequest): boolean {
  return (
    request.minModRevision !== 0n ||
    request.maxModRevision !== 0n ||
    request.minCreateRevision !== 0n ||
    request.maxCreateRevision !== 0n
  );
}
