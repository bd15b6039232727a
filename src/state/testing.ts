/** Help for tests of the state: short ways to make requests and apply them. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type RangeRequest, RangeRequestSchema, type TxnRequestSchema } from "../proto/gen/etcd/rpc_pb";
import { CommandSchema } from "../proto/gen/keelson/command_pb";
import type { Applied, ApplyResult, HashAnswer } from "./results";
import type { StateMachine } from "./state-machine";

type Finished = Exclude<Applied, { pending: true }>;
export type Operation = NonNullable<MessageInitShape<typeof CommandSchema>["operation"]>;

export const bytes = (text: string): Uint8Array => Buffer.from(text, "latin1");

/** Applies the next entry to its end. */
export function apply(state: StateMachine, operation: Operation, term = 1): Finished {
  const command = create(CommandSchema, { version: 1, operation });
  let applied = state.apply(state.appliedIndex + 1, term, command);
  while (applied.pending) applied = state.resume();
  return applied;
}

export function put(state: StateMachine, key: string, value = "v", lease = 0n): ApplyResult {
  return apply(state, { case: "put", value: { key: bytes(key), value: bytes(value), lease } }).result;
}

export function remove(state: StateMachine, key: string, rangeEnd = ""): ApplyResult {
  const value = { key: bytes(key), rangeEnd: bytes(rangeEnd) };
  return apply(state, { case: "deleteRange", value }).result;
}

export function txn(state: StateMachine, value: MessageInitShape<typeof TxnRequestSchema>): ApplyResult {
  return apply(state, { case: "txn", value }).result;
}

export function compact(state: StateMachine, revision: number): ApplyResult {
  return apply(state, { case: "compaction", value: { revision: BigInt(revision) } }).result;
}

export function rangeOf(
  key: string,
  rangeEnd = "",
  more: Omit<MessageInitShape<typeof RangeRequestSchema>, "$typeName"> = {},
): RangeRequest {
  return create(RangeRequestSchema, { ...more, key: bytes(key), rangeEnd: bytes(rangeEnd) });
}

export function hashOf(state: StateMachine, revision = 0): HashAnswer {
  const run = state.hashKV(revision);
  for (;;) {
    const answer = run.next(100);
    if (answer !== undefined) return answer;
  }
}
