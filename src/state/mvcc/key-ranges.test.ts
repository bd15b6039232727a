import { expect, test } from "bun:test";
import fc from "fast-check";
import { KeyRanges } from "./key-ranges";

const key = fc.string({ unit: fc.constantFrom("a", "b", "c"), maxLength: 3 });

test("a key is held exactly when one of the ranges added so far holds it", () => {
  const step = fc.record({ low: key, high: key, asked: key, other: fc.boolean() });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const ranges = new KeyRanges();
      const added: { low: string; high: string }[] = [];
      for (const { low, high, asked, other } of steps) {
        if (other) {
          const more = new KeyRanges();
          more.add(low, high);
          more.add(high, "c");
          added.push({ low: high, high: "c" });
          ranges.addAll(more);
        } else ranges.add(low, high);
        added.push({ low, high });
        expect(ranges.holds(asked)).toBe(added.some((range) => asked >= range.low && asked < range.high));
      }
    }),
  );
});
