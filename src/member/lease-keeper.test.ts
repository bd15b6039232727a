import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { LeaseId } from "../ids";
import { SeededRng } from "../rng";
import type { LeaseKeeperOptions, LeaseRest, LeaseSource, LeaseTiming } from "./lease-keeper";
import { LeaseKeeper } from "./lease-keeper";
import type { CancelTimer, Clock } from "./ports";

/** Time that only moves when told; the wall clock jumps about, since nothing may depend on it. */
class FakeClock implements Clock {
  nowMs = 1_000_000;
  #timers: { atMs: number; callback: () => void }[] = [];

  monotonicMs(): number {
    return this.nowMs;
  }

  wallMs(): number {
    throw new Error("leases must not read the wall clock");
  }

  after(delayMs: number, callback: () => void): CancelTimer {
    const timer = { atMs: this.nowMs + delayMs, callback };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  soon(callback: () => void): void {
    this.after(0, callback);
  }

  get timers(): number {
    return this.#timers.length;
  }

  /** Runs everything due within the next `ms`, in order of time. */
  pass(ms: number): void {
    const untilMs = this.nowMs + ms;
    for (;;) {
      let first = this.#timers[0];
      for (const timer of this.#timers) if (timer.atMs < first!.atMs) first = timer;
      if (first === undefined || first.atMs > untilMs) break;
      this.#timers = this.#timers.filter((timer) => timer !== first);
      this.nowMs = Math.max(this.nowMs, first.atMs);
      first.callback();
    }
    this.nowMs = untilMs;
  }
}

/** A replicated state with these leases; it changes as the test changes the map. */
function found(leases: readonly LeaseTiming[], map = new Map<LeaseId, LeaseTiming>()): LeaseSource {
  for (const lease of leases) map.set(lease.id, lease);
  return { get: (id) => map.get(id), all: () => map.values() };
}

function setUp(options: Partial<LeaseKeeperOptions> & { answer?: boolean } = {}) {
  const clock = new FakeClock();
  const asked: { id: LeaseId; atMs: number; term: number }[] = [];
  const rests: LeaseRest[][] = [];
  const keeper: LeaseKeeper = new LeaseKeeper({
    clock,
    electionTimeoutMs: 1_000,
    checkpoint: (batch) => rests.push([...batch]),
    ...options,
    expired: (ids, term) => {
      for (const id of ids) {
        asked.push({ id, atMs: clock.nowMs, term });
        if (options.answer !== false) clock.after(1, () => keeper.revoked(id));
      }
    },
  });
  return { clock, keeper, asked, rests };
}

describe("expiry", () => {
  test("L1 L2 a lease is asked for after its time and at most a scan later", () => {
    const { clock, keeper, asked } = setUp();
    keeper.promote(5, found([]));
    clock.pass(137);
    keeper.granted(1n, 10);
    const grantedAtMs = clock.nowMs;
    clock.pass(9_999);
    expect(asked).toEqual([]);
    expect(keeper.remaining(1n)).toBe(1);
    clock.pass(501);
    expect(asked).toHaveLength(1);
    expect(asked[0]).toMatchObject({ id: 1n, term: 5 });
    expect(asked[0]!.atMs - grantedAtMs).toBeGreaterThanOrEqual(10_000);
    expect(asked[0]!.atMs - grantedAtMs).toBeLessThanOrEqual(10_500);
    clock.pass(60_000);
    expect(asked).toHaveLength(1);
    expect(keeper.remaining(1n)).toBeUndefined();
  });

  test("L3 a renewal gives the full time again", () => {
    const { clock, keeper, asked } = setUp();
    keeper.promote(1, found([]));
    keeper.granted(1n, 10);
    for (let i = 0; i < 20; i++) {
      clock.pass(9_900);
      expect(keeper.renew(1n)).toBe(10);
      expect(keeper.remaining(1n)).toBe(10_000);
    }
    expect(asked).toEqual([]);
    clock.pass(10_500);
    expect(asked).toHaveLength(1);
  });

  test("L4 a lease whose time is over is never renewed, also before the scan (#20615)", async () => {
    const { clock, keeper, asked } = setUp({ answer: false });
    keeper.promote(1, found([]));
    keeper.granted(1n, 2);
    clock.pass(2_000);
    expect(keeper.renew(1n)).toBe("expired");
    expect(keeper.remaining(1n)).toBe(0);
    let outcome = "";
    void keeper.settled(1n).then((how) => (outcome = how));
    clock.pass(600);
    expect(asked).toHaveLength(1);
    expect(keeper.renew(1n)).toBe("expired");
    await Promise.resolve();
    expect(outcome).toBe("");
    keeper.revoked(1n);
    await Promise.resolve();
    expect(outcome).toBe("revoked");
    expect(keeper.renew(1n)).toBe("unknown");
    expect(await keeper.settled(1n)).toBe("revoked");
  });

  test("L5 revokes keep to sixteen in flight", () => {
    const { clock, keeper, asked } = setUp({ answer: false });
    keeper.promote(1, found([]));
    for (let id = 1n; id <= 100n; id++) {
      keeper.granted(id, 5);
      clock.pass(1);
    }
    clock.pass(5_600);
    expect(asked.map(({ id }) => id)).toEqual(Array.from({ length: 16 }, (_, i) => BigInt(i + 1)));
    keeper.revoked(1n);
    keeper.revoked(2n);
    clock.pass(1);
    expect(asked.slice(16).map(({ id }) => id)).toEqual([17n, 18n]);
  });

  test("L5 revokes keep to a thousand a second", () => {
    const { clock, keeper, asked } = setUp();
    keeper.promote(1, found([]));
    for (let id = 1n; id <= 5_000n; id++) keeper.granted(id, 5);
    clock.pass(5_500);
    const startMs = asked[0]!.atMs;
    clock.pass(20_000);
    expect(asked).toHaveLength(5_000);
    expect(new Set(asked.map(({ id }) => id)).size).toBe(5_000);
    for (const { atMs } of asked) {
      const within = asked.filter((other) => other.atMs > atMs - 1_000 && other.atMs <= atMs).length;
      expect(within).toBeLessThanOrEqual(1_500);
    }
    const lastMs = asked[asked.length - 1]!.atMs;
    expect(lastMs - startMs).toBeGreaterThanOrEqual(4_400);
    expect(lastMs - startMs).toBeLessThanOrEqual(6_000);
  });

  test("L6 a revoke that is not applied is asked for again every 3 s until it is", () => {
    const { clock, keeper, asked } = setUp({ answer: false });
    keeper.promote(1, found([]));
    keeper.granted(1n, 2);
    clock.pass(12_100);
    const gaps = asked.slice(1).map(({ atMs }, i) => atMs - asked[i]!.atMs);
    expect(gaps).toEqual([3_000, 3_000, 3_000]);
    keeper.revoked(1n);
    clock.pass(10_000);
    expect(asked).toHaveLength(4);
  });

  test("L11 a client's revoke ends timing at once, and the id may be granted anew", () => {
    const { clock, keeper, asked } = setUp();
    keeper.promote(1, found([]));
    keeper.granted(1n, 2);
    clock.pass(1_500);
    keeper.revoked(1n);
    expect(keeper.renew(1n)).toBe("unknown");
    keeper.granted(1n, 10);
    clock.pass(9_900);
    expect(asked).toEqual([]);
    clock.pass(600);
    expect(asked).toHaveLength(1);
  });

  test("L11 a lease revoked by a client while its turn had not come is not asked for", () => {
    const { clock, keeper, asked } = setUp({ answer: false });
    keeper.promote(1, found([]));
    for (let id = 1n; id <= 17n; id++) {
      keeper.granted(id, 2);
      clock.pass(1);
    }
    clock.pass(2_600);
    keeper.revoked(17n);
    keeper.revoked(1n);
    clock.pass(1_000);
    expect(asked).toHaveLength(16);
  });
});

describe("leadership", () => {
  test("L7 a new leader gives full time, or the recorded rest, plus the election timeout", () => {
    const { clock, keeper, asked } = setUp({ checkpoint: () => {} });
    keeper.promote(
      2,
      found([
        { id: 1n, ttlSeconds: 10 },
        { id: 2n, ttlSeconds: 600, remainingSeconds: 20 },
        { id: 3n, ttlSeconds: 30, remainingSeconds: 0 },
      ]),
    );
    expect([1n, 2n, 3n].map((id) => keeper.remaining(id))).toEqual([11_000, 21_000, 31_000]);
    clock.pass(10_900);
    expect(asked).toEqual([]);
    clock.pass(20_700);
    expect(asked.map(({ id }) => id)).toEqual([1n, 2n, 3n]);
  });

  test("L7 leases that would end together are spread out, and none is shortened", () => {
    const { keeper } = setUp();
    const leases = Array.from({ length: 3_000 }, (_, i) => ({ id: BigInt(i + 1), ttlSeconds: 10 + (i % 2) }));
    keeper.promote(2, found(leases));
    const ends = leases.map(({ id, ttlSeconds }) => {
      const remainingMs = keeper.remaining(id)!;
      expect(remainingMs).toBeGreaterThanOrEqual(ttlSeconds * 1_000 + 1_000);
      return remainingMs;
    });
    ends.sort((a, b) => a - b);
    for (let i = 1_000; i < ends.length; i++)
      expect(ends[i]! - ends[i - 1_000]!).toBeGreaterThanOrEqual(1_000);
  });

  test("L1 L3 a renewal after the spread counts from the renewal, and the lease still ends", () => {
    const { clock, keeper, asked } = setUp({ answer: false });
    keeper.promote(
      2,
      found(Array.from({ length: 20_000 }, (_, i) => ({ id: BigInt(i + 1), ttlSeconds: 2 }))),
    );
    const [last] = [...Array(20_000).keys()]
      .map((i) => BigInt(i + 1))
      .sort((a, b) => {
        return keeper.remaining(b)! - keeper.remaining(a)!;
      });
    expect(keeper.remaining(last!)).toBeGreaterThan(20_000);
    expect(keeper.renew(last!)).toBe(2);
    expect(keeper.remaining(last!)).toBe(2_000);
    clock.pass(1_999);
    expect(asked).toEqual([]);
    clock.pass(502);
    expect(asked.map(({ id }) => id)).toContain(last!);
  });

  test("L7 leases are taken up in slices; who asks for one that is not, finds it with all its time", async () => {
    const { clock, keeper, asked } = setUp({ answer: false });
    const count = 50_000;
    const state = new Map<LeaseId, LeaseTiming>();
    const source = found(
      Array.from({ length: count }, (_, i) => ({ id: BigInt(i + 1), ttlSeconds: 100 })),
      state,
    );
    keeper.promote(3, source);
    // One slice, however many there are.
    expect(keeper.size).toBeLessThanOrEqual(1_024);
    const [renewed, looked, awaited, ended, regranted, recorded] = [
      49_999n,
      49_998n,
      49_997n,
      49_996n,
      49_995n,
      3n,
    ];
    clock.nowMs += 5_000;
    expect(keeper.renew(renewed)).toBe(100);
    expect(keeper.remaining(renewed)).toBe(100_000);
    // All its time since the promotion; those before it were spread over more than a second.
    expect(keeper.remaining(looked)).toBeGreaterThanOrEqual(101_000 - 5_000);
    expect(keeper.remaining(looked)).toBeLessThanOrEqual(103_000 - 5_000);
    expect(keeper.ttlSeconds(looked)).toBe(100);
    let outcome = "";
    void keeper.settled(awaited).then((how) => (outcome = how));
    // Applied while it was not taken up yet.
    for (const id of [ended, regranted, awaited]) {
      state.delete(id);
      keeper.revoked(id);
    }
    state.set(regranted, { id: regranted, ttlSeconds: 7 });
    keeper.granted(regranted, 7);
    state.set(777_777n, { id: 777_777n, ttlSeconds: 9 });
    keeper.granted(777_777n, 9);
    expect(keeper.renew(ended)).toBe("unknown");
    expect(keeper.renew(60_000n)).toBe("unknown");
    await Promise.resolve();
    expect(outcome).toBe("revoked");
    clock.pass(0);
    expect(keeper.size).toBe(count - 1);
    expect(keeper.remaining(renewed)).toBe(100_000);
    expect([keeper.remaining(regranted), keeper.remaining(777_777n)]).toEqual([7_000, 9_000]);
    expect(keeper.remaining(recorded)).toBeGreaterThanOrEqual(101_000 - 5_000);
    clock.pass(90_000);
    expect(new Set(asked.map(({ id }) => id))).toEqual(new Set([regranted, 777_777n]));
  });

  test("L7 L8 what is still being taken up is let go when leadership ends, and begins anew in the next term", () => {
    const { clock, keeper, asked } = setUp();
    const source = found(Array.from({ length: 5_000 }, (_, i) => ({ id: BigInt(i + 1), ttlSeconds: 10 })));
    keeper.promote(1, source);
    keeper.demote();
    expect(keeper.remaining(4_000n)).toBeUndefined();
    clock.pass(3_000);
    expect([keeper.size, clock.timers]).toEqual([0, 0]);
    keeper.promote(2, source);
    clock.nowMs += 1;
    keeper.promote(3, source);
    clock.pass(10_900);
    expect(keeper.size).toBe(5_000);
    expect(asked).toEqual([]);
    clock.pass(20_000);
    expect(new Set(asked.map(({ id }) => id)).size).toBe(5_000);
    expect(asked.every(({ term }) => term === 3)).toBe(true);
  });

  test("L8 a member that does not lead times and renews nothing, and lets go of who waits", async () => {
    const { clock, keeper, asked } = setUp({ answer: false });
    expect(keeper.leading).toBe(false);
    keeper.granted(1n, 2);
    expect(keeper.renew(1n)).toBe("notLeader");
    expect(await keeper.settled(1n)).toBe("notLeader");
    keeper.promote(1, found([{ id: 1n, ttlSeconds: 2 }]));
    expect(keeper.leading).toBe(true);
    clock.pass(3_600);
    expect(asked).toHaveLength(1);
    const waiting = keeper.settled(1n);
    keeper.demote();
    keeper.demote();
    expect(await waiting).toBe("notLeader");
    expect(keeper.remaining(1n)).toBeUndefined();
    clock.pass(60_000);
    expect(asked).toHaveLength(1);
    expect([clock.timers, keeper.size, keeper.entries]).toEqual([0, 0, 0]);
  });

  test("L8 L7 leading again starts afresh, in the new term (#12528)", () => {
    const { clock, keeper, asked } = setUp({ answer: false });
    keeper.promote(1, found([{ id: 1n, ttlSeconds: 2 }]));
    clock.pass(2_900);
    keeper.demote();
    clock.pass(60_000);
    keeper.promote(7, found([{ id: 1n, ttlSeconds: 2 }]));
    clock.pass(2_900);
    expect(asked).toEqual([]);
    expect(keeper.renew(1n)).toBe(2);
    clock.pass(2_600);
    expect(asked).toMatchObject([{ id: 1n, term: 7 }]);
    expect(clock.timers).toBe(1);
  });
});

describe("checkpoints", () => {
  test("L9 the rest of a long lease is recorded each interval, rounded up", () => {
    const { clock, keeper, rests } = setUp();
    keeper.promote(1, found([]));
    keeper.granted(1n, 1_000);
    keeper.granted(2n, 300);
    clock.pass(299_000);
    expect(rests).toEqual([]);
    clock.pass(1_500);
    expect(rests).toEqual([[{ id: 1n, remainingSeconds: 700 }]]);
    keeper.checkpointed(1n, 700);
    clock.pass(301_000);
    expect(rests.slice(1)).toEqual([[{ id: 1n, remainingSeconds: 400 }]]);
    keeper.checkpointed(1n, 400);
    clock.pass(301_000);
    expect(rests.slice(2)).toEqual([[{ id: 1n, remainingSeconds: 100 }]]);
  });

  test("L9 without the callback nothing is recorded", () => {
    const clock = new FakeClock();
    const keeper = new LeaseKeeper({ clock, electionTimeoutMs: 1_000, expired: () => {} });
    keeper.promote(1, found([]));
    keeper.granted(1n, 10_000);
    clock.pass(3_600_000);
    expect(keeper.renew(1n)).toBe(10_000);
    expect(keeper.entries).toBe(1);
  });

  test("L10 a recorded rest must be cleared before a renewal, also while it is only proposed", () => {
    const { clock, keeper, rests } = setUp();
    keeper.promote(1, found([]));
    keeper.granted(1n, 1_000);
    clock.pass(300_500);
    expect(rests).toHaveLength(1);
    expect(keeper.renew(1n)).toBe("checkpointed");
    keeper.checkpointed(1n, 700);
    expect(keeper.renew(1n)).toBe("checkpointed");
    keeper.checkpointed(1n, 0);
    expect(keeper.renew(1n)).toBe(1_000);
    keeper.promote(2, found([{ id: 1n, ttlSeconds: 1_000, remainingSeconds: 700 }]));
    expect(keeper.renew(1n)).toBe("checkpointed");
  });

  test("L10 no rest is recorded while a clearing is under way, however long that takes", () => {
    const { clock, keeper, rests } = setUp();
    keeper.promote(1, found([{ id: 1n, ttlSeconds: 2_000 }]));
    clock.pass(301_000);
    expect(rests).toHaveLength(1);
    keeper.checkpointed(1n, rests[0]![0]!.remainingSeconds);
    keeper.clearing(1n);
    keeper.clearing(1n);
    clock.pass(300_000);
    keeper.checkpointed(1n, 0);
    expect(keeper.renew(1n)).toBe(2_000);
    clock.pass(301_000);
    expect(rests).toHaveLength(1);
    keeper.checkpointed(1n, 0);
    clock.pass(301_000);
    expect(rests).toHaveLength(2);
  });

  test("L9 L10 renewals in time keep a lease from being recorded", () => {
    const { clock, keeper, rests } = setUp();
    keeper.promote(1, found([]));
    keeper.granted(1n, 1_000);
    for (let i = 0; i < 20; i++) {
      clock.pass(200_000);
      expect(keeper.renew(1n)).toBe(1_000);
    }
    expect(rests).toEqual([]);
  });
});

describe("scale", () => {
  test("L12 entries of revoked leases do not pile up", () => {
    const { clock, keeper } = setUp();
    keeper.promote(1, found([]));
    for (let id = 1n; id <= 20_000n; id++) {
      keeper.granted(id, 3_600);
      keeper.revoked(id);
    }
    expect(keeper.size).toBe(0);
    expect(keeper.entries).toBeLessThan(2_500);
    clock.pass(1_000);
  });

  test("L12 renewing a hundred thousand leases adds no entries, and a quiet scan looks at none", () => {
    const { clock, keeper, asked } = setUp({ checkpoint: () => {} });
    keeper.promote(1, found([]));
    for (let id = 1n; id <= 100_000n; id++) keeper.granted(id, 60);
    for (let round = 0; round < 4; round++) {
      clock.pass(20_000);
      for (let id = 1n; id <= 100_000n; id++) expect(keeper.renew(id) === 60).toBe(true);
      expect(keeper.entries).toBe(100_000);
    }
    expect(asked).toEqual([]);
  });

  test("L1 L2 L3 L6 random lives: never early, never late beyond the pace", () => {
    for (let seed = 1; seed <= 100; seed++) {
      const rng = new SeededRng(seed);
      const { clock, keeper, asked } = setUp({ answer: false, checkpoint: () => {} });
      keeper.promote(1, found([]));
      const dueAtMs = new Map<LeaseId, number>();
      let nextId = 1n;
      let checked = 0;
      for (let step = 0; step < 400; step++) {
        clock.pass(rng.below(700));
        for (const { id, atMs } of asked.splice(0)) {
          expect(atMs).toBeGreaterThanOrEqual(dueAtMs.get(id)!);
          checked++;
          if (rng.below(3) > 0) {
            keeper.revoked(id);
            dueAtMs.delete(id);
          }
        }
        if (rng.below(3) === 0) {
          const ttlSeconds = 1 + rng.below(20);
          keeper.granted(nextId, ttlSeconds);
          dueAtMs.set(nextId++, clock.nowMs + ttlSeconds * 1_000);
        }
        for (const id of dueAtMs.keys()) {
          if (rng.below(8) > 0) continue;
          const outcome = keeper.renew(id);
          if (clock.nowMs >= dueAtMs.get(id)!) expect(outcome).toBe("expired");
          else dueAtMs.set(id, clock.nowMs + (outcome as number) * 1_000);
        }
      }
      expect(checked).toBeGreaterThan(0);
      for (let i = 0; i < 200 && dueAtMs.size > 0; i++) {
        clock.pass(500);
        for (const { id } of asked.splice(0)) {
          keeper.revoked(id);
          dueAtMs.delete(id);
        }
      }
      expect(dueAtMs.size).toBe(0);
    }
  });
});

test("every rule of lease timing is named by a test, and every named rule exists", () => {
  const rules = readFileSync(join(import.meta.dir, "lease-rules.md"), "utf8");
  const source = ["lease-keeper.test.ts", "lease-renewals.test.ts"]
    .map((name) => readFileSync(join(import.meta.dir, name), "utf8"))
    .join("");
  const declared = [...rules.matchAll(/^- (L\d+)\./gm)].map((match) => match[1]!);
  const titles = [...source.matchAll(/\btest\(\s*"([^"]+)/g)].map((match) => match[1]!).join(" ");
  const named = new Set([...titles.matchAll(/\bL\d+\b/g)].map(([id]) => id));
  expect(declared).toHaveLength(15);
  expect([...named].sort()).toEqual([...declared].sort());
});
