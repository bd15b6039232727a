/** What the calls of one server share. */
import { OutputBudget } from "../http2/output";
import { Deadlines } from "./deadlines";
import type { GrpcCall } from "./call";
import type { Settings } from "./options";

/** Labels of client-api-version that are passed on as they are. */
const versionLabelsMax = 64;

export class ServerCore {
  readonly deadlines = new Deadlines();
  readonly budget: OutputBudget;
  /** Streams that asked to be ended when the member has no leader for too long. */
  readonly leaderWatchers = new Set<GrpcCall>();
  bufferedBytes = 0;
  stopping = false;
  readonly #versions = new Map<string, boolean>();

  constructor(
    readonly settings: Settings,
    /** Bytes of answers that wait in memory for all clients; counted anew at each call. */
    readonly unreadAnswerBytes: () => number,
  ) {
    this.budget = new OutputBudget(settings.responseBytesInFlightMax);
  }

  /** The metric label of a client version, and remembers how many different ones there were. */
  versionLabel(version: string): string {
    if (this.#versions.has(version)) return version;
    if (this.#versions.size >= versionLabelsMax) return "unknown";
    this.#versions.set(version, true);
    return version;
  }
}
