/**
 * Seeded random schedules over clusters of 1–5 voters and up to 2 learners. `KEELSON_SEEDS=5000` runs more of them,
 * `KEELSON_SEED=17` one alone. A failing seed becomes a named test below.
 */
import { expect, test } from "bun:test";
import { runSeed, type RunSummary } from "./testing/random-network";

const seedsRegular = 500;

function run(seed: number): RunSummary {
  try {
    return runSeed(seed);
  } catch (error) {
    throw new Error(`seed ${seed} failed (KEELSON_SEED=${seed} repeats it): ${String(error)}`, {
      cause: error,
    });
  }
}

test("[R1–R9, R13–R15] hold at every step under random schedules, and a healed network makes progress", () => {
  const { KEELSON_SEED, KEELSON_SEEDS } = process.env;
  const first = KEELSON_SEED === undefined ? 1 : Number(KEELSON_SEED);
  const count = KEELSON_SEED === undefined ? Number(KEELSON_SEEDS ?? seedsRegular) : 1;
  const totals: Record<string, number> = {};
  for (let seed = first; seed < first + count; seed++) {
    const { counts } = run(seed);
    for (const [name, value] of Object.entries(counts)) totals[name] = (totals[name] ?? 0) + value;
  }
  if (KEELSON_SEEDS !== undefined) console.log(totals);
  // A batch in which something never happened tests less than it seems to.
  if (count >= seedsRegular)
    for (const value of Object.values(totals)) expect(value).toBeGreaterThan(count / 10);
}, 3_600_000);

test("a seed repeats exactly", () => {
  expect(run(7)).toEqual(run(7));
});
