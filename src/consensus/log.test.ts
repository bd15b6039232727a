import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { Inflights } from "./inflights";
import { Log } from "./log";
import { TermRuns } from "./term-runs";
import { entry } from "./testing/lone-member";
import type { Entry } from "./types";

const fresh = {
  hardState: { term: 0, vote: 0n, commit: 0 },
  start: { index: 0, term: 0 },
  tail: [],
  lastIndex: 0,
  applied: 0,
};

/** What can happen to a log; numbers are reduced to what is possible when they are used. */
const operation = fc.oneof(
  fc.record({ kind: fc.constant("push" as const), bytes: fc.nat(50), newTerm: fc.boolean() }),
  fc.record({ kind: fc.constant("merge" as const), back: fc.nat(5), count: fc.nat(4) }),
  fc.record({ kind: fc.constant("commit" as const), step: fc.nat(5) }),
  fc.record({ kind: fc.constant("persist" as const) }),
  fc.record({ kind: fc.constant("complete" as const) }),
  fc.record({ kind: fc.constant("deliver" as const) }),
  fc.record({ kind: fc.constant("cut" as const), back: fc.nat(5) }),
);

describe("Log", () => {
  test("agrees with a plain array whatever happens, and keeps its cursors in order and its tail bounded", () => {
    fc.assert(
      fc.property(
        fc.array(operation, { maxLength: 120 }),
        fc.constantFrom(1, 100, 10_000),
        (operations, tailBytesMax) => {
          const log = new Log(fresh, tailBytesMax);
          /** model[i] is the entry with index i + 1; what was cut stays in it. */
          let model: Entry[] = [];
          let onDisk: Entry[] = [];
          const flying: { completion: ReturnType<Log["unstable"]["begin"]>; image: Entry[] }[] = [];
          let term = 1;
          let delivered = 0;
          for (const next of operations) {
            switch (next.kind) {
              case "push":
                if (next.newTerm) term++;
                model.push(entry(log.push(term, "command", new Uint8Array(next.bytes)), term));
                break;
              case "merge": {
                // A leader of a new term replaces what is not committed.
                term++;
                const previous = Math.max(log.commit, log.lastIndex - next.back);
                const entries = Array.from({ length: next.count }, (_, i) => entry(previous + 1 + i, term));
                log.merge(entries);
                if (entries.length > 0) model = [...model.slice(0, previous), ...entries];
                break;
              }
              case "commit":
                log.commitTo(Math.min(log.commit + next.step, log.lastIndex));
                break;
              case "persist":
                expect(log.unpersisted().map((e) => e.index)).toEqual(
                  model.slice(log.unstable.handed).map((e) => e.index),
                );
                flying.push({
                  completion: log.unstable.begin(log.lastIndex, log.lastTerm, term, 0n),
                  image: [...model],
                });
                break;
              case "complete": {
                const landed = flying.shift();
                if (landed === undefined) break;
                onDisk = landed.image;
                expect(log.unstable.complete(landed.completion)).toBe(true);
                expect(log.unstable.complete(landed.completion)).toBe(false);
                break;
              }
              case "deliver": {
                const entries = log.deliver();
                expect(entries.map((e) => [e.index, e.term])).toEqual(
                  model
                    .slice(delivered, Math.max(delivered, Math.min(log.commit, log.unstable.persisted)))
                    .map((e) => [e.index, e.term]),
                );
                delivered += entries.length;
                log.appliedTo(delivered);
                log.trim();
                break;
              }
              case "cut":
                log.compactTo(log.applied - next.back, undefined);
                break;
            }
            expect(log.lastIndex).toBe(model.length);
            expect(log.startIndex).toBeLessThanOrEqual(log.applied);
            expect(log.applied).toBeLessThanOrEqual(log.commit);
            expect(log.commit).toBeLessThanOrEqual(log.lastIndex);
            // R8: what counts as persisted is on the disk as it is in the log.
            for (let index = 1; index <= log.unstable.persisted; index++)
              expect(onDisk[index - 1]?.term).toBe(model[index - 1]!.term);
            for (let index = log.startIndex + 1; index <= log.lastIndex; index++)
              expect(log.term(index)).toBe(model[index - 1]!.term);
            const inMemory = log.from(log.tailFirst, Number.MAX_SAFE_INTEGER)!;
            expect(inMemory.map((e) => e.term)).toEqual(model.slice(log.tailFirst - 1).map((e) => e.term));
            const needed = Math.min(log.unstable.persisted, delivered);
            if (next.kind === "deliver" && log.tailFirst <= needed)
              expect(log.tailBytes).toBeLessThanOrEqual(tailBytesMax);
          }
        },
      ),
      { numRuns: 300 },
    );
  });

  test("what was committed cannot be replaced", () => {
    const log = new Log(fresh, 1000);
    log.merge([entry(1, 1), entry(2, 1)]);
    log.commitTo(2);
    expect(() => log.merge([entry(2, 2)])).toThrow("committed");
  });

  test("a start that contradicts itself is refused with the numbers", () => {
    const tail = [entry(1, 1), entry(2, 1)];
    expect(() => new Log({ ...fresh, tail, lastIndex: 3 }, 1000)).toThrow("does not end at 3");
    expect(() => new Log({ ...fresh, tail, lastIndex: 2, applied: 3 }, 1000)).toThrow("beyond the log's end");
    const late = { ...fresh, tail: tail.slice(1), lastIndex: 2 };
    expect(() => new Log(late, 1000)).toThrow("gap after commit 0");
  });

  test("committed entries that are not in the first tail are asked for, once, and delivered in order", () => {
    const all = Array.from({ length: 9 }, (_, i) => entry(i + 1, 1));
    const hardState = { term: 1, vote: 0n, commit: 8 };
    const log = new Log({ ...fresh, hardState, tail: all.slice(7), lastIndex: 9 }, 1000);
    expect(log.deliver()).toEqual([]);
    expect(log.wantedForDelivery()).toEqual({ low: 1, high: 8 });
    expect(log.wantedForDelivery()).toBeUndefined();
    log.supply(1, all.slice(0, 3));
    expect(log.deliver()).toEqual(all.slice(0, 3));
    expect(log.wantedForDelivery()).toEqual({ low: 4, high: 8 });
    log.supply(4, all.slice(3, 7));
    expect(log.deliver()).toEqual(all.slice(3, 7));
    expect(log.deliver()).toEqual([all[7]!]);
    expect(() => new Log({ ...fresh, hardState, tail: all.slice(8), lastIndex: 9 }, 1000)).not.toThrow();
  });

  test("committed entries that vanished from storage stop the member", () => {
    const hardState = { term: 1, vote: 0n, commit: 2 };
    const log = new Log({ ...fresh, hardState, tail: [entry(2, 1)], lastIndex: 2 }, 1000);
    log.wantedForDelivery();
    expect(() => log.supply(1, [])).toThrow("gone from storage");
  });
});

