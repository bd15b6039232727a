/** Histories with a known order, and small lies told about them: what the checkers themselves are tested with. */
import { create, fromBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { KeyValueSchema } from "../../src/proto/gen/etcd/kv_pb";
import {
  CompactionRequestSchema,
  CompactionResponseSchema,
  DeleteRangeRequestSchema,
  DeleteRangeResponseSchema,
  PutRequestSchema,
  PutResponseSchema,
  RangeRequestSchema,
  type RangeResponse,
  RangeResponseSchema,
  type RequestOpSchema,
  type ResponseOpSchema,
  TxnRequestSchema,
  TxnResponseSchema,
} from "../../src/proto/gen/etcd/rpc_pb";
import { CommandSchema } from "../../src/proto/gen/keelson/command_pb";
import type { SeededRng } from "../../src/rng";
import type { Change, RevisionChanges } from "../../src/state/types";
import { KvModel, modelRecord, type ModelOpAnswer, type ModelRange } from "../model/kv-model";
import type { History, Operation } from "./history";

const bytes = (text: string): Uint8Array<ArrayBuffer> => Uint8Array.from(Buffer.from(text, "latin1"));
const kvOf = (record: string) => fromBinary(KeyValueSchema, bytes(record));
const header = (revision: number) => ({ revision: BigInt(revision) });

type Kind = "range" | "put" | "deleteRange" | "txn" | "compaction";
interface Drawn {
  readonly kind: Kind;
  readonly request: Operation["request"];
}

export interface RandomHistoryOptions {
  readonly operations: number;
  readonly clients: number;
  readonly keys: number;
  /** One in this many requests loses its answer. */
  readonly unknownOneIn: number;
  /** Only puts, reads and compare-and-set of single keys. */
  readonly registers?: true;
}

function drawRange(
  rng: SeededRng,
  key: () => string,
  revision: number,
): MessageInitShape<typeof RangeRequestSchema> {
  const prefix = rng.below(3) === 0;
  return {
    key: bytes(prefix ? "k" : key()),
    rangeEnd: bytes(prefix ? "l" : ""),
    limit: prefix && rng.below(3) === 0 ? BigInt(1 + rng.below(3)) : 0n,
    revision: rng.below(5) === 0 ? BigInt(1 + rng.below(revision)) : 0n,
    sortOrder: prefix ? rng.below(3) : 0,
    sortTarget: prefix ? rng.below(5) : 0,
    countOnly: rng.below(10) === 0,
    keysOnly: rng.below(10) === 0,
    serializable: rng.below(12) === 0,
  };
}

function draw(rng: SeededRng, id: number, keys: number, revision: number): Drawn {
  const key = (): string => `k${rng.below(keys)}`;
  const kind = rng.below(10);
  if (kind < 3) return { kind: "range", request: create(RangeRequestSchema, drawRange(rng, key, revision)) };
  if (kind < 6) {
    const request = { key: bytes(key()), value: bytes(`v${id}`), prevKv: rng.below(3) === 0 };
    return { kind: "put", request: create(PutRequestSchema, request) };
  }
  if (kind < 7) {
    const prefix = rng.below(4) === 0;
    const request = {
      key: bytes(prefix ? "k" : key()),
      rangeEnd: bytes(prefix ? "k2" : ""),
      prevKv: rng.below(2) === 0,
    };
    return { kind: "deleteRange", request: create(DeleteRangeRequestSchema, request) };
  }
  if (kind === 9 && rng.below(6) === 0) {
    return {
      kind: "compaction",
      request: create(CompactionRequestSchema, { revision: BigInt(Math.max(1, revision - rng.below(4))) }),
    };
  }
  const guarded = key();
  const put: MessageInitShape<typeof RequestOpSchema> = {
    request: { case: "requestPut", value: { key: bytes(guarded), value: bytes(`v${id}`), prevKv: true } },
  };
  const other = `k${(Number(guarded.slice(1)) + 1) % (keys + 1)}`;
  const alsoPut: MessageInitShape<typeof RequestOpSchema> = {
    request: { case: "requestPut", value: { key: bytes(other), value: bytes(`w${id}`) } },
  };
  const get: MessageInitShape<typeof RequestOpSchema> = {
    request: { case: "requestRange", value: { key: bytes("k"), rangeEnd: bytes("l") } },
  };
  return {
    kind: "txn",
    request: create(TxnRequestSchema, {
      compare: [
        {
          key: bytes(guarded),
          target: 2,
          result: 0,
          targetUnion: {
            case: "modRevision",
            value: BigInt(rng.below(2) === 0 ? 0 : Math.max(0, revision - rng.below(4))),
          },
        },
      ],
      success: rng.below(2) === 0 ? [get, put, get] : [put, alsoPut, get],
      failure: rng.below(2) === 0 ? [get] : [get, put],
    }),
  };
}

const rangeReply = (
  range: ModelRange,
  revision = range.revision,
): MessageInitShape<typeof RangeResponseSchema> => ({
  header: header(revision),
  count: BigInt(range.count),
  more: range.more,
  kvs: range.records.map(kvOf),
});

function opReply(answer: ModelOpAnswer): MessageInitShape<typeof ResponseOpSchema> {
  switch (answer.kind) {
    case "range":
      return { response: { case: "responseRange", value: rangeReply(answer.range) } };
    case "put": {
      const value = answer.previous === undefined ? {} : { prevKv: kvOf(answer.previous) };
      return { response: { case: "responsePut", value } };
    }
    case "delete-range": {
      const value = { deleted: BigInt(answer.deleted), prevKvs: answer.previous.map(kvOf) };
      return { response: { case: "responseDeleteRange", value } };
    }
    case "txn": {
      const { succeeded, answers } = answer.txn;
      return { response: { case: "responseTxn", value: { succeeded, responses: answers.map(opReply) } } };
    }
  }
}

/** Takes effect on the model now; what the client is told. */
function perform(model: KvModel, { kind, request }: Drawn): Operation["outcome"] {
  if (kind === "range") {
    const range = model.range(request as Parameters<KvModel["range"]>[0]);
    if (typeof range === "string") {
      const text =
        range === "compacted"
          ? "required revision has been compacted"
          : "required revision is a future revision";
      return { kind: "failed", definite: true, code: 11, text };
    }
    return { kind: "replied", reply: create(RangeResponseSchema, rangeReply(range)) };
  }
  const result = model.apply(create(CommandSchema, { operation: { case: kind, value: request } as never }));
  if (result.kind === "refused") {
    const text = result.name === "compacted" ? "required revision has been compacted" : result.name;
    return { kind: "failed", definite: true, code: 11, text };
  }
  const common = { header: header(result.revision) };
  switch (result.kind) {
    case "put": {
      const previous = result.previous === undefined ? {} : { prevKv: kvOf(result.previous) };
      return { kind: "replied", reply: create(PutResponseSchema, { ...common, ...previous }) };
    }
    case "delete-range": {
      const reply = { ...common, deleted: BigInt(result.deleted), prevKvs: result.previous.map(kvOf) };
      return { kind: "replied", reply: create(DeleteRangeResponseSchema, reply) };
    }
    case "txn": {
      const { succeeded, answers } = result.txn;
      return {
        kind: "replied",
        reply: create(TxnResponseSchema, { ...common, succeeded, responses: answers.map(opReply) }),
      };
    }
    default:
      return { kind: "replied", reply: create(CompactionResponseSchema, common) };
  }
}

function drawRegister(rng: SeededRng, id: number, keys: number, model: KvModel): Drawn {
  const key = bytes(`k${rng.below(keys)}`);
  const put = { key, value: bytes(`v${id}`) };
  const kind = rng.below(3);
  if (kind === 0) return { kind: "put", request: create(PutRequestSchema, put) };
  if (kind === 1) return { kind: "range", request: create(RangeRequestSchema, { key }) };
  const old = model.live(Buffer.from(key).toString("latin1"), "", model.revision)[0]?.value ?? "";
  const expected = rng.below(3) === 0 ? "v1" : old;
  const request = create(TxnRequestSchema, {
    compare: [{ key, target: 3, result: 0, targetUnion: { case: "value", value: bytes(expected) } }],
    success: [{ request: { case: "requestPut", value: put } }],
  });
  return { kind: "txn", request };
}

/** All that a model ever changed, as a watcher from the beginning sees it. */
export function logOf(model: KvModel): RevisionChanges[] {
  const log = new Map<number, Change[]>();
  for (const version of model.versions) {
    const changes = log.get(version.main) ?? [];
    log.set(version.main, changes);
    changes.push({
      type: version.version === 0 ? "delete" : "put",
      key: version.key,
      revision: version.main,
      sub: version.sub,
      created: version.version === 1,
      record: bytes(modelRecord(version)),
    });
  }
  return [...log].map(([revision, changes]) => ({ revision, changes }));
}

/** Clients with overlapping requests, each of which takes effect at one moment of its own. */
export function randomHistory(rng: SeededRng, options: RandomHistoryOptions): History {
  const model = new KvModel();
  const operations: Operation[] = [];
  const free = Array.from({ length: options.clients }, () => 0);
  const pending: { at: number; run: () => void }[] = [];
  for (let id = 1; id <= options.operations; id++) {
    const client = rng.below(options.clients);
    const callAt = free[client]! + 1 + rng.below(10);
    const effectAt = callAt + rng.below(20);
    const returnAt = effectAt + rng.below(20);
    free[client] = returnAt;
    const lost = rng.below(options.unknownOneIn) === 0;
    const never = lost && rng.below(2) === 0;
    pending.push({
      at: effectAt,
      run() {
        const drawn = options.registers
          ? drawRegister(rng, id, options.keys, model)
          : draw(rng, id, options.keys, model.revision);
        const outcome = never ? undefined : perform(model, drawn);
        const failed = {
          kind: "failed",
          definite: false,
          code: 14,
          text: "etcdserver: request timed out",
        } as const;
        operations.push({
          id,
          client,
          member: `m${client % 3}`,
          ...drawn,
          callAt,
          returnAt: lost && rng.below(2) === 0 ? Infinity : returnAt,
          outcome: lost ? (rng.below(2) === 0 ? { kind: "unanswered" } : failed) : outcome,
        } as Operation);
      },
    });
  }
  pending.sort((a, b) => a.at - b.at);
  for (const { run } of pending) run();
  return { operations, log: logOf(model) };
}

/** The history with one answer, or its time, changed. */
export function withOneLie(rng: SeededRng, history: History): History {
  const candidates = history.operations.filter(
    ({ kind, outcome }) => outcome.kind === "replied" && kind !== "compaction",
  );
  const chosen = candidates[rng.below(candidates.length)];
  if (chosen?.outcome.kind !== "replied") return history;
  const reply = structuredClone(chosen.outcome.reply) as typeof chosen.outcome.reply;
  let { callAt, returnAt } = chosen;
  const range = chosen.kind === "range" ? (reply as RangeResponse) : undefined;
  switch (rng.below(4)) {
    case 0:
      reply.header!.revision += BigInt(rng.below(2) === 0 ? 1 : -1);
      break;
    case 1:
      if (range?.kvs[0] !== undefined) range.kvs[0].value = bytes("never written");
      else reply.header!.revision += 2n;
      break;
    case 2:
      if (range !== undefined) range.count += 1n;
      else reply.header!.revision -= 2n;
      break;
    default: {
      const shift = (rng.below(2) === 0 ? 1 : -1) * (20 + rng.below(60));
      callAt += shift;
      returnAt += shift;
    }
  }
  const lie = { ...chosen, callAt, returnAt, outcome: { kind: "replied", reply } } as Operation;
  return {
    ...history,
    operations: history.operations.map((operation) => (operation === chosen ? lie : operation)),
  };
}
