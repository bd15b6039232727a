import { expect, test } from "bun:test";
import fc from "fast-check";
import { changed } from "./configuration";
import { decodeConfigurationChange, encodeConfigurationChange } from "./configuration-change";
import type { Configuration, ConfigurationChange } from "./types";

const change: fc.Arbitrary<ConfigurationChange> = fc.record({
  type: fc.constantFrom("add-voter", "add-learner", "remove"),
  memberId: fc.bigInt({ min: 1n, max: 2n ** 64n - 1n }),
  context: fc.uint8Array({ maxLength: 40 }),
});
const smallChange = change.chain((any) =>
  fc.bigInt({ min: 0n, max: 6n }).map((memberId): ConfigurationChange => ({
    type: any.type,
    memberId,
    context: any.context,
  })),
);

test("a change is read back as it was written", () => {
  fc.assert(
    fc.property(change, (written) => {
      expect(decodeConfigurationChange(encodeConfigurationChange(written))).toEqual(written);
    }),
  );
});

test("bytes that no version known here can have written are refused", () => {
  const good = encodeConfigurationChange({ type: "remove", memberId: 5n, context: new Uint8Array(2) });
  expect(() => decodeConfigurationChange(good.subarray(0, 9))).toThrow("too short");
  expect(() => decodeConfigurationChange(new Uint8Array([9, ...good.subarray(1)]))).toThrow(
    "unknown version",
  );
  expect(() => decodeConfigurationChange(new Uint8Array([1, 7, ...good.subarray(2)]))).toThrow(
    "unknown type",
  );
});

test("legal changes move one member, keep ids sorted and unique, and leave a voter", () => {
  fc.assert(
    fc.property(fc.array(smallChange, { maxLength: 30 }), (changes) => {
      let configuration: Configuration = { voters: [1n], learners: [] };
      for (const next of changes) {
        const after = changed(configuration, next);
        if (after === undefined) continue;
        const all = [...after.voters, ...after.learners];
        expect(new Set(all).size).toBe(all.length);
        expect(all).not.toContain(0n);
        for (const set of [after.voters, after.learners])
          expect([...set].sort((a, b) => (a < b ? -1 : 1))).toEqual([...set]);
        expect(after.voters.length).toBeGreaterThan(0);
        const moved = [0n, 1n, 2n, 3n, 4n, 5n, 6n].filter(
          (id) => configuration.voters.includes(id) !== after.voters.includes(id),
        );
        expect(moved.length).toBeLessThanOrEqual(1);
        configuration = after;
      }
    }),
  );
});
