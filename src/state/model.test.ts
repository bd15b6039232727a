/** The state machine against the model in test/model, over random histories with crashes, slices and compaction. */
import { expect, test } from "bun:test";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { KvModel, modelRecord, type ModelOpAnswer, type ModelTxn } from "../../test/model/kv-model";
import { crc32c } from "../checksum";
import { StoreError, refuse } from "../errors";
import { KeyValueSchema } from "../proto/gen/etcd/kv_pb";
import {
  type RangeRequest,
  RangeRequestSchema,
  type RequestOpSchema,
  type ResponseOp,
  type TxnRequestSchema,
  type TxnResponse,
} from "../proto/gen/etcd/rpc_pb";
import { type Command, CommandSchema } from "../proto/gen/keelson/command_pb";
import { openStateDatabase } from "../storage/sqlite";
import type { ApplyResult } from "./results";
import { StateMachine } from "./state-machine";
import { checkTxn } from "./validate";

const runs = Number(process.env["KEELSON_MODEL_RUNS"] ?? 150);

const names = ["a", "a\0", "ab", "b", "b\xff", "c", "\xff"];
const bytes = (text: string): Uint8Array => Buffer.from(text, "latin1");
const keys = fc.constantFrom(...names).map(bytes);
const ends = fc.constantFrom("", "", "\0", "b", "c", "a", "\xff\xff").map(bytes);
const values = fc.constantFrom("", "x", "yy", "z".repeat(200)).map(bytes);
const leaseIds = fc.constantFrom(0n, 0n, 1n, 2n, 0x7fff_ffff_ffff_fff0n);
const revisions = fc.integer({ min: -3, max: 30 }).map(BigInt);
const rarely = fc.boolean().chain((yes) => (yes ? fc.boolean() : fc.constant(false)));

const rangeInit = fc.record({
  key: keys,
  rangeEnd: ends,
  limit: fc.constantFrom(0n, 0n, 1n, 2n, 3n, -1n),
  revision: fc.oneof(fc.constant(0n), fc.constant(0n), revisions),
  sortOrder: fc.constantFrom(0, 0, 1, 2),
  sortTarget: fc.constantFrom(0, 0, 1, 2, 3, 4),
  keysOnly: rarely,
  countOnly: rarely,
  minModRevision: fc.oneof(fc.constant(0n), fc.constant(0n), revisions),
  maxModRevision: fc.oneof(fc.constant(0n), fc.constant(0n), revisions),
  minCreateRevision: fc.oneof(fc.constant(0n), fc.constant(0n), revisions),
  maxCreateRevision: fc.oneof(fc.constant(0n), fc.constant(0n), revisions),
});
const putInit = fc.oneof(
  fc.record({ key: keys, value: values, lease: leaseIds, prevKv: fc.boolean() }),
  fc.record({ key: keys, value: values, prevKv: fc.boolean(), ignoreLease: fc.constant(true) }),
  fc.record({ key: keys, lease: leaseIds, prevKv: fc.boolean(), ignoreValue: fc.constant(true) }),
);
const deleteInit = fc.record({ key: keys, rangeEnd: ends, prevKv: fc.boolean() });
const compareInit = fc.record({
  key: keys,
  rangeEnd: ends,
  result: fc.constantFrom(0, 1, 2, 3),
  target: fc.constantFrom(0, 1, 2, 3, 4),
  targetUnion: fc.oneof(
    fc.constantFrom(0n, 1n, 2n).map((value) => ({ case: "version" as const, value })),
    revisions.map((value) => ({ case: "createRevision" as const, value })),
    revisions.map((value) => ({ case: "modRevision" as const, value })),
    values.map((value) => ({ case: "value" as const, value })),
    leaseIds.map((value) => ({ case: "lease" as const, value })),
  ),
});
type TxnInit = MessageInitShape<typeof TxnRequestSchema>;
type OpInit = MessageInitShape<typeof RequestOpSchema>;
function opInit(depth: number): fc.Arbitrary<OpInit> {
  const plain = fc.oneof(
    putInit.map((value): OpInit => ({ request: { case: "requestPut", value } })),
    deleteInit.map((value): OpInit => ({ request: { case: "requestDeleteRange", value } })),
    rangeInit.map((value): OpInit => ({ request: { case: "requestRange", value } })),
  );
  if (depth === 0) return plain;
  const nested = txnInit(depth - 1).map((value): OpInit => ({ request: { case: "requestTxn", value } }));
  return fc.oneof(plain, plain, nested);
}
function txnInit(depth: number): fc.Arbitrary<TxnInit> {
  return fc.record({
    compare: fc.array(compareInit, { maxLength: 2 }),
    success: fc.array(opInit(depth), { maxLength: 4 }),
    failure: fc.array(opInit(depth), { maxLength: 3 }),
  });
}

