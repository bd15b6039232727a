/** Operations as short lines of text, and a picture of those around a clash. */
import { toBinaryString } from "../../src/bytes";
import type { Compare, RequestOp } from "../../src/proto/gen/etcd/rpc_pb";
import type { Operation } from "./history";
import { answerText } from "./kv-state";

const textMax = 160;

function cut(text: string): string {
  const printable = text.replaceAll(/[^\x20-\x7e–→…]/g, (char) => `\\x${char.charCodeAt(0).toString(16)}`);
  return printable.length <= textMax ? printable : `${printable.slice(0, textMax)}…`;
}

function rangeOf(key: Uint8Array, end: Uint8Array): string {
  return end.length === 0 ? toBinaryString(key) : `${toBinaryString(key)}..${toBinaryString(end)}`;
}

function opText({ request: op }: RequestOp): string {
  switch (op.case) {
    case "requestPut":
      return `put ${toBinaryString(op.value.key)}=${toBinaryString(op.value.value)}`;
    case "requestRange":
      return `get ${rangeOf(op.value.key, op.value.rangeEnd)}`;
    case "requestDeleteRange":
      return `delete ${rangeOf(op.value.key, op.value.rangeEnd)}`;
    case "requestTxn":
      return "txn";
    default:
      return "nothing";
  }
}

function compareText({ key, target, result, targetUnion }: Compare): string {
  const value =
    targetUnion.value instanceof Uint8Array ? toBinaryString(targetUnion.value) : targetUnion.value;
  return `${["version", "create", "mod", "value", "lease"][target]}(${toBinaryString(key)})${["=", ">", "<", "!="][result]}${String(value)}`;
}

/** What was asked. */
export function requestText(operation: Operation): string {
  switch (operation.kind) {
    case "range": {
      const { key, rangeEnd, revision, serializable } = operation.request;
      return `get ${rangeOf(key, rangeEnd)}${revision > 0n ? ` at ${revision}` : ""}${serializable ? " serializable" : ""}`;
    }
    case "put": {
      const { key, value, lease } = operation.request;
      return `put ${toBinaryString(key)}=${toBinaryString(value)}${lease === 0n ? "" : ` under ${lease}`}`;
    }
    case "deleteRange":
      return `delete ${rangeOf(operation.request.key, operation.request.rangeEnd)}`;
    case "txn": {
      const { compare, success, failure } = operation.request;
      return `if ${compare.map(compareText).join(" and ")} then {${success.map(opText).join("; ")}} else {${failure.map(opText).join("; ")}}`;
    }
    case "compaction":
      return `compact to ${operation.request.revision}`;
    case "leaseGrant":
      return `grant ${operation.request.ID} for ${operation.request.TTL} s`;
    case "leaseRevoke":
    case "leaseKeepAlive":
    case "leaseTimeToLive":
      return `${operation.kind} ${operation.request.ID}`;
  }
}

/** The revision in the header of an answer, or undefined when there is none. */
export function revisionOf(operation: Operation): number | undefined {
  return operation.outcome.kind === "replied"
    ? Number(operation.outcome.reply.header?.revision ?? 0n)
    : undefined;
}

/** The answer in the form that is compared, without its revision. */
export function answerOf(operation: Operation): string {
  const { outcome } = operation;
  if (outcome.kind === "unanswered") return "no answer";
  if (outcome.kind === "failed")
    return `${outcome.definite ? "refused" : "outcome unknown"}: ${outcome.text}`;
  switch (operation.kind) {
    case "range":
      return operation.outcome.kind === "replied" ? answerText.range(operation.outcome.reply) : "";
    case "put":
      return operation.outcome.kind === "replied" ? answerText.put(operation.outcome.reply) : "";
    case "deleteRange":
      return operation.outcome.kind === "replied" ? answerText.deleteRange(operation.outcome.reply) : "";
    case "txn":
      return operation.outcome.kind === "replied" ? answerText.txn(operation.outcome.reply) : "";
    case "leaseKeepAlive":
      return operation.outcome.kind === "replied" ? `TTL ${operation.outcome.reply.TTL}` : "";
    default:
      return "done";
  }
}

/** Two texts from a little before the place where they part. */
export function differenceText(expected: string, actual: string): string {
  let same = 0;
  while (same < expected.length && expected[same] === actual[same]) same++;
  const from = Math.max(0, same - 60);
  const part = (text: string): string => cut(`${from > 0 ? "…" : ""}${text.slice(from)}`);
  return `${part(expected)}, but was ${part(actual)}`;
}

/** What came back, with the revision of its header. */
export function outcomeText(operation: Operation): string {
  const revision = revisionOf(operation);
  return `${revision === undefined ? "" : `@${revision} `}${answerOf(operation)}`;
}

/** One line: who, when, what, and the answer. */
export function operationText(operation: Operation): string {
  const { id, client, member, callAt, returnAt } = operation;
  const until = Number.isFinite(returnAt) ? returnAt.toFixed(1) : "never";
  return cut(
    `#${id} client ${client} at ${member} [${callAt.toFixed(1)} – ${until}] ${requestText(operation)} → ${outcomeText(operation)}`,
  );
}

const barWidth = 40;

/** The operations one below the other, each with a bar that shows when it was under way; those in `marked` get a star. */
export function timelineText(
  operations: readonly Operation[],
  marked: ReadonlySet<Operation> = new Set(),
): string {
  const begin = Math.min(...operations.map(({ callAt }) => callAt));
  const finite = operations.flatMap(({ callAt, returnAt }) => [callAt, returnAt]).filter(Number.isFinite);
  const span = Math.max(...finite) - begin || 1;
  const column = (at: number): number =>
    Math.min(barWidth - 1, Math.floor(((at - begin) / span) * (barWidth - 1)));
  return operations
    .map((operation) => {
      const from = column(operation.callAt);
      const open = !Number.isFinite(operation.returnAt);
      const to = open ? barWidth - 1 : column(operation.returnAt);
      const bar = `${" ".repeat(from)}${"=".repeat(Math.max(1, to - from + (open ? 0 : 1)))}${open ? ">" : ""}`;
      return `    ${marked.has(operation) ? "*" : " "} |${bar.padEnd(barWidth)}| ${operationText(operation)}`;
    })
    .join("\n");
}
