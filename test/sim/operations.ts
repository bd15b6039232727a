/** Requests of clients, drawn from a seed, and what is checked about each answer (level 1 of the linearizability check). */
import { create } from "@bufbuild/protobuf";
import { StoreError } from "../../src/errors";
import type { LeaseId, LogIndex, Revision } from "../../src/ids";
import {
  CompactionRequestSchema,
  Compare_CompareResult as Result,
  Compare_CompareTarget as Target,
  CompareSchema,
  DeleteRangeRequestSchema,
  LeaseGrantRequestSchema,
  LeaseRevokeRequestSchema,
  LeaseTimeToLiveRequestSchema,
  LeaseTimeToLiveResponseSchema,
  type PutRequest,
  PutRequestSchema,
  type RangeRequest,
  RangeRequest_SortOrder as SortOrder,
  RangeRequest_SortTarget as SortTarget,
  RangeRequestSchema,
  type RequestOp,
  RequestOpSchema,
  type TxnResponse,
  TxnRequestSchema,
  TxnResponseSchema,
} from "../../src/proto/gen/etcd/rpc_pb";
import type { Rng } from "../../src/rng";
import { decodeAnswer } from "../../src/service/backend";
import type { Call } from "../../src/transport/call";
import type { EncodedMessage } from "../../src/transport/call";
import { sameRecords, txnDifference } from "./compare";
import type { SimulatedHost } from "./host";
import { renewOnce } from "./client-streams";
import type { OperationKind, WorkloadOptions } from "./options";
import { fieldsOf, latin1, revisionOf } from "./replies";
import type { LeaseJudge } from "./lease-judge";
import type { Noted, Recorder } from "./recorder";
import type { Step, Truth } from "./truth";
import { claim } from "./violation";

/** One request of a client. */
export interface Operation {
  readonly number: number;
  readonly kind: OperationKind;
  readonly host: SimulatedHost;
  readonly calledAtMs: number;
  /** What had been shown to anybody when it was sent: an answer must not be older. */
  readonly shownRevision: Revision;
  readonly shownIndex: LogIndex;
  readonly shownCompacted: Revision;
  /** What members called committed then: a linearizable read must have applied it. */
  readonly committedIndex: LogIndex;
  state: "open" | "done" | "failed" | "unknown";
  /** The step of its entry, once applied. */
  step: Step | undefined;
  description: string;
  /** For the second level of the check, in runs that have it. */
  noted: Noted | undefined;
}

/** Everything that was shown to some client, as far as real time is concerned. */
export class Shown {
  revision: Revision = 1;
  index: LogIndex = 0;
  compacted: Revision = -1;

  constructor(readonly truth: Truth) {}

  see(revision: Revision): void {
    if (revision <= this.revision) return;
    this.revision = revision;
    this.index = Math.max(this.index, this.truth.indexOf(revision));
  }

  applied(index: LogIndex): void {
    if (index > this.index) this.index = index;
  }
}

export interface OperationContext {
  readonly truth: Truth;
  readonly shown: Shown;
  readonly rng: Rng;
  readonly workload: WorkloadOptions;
  readonly leases: LeaseJudge;
  readonly recorder: Recorder | undefined;
  readonly now: () => number;
  /** A client was told that a lease is revoked. */
  readonly revoked: (id: LeaseId) => void;
}

const call: Call = {
  method: {} as Call["method"],
  door: "internal",
  metadata: () => undefined,
  deadlineAtMs: undefined,
  canceled: false,
  onCancel() {},
};

/** Copied for each request: creating messages through the library costs more than all that is checked about them. */
const emptyPut = create(PutRequestSchema);
const emptyRange = create(RangeRequestSchema);

/** Draws requests and judges answers. */
export class Operations {
  readonly #context: OperationContext;
  readonly #keys: readonly Uint8Array[];
  #values = 0;
  readonly counts = { reads: 0, writes: 0, stale: 0, refusals: new Map<string, number>() };

