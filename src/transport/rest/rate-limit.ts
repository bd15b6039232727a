/**
 * How many requests one client address may make: a bucket that fills at the rate and holds two seconds of it. One
 * address of IPv4, or one /64 of IPv6, is one client. Whoever is above is told when to come again.
 */
import { isLoopback } from "./admin-access";
import { Problem } from "./problem";

/** Requests a second that one address elsewhere may make unless configured: far above what a person's script does. */
export const requestsPerSecondDefault = 10_000;
/** Seconds of the rate that may come at once. */
const burstSeconds = 2;
/** Addresses that are remembered; beyond, those that have been quiet are forgotten, else the longest known. */
const addressesMax = 10_000;

export interface RateLimitOptions {
  /** 0: no limit. Absent: the default, and then callers on this machine are not counted. */
  readonly requestsPerSecond?: number | undefined;
  readonly monotonicMs?: () => number;
}

interface Bucket {
  requests: number;
  atMs: number;
}

export class RateLimit {
  readonly #perSecond: number;
  readonly #countsLoopback: boolean;
  readonly #monotonicMs: () => number;
  readonly #buckets = new Map<string, Bucket>();

  constructor({ requestsPerSecond, monotonicMs = () => performance.now() }: RateLimitOptions = {}) {
    this.#perSecond = requestsPerSecond ?? requestsPerSecondDefault;
    this.#countsLoopback = requestsPerSecond !== undefined;
    this.#monotonicMs = monotonicMs;
  }

  /** Counts a request. Throws a Problem with Retry-After when its client makes too many. */
  count(address: string | undefined): void {
    if (this.#perSecond === 0 || (!this.#countsLoopback && isLoopback(address))) return;
    const nowMs = this.#monotonicMs();
    const bucket = this.#bucketOf(clientOf(address), nowMs);
    const most = this.#perSecond * burstSeconds;
    bucket.requests = Math.min(most, bucket.requests + ((nowMs - bucket.atMs) * this.#perSecond) / 1_000);
    bucket.atMs = nowMs;
    if (bucket.requests < 1) {
      const seconds = Math.max(1, Math.ceil((1 - bucket.requests) / this.#perSecond));
      throw new Problem(
        "too-many-requests",
        `This address makes more than ${this.#perSecond} requests a second.`,
        {
          fix: "Wait as Retry-After says, or raise --rest-requests-per-second.",
          headers: { "retry-after": String(seconds) },
        },
      );
    }
    bucket.requests -= 1;
  }

  /** Addresses that are remembered at the moment. */
  get size(): number {
    return this.#buckets.size;
  }

  #bucketOf(client: string, nowMs: number): Bucket {
    let bucket = this.#buckets.get(client);
    if (bucket !== undefined) return bucket;
    if (this.#buckets.size >= addressesMax) this.#forget(nowMs);
    bucket = { requests: this.#perSecond * burstSeconds, atMs: nowMs };
    this.#buckets.set(client, bucket);
    return bucket;
  }

  /** A bucket that is full again says nothing. */
  #forget(nowMs: number): void {
    for (const [client, { atMs }] of this.#buckets)
      if (nowMs - atMs >= burstSeconds * 1_000) this.#buckets.delete(client);
    if (this.#buckets.size < addressesMax) return;
    for (const client of this.#buckets.keys()) {
      this.#buckets.delete(client);
      if (this.#buckets.size <= (addressesMax * 9) / 10) return;
    }
  }
}

/** What counts as one client: who has one address of IPv6 has its whole /64. */
function clientOf(address = ""): string {
  if (!address.includes(":")) return address;
  if (/^::ffff:\d+\.\d+\.\d+\.\d+$/i.test(address)) return address.slice(7);
  const [head = "", tail] = address.split("%")[0]!.split("::");
  const groups = head === "" ? [] : head.split(":");
  const zeros = tail === undefined ? 0 : 8 - groups.length - (tail === "" ? 0 : tail.split(":").length);
  const whole = [...groups, ...Array.from({ length: zeros }, () => "0"), ...(tail ?? "").split(":")];
  return whole.slice(0, 4).join(":");
}
