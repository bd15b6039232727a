/** What the parts of one member's peer transport share. */
import type { OncePerMinute } from "../../log";
import type { PeerHandler, PeerIdentity } from "../../member/ports";
import { OutputBudget } from "../http2/output";
import {
  deadMsMin,
  dialTimeoutMsMin,
  looksPerDeadTime,
  messageBytesMaxDefault,
  messageOverheadBytes,
} from "./limits";
import type { PeerTransportOptions } from "./options";

export interface PeerContext {
  readonly options: PeerTransportOptions;
  readonly seldom: OncePerMinute;
  readonly identity: PeerIdentity;
  readonly handler: PeerHandler;
  /** A connection that is silent for longer is dead. */
  readonly deadMs: number;
  /** How often connections are looked at, and pings sent. */
  readonly lookMs: number;
  readonly dialTimeoutMs: number;
  readonly messageBytesMax: number;
  /** Of what is sent to members; the queues have limits of their own. */
  readonly budget: OutputBudget;
}

/** The times and bounds that follow from the options. */
export function boundsOf(
  options: PeerTransportOptions,
): Pick<PeerContext, "deadMs" | "lookMs" | "dialTimeoutMs" | "messageBytesMax"> {
  const deadMs = Math.max(deadMsMin, options.electionTimeoutMs);
  return {
    deadMs,
    lookMs: deadMs / looksPerDeadTime,
    dialTimeoutMs: Math.max(dialTimeoutMsMin, options.electionTimeoutMs),
    messageBytesMax: Math.max(messageBytesMaxDefault, (options.requestBytesMax ?? 0) + messageOverheadBytes),
  };
}

/** Logs a warning about one member, once per cause and minute. */
export function warnSeldom(
  { options, seldom }: Pick<PeerContext, "options" | "seldom">,
  cause: string,
  message: string,
  fields: Readonly<Record<string, unknown>>,
): void {
  seldom.run(`${message}:${cause}`, (suppressed) =>
    options.log.warn(message, suppressed === 0 ? fields : { ...fields, suppressed }),
  );
}

/** A cause without its numbers, which whoever sends bad input chooses: each would be a cause of its own. */
export function withoutNumbers(reason: string): string {
  return reason.replaceAll(/\d+/g, "#");
}

/** Tells time since something was last heard, and does not count the time that this process itself stood still. */
export class Silence {
  #lastHeardMs: number;

  constructor(nowMs: number) {
    this.#lastHeardMs = nowMs;
  }

  /** How long it has been silent; `heard` says that it was not since the last look, which came `lateMs` late. */
  look(nowMs: number, heard: boolean, lateMs: number): number {
    if (heard) this.#lastHeardMs = nowMs;
    else this.#lastHeardMs = Math.min(nowMs, this.#lastHeardMs + lateMs);
    return nowMs - this.#lastHeardMs;
  }
}
