/**
 * Draws requests from a seed: every shape of KV, Txn, Lease, Compact, HashKV, Alarm and Watch requests, valid and
 * invalid. Few keys and few leases, so that requests meet each other.
 */
import {
  create,
  toBinary,
  type DescMessage,
  type DescMethodUnary,
  type MessageShape,
} from "@bufbuild/protobuf";
import {
  CompactionRequestSchema,
  CompareSchema,
  DeleteRangeRequestSchema,
  KV,
  Lease,
  LeaseGrantRequestSchema,
  Maintenance,
  PutRequestSchema,
  RangeRequestSchema,
  RequestOpSchema,
  TxnRequestSchema,
  type Compare,
  type DeleteRangeRequest,
  type PutRequest,
  type RangeRequest,
  type RequestOp,
  type TxnRequest,
} from "../../src/proto/gen/etcd/rpc_pb";
import { SeededRng } from "../../src/rng";
import { frame } from "../tools/grpc-client";
import type { Step } from "./steps";

/** What the generator is told about the stores, so that it can aim at the edges. */
export interface Seen {
  /** The newest revision. */
  revision: bigint;
  /** The revision of the last compaction that succeeded. */
  compacted: bigint;
}

const bytes = (latin1: string): Uint8Array => Buffer.from(latin1, "latin1");
const nothing = new Uint8Array(0);

/**
 * Not more than twelve with the sentinel's: up to there Go's sort keeps equal elements in place, so that even ties
 * have one order.
 */
const keys = ["a", "b", "c", "ab", "abc", "k/1", "k/2", "k/3", "\x00", "\xff", "é"].map(bytes);

const leaseIds = [1n, 2n, 3n, 4n, 5n, 0x7fff_ffff_ffff_ffffn];

/** The number of watch streams that are open at the same time. */
export const watchStreams = 3;

/**
 * The stream for watchers that start in the future and never in the past. While one waits for its revision, its
 * stream gets no progress answers.
 */
export const futureStream = 2;

interface TxnMood {
  /**
   * Deletes may go to the end of the key space, and there are no puts. etcd does not see that such a delete overlaps
   * a put; the key then changes twice in one revision, after which a compaction and a read at that revision, or a
   * put that keeps its value, end etcd's process. A test in compat/ shows that Keelson lives through them.
   */
  deletesToTheEnd: boolean;
  /** Keys already written in this txn; reusing one makes the whole txn invalid. */
  written: Set<string>;
  /** Let duplicates happen. */
  careless: boolean;
}

export class Generator {
  readonly #rng: SeededRng;
  readonly #seen: Seen;
  /** Steps that have to come next, in order. */
  readonly #queue: Step[] = [];
  #alarmLeft = 0;
  #alarm = 0;
  #largeLeft = 4;

  constructor(seed: number, seen: Seen) {
    this.#rng = new SeededRng(seed);
    this.#seen = seen;
  }

