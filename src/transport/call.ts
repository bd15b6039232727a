/**
 * The narrow port between the doors and the services: plain messages, metadata, a way to learn that the caller
 * went away. Nothing in it knows HTTP.
 */
import type { DescMessage, DescMethod, MessageShape } from "@bufbuild/protobuf";
import type { Idempotency } from "../idempotency";

/** A message that was put together from stored bytes; its encoding is the concatenation of the chunks. */
export class EncodedMessage {
  constructor(readonly chunks: readonly Uint8Array[]) {}
}

/** What a service answers: a message, or one already encoded. */
export type Answer<Output extends DescMessage> = MessageShape<Output> | EncodedMessage;

/** One request of a client. */
export interface Call {
  readonly method: DescMethod;
  readonly door: "grpc" | "gateway" | "rest" | "internal";
  /** gRPC metadata with lower-case names; several values of one name are joined with ", ". */
  metadata(name: string): string | undefined;
  /** A write under this key is applied once, however often it is sent. */
  readonly idempotency?: Idempotency | undefined;
  /** Monotonic time at which the caller stops waiting, if it said so. */
  readonly deadlineAtMs: number | undefined;
  /** The caller cancelled, its deadline passed, its connection broke, or the server is stopping. */
  readonly canceled: boolean;
  /** Calls back once when that happens; at once if it already has. */
  onCancel(listener: () => void): void;
}

export type UnaryHandler<Input extends DescMessage, Output extends DescMessage> = (
  request: MessageShape<Input>,
  call: Call,
) => Promise<Answer<Output>> | Answer<Output>;

/** The server's side of a stream. */
export interface ServerStream<Input extends DescMessage, Output extends DescMessage> {
  /** Messages of the client in order; ends at its half-close. Exactly one for a server-streaming method. */
  readonly requests: AsyncIterable<MessageShape<Input>>;
  /** Queues a message; false means that the client does not keep up: wait for `drained` before sending more. */
  send(message: Answer<Output>): boolean;
  /** Resolves when the queue is empty enough, or the stream is over. */
  drained(): Promise<void>;
}

/** The stream ends with status OK when the promise resolves, and with the thrown StoreError's status otherwise. */
export type StreamHandler<Input extends DescMessage, Output extends DescMessage> = (
  stream: ServerStream<Input, Output>,
  call: Call,
) => Promise<void>;
