import { expect, test } from "bun:test";
import fc from "fast-check";
import { VirtualClock } from "./clock";
import { setTraps } from "./traps";

test("events run in order of time, equal times in order of scheduling", () => {
  fc.assert(
    fc.property(fc.array(fc.nat(50)), (delays) => {
      const clock = new VirtualClock();
      const ran: [number, number][] = [];
      delays.forEach((delay, position) =>
        clock.after(delay, () => ran.push([clock.monotonicMs(), position])),
      );
      clock.run(60);
      const expected = delays.map((delay, position) => [delay, position]);
      expect(ran).toEqual(expected.sort((a, b) => a[0]! - b[0]! || a[1]! - b[1]!) as [number, number][]);
    }),
  );
});

test("a cancelled timer does not fire, and a promise is followed through time", () => {
  const clock = new VirtualClock();
  let fired = false;
  clock.after(5, () => {
    fired = true;
  })();
  const later = new Promise<number>((resolve) => clock.after(1_000, () => resolve(7)));
  expect(clock.settle(later.then((value) => value + 1))).toBe(8);
  expect(clock.monotonicMs()).toBe(1_000);
  expect(fired).toBeFalse();
  expect(() => clock.settle(new Promise(() => {}), 10)).toThrow("within 10 virtual ms");
});

test("the traps catch real time and files, and go away again", () => {
  const release = setTraps();
  try {
    expect(() => Date.now()).toThrow("virtual world");
    expect(() => setTimeout(() => {}, 0)).toThrow("virtual world");
    expect(() => Math.random()).toThrow("virtual world");
  } finally {
    release();
  }
  expect(Date.now()).toBeGreaterThan(0);
});
