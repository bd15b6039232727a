/** One request over REST as the services see it. */
import type { DescMethod } from "@bufbuild/protobuf";
import type { Idempotency } from "../../idempotency";
import type { Call } from "../call";

export class RestCall implements Call {
  readonly door = "rest";
  readonly deadlineAtMs = undefined;
  canceled = false;
  #listeners: (() => void)[] | undefined;

  constructor(
    readonly method: DescMethod,
    readonly idempotency: Idempotency | undefined,
  ) {}

  /** Nothing that REST sends is gRPC metadata. */
  metadata(): string | undefined {
    return undefined;
  }

  onCancel(listener: () => void): void {
    if (this.canceled) listener();
    else if (this.#listeners === undefined) this.#listeners = [listener];
    else this.#listeners.push(listener);
  }

  /** The client left, its time is up, or the server stops. */
  cancel(): void {
    if (this.canceled) return;
    this.canceled = true;
    const listeners = this.#listeners;
    this.#listeners = undefined;
    for (const listener of listeners ?? []) listener();
  }
}
