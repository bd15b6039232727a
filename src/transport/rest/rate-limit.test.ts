import { expect, test } from "bun:test";
import { Problem } from "./problem";
import { RateLimit, requestsPerSecondDefault } from "./rate-limit";

/** How many of some requests are let in, and what the first that is not is told. */
function letIn(limit: RateLimit, address: string | undefined, requests: number) {
  let count = 0;
  let retryAfter: string | undefined;
  for (let asked = 0; asked < requests; asked++) {
    try {
      limit.count(address);
      count++;
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      expect(error.status).toBe(429);
      retryAfter ??= error.details.headers?.["retry-after"];
    }
  }
  return { count, retryAfter };
}

test("an address has two seconds at once, then its rate", () => {
  let nowMs = 0;
  const limit = new RateLimit({ requestsPerSecond: 5, monotonicMs: () => nowMs });
  expect(letIn(limit, "192.0.2.1", 20)).toEqual({ count: 10, retryAfter: "1" });
  expect(letIn(limit, "192.0.2.2", 20).count).toBe(10);
  nowMs += 1_000;
  expect(letIn(limit, "192.0.2.1", 20).count).toBe(5);
  nowMs += 3_600_000;
  expect(letIn(limit, "::ffff:192.0.2.1", 20).count).toBe(10);
});

test("callers on this machine count only when a limit was given, and 0 is none", () => {
  const byDefault = new RateLimit({ monotonicMs: () => 0 });
  const many = requestsPerSecondDefault * 3;
  for (const own of ["127.0.0.1", "::1", "::ffff:127.0.0.1", undefined])
    expect(letIn(byDefault, own, many).count).toBe(many);
  expect(letIn(byDefault, "192.0.2.1", many).count).toBe(requestsPerSecondDefault * 2);
  const given = new RateLimit({ requestsPerSecond: 1, monotonicMs: () => 0 });
  expect(letIn(given, "127.0.0.1", 10).count).toBe(2);
  expect(letIn(new RateLimit({ requestsPerSecond: 0 }), "192.0.2.1", many).count).toBe(many);
});

test("a /64 of IPv6 is one client", () => {
  const limit = new RateLimit({ requestsPerSecond: 1, monotonicMs: () => 0 });
  expect(letIn(limit, "2001:db8::1", 5).count).toBe(2);
  expect(letIn(limit, "2001:db8:0:0:ffff::2", 5).count).toBe(0);
  expect(letIn(limit, "2001:db8:0:1::1", 5).count).toBe(2);
});

test("what is remembered is bounded", () => {
  let nowMs = 0;
  const limit = new RateLimit({ requestsPerSecond: 1, monotonicMs: () => nowMs });
  for (let at = 0; at < 30_000; at++) limit.count(`192.${at >> 16}.${(at >> 8) & 255}.${at & 255}`);
  expect(limit.size).toBeLessThanOrEqual(10_000);
  nowMs += 10_000;
  for (let at = 0; at < 10_000; at++) limit.count(`198.${at >> 16}.${(at >> 8) & 255}.${at & 255}`);
  limit.count("203.0.113.1");
  expect(limit.size).toBeLessThanOrEqual(10_000);
});
