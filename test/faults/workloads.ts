/** What clients do to the store while faults come and go. Every value is unique, so that its origin can be told. */
import { toBinaryString } from "../../src/bytes";
import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  Compare_CompareResult as Result,
  Compare_CompareTarget as Target,
  type CompareSchema,
  type RangeRequestSchema,
  type RequestOpSchema,
} from "../../src/proto/gen/etcd/rpc_pb";
import type { SeededRng } from "../../src/rng";
import { type Recorder, RecordingClient } from "./recorder";

export const utf8 = (text: string): Uint8Array<ArrayBuffer> => Uint8Array.from(Buffer.from(text));
type OpInit = MessageInitShape<typeof RequestOpSchema>;
type CompareInit = MessageInitShape<typeof CompareSchema>;

/** What a workload may use. */
export interface Traffic {
  readonly recorder: Recorder;
  readonly rng: SeededRng;
  readonly stopped: boolean;
  /** Every revision up to this one is known to the judges; nothing above it may be compacted. */
  readonly auditedRevision: number;
  /** Whether txns that write may also read the past; real etcds part ways over it (#18667). */
  readonly pastInTxns: boolean;
  /** A client that starts at some member and moves on when one fails it. */
  client(): RecordingClient;
  /** Between two requests of a client. */
  think(): Promise<void>;
}

const putOp = (key: string, value: string): OpInit => ({
  request: { case: "requestPut", value: { key: utf8(key), value: utf8(value) } },
});
const getOp = (key: string): OpInit => ({ request: { case: "requestRange", value: { key: utf8(key) } } });
const modIs = (key: string, revision: bigint): CompareInit => ({
  key: utf8(key),
  target: Target.MOD,
  result: Result.EQUAL,
  targetUnion: { case: "modRevision", value: revision },
});

/** Put, get and compare-and-set on few keys; judged without revisions as well. */
async function register(traffic: Traffic): Promise<void> {
  const { recorder, rng } = traffic;
  const client = traffic.client();
  let last = "";
  let failed = false;
  while (!traffic.stopped) {
    const key = utf8(`r/${rng.below(6)}`);
    const value = utf8(`${client.id}.${recorder.operations.length}`);
    const draw = failed ? 0 : rng.below(3);
    let answer: unknown;
    if (draw === 0) {
      const range = await client.call("range", { key });
      last = range?.kvs[0] === undefined ? last : toBinaryString(range.kvs[0].value);
      answer = range;
    } else if (draw === 1) answer = await client.call("put", { key, value });
    else {
      const targetUnion = { case: "value" as const, value: utf8(last) };
      answer = await client.call("txn", {
        compare: [{ key, target: Target.VALUE, result: Result.EQUAL, targetUnion }],
        success: [{ request: { case: "requestPut", value: { key, value } } }],
      });
    }
    failed = answer === undefined;
    await traffic.think();
  }
  client.close();
}

/** Txns that read two lists and append to both, and txns that read all of them. */
async function append(traffic: Traffic): Promise<void> {
  const { recorder, rng } = traffic;
  const client = traffic.client();
  while (!traffic.stopped) {
    const one = `a/${rng.below(4)}`;
    const two = `a/${4 + rng.below(4)}`;
    const read = await client.call("txn", { success: [getOp(one), getOp(two)] });
    await traffic.think();
    if (read === undefined) continue;
    const [first, second] = read.responses.map(({ response }) =>
      response.case === "responseRange" ? response.value.kvs[0] : undefined,
    );
    // Lists are kept short, or their answers would be all that is carried.
    const longer = (value: Uint8Array | undefined): string =>
      `${Buffer.from(value ?? [])
        .toString()
        .split(",")
        .slice(-8)
        .join(",")},${client.id}.${recorder.operations.length}`;
    await client.call("txn", {
      compare: [modIs(one, first?.modRevision ?? 0n), modIs(two, second?.modRevision ?? 0n)],
      success: [putOp(one, longer(first?.value)), putOp(two, longer(second?.value))],
      failure: [getOp(one), getOp(two)],
    });
    await traffic.think();
  }
  client.close();
}

function drawRange(rng: SeededRng, newest: number): MessageInitShape<typeof RangeRequestSchema> {
  const whole = rng.below(4) > 0;
  const old = rng.below(4) === 0 ? BigInt(Math.max(1, newest - rng.below(60))) : 0n;
  return {
    key: utf8(whole ? "g/" : `g/${rng.below(20)}`),
    rangeEnd: utf8(whole ? "g0" : ""),
    revision: old,
    limit: rng.below(3) === 0 ? BigInt(1 + rng.below(8)) : 0n,
    sortOrder: rng.below(3),
    // By key, creation or modification: among equals the order would be free (etcd's sort is not stable).
    sortTarget: [0, 2, 3][rng.below(3)]!,
    countOnly: rng.below(8) === 0,
    keysOnly: rng.below(6) === 0,
    serializable: rng.below(6) === 0,
    minModRevision: rng.below(8) === 0 ? BigInt(Math.max(1, newest - rng.below(40))) : 0n,
  };
}

