/** What clients noted down, in the form that the checkers of `test/check` read. */
import { type DescMessage, fromBinary } from "@bufbuild/protobuf";
import { concatBytes } from "../../src/bytes";
import { StoreError } from "../../src/errors";
import {
  DeleteRangeResponseSchema,
  PutResponseSchema,
  RangeResponseSchema,
} from "../../src/proto/gen/etcd/rpc_pb";
import { EncodedMessage } from "../../src/transport/call";
import type { Exchanges, History, Operation, OperationKind, Outcome } from "../check/history";
import type { Truth } from "./truth";

/** A request under way. */
export interface Noted {
  readonly kind: OperationKind;
  readonly request: Exchanges[OperationKind]["request"];
  readonly member: string;
  readonly callAt: number;
  returnAt: number;
  outcome: { readonly answer: unknown } | { readonly error: StoreError } | undefined;
}

const encoded: Partial<Record<OperationKind, DescMessage>> = {
  range: RangeResponseSchema,
  put: PutResponseSchema,
  deleteRange: DeleteRangeResponseSchema,
};

export class Recorder {
  readonly #noted: Noted[] = [];

  note(kind: OperationKind, request: Noted["request"], member: string, callAt: number): Noted {
    const noted: Noted = {
      kind,
      request,
      member,
      callAt,
      returnAt: Number.POSITIVE_INFINITY,
      outcome: undefined,
    };
    this.#noted.push(noted);
    return noted;
  }

  /** The history so far, with the log of changes. Each request counts as one of a client of its own. */
  history(truth: Truth): History {
    const operations = this.#noted.map(
      (noted, position) =>
        ({
          id: position + 1,
          client: position + 1,
          member: noted.member,
          kind: noted.kind,
          request: noted.request,
          callAt: noted.callAt,
          returnAt: noted.returnAt,
          outcome: outcomeOf(noted),
        }) as Operation,
    );
    return { operations, log: truth.log };
  }
}

function outcomeOf({ kind, outcome }: Noted): Outcome<unknown> {
  if (outcome === undefined) return { kind: "unanswered" };
  if ("error" in outcome) {
    const { definite, code, message } = outcome.error;
    return { kind: "failed", definite, code, text: message };
  }
  const schema = encoded[kind];
  const { answer } = outcome;
  if (!(answer instanceof EncodedMessage) || schema === undefined) return { kind: "replied", reply: answer };
  return { kind: "replied", reply: fromBinary(schema, concatBytes(answer.chunks)) };
}