const operations: fc.Arbitrary<MessageInitShape<typeof CommandSchema>["operation"]> = fc.oneof(
  { weight: 8, arbitrary: putInit.map((value) => ({ case: "put" as const, value })) },
  { weight: 3, arbitrary: deleteInit.map((value) => ({ case: "deleteRange" as const, value })) },
  { weight: 5, arbitrary: txnInit(2).map((value) => ({ case: "txn" as const, value })) },
  {
    weight: 2,
    arbitrary: revisions.map((revision) => ({ case: "compaction" as const, value: { revision } })),
  },
  {
    weight: 2,
    arbitrary: fc
      .constantFrom(1n, 2n, 0x7fff_ffff_ffff_fff0n)
      .map((ID) => ({ case: "leaseGrant" as const, value: { ID, TTL: 10n } })),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom(1n, 2n, 3n).map((id) => ({ case: "leaseRevoke" as const, value: { id } })),
  },
);

type Action =
  | { readonly do: "apply"; readonly command: Command }
  | { readonly do: "flush" | "crash" | "vacuum" }
  | { readonly do: "sweep"; readonly rows: number }
  | { readonly do: "read"; readonly request: RangeRequest; readonly sliceKeys: number }
  | { readonly do: "history"; readonly from: number; readonly to: number; readonly max: number };

const actions: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 12,
    arbitrary: operations.map((operation): Action => {
      return { do: "apply", command: create(CommandSchema, { version: 1, operation: operation! }) };
    }),
  },
  { weight: 2, arbitrary: fc.constantFrom<Action>({ do: "flush" }, { do: "crash" }, { do: "vacuum" }) },
  { weight: 2, arbitrary: fc.integer({ min: 1, max: 9 }).map((rows): Action => ({ do: "sweep", rows })) },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant("read" as const),
      request: rangeInit.map((init) => create(RangeRequestSchema, init)),
      sliceKeys: fc.integer({ min: 1, max: 4 }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant("history" as const),
      from: fc.integer({ min: 1, max: 30 }),
      to: fc.integer({ min: 1, max: 30 }),
      max: fc.integer({ min: 1, max: 4 }),
    }),
  },
);

const latin1 = (record: Uint8Array): string => Buffer.from(record).toString("latin1");

function refusalOf<Answer>(read: () => Answer): Answer | StoreError {
  try {
    return read();
  } catch (error) {
    if (error instanceof StoreError) return error;
    throw error;
  }
}

/** A response as the model would give it. */
function plainTxn(response: TxnResponse): ModelTxn {
  return { succeeded: response.succeeded, answers: response.responses.map(plainOp) };
}
function plainOp({ response: op }: ResponseOp): ModelOpAnswer {
  const kv = (value: Parameters<typeof toBinary<typeof KeyValueSchema>>[1]): string =>
    latin1(toBinary(KeyValueSchema, value));
  switch (op.case) {
    case "responseRange": {
      const { header, count, more, kvs } = op.value;
      const revision = Number(header!.revision);
      return { kind: "range", range: { revision, count: Number(count), more, records: kvs.map(kv) } };
    }
    case "responsePut": {
      const { header, prevKv } = op.value;
      const previous = prevKv === undefined ? undefined : kv(prevKv);
      return { kind: "put", revision: Number(header!.revision), previous };
    }
    case "responseDeleteRange": {
      const { header, deleted, prevKvs } = op.value;
      const revision = Number(header!.revision);
      return { kind: "delete-range", revision, deleted: Number(deleted), previous: prevKvs.map(kv) };
    }
    case "responseTxn":
      expect(op.value.header?.revision).toBe(0n);
      return { kind: "txn", txn: plainTxn(op.value) };
    default:
      throw new Error("an op without an answer");
  }
}
function plainResult(result: ApplyResult): unknown {
  switch (result.kind) {
    case "refused":
      return { kind: "refused", name: result.name, revision: result.revision };
    case "put": {
      const { previous, revision } = result;
      return { kind: "put", revision, previous: previous === undefined ? undefined : latin1(previous) };
    }
    case "delete-range":
      return {
        kind: "delete-range",
        revision: result.revision,
        deleted: result.deleted,
        previous: result.previous.map(latin1),
      };
    case "txn":
      expect(Number(result.response.header!.revision)).toBe(result.revision);
      return { kind: "txn", revision: result.revision, txn: plainTxn(result.response) };
    default:
      return { kind: "other", revision: result.revision };
  }
}