/** Ranges of every kind, at present and past revisions, among puts, deletes and txns. */
async function ranges(traffic: Traffic): Promise<void> {
  const { recorder, rng } = traffic;
  const client = traffic.client();
  while (!traffic.stopped) {
    const key = `g/${rng.below(20)}`;
    const value = `${client.id}.${recorder.operations.length}`;
    const draw = rng.below(12);
    if (draw < 5) await client.call("range", drawRange(rng, recorder.revision));
    else if (draw < 9)
      await client.call("put", { key: utf8(key), value: utf8(value), prevKv: rng.below(2) === 0 });
    else if (draw < 10) await client.call("deleteRange", { key: utf8(key), prevKv: rng.below(2) === 0 });
    else if (draw < 11) {
      const rangeEnd = utf8(`g/${rng.below(10) + 10}`);
      await client.call("deleteRange", { key: utf8("g/10"), rangeEnd, prevKv: true });
    } else {
      // A read of the past inside of a txn that writes, and a put and a delete of neighbours in one revision.
      const revision = traffic.pastInTxns ? BigInt(Math.max(1, recorder.revision - rng.below(20))) : 0n;
      await client.call("txn", {
        success: [
          { request: { case: "requestRange", value: { key: utf8("g/"), rangeEnd: utf8("g0"), revision } } },
          putOp(key, value),
          { request: { case: "requestDeleteRange", value: { key: utf8(`${key}!`), prevKv: true } } },
          getOp(key),
        ],
      });
    }
    await traffic.think();
  }
  client.close();
}

/** Leases with a key each: renewed for a while, then left to expire or revoked. */
async function lease(traffic: Traffic): Promise<void> {
  const { rng } = traffic;
  const client = traffic.client();
  while (!traffic.stopped) {
    const ID = (BigInt(client.id) << 32n) + BigInt(traffic.recorder.operations.length + 1);
    const granted = await client.call("leaseGrant", { ID, TTL: 2n });
    if (granted === undefined) continue;
    const attached = await client.call("put", { key: utf8(`l/${ID}`), value: utf8(`${ID}`), lease: ID });
    if (attached === undefined) continue;
    const ttlMs = Number(granted.TTL) * 1000;
    for (let renewals = rng.below(5); renewals > 0 && !traffic.stopped; renewals--) {
      await Bun.sleep(ttlMs / 4 + rng.below(ttlMs / 4));
      const left = await client.keepAlive(ID);
      if (left === 0) break;
    }
    if (rng.below(3) === 0) await client.call("leaseRevoke", { ID });
    else await Bun.sleep(rng.below(400));
    await client.call("range", { key: utf8(`l/${ID}`) });
  }
  client.close();
}

/** What kube-apiserver does: creates, guarded updates and deletes, and paged lists at one revision. */
async function kubernetes(traffic: Traffic): Promise<void> {
  const { recorder, rng } = traffic;
  const client = traffic.client();
  const known = new Map<string, bigint>();
  while (!traffic.stopped) {
    const key = `/registry/pods/default/p${rng.below(30)}`;
    const revision = known.get(key) ?? 0n;
    const draw = rng.below(8);
    if (draw === 0) await listPods(traffic, client, known);
    else if (draw < 7 || revision === 0n) {
      const value = `k8s ${client.id}.${recorder.operations.length} ${"x".repeat(rng.below(400))}`;
      const answer = await client.call("txn", {
        compare: [modIs(key, revision)],
        success: [putOp(key, value)],
        failure: revision === 0n ? [] : [getOp(key)],
      });
      if (answer?.succeeded) known.set(key, answer.header?.revision ?? 0n);
      else learn(known, key, answer?.responses[0]?.response);
      if (answer !== undefined && !answer.succeeded && revision === 0n)
        await listPods(traffic, client, known);
    } else {
      const answer = await client.call("txn", {
        compare: [modIs(key, revision)],
        success: [{ request: { case: "requestDeleteRange", value: { key: utf8(key), prevKv: true } } }],
        failure: [getOp(key)],
      });
      if (answer?.succeeded) known.delete(key);
      else learn(known, key, answer?.responses[0]?.response);
    }
    await traffic.think();
  }
  client.close();
}

function learn(
  known: Map<string, bigint>,
  key: string,
  response: { case?: string | undefined; value?: unknown } | undefined,
): void {
  if (response?.case !== "responseRange") return;
  const [kv] = (response.value as { kvs: { modRevision: bigint }[] }).kvs;
  if (kv === undefined) known.delete(key);
  else known.set(key, kv.modRevision);
}

async function listPods(
  traffic: Traffic,
  client: RecordingClient,
  known: Map<string, bigint>,
): Promise<void> {
  let revision = 0n;
  let key = "/registry/pods/";
  known.clear();
  for (;;) {
    const page = await client.call("range", {
      key: utf8(key),
      rangeEnd: utf8("/registry/pods0"),
      limit: 10n,
      revision,
    });
    if (page === undefined || traffic.stopped) return;
    if (revision === 0n) revision = page.header?.revision ?? 0n;
    for (const kv of page.kvs) known.set(toBinaryString(kv.key), kv.modRevision);
    const last = page.kvs.at(-1);
    if (!page.more || last === undefined) return;
    key = `${toBinaryString(last.key)}\0`;
    await traffic.think();
  }
}

/** Compacts every second or so, sometimes close behind the present. */
async function compactor(traffic: Traffic): Promise<void> {
  const { rng } = traffic;
  const client = traffic.client();
  while (!traffic.stopped) {
    await Bun.sleep(700 + rng.below(900));
    const revision = traffic.auditedRevision - (rng.below(3) === 0 ? rng.below(5) : 100 + rng.below(400));
    if (revision > 1)
      await client.call("compaction", { revision: BigInt(revision), physical: rng.below(4) === 0 });
  }
  client.close();
}

/** Workloads by name, with the number of clients of each. */
export const workloads = {
  register: { clients: 4, run: register },
  append: { clients: 2, run: append },
  ranges: { clients: 4, run: ranges },
  lease: { clients: 4, run: lease },
  kubernetes: { clients: 4, run: kubernetes },
  compactor: { clients: 1, run: compactor },
} as const satisfies Record<string, { clients: number; run: (traffic: Traffic) => Promise<void> }>;

export type WorkloadName = keyof typeof workloads;