  constructor(context: OperationContext) {
    this.#context = context;
    this.#keys = Array.from({ length: context.workload.keys }, (_, i) =>
      Buffer.from(`k${String(i).padStart(2, "0")}`),
    );
  }

  #key(): Uint8Array {
    const { rng, workload } = this.#context;
    const hot = rng.below(1_000) < workload.hotPermille;
    return this.#keys[rng.below(hot ? Math.min(3, this.#keys.length) : this.#keys.length)]!;
  }

  /** A range's bounds: a few keys, or from a key on, or everything. */
  #range(): { readonly key: Uint8Array; readonly rangeEnd: Uint8Array } {
    const { rng } = this.#context;
    const draw = rng.below(8);
    if (draw === 0) return { key: Uint8Array.of(0), rangeEnd: Uint8Array.of(0) };
    if (draw === 1) return { key: this.#key(), rangeEnd: Uint8Array.of(0) };
    const from = rng.below(this.#keys.length);
    const to = Math.min(this.#keys.length - 1, from + 1 + rng.below(6));
    return { key: this.#keys[from]!, rangeEnd: this.#keys[to]! };
  }

  /** Unique in the run, so that whoever wrote it can be told. */
  #value(): Uint8Array {
    const { rng } = this.#context;
    const number = `v${++this.#values}`;
    return Buffer.from(rng.below(50) === 0 ? number.padEnd(2_000, ".") : number);
  }

  /** Sends a request to its member; the promise resolves when its answer was judged, and never rejects for refusals. */
  send(operation: Operation): Promise<void> {
    const { rng } = this.#context;
    const { lease, maintenance: _, kv } = operation.host.services!;
    switch (operation.kind) {
      case "put": {
        const key = this.#key();
        const leaseId = rng.below(6) === 0 ? this.#context.leases.some(rng) : 0n;
        const known = rng.below(20);
        const request: PutRequest = {
          ...emptyPut,
          key,
          value: known === 0 ? new Uint8Array(0) : this.#value(),
          lease: known === 1 ? 0n : leaseId,
          prevKv: rng.below(3) === 0,
          ignoreValue: known === 0,
          ignoreLease: known === 1,
        };
        operation.description = `put ${latin1(key)}=${latin1(request.value).slice(0, 10)} lease ${request.lease}`;
        return this.#put(operation, request);
      }
      case "delete":
      case "deleteRange": {
        const range =
          operation.kind === "delete" ? { key: this.#key(), rangeEnd: new Uint8Array(0) } : this.#range();
        const request = create(DeleteRangeRequestSchema, { ...range, prevKv: rng.below(2) === 0 });
        this.#note(operation, "deleteRange", request);
        operation.description = `delete ${latin1(range.key)}..${latin1(range.rangeEnd)}`;
        return this.#write(operation, kv.deleteRange(request), (answer) =>
          this.#checkDelete(operation, answer),
        );
      }
      case "compareAndSet":
      case "txn": {
        const request = operation.kind === "txn" ? this.#txn() : this.#compareAndSet();
        this.#note(operation, "txn", request);
        operation.description = `${operation.kind} of ${request.success.length} or ${request.failure.length}`;
        return this.#write(operation, kv.txn(request, call), (answer) =>
          this.#checkTxn(operation, decodeAnswer(TxnResponseSchema, answer)),
        );
      }
      case "compact": {
        const { revision } = this.#context.shown;
        const request = create(CompactionRequestSchema, {
          revision: BigInt(Math.max(1, revision - rng.below(200))),
          physical: rng.below(4) === 0,
        });
        this.#note(operation, "compaction", request);
        operation.description = `compact ${request.revision}`;
        return this.#write(operation, kv.compact(request), () => {
          const { shown } = this.#context;
          shown.compacted = Math.max(shown.compacted, Number(request.revision));
        });
      }
      case "leaseGrant": {
        const { workload, leases } = this.#context;
        const ttl = BigInt(1 + rng.below(workload.leaseTtlSecondsMax));
        const id = leases.newId();
        operation.description = `grant ${id} for ${ttl} s`;
        const request = create(LeaseGrantRequestSchema, { ID: id, TTL: ttl });
        this.#note(operation, "leaseGrant", request);
        return this.#write(operation, lease.leaseGrant(request), (answer) => {
          claim(answer.ID === id, () => `P15: asked for lease ${id}, got ${answer.ID}`);
          leases.acknowledged(id, operation.calledAtMs);
        });
      }
      case "leaseRevoke": {
        const id = this.#context.leases.some(rng);
        const request = create(LeaseRevokeRequestSchema, { ID: id });
        this.#note(operation, "leaseRevoke", request);
        operation.description = `revoke ${id}`;
        return this.#write(operation, lease.leaseRevoke(request), () => this.#context.revoked(id));
      }
      case "leaseKeepAlive": {
        return this.renew(operation, this.#context.leases.some(rng));
      }
      case "leaseTimeToLive": {
        const id = this.#context.leases.some(rng);
        operation.description = `ttl of ${id}`;
        const request = create(LeaseTimeToLiveRequestSchema, { ID: id, keys: rng.below(2) === 0 });
        return this.#answered(operation, lease.leaseTimeToLive(request), (answer) => {
          const { header, TTL, grantedTTL } = decodeAnswer(LeaseTimeToLiveResponseSchema, answer);
          this.#readAt(operation, Number(header!.revision));
          this.#context.leases.saidRemaining(id, Number(TTL), Number(grantedTTL));
        });
      }
      case "txnRead": {
        const success = [this.#get(), this.#get()];
        const request = create(TxnRequestSchema, { success });
        this.#note(operation, "txn", request);
        operation.description = "txn of two reads";
        return this.#answered(operation, kv.txn(request, call), (given) => {
          const answer = decodeAnswer(TxnResponseSchema, given);
          const revision = Number(answer.header!.revision);
          this.#readAt(operation, revision);
          const answers = success.map(({ request: op }) => ({
            kind: "range" as const,
            range: this.#context.truth.model.rangeAt(op.value as RangeRequest, revision),
          }));
          const difference = txnDifference({ succeeded: true, answers }, answer);
          claim(difference === undefined, () => `P2: a txn that reads, at ${revision}: ${difference}`);
        });
      }
      default:
        return this.#read(operation);
    }
  }

  /** A plain put, drawn or asked for. */
  put(operation: Operation, key: string, value: string): Promise<void> {
    return this.#put(operation, { ...emptyPut, key: Buffer.from(key), value: Buffer.from(value) });
  }

  renew(operation: Operation, id: LeaseId): Promise<void> {
    const { leases } = this.#context;
    operation.description = `keep ${id}`;
    return this.#answered(operation, renewOnce(operation.host.services!.lease, id, call), (ttlSeconds) => {
      if (ttlSeconds > 0) leases.acknowledged(id, operation.calledAtMs);
      else leases.saidGone(id, operation.calledAtMs);
    });
  }

  #put(operation: Operation, request: PutRequest): Promise<void> {
    this.#note(operation, "put", request);
    const { kv } = operation.host.services!;
    return this.#write(operation, kv.put(request), (answer) => this.#checkPut(operation, answer));
  }

  #note(operation: Operation, kind: Noted["kind"], request: Noted["request"]): void {
    const { recorder, now } = this.#context;
    operation.noted = recorder?.note(kind, request, operation.host.name, now());
  }

  #settled({ noted }: Operation, outcome: NonNullable<Noted["outcome"]>): void {
    if (noted === undefined) return;
    noted.outcome = outcome;
    noted.returnAt = this.#context.now();
  }

  #read(operation: Operation): Promise<void> {
    const { rng, shown } = this.#context;
    const { kind } = operation;
    const single = kind === "get" || (kind === "getSerializable" && rng.below(2) === 0);
    const bounds = single ? { key: this.#key(), rangeEnd: new Uint8Array(0) } : this.#range();
    const request: RangeRequest = {
      ...emptyRange,
      ...bounds,
      serializable: kind === "getSerializable",
      revision: kind === "rangePast" ? BigInt(Math.max(1, shown.revision - rng.below(100) + 2)) : 0n,
    };
    if (kind === "range") {
      request.limit = BigInt(rng.below(3) === 0 ? 1 + rng.below(5) : 0);
      request.keysOnly = rng.below(8) === 0;
      request.countOnly = rng.below(8) === 0;
      if (rng.below(4) === 0) {
        request.sortOrder = [SortOrder.ASCEND, SortOrder.DESCEND][rng.below(2)]!;
        request.sortTarget = [SortTarget.KEY, SortTarget.MOD, SortTarget.CREATE, SortTarget.VALUE][
          rng.below(4)
        ]!;
      }
      if (rng.below(8) === 0) request.minModRevision = BigInt(Math.max(1, shown.revision - rng.below(50)));
    }
    this.#note(operation, "range", request);
    operation.description = `${kind} ${latin1(bounds.key)}..${latin1(bounds.rangeEnd)} at ${request.revision}`;
    return this.#answered(
      operation,
      operation.host.services!.kv.range(request, call),
      (answer) => this.#checkRange(operation, request, answer),
      (error) => this.#checkRangeRefusal(operation, request, error),
    );
  }

  #get(): RequestOp {
    return create(RequestOpSchema, {
      request: { case: "requestRange", value: create(RangeRequestSchema, { key: this.#key() }) },
    });
  }

  #compareAndSet() {
    const { rng, truth, shown } = this.#context;
    const key = this.#key();
    // Mostly the revision that the key had a moment ago, so that about half succeed.
    const known = truth.model.live(latin1(key), "", Math.max(1, shown.revision - rng.below(3)))[0];
    return create(TxnRequestSchema, {
      compare: [
        create(CompareSchema, {
          key,
          target: Target.MOD,
          result: Result.EQUAL,
          targetUnion: { case: "modRevision", value: BigInt(known?.main ?? 0) },
        }),
      ],
      success: [this.#putOp(key)],
      failure: [this.#get()],
    });
  }

  #putOp(key: Uint8Array): RequestOp {
    return create(RequestOpSchema, {
      request: {
        case: "requestPut",
        value: create(PutRequestSchema, { key, value: this.#value(), prevKv: true }),
      },
    });
  }

  /** Reads and writes of several keys, each key written once. */
  #txn() {
    const { rng } = this.#context;
    const ops = (): RequestOp[] => {
      const written = new Set<number>();
      return Array.from({ length: 1 + rng.below(4) }, () => {
        const draw = rng.below(4);
        const at = rng.below(this.#keys.length);
        if (draw === 0 || written.has(at)) return this.#get();
        written.add(at);
        const key = this.#keys[at]!;
        if (draw > 1) return this.#putOp(key);
        return create(RequestOpSchema, {
          request: { case: "requestDeleteRange", value: create(DeleteRangeRequestSchema, { key }) },
        });
      });
    };
    const compare = create(CompareSchema, {
      key: this.#key(),
      target: Target.VERSION,
      result: [Result.EQUAL, Result.GREATER, Result.LESS, Result.NOT_EQUAL][rng.below(4)]!,
      targetUnion: { case: "version", value: BigInt(rng.below(4)) },
    });
    // Never read-only: that would be answered without the log.
    return create(TxnRequestSchema, {
      compare: [compare],
      success: [...ops(), this.#get()],
      failure: [this.#putOp(this.#key())],
    });
  }

  /** Judges the outcome; a violation rejects. */
  #answered<Answer>(
    operation: Operation,
    outcome: Promise<Answer>,
    check: (answer: Answer) => void,
    refused: (error: StoreError) => void = () => {},
  ): Promise<void> {
    return outcome.then(
      (answer) => {
        operation.state = "done";
        this.#settled(operation, { answer });
        this.counts.reads++;
        check(answer);
      },
      (error: unknown) => {
        if (!(error instanceof StoreError)) throw error;
        this.#count(error);
        this.#settled(operation, { error });
        operation.state = error.definite ? "failed" : "unknown";
        refused(error);
      },
    );
  }

  #write<Answer>(
    operation: Operation,
    outcome: Promise<Answer>,
    check: (answer: Answer) => void,
  ): Promise<void> {
    return outcome.then(
      (answer) => {
        operation.state = "done";
        this.#settled(operation, { answer });
        this.counts.writes++;
        this.#tookEffect(operation);
        check(answer);
      },
      (error: unknown) => {
        if (!(error instanceof StoreError)) throw error;
        this.#count(error);
        this.#settled(operation, { error });
        operation.state = error.definite ? "failed" : "unknown";
        if (error.definite) this.#checkNoEffect(operation, error);
      },
    );
  }

  #count(error: StoreError): void {
    const { refusals } = this.counts;
    const name = `${error.message.replace("etcdserver: ", "")}${error.definite ? "" : " (unknown)"}`;
    refusals.set(name, (refusals.get(name) ?? 0) + 1);
  }

  /** P18: whoever was told that nothing happened can rely on it. Later entries are looked at when they come. */
  #checkNoEffect(operation: Operation, error: StoreError): void {
    const { step } = operation;
    if (step === undefined) return;
    claim(
      step.written.length === 0 && step.outcome.kind === "refused",
      () => `P18: "${error.message}" for ${operation.description}, which took effect at ${step.index}`,
    );
  }

  /** P1, P2: an acknowledged write has its place, later than everything that was shown before it was asked for. */
  #tookEffect(operation: Operation): void {
    const { step } = operation;
    claim(
      step !== undefined,
      () => `P1: ${operation.description} was acknowledged but is nowhere in the log`,
    );
    claim(
      step.index > operation.shownIndex,
      () =>
        `P2: ${operation.description} took its place at ${step.index}, but ${operation.shownIndex} was seen before it began`,
    );
    this.#context.shown.applied(step.index);
    this.#context.shown.see(step.outcome.revision);
  }

  #checkPut(operation: Operation, answer: EncodedMessage): void {
    const { outcome } = operation.step!;
    const fields = fieldsOf(answer);
    claim(
      outcome.kind === "put",
      () => `P2: ${operation.description} was answered, the model says ${outcome.kind}`,
    );
    const previous = fields.piece(2);
    claim(
      revisionOf(fields) === outcome.revision &&
        (previous === undefined ? undefined : latin1(previous)) === outcome.previous,
      () => `P2: the answer to ${operation.description} differs from the model's`,
    );
  }

  #checkDelete(operation: Operation, answer: EncodedMessage): void {
    const { outcome } = operation.step!;
    const fields = fieldsOf(answer);
    claim(
      outcome.kind === "delete-range",
      () => `P2: ${operation.description}: the model says ${outcome.kind}`,
    );
    claim(
      revisionOf(fields) === outcome.revision &&
        fields.number(2) === outcome.deleted &&
        sameRecords(fields.pieces(3), outcome.previous),
      () => `P2: the answer to ${operation.description} differs from the model's`,
    );
  }

  #checkTxn(operation: Operation, answer: TxnResponse): void {
    const { outcome } = operation.step!;
    claim(outcome.kind === "txn", () => `P2: ${operation.description}: the model says ${outcome.kind}`);
    const difference = txnDifference(outcome.txn, answer);
    claim(
      Number(answer.header!.revision) === outcome.revision && difference === undefined,
      () => `P2: the answer to ${operation.description} differs from the model's: ${difference}`,
    );
  }

  /** The revision that a read was served at; P2 for linearizable ones, P3 for all. */
  #readAt(operation: Operation, revision: Revision): void {
    const { truth, shown } = this.#context;
    claim(
      revision <= truth.revision,
      () => `P3: ${operation.description} was served at uncommitted ${revision}`,
    );
    if (operation.kind === "getSerializable") {
      if (revision < operation.shownRevision) this.counts.stale++;
    } else {
      claim(
        revision >= operation.shownRevision,
        () =>
          `P2: ${operation.description} at ${operation.host.name} was served at ${revision}, but ${operation.shownRevision} was seen before it began`,
      );
      const { member } = operation.host;
      claim(
        member === undefined || member.state.appliedIndex >= operation.committedIndex,
        () =>
          `R13: ${operation.description} was served at index ${member!.state.appliedIndex}, ${operation.committedIndex} was committed before`,
      );
    }
    shown.see(revision);
  }

  #checkRange(operation: Operation, request: RangeRequest, answer: EncodedMessage): void {
    const { truth } = this.#context;
    const fields = fieldsOf(answer);
    const revision = revisionOf(fields);
    this.#readAt(operation, revision);
    const asked = Number(request.revision);
    claim(
      asked === 0 || operation.kind === "getSerializable" || asked >= operation.shownCompacted,
      () => `P14: ${operation.description} was answered, ${operation.shownCompacted} was compacted before`,
    );
    const expected = truth.model.rangeAt(request, revision);
    claim(
      sameRecords(fields.pieces(2), expected.records) &&
        fields.number(4) === expected.count &&
        (fields.number(3) === 1) === expected.more,
      () =>
        `P2: ${operation.description} at ${operation.host.name}, revision ${revision}, differs from the model: ` +
        `count ${fields.number(4)}, expected ${expected.count}`,
    );
  }

  #checkRangeRefusal({ description }: Operation, request: RangeRequest, error: StoreError): void {
    const { truth } = this.#context;
    const asked = Number(request.revision);
    if (error.message.includes("compacted")) {
      claim(asked > 0 && asked < truth.compactedRevision, () => `P14: ${description} is not compacted`);
    }
  }
}