function modelHash(model: KvModel, revision: number): number {
  let crc = crc32c(Buffer.from("key"));
  for (const version of model.hashed(revision)) {
    const key = Buffer.alloc(version.version === 0 ? 18 : 17);
    key.writeBigUInt64BE(BigInt(version.main), 0);
    key.write("_", 8);
    key.writeBigUInt64BE(BigInt(version.sub), 9);
    if (version.version === 0) key.write("t", 17);
    crc = crc32c(key, crc);
    const keyOnly = create(KeyValueSchema, { key: Buffer.from(version.key, "latin1") });
    const stored =
      version.version === 0 ? toBinary(KeyValueSchema, keyOnly) : Buffer.from(modelRecord(version), "latin1");
    crc = crc32c(stored, crc);
  }
  return crc;
}

/** A state machine and a model that are led through the same life. */
class Twins {
  readonly model = new KvModel();
  readonly log: Command[] = [];
  readonly database = openStateDatabase(":memory:");
  state: StateMachine;

  constructor(readonly sliceKeys: number) {
    this.state = StateMachine.open(this.database, { sliceKeys });
  }

  #step(command: Command) {
    let applied = this.state.apply(this.state.appliedIndex + 1, 1, command);
    while (applied.pending) {
      // Readers see nothing of an entry that is half done.
      const whole = create(RangeRequestSchema, { key: bytes("\0"), rangeEnd: bytes("\0") });
      const seen = this.state.range(whole);
      expect(seen.revision).toBe(this.model.revision);
      expect(seen.records.map(latin1)).toEqual(
        this.model.live("\0", "\0", this.model.revision).map((version) => modelRecord(version)),
      );
      applied = this.state.resume();
    }
    return applied;
  }

  apply(command: Command): void {
    if (command.operation.case === "txn") {
      try {
        checkTxn(command.operation.value, 128);
      } catch {
        return;
      }
    }
    this.log.push(command);
    const before = this.model.revision;
    const applied = this.#step(command);
    const expected = this.model.apply(command);
    expect(plainResult(applied.result)).toEqual(expected);
    expect(this.state.revision).toBe(this.model.revision);
    const written = this.model.changes(before + 1, this.model.revision);
    expect(applied.changes?.changes.map(({ record }) => latin1(record)) ?? []).toEqual(
      written.map((version) => modelRecord(version)),
    );
    expect(applied.changes?.changes.map(({ created }) => created) ?? []).toEqual(
      written.map(({ version }) => version === 1),
    );
  }

  /** Loses what no commit covers, starts again, and replays the log. */
  crash(): void {
    if (this.database.inTransaction) this.database.run("ROLLBACK");
    this.state = StateMachine.open(this.database, { sliceKeys: this.sliceKeys });
    while (this.state.appliedIndex < this.log.length) this.#replay(this.log[this.state.appliedIndex]!);
  }

  #replay(command: Command): void {
    let applied = this.state.apply(this.state.appliedIndex + 1, 1, command);
    while (applied.pending) applied = this.state.resume();
  }

  read(request: RangeRequest, sliceKeys: number): void {
    const expected = this.model.range(request);
    const answer = refusalOf(() => this.state.range(request));
    if (typeof expected === "string") {
      expect(answer).toEqual(refuse(expected));
      return;
    }
    if (answer instanceof StoreError) throw answer;
    expect({ ...answer, records: answer.records.map(latin1) }).toEqual(expected);
    const sliced = this.state.rangeSliced(request);
    const records: string[] = [];
    for (;;) {
      const slice = sliced.next(sliceKeys, 300);
      records.push(...slice.records.map(latin1));
      if (!slice.done) continue;
      const { revision } = sliced;
      expect({ revision, count: slice.count, more: slice.more, records }).toEqual(expected);
      return;
    }
  }

  history(from: number, to: number, max: number): void {
    const expected = this.model.changes(from, Math.min(to, this.model.revision));
    const seen: string[] = [];
    for (let at = from; at <= Math.min(to, this.model.revision);) {
      const page = refusalOf(() => this.state.history.changes(at, to, max, 250));
      if (page instanceof StoreError) {
        expect(page).toEqual(refuse("compacted"));
        expect(at).toBeLessThan(this.model.compacted);
        return;
      }
      expect(page.next).toBeGreaterThan(at);
      at = page.next;
      for (const { changes } of page.revisions) seen.push(...changes.map(({ record }) => latin1(record)));
    }
    expect(seen).toEqual(expected.map((version) => modelRecord(version)));
  }

  /** Everything that can be asked, at every revision that may be asked. */
  compareAll(): void {
    const { state, model } = this;
    expect(state.compactedRevision).toBe(model.compacted);
    for (let revision = Math.max(1, model.compacted); revision <= model.revision; revision++) {
      const request = { key: bytes("\0"), rangeEnd: bytes("\0"), revision: BigInt(revision) };
      expect(state.range(create(RangeRequestSchema, request)).records.map(latin1)).toEqual(
        model.live("\0", "\0", revision).map((version) => modelRecord(version)),
      );
      for (const name of names) {
        const before = state.history.before(name, revision);
        const expected = revision - 1 < model.compacted ? undefined : model.live(name, "", revision - 1)[0];
        expect(before === undefined ? undefined : latin1(before)).toBe(
          expected === undefined ? undefined : modelRecord(expected),
        );
      }
      const hash = state.hashKV(revision);
      for (let answer = hash.next(3); ; answer = hash.next(3)) {
        if (answer === undefined) continue;
        expect(answer).toEqual({
          hash: modelHash(model, revision),
          compactRevision: model.compacted,
          hashRevision: revision,
          revision: model.revision,
        });
        break;
      }
    }
    for (const id of model.leases.keys()) {
      expect(state.lease(id)?.keys).toEqual(model.leased(id).map(({ key }) => key));
    }
    expect(
      state
        .leases()
        .map(({ id }) => id)
        .sort(),
    ).toEqual([...model.leases.keys()].sort());
    expect(state.sizes().keys).toBe(model.live("\0", "\0", model.revision).length);
  }

  act(action: Action): void {
    switch (action.do) {
      case "apply":
        return this.apply(action.command);
      case "flush":
        return this.state.flush();
      case "crash":
        return this.crash();
      case "vacuum":
        return void this.state.vacuumStep(2);
      case "sweep":
        return void this.state.compactionStep(action.rows);
      case "read":
        return this.read(action.request, action.sliceKeys);
      case "history":
        return this.history(action.from, action.to, action.max);
    }
  }
}

test("every answer is the model's, over random histories, slices, compactions and crashes", () => {
  fc.assert(
    fc.property(
      fc.array(actions, { maxLength: 60, size: "max" }),
      fc.integer({ min: 1, max: 5 }),
      (life, sliceKeys) => {
        const twins = new Twins(sliceKeys);
        try {
          for (const action of life) twins.act(action);
          twins.compareAll();
          twins.state.flush();
          while (!twins.state.compactionStep(3).done);
          twins.compareAll();
          twins.state.flush();
          twins.crash();
          twins.compareAll();
          // What is left is what was to be kept, and the tombstones at the compacted revision itself.
          const { model } = twins;
          const left = twins.database.query<{ n: number }, []>("SELECT count(*) AS n FROM revisions").get()!
            .n;
          const tombstones = model.versions.filter(
            ({ main, version }) => main === model.compacted && version === 0,
          );
          expect(left).toBeGreaterThanOrEqual(model.kept().length);
          expect(left).toBeLessThanOrEqual(model.kept().length + tombstones.length);
        } finally {
          twins.database.close();
        }
      },
    ),
    { numRuns: runs, includeErrorInReport: true },
  );
}, 120_000);
