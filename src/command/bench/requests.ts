/** Encoded requests whose keys are written in place, so that a call costs no encoding. */
import { create, toBinary } from "@bufbuild/protobuf";

import {
  PutRequestSchema,
  RangeRequestSchema,
  RequestOpSchema,
  TxnRequestSchema,
} from "../../proto/gen/etcd/rpc_pb";
import { SeededRng } from "../../rng";
import type { BenchOptions } from "./options";

/** The full names of the methods that are called. */
export const methodPaths = {
  range: "/etcdserverpb.KV/Range",
  put: "/etcdserverpb.KV/Put",
  txn: "/etcdserverpb.KV/Txn",
  watch: "/etcdserverpb.Watch/Watch",
  leaseGrant: "/etcdserverpb.Lease/LeaseGrant",
  leaseRevoke: "/etcdserverpb.Lease/LeaseRevoke",
  leaseKeepAlive: "/etcdserverpb.Lease/LeaseKeepAlive",
} as const;

/** The key with this number: the prefix and the number, filled with zeros to the size that was asked for. */
export function benchKey(options: Pick<BenchOptions, "keyPrefix" | "keyBytes">, index: number): Buffer {
  const digits = String(index).padStart(options.keyBytes - Buffer.byteLength(options.keyPrefix), "0");
  return Buffer.from(options.keyPrefix + digits);
}

/** A value that does not compress to nothing. */
export function benchValue(bytes: number, seed: number): Buffer {
  const rng = new SeededRng(seed);
  const value = Buffer.allocUnsafe(bytes);
  for (let i = 0; i < bytes; i++) value[i] = 33 + rng.below(94);
  return value;
}

/** A request that holds a key, or a first and a last key, which {@link RequestTemplate.at} overwrites. */
export class RequestTemplate {
  readonly #bytes: Buffer;
  /** Just behind the last digit of each key, and how much is added to the number there. */
  readonly #keyEnds: readonly { readonly at: number; readonly add: number }[];
  readonly #digits: number;

  constructor(
    readonly path: string,
    bytes: Uint8Array,
    keys: readonly { readonly placeholder: Buffer; readonly add: number }[],
    digits: number,
  ) {
    this.#bytes = Buffer.from(bytes);
    this.#digits = digits;
    this.#keyEnds = keys.map(({ placeholder, add }) => {
      const at = this.#bytes.indexOf(placeholder);
      return { at: at + placeholder.length, add };
    });
  }

  /** The request for one key; the bytes are only valid until the next call. */
  at(index: number): Uint8Array {
    for (const { at, add } of this.#keyEnds) {
      let number = index + add;
      for (let i = 1; i <= this.#digits; i++) {
        this.#bytes[at - i] = 48 + (number % 10);
        number = Math.floor(number / 10);
      }
    }
    return this.#bytes;
  }
}

/** The requests of the workloads that are single calls. */
export function requestTemplate(kind: "put" | "range" | "txn-put", options: BenchOptions): RequestTemplate {
  const digits = String(options.keySpace).length;
  const key = benchKey(options, 0);
  switch (kind) {
    case "put": {
      const bytes = toBinary(PutRequestSchema, create(PutRequestSchema, { key, value: valueOf(options) }));
      return new RequestTemplate(methodPaths.put, bytes, [{ placeholder: key, add: 0 }], digits);
    }
    case "txn-put": {
      const put = create(RequestOpSchema, {
        request: { case: "requestPut", value: { key, value: valueOf(options) } },
      });
      const bytes = toBinary(TxnRequestSchema, create(TxnRequestSchema, { success: [put] }));
      return new RequestTemplate(methodPaths.txn, bytes, [{ placeholder: key, add: 0 }], digits);
    }
    case "range": {
      const end = benchKey(options, options.rangeKeys);
      const single = options.rangeKeys === 1;
      const request = create(RangeRequestSchema, {
        key,
        serializable: options.serializable,
        ...(!single && { rangeEnd: end }),
      });
      const keys = [{ placeholder: key, add: 0 }];
      if (!single) keys.push({ placeholder: end, add: options.rangeKeys });
      return new RequestTemplate(methodPaths.range, toBinary(RangeRequestSchema, request), keys, digits);
    }
  }
}

function valueOf(options: BenchOptions): Buffer {
  return benchValue(options.valueBytes, options.seed);
}

/** Chooses the key of each operation. */
export function keyChooser(options: BenchOptions, keys: number): () => number {
  if (keys === 1) return () => 0;
  if (options.order === "random") {
    const rng = new SeededRng(options.seed);
    return () => rng.below(keys);
  }
  let next = 0;
  return () => {
    const index = next;
    next = index + 1 === keys ? 0 : index + 1;
    return index;
  };
}