test("term runs answer like the list of terms that they stand for", () => {
  const steps = fc.array(fc.nat(2), { minLength: 1, maxLength: 40 });
  fc.assert(
    fc.property(steps, fc.nat(40), fc.nat(80), fc.nat(40), (increments, at, term, dropped) => {
      const runs = new TermRuns();
      const terms: number[] = [0];
      for (const increment of increments) {
        terms.push(Math.max(1, terms[terms.length - 1]! + increment));
        runs.append(terms.length - 1, terms[terms.length - 1]!);
      }
      const last = terms.length - 1;
      const index = 1 + (at % last);
      expect(runs.at(index)).toBe(terms[index]);
      let expected = index;
      while (expected > 0 && terms[expected]! > term) expected--;
      expect(runs.lastAtMost(index, term)).toBe(expected);
      const cut = dropped % last;
      runs.dropThrough(cut);
      for (let i = 1; i <= last; i++) expect(runs.at(i)).toBe(i <= cut ? undefined : terms[i]);
      runs.prepend(terms.map((t, i) => entry(i, t)).slice(1, cut + 1));
      for (let i = 1; i <= last; i++) expect(runs.at(i)).toBe(terms[i]);
    }),
  );
});

test("inflights count messages and bytes like a plain queue", () => {
  const steps = fc.array(fc.oneof(fc.record({ bytes: fc.nat(30) }), fc.record({ free: fc.nat(3) })), {
    maxLength: 200,
  });
  fc.assert(
    fc.property(steps, (all) => {
      const inflights = new Inflights(20, 200);
      let model: { index: number; bytes: number }[] = [];
      let index = 0;
      for (const step of all) {
        if ("bytes" in step) {
          if (inflights.full) continue;
          index++;
          inflights.add(index, step.bytes);
          model.push({ index, bytes: step.bytes });
        } else {
          const upTo = (model[0]?.index ?? 0) + step.free - 1;
          inflights.freeTo(upTo);
          model = model.filter((sent) => sent.index > upTo);
        }
        const bytes = model.reduce((sum, sent) => sum + sent.bytes, 0);
        expect([inflights.count, inflights.bytes]).toEqual([model.length, bytes]);
        expect(inflights.full).toBe(model.length >= 20 || bytes >= 200);
      }
    }),
  );
});
