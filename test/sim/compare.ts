/** What a member says an entry did, against what the model says. */
import type { ResponseOp, TxnResponse } from "../../src/proto/gen/etcd/rpc_pb";
import { toBinary } from "@bufbuild/protobuf";
import { type KeyValue, KeyValueSchema } from "../../src/proto/gen/etcd/kv_pb";
import type { ApplyResult } from "../../src/state/results";
import type { ModelOpAnswer, ModelTxn } from "../model/kv-model";
import { latin1 } from "./replies";
import type { Outcome } from "./truth";

/** The first difference in words; undefined when there is none. */
export function differenceOf(expected: Outcome, result: ApplyResult): string | undefined {
  if (result.revision !== expected.revision)
    return `revision ${result.revision} instead of ${expected.revision}`;
  switch (expected.kind) {
    case "refused":
      if (result.kind !== "refused") return `${result.kind} instead of the refusal ${expected.name}`;
      return result.name === expected.name ? undefined : `refused ${result.name} instead of ${expected.name}`;
    case "put": {
      if (result.kind !== "put") return `${result.kind} instead of a put`;
      const previous = result.previous === undefined ? undefined : latin1(result.previous);
      return previous === expected.previous ? undefined : "another previous record";
    }
    case "delete-range":
      if (result.kind !== "delete-range") return `${result.kind} instead of a delete`;
      if (result.deleted !== expected.deleted)
        return `${result.deleted} keys deleted instead of ${expected.deleted}`;
      return sameRecords(result.previous, expected.previous) ? undefined : "other previous records";
    case "txn":
      return result.kind === "txn"
        ? txnDifference(expected.txn, result.response)
        : `${result.kind} instead of a txn`;
    case "ignored":
      return result.kind === "lease-revoke" && result.ignored ? undefined : `${result.kind} took effect`;
    case "other":
      if (result.kind === "refused") return `refused with ${result.name}`;
      return result.kind === "lease-revoke" && result.ignored ? "a revoke was ignored" : undefined;
    default:
      return undefined;
  }
}

export function sameRecords(records: readonly Uint8Array[], expected: readonly string[]): boolean {
  return records.length === expected.length && records.every((record, i) => latin1(record) === expected[i]);
}

export function txnDifference(expected: ModelTxn, response: TxnResponse): string | undefined {
  if (response.succeeded !== expected.succeeded) return `succeeded is ${response.succeeded}`;
  if (response.responses.length !== expected.answers.length) return `${response.responses.length} answers`;
  for (const [position, answer] of expected.answers.entries()) {
    const difference = opDifference(answer, response.responses[position]!);
    if (difference !== undefined) return `operation ${position}: ${difference}`;
  }
  return undefined;
}

function opDifference(expected: ModelOpAnswer, { response }: ResponseOp): string | undefined {
  const record = (kv: KeyValue): string => latin1(toBinary(KeyValueSchema, kv));
  switch (expected.kind) {
    case "range": {
      if (response.case !== "responseRange") return "not a range";
      const { count, more, kvs, header } = response.value;
      const { range } = expected;
      if (Number(count) !== range.count) return `count ${count} instead of ${range.count}`;
      if (more !== range.more) return `more is ${more}`;
      if (header !== undefined && Number(header.revision) !== range.revision)
        return `range at revision ${header.revision} instead of ${range.revision}`;
      const same =
        kvs.length === range.records.length && kvs.every((kv, i) => record(kv) === range.records[i]);
      return same ? undefined : "other keys";
    }
    case "put": {
      if (response.case !== "responsePut") return "not a put";
      const { prevKv } = response.value;
      return (prevKv && record(prevKv)) === expected.previous ? undefined : "another previous record";
    }
    case "delete-range": {
      if (response.case !== "responseDeleteRange") return "not a delete";
      const { deleted, prevKvs } = response.value;
      if (Number(deleted) !== expected.deleted) return `${deleted} deleted`;
      const same =
        prevKvs.length === expected.previous.length &&
        prevKvs.every((kv, i) => record(kv) === expected.previous[i]);
      return same ? undefined : "other previous records";
    }
    case "txn":
      return response.case === "responseTxn" ? txnDifference(expected.txn, response.value) : "not a txn";
  }
}