  #below(bound: number): number {
    return this.#rng.below(bound);
  }

  /** True in `percent` of a hundred cases. */
  #chance(percent: number): boolean {
    return this.#rng.below(1000) < percent * 10;
  }

  #pick<T>(items: readonly T[]): T {
    const item = items[this.#below(items.length)];
    if (item === undefined) throw new Error("picked from nothing");
    return item;
  }

  #key(): Uint8Array {
    return this.#pick(keys);
  }

  /** A key for a single request, rarely the forbidden empty one. */
  #keyOrEmpty(): Uint8Array {
    return this.#chance(1.5) ? nothing : this.#key();
  }

  #rangeEnd(key: Uint8Array): Uint8Array {
    const draw = this.#below(100);
    if (draw < 40) return nothing;
    if (draw < 52) return bytes("\x00");
    if (draw < 68) {
      const end = Buffer.from(key);
      const last = end.length - 1;
      const lastByte = end[last];
      if (lastByte === undefined || lastByte === 255) return bytes("\x00");
      end[last] = lastByte + 1;
      return end;
    }
    if (draw < 76) return Buffer.concat([key, bytes("\x00")]);
    if (draw < 80) return key;
    return this.#key();
  }

  #revision(): bigint {
    const { revision, compacted } = this.#seen;
    const draw = this.#below(100);
    if (draw < 55) return 0n;
    if (draw < 75) {
      const span = Number(revision - compacted) + 1;
      return compacted + BigInt(this.#below(span));
    }
    if (draw < 83) return revision - BigInt(this.#below(4));
    if (draw < 87) return compacted;
    if (draw < 91) return compacted - 1n;
    if (draw < 93) return revision;
    if (draw < 95) return revision + 1n;
    if (draw < 97) return -1n;
    return this.#pick([1n, 2n, 1n << 40n, -(1n << 62n), (1n << 63n) - 1n]);
  }

  #value(): Uint8Array {
    const draw = this.#below(100);
    if (draw < 12) return nothing;
    if (draw < 60) return bytes(this.#pick(["x", "y", "1", "10", "2"]));
    if (draw < 95) return this.#randomBytes(this.#below(40));
    return this.#randomBytes(200 + this.#below(4000));
  }

  #randomBytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.#below(256));
  }

  #lease(): bigint {
    const draw = this.#below(100);
    if (draw < 68) return 0n;
    if (draw < 96) return this.#pick(leaseIds);
    return this.#pick([999n, -1n, -7n]);
  }

  #filterRevision(percent: number): bigint {
    if (!this.#chance(percent)) return 0n;
    if (this.#chance(10)) return -1n;
    return BigInt(1 + this.#below(Number(this.#seen.revision) + 2));
  }

  #range(insideTxn = false): RangeRequest {
    const key = insideTxn && this.#chance(99) ? this.#key() : this.#keyOrEmpty();
    const sorted = this.#chance(35);
    const filters = this.#chance(15) ? 60 : 0;
    return create(RangeRequestSchema, {
      key,
      rangeEnd: this.#rangeEnd(key),
      limit: this.#chance(35) ? BigInt(this.#pick([1, 2, 3, 5, 100, -1])) : 0n,
      revision: insideTxn && this.#chance(85) ? 0n : this.#revision(),
      sortOrder: sorted ? (this.#chance(2) ? 7 : this.#below(3)) : 0,
      sortTarget: sorted ? (this.#chance(2) ? 9 : this.#below(5)) : 0,
      serializable: this.#chance(30),
      keysOnly: this.#chance(15),
      countOnly: this.#chance(10),
      minModRevision: this.#filterRevision(filters),
      maxModRevision: this.#filterRevision(filters),
      minCreateRevision: this.#filterRevision(filters),
      maxCreateRevision: this.#filterRevision(filters),
    });
  }

  #put(mood?: TxnMood): PutRequest {
    let key = this.#keyOrEmpty();
    if (mood !== undefined) {
      key = this.#chance(99.5) ? this.#key() : nothing;
      for (let tries = 0; tries < 6 && mood.written.has(String(key)) && !mood.careless; tries++) {
        key = this.#key();
      }
      mood.written.add(String(key));
    }
    const ignoreValue = this.#chance(7);
    const ignoreLease = this.#chance(7);
    return create(PutRequestSchema, {
      key,
      value: ignoreValue && this.#chance(90) ? nothing : this.#value(),
      lease: ignoreLease && this.#chance(90) ? 0n : this.#lease(),
      prevKv: this.#chance(30),
      ignoreValue,
      ignoreLease,
    });
  }

  #deleteRange(mood?: TxnMood): DeleteRangeRequest {
    const key = mood === undefined ? this.#keyOrEmpty() : this.#key();
    let rangeEnd = this.#chance(60) ? nothing : this.#rangeEnd(key);
    if (mood?.deletesToTheEnd === false && rangeEnd.length === 1 && rangeEnd[0] === 0) rangeEnd = nothing;
    return create(DeleteRangeRequestSchema, { key, rangeEnd, prevKv: this.#chance(40) });
  }

  #compare(): Compare {
    const key = this.#chance(0.7) ? nothing : this.#key();
    const target = this.#chance(1) ? 8 : this.#below(5);
    const result = this.#chance(1) ? 8 : this.#below(4);
    const rangeEnd = this.#chance(20) ? this.#rangeEnd(key) : nothing;
    const shown = this.#chance(92) ? target : this.#below(5);
    const small = BigInt(this.#below(4));
    const revision = this.#chance(50) ? 0n : this.#seen.revision - BigInt(this.#below(8));
    const union: Compare["targetUnion"][] = [
      { case: "version", value: small },
      { case: "createRevision", value: revision },
      { case: "modRevision", value: revision },
      { case: "value", value: this.#value() },
      { case: "lease", value: this.#lease() },
    ];
    const targetUnion = this.#chance(3) ? undefined : union[shown];
    return create(CompareSchema, {
      key,
      target,
      result,
      rangeEnd,
      targetUnion: targetUnion ?? { case: undefined },
    });
  }

  #operation(depth: number, mood: TxnMood): RequestOp {
    const draw = this.#below(100);
    if (draw < 34 || (draw < 74 && mood.deletesToTheEnd)) {
      return create(RequestOpSchema, { request: { case: "requestRange", value: this.#range(true) } });
    }
    if (draw < 74) {
      return create(RequestOpSchema, { request: { case: "requestPut", value: this.#put(mood) } });
    }
    if (draw < 88 || depth >= 3) {
      return create(RequestOpSchema, {
        request: { case: "requestDeleteRange", value: this.#deleteRange(mood) },
      });
    }
    if (draw < 99) {
      return create(RequestOpSchema, { request: { case: "requestTxn", value: this.#txn(depth + 1, mood) } });
    }
    return create(RequestOpSchema, {});
  }

  #operations(depth: number, mood: TxnMood): RequestOp[] {
    const count = this.#pick([0, 1, 1, 2, 2, 3, 4]);
    return Array.from({ length: count }, () => this.#operation(depth, mood));
  }

  #txn(depth = 0, outer?: TxnMood): TxnRequest {
    const careless = outer?.careless ?? this.#chance(8);
    const deletesToTheEnd = outer?.deletesToTheEnd ?? this.#chance(12);
    const branch = (): TxnMood => ({ deletesToTheEnd, careless, written: outer?.written ?? new Set() });
    return create(TxnRequestSchema, {
      compare: Array.from({ length: this.#pick([0, 0, 1, 1, 2, 3]) }, () => this.#compare()),
      success: this.#operations(depth, branch()),
      failure: this.#operations(depth, branch()),
    });
  }

  /** Around the limit on operations: 128 a list, and a nested list shares its parent's. */
  #crowdedTxn(): TxnRequest {
    const ranges = (count: number): RequestOp[] =>
      Array.from({ length: count }, () =>
        create(RequestOpSchema, {
          request: { case: "requestRange", value: { key: keys[0] ?? nothing, countOnly: true } },
        }),
      );
    if (this.#chance(50)) return create(TxnRequestSchema, { success: ranges(126 + this.#below(5)) });
    const outside = 90 + this.#below(20);
    const inside = 128 - outside - 2 + this.#below(4);
    const nested = create(TxnRequestSchema, { success: ranges(inside) });
    return create(TxnRequestSchema, {
      success: [
        ...ranges(outside - 1),
        create(RequestOpSchema, { request: { case: "requestTxn", value: nested } }),
      ],
    });
  }

  #unary<Input extends DescMessage, Output extends DescMessage>(
    method: DescMethodUnary<Input, Output>,
    request: MessageShape<Input>,
  ): Step {
    return {
      kind: "unary",
      method,
      request,
      door: this.#chance(25) ? "gateway" : "grpc",
      camel: this.#chance(30),
    };
  }

  #compact(): Step[] {
    const { revision, compacted } = this.#seen;
    const draw = this.#below(100);
    let at = revision - BigInt(this.#below(30));
    if (draw < 8) at = compacted;
    else if (draw < 14) at = revision + 1n;
    else if (draw < 18) at = this.#pick([0n, -1n, compacted - 1n]);
    else if (draw < 30) at = revision;
    const request = create(CompactionRequestSchema, { revision: at, physical: this.#chance(70) });
    return [{ kind: "settle" }, this.#unary(KV.method.compact, request)];
  }

  #leaseStep(): Step[] {
    const id = this.#chance(92) ? this.#pick(leaseIds) : this.#pick([999n, -7n, -1n]);
    const draw = this.#below(100);
    if (draw < 34) {
      const ttl = this.#chance(94)
        ? BigInt(300 + this.#below(300))
        : this.#pick([9_000_000_001n, (1n << 62n) + 3n]);
      return [this.#unary(Lease.method.leaseGrant, create(LeaseGrantRequestSchema, { ID: id, TTL: ttl }))];
    }
    if (draw < 38 && this.#alarmLeft === 0) {
      // A lease too short to live through the run goes before its time can end.
      const ttl = this.#pick([0n, 1n, -1n, -(1n << 62n)]);
      return [
        { ...this.#unary(Lease.method.leaseRevoke, create(Lease.method.leaseRevoke.input, { ID: 77n })) },
        this.#unary(Lease.method.leaseGrant, create(LeaseGrantRequestSchema, { ID: 77n, TTL: ttl })),
        this.#unary(Lease.method.leaseRevoke, create(Lease.method.leaseRevoke.input, { ID: 77n })),
      ];
    }
    if (draw < 58) {
      return [this.#unary(Lease.method.leaseRevoke, create(Lease.method.leaseRevoke.input, { ID: id }))];
    }
    if (draw < 72) return [{ kind: "keep-alive", id: this.#chance(3) ? 0n : id }];
    if (draw < 90) {
      const request = create(Lease.method.leaseTimeToLive.input, { ID: id, keys: this.#chance(70) });
      return [this.#unary(Lease.method.leaseTimeToLive, request)];
    }
    return [this.#unary(Lease.method.leaseLeases, create(Lease.method.leaseLeases.input))];
  }

  #watchStep(): Step[] {
    const stream = this.#below(watchStreams);
    const draw = this.#below(100);
    if (draw < 62) {
      const key = this.#chance(4) ? nothing : this.#key();
      const { revision, compacted } = this.#seen;
      let startRevision = 0n;
      if (stream === futureStream) {
        if (this.#chance(50)) startRevision = revision + BigInt(1 + this.#below(25));
      } else if (this.#chance(40)) {
        startRevision = this.#revision();
        if (startRevision > revision) startRevision = revision;
      } else if (this.#chance(8)) startRevision = compacted + BigInt(this.#below(3)) - 1n;
      return [
        {
          kind: "watch",
          stream,
          key,
          rangeEnd: this.#rangeEnd(key),
          startRevision,
          filters: this.#chance(25) ? Array.from({ length: 1 + this.#below(2) }, () => this.#below(2)) : [],
          prevKv: this.#chance(40),
          fragment: this.#chance(20),
          progressNotify: this.#chance(20),
          watchId: this.#chance(20) ? BigInt(this.#below(12)) : this.#chance(2) ? -5n : 0n,
        },
      ];
    }
    if (draw < 92) {
      return [{ kind: "settle" }, { kind: "cancel", stream, watchId: BigInt(this.#below(16)) }];
    }
    return [{ kind: "settle" }, { kind: "reopen", stream }];
  }

  #alarmStep(): Step[] {
    this.#alarmLeft = 1 + this.#below(6);
    this.#alarm = this.#pick([0, 1, 1, 2, 2]);
    return [
      this.#unary(
        Maintenance.method.alarm,
        create(Maintenance.method.alarm.input, { action: 1, alarm: this.#alarm, memberID: 0n }),
      ),
    ];
  }

  #endOfAlarm(): Step[] {
    const alarm = create(Maintenance.method.alarm.input, { action: 2, alarm: this.#alarm, memberID: 0n });
    const get = create(Maintenance.method.alarm.input, { action: 0, alarm: this.#below(3) });
    return [
      this.#unary(Maintenance.method.alarm, get),
      this.#unary(Maintenance.method.alarm, alarm),
      this.#unary(Maintenance.method.alarm, alarm),
    ];
  }

  #large(): Step {
    this.#largeLeft--;
    const length = this.#pick([1_400_000, 1_600_000, 2_200_000]);
    const request = create(PutRequestSchema, {
      key: keys[0] ?? nothing,
      value: new Uint8Array(length).fill(97),
    });
    return { kind: "unary", method: KV.method.put, request, door: "grpc", camel: false };
  }

  #broken(): Step {
    const put = frame(toBinary(PutRequestSchema, this.#put()));
    const path = "/etcdserverpb.KV/Put";
    const cut = 5 + this.#below(Math.max(1, put.length - 5));
    return this.#pick<Step>([
      {
        kind: "raw-grpc",
        what: "message cut short",
        path,
        bytes: frame(put.subarray(5, cut - 1)),
        headers: {},
      },
      { kind: "raw-grpc", what: "not protobuf", path, bytes: frame(this.#randomBytes(40)), headers: {} },
      { kind: "raw-grpc", what: "unknown method", path: "/etcdserverpb.KV/Steal", bytes: put, headers: {} },
      { kind: "raw-grpc", what: "unknown service", path: "/keelson.No/Put", bytes: put, headers: {} },
      { kind: "raw-grpc", what: "no method", path: "/nothing", bytes: put, headers: {} },
      {
        kind: "raw-grpc",
        what: "compressed without saying how",
        path,
        bytes: frame(put.subarray(5), 1),
        headers: {},
      },
      { kind: "raw-grpc", what: "no message", path, bytes: nothing, headers: {} },
      {
        kind: "raw-grpc",
        what: "unknown compression",
        path,
        bytes: frame(put.subarray(5), 1),
        headers: { "grpc-encoding": "snappy" },
      },
    ]);
  }

  #http(): Step {
    const range = '{"key":"YQ==","range_end":"AA=="';
    return this.#pick<Step>([
      { kind: "http", what: "wrong verb", verb: "GET", path: "/v3/kv/range", body: undefined },
      { kind: "http", what: "unknown path", verb: "POST", path: "/v3/kv/steal", body: "{}" },
      { kind: "http", what: "old prefix", verb: "POST", path: "/v3beta/kv/range", body: `${range}}` },
      {
        kind: "http",
        what: "unknown field",
        verb: "POST",
        path: "/v3/kv/range",
        body: `${range},"what":[1,{}]}`,
      },
      {
        kind: "http",
        what: "null fields",
        verb: "POST",
        path: "/v3/kv/range",
        body: `${range},"limit":null}`,
      },
      {
        kind: "http",
        what: "enum by name",
        verb: "POST",
        path: "/v3/kv/range",
        body: `${range},"sort_order":"DESCEND"}`,
      },
      {
        kind: "http",
        what: "enum by number",
        verb: "POST",
        path: "/v3/kv/range",
        body: `${range},"sort_order":2}`,
      },
      {
        kind: "http",
        what: "unknown enum",
        verb: "POST",
        path: "/v3/kv/range",
        body: `${range},"sort_order":"UP"}`,
      },
      {
        kind: "http",
        what: "number as number",
        verb: "POST",
        path: "/v3/kv/range",
        body: `${range},"limit":1}`,
      },
      {
        kind: "http",
        what: "number as text",
        verb: "POST",
        path: "/v3/kv/range",
        body: `${range},"limit":"1"}`,
      },
      {
        kind: "http",
        what: "number with fraction",
        verb: "POST",
        path: "/v3/kv/range",
        body: `${range},"limit":1.5}`,
      },
      { kind: "http", what: "url-safe base64", verb: "POST", path: "/v3/kv/range", body: '{"key":"_w=="}' },
      { kind: "http", what: "unpadded base64", verb: "POST", path: "/v3/kv/range", body: '{"key":"YQ"}' },
      { kind: "http", what: "bad base64", verb: "POST", path: "/v3/kv/range", body: '{"key":"!!"}' },
      { kind: "http", what: "bad JSON", verb: "POST", path: "/v3/kv/range", body: '{"key":' },
      { kind: "http", what: "not an object", verb: "POST", path: "/v3/kv/range", body: '"a"' },
      { kind: "http", what: "wrong type", verb: "POST", path: "/v3/kv/put", body: '{"key":{},"value":3}' },
      { kind: "http", what: "empty body", verb: "POST", path: "/v3/kv/range", body: "" },
      {
        kind: "http",
        what: "two of a oneof",
        verb: "POST",
        path: "/v3/kv/txn",
        body: '{"success":[{"request_range":{"key":"YQ=="},"request_put":{"key":"YQ=="}}]}',
      },
      { kind: "http", what: "alias path", verb: "POST", path: "/v3/kv/lease/leases", body: "{}" },
      { kind: "http", what: "trailing text", verb: "POST", path: "/v3/kv/range", body: `${range}} and more` },
      {
        kind: "http",
        what: "duplicate field",
        verb: "POST",
        path: "/v3/kv/range",
        body: '{"key":"YQ==","key":"Yg=="}',
      },
    ]);
  }

  /** The next step. */
  next(): Step {
    const queued = this.#queue.shift();
    if (queued !== undefined) return queued;
    if (this.#alarmLeft > 0 && --this.#alarmLeft === 0) this.#queue.push(...this.#endOfAlarm());
    else this.#queue.push(...this.#draw());
    return this.next();
  }

  #draw(): Step[] {
    const draw = this.#below(1000);
    if (draw < 300) return [this.#unary(KV.method.put, this.#put())];
    if (draw < 500) return [this.#unary(KV.method.range, this.#range())];
    if (draw < 580) return [this.#unary(KV.method.deleteRange, this.#deleteRange())];
    if (draw < 790) return [this.#unary(KV.method.txn, this.#txn())];
    if (draw < 794) return [this.#unary(KV.method.txn, this.#crowdedTxn())];
    if (draw < 880) return this.#leaseStep();
    if (draw < 892) return this.#alarmLeft === 0 ? this.#compact() : [];
    if (draw < 922) {
      const request = create(Maintenance.method.hashKV.input, { revision: this.#revision() });
      return [this.#unary(Maintenance.method.hashKV, request)];
    }
    if (draw < 958) return this.#alarmLeft === 0 ? this.#watchStep() : [];
    if (draw < 972) return [this.#http()];
    if (draw < 984) return [this.#broken()];
    if (draw < 988) return this.#alarmLeft === 0 ? this.#alarmStep() : [];
    if (draw < 990) return this.#largeLeft > 0 ? [this.#large()] : [];
    return this.#alarmLeft === 0 ? [{ kind: "settle" }] : [];
  }
}
