/** Health as HTTP tells it: /health, /livez and /readyz with their checks (etcd-operations 6.1). */
import type { Logger } from "../../log";
import { OncePerMinute } from "../../log";
import type { Metrics } from "../../metrics/metrics";
import type { HealthSource } from "./health-source";

/** What goes back to the client. */
export interface Reply {
  readonly status: number;
  readonly body: string;
  /** Go's server guesses text/plain; so clients expect it. */
  readonly headers?: Readonly<Record<string, string>>;
}

const plainText = {
  "content-type": "text/plain; charset=utf-8",
  "x-content-type-options": "nosniff",
} as const;

/** A reply for people: plain text that ends its line. */
export function textReply(
  status: number,
  text: string,
  headers: Readonly<Record<string, string>> = {},
): Reply {
  return { status, body: `${text}\n`, headers: { ...plainText, ...headers } };
}

type CheckName = "data_corruption" | "serializable_read" | "linearizable_read" | "non_learner";
type Check = () => Promise<void>;

export const checksOf = {
  livez: ["serializable_read"],
  readyz: ["data_corruption", "serializable_read", "linearizable_read", "non_learner"],
} as const satisfies Record<string, readonly CheckName[]>;

export type CheckType = keyof typeof checksOf;

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Rejects when the read has not answered in time: a probe must hear something. */
function within(timeoutMs: number, read: Promise<void>): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error("context deadline exceeded")), timeoutMs);
    read.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

export class HealthChecks {
  readonly #checks: Readonly<Record<CheckName, Check>>;
  readonly #warnings = new OncePerMinute();

  constructor(
    private readonly source: HealthSource,
    private readonly metrics: Metrics,
    private readonly log: Logger,
    private readonly timeoutMs: number,
  ) {
    this.#checks = {
      data_corruption: async () => {
        if (source.alarms().some((alarm) => alarm.type === "CORRUPT"))
          throw new Error("alarm activated: CORRUPT");
      },
      serializable_read: () => within(timeoutMs, source.serializableRead()),
      linearizable_read: () => within(timeoutMs, source.linearizableRead()),
      non_learner: async () => {
        if (source.isLearner()) throw new Error("not supported for learner");
      },
    };
  }

  /** `/health` with its `exclude` and `serializable`. */
  async health(query: URLSearchParams): Promise<Reply> {
    const reason = await this.#unhealthy(query);
    const body = JSON.stringify({ health: reason === "" ? "true" : "false", reason });
    if (reason === "") {
      this.metrics.server.healthSuccesses.inc();
      return { status: 200, body, headers: { "content-type": "text/plain; charset=utf-8" } };
    }
    this.metrics.server.healthFailures.inc();
    this.#warn("health check failed", { reason });
    return textReply(503, body);
  }

  /** `/livez` and `/readyz`, whole or one check of them. */
  async run(type: CheckType, only: string | undefined, query: URLSearchParams): Promise<Reply> {
    const names: readonly CheckName[] = checksOf[type];
    const excluded = new Set(query.getAll("exclude").filter((name) => name !== ""));
    const chosen = names.filter((name) => (only === undefined ? !excluded.has(name) : name === only));
    if (only === undefined) {
      for (const name of excluded) {
        if (!names.includes(name as CheckName))
          this.#warn("a health check to exclude does not exist", { type, name });
      }
    }
    const results = await Promise.all(
      chosen.map(async (name) => [name, await this.#result(type, name)] as const),
    );
    const failed = results.some(([, problem]) => problem !== undefined);
    const lines = results
      .map(([name, problem]) =>
        problem === undefined ? `[+]${name} ok\n` : `[-]${name} failed: ${problem}\n`,
      )
      .join("");
    if (failed) return textReply(503, lines);
    return textReply(200, query.has("verbose") ? `${lines}ok` : "ok");
  }

  async #unhealthy(query: URLSearchParams): Promise<string> {
    const excluded = new Set(query.getAll("exclude"));
    for (const alarm of this.source.alarms()) {
      if (excluded.has(alarm.type)) continue;
      const known = alarm.type === "NOSPACE" || alarm.type === "CORRUPT";
      return `ALARM ${known ? alarm.type : "UNKNOWN"}`;
    }
    const serializable = query.get("serializable") === "true";
    if (!serializable && !this.source.hasLeader()) return "RAFT NO LEADER";
    try {
      await within(
        this.timeoutMs,
        serializable ? this.source.serializableRead() : this.source.linearizableRead(),
      );
      return "";
    } catch (error) {
      return `RANGE ERROR:${reasonOf(error)}`;
    }
  }

  async #result(type: CheckType, name: CheckName): Promise<string | undefined> {
    let problem: string | undefined;
    try {
      await this.#checks[name]();
    } catch (error) {
      problem = reasonOf(error);
      this.#warn("health check failed", { type, name, reason: problem });
    }
    const { healthcheck, healthchecks } = this.metrics.server;
    healthcheck.of(type, name).set(problem === undefined ? 1 : 0);
    healthchecks.of(type, name, problem === undefined ? "success" : "error").inc();
    return problem;
  }

  #warn(message: string, fields: Readonly<Record<string, string>>): void {
    this.#warnings.run(JSON.stringify([message, fields]), (suppressed) =>
      this.log.warn(message, { ...fields, suppressed }),
    );
  }
}
