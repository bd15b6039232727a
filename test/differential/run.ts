/**
 * The differential test as a command:
 *   bun test/differential/run.ts --seeds 20 --requests 10000 [--first-seed 1] [--shrink-seconds 60] [--survey]
 * Each seed gets two fresh servers. Prints one line per seed and, at a mismatch, the shortest story found.
 */
import { parseArgs } from "node:util";
import { ensureEtcd } from "../tools/etcd";
import { startEtcd, startKeelson } from "../tools/server";
import { describeMismatch, differences, runSteps, type Mismatch, type RunResult } from "./harness";
import { describeStep, type Step } from "./steps";

/** One run against two fresh servers. */
export async function runFresh(
  seed: number,
  source: { readonly requests: number } | { readonly steps: readonly Step[] },
  alsoAfter?: (mismatch: Mismatch) => boolean,
): Promise<RunResult> {
  const [reference, subject] = await Promise.all([startEtcd(), startKeelson()]);
  try {
    return await runSteps({ referenceUrl: reference.url, subjectUrl: subject.url }, seed, source, alsoAfter);
  } finally {
    await Promise.all([reference.kill(), subject.kill()]);
  }
}

/**
 * Removes steps while some mismatch remains, halves first, within a time limit. The servers' answers to the steps
 * that are left may differ from the first run's; any mismatch is as good as the first.
 */
export async function shrink(seed: number, failing: readonly Step[], limitMs: number): Promise<Step[]> {
  const deadline = performance.now() + limitMs;
  let steps = [...failing];
  let chunk = Math.ceil(steps.length / 2);
  while (chunk >= 1 && performance.now() < deadline) {
    let removed = false;
    for (let from = 0; from < steps.length - 1 && performance.now() < deadline;) {
      const candidate = [...steps.slice(0, from), ...steps.slice(from + chunk)];
      const result = await runFresh(seed, { steps: candidate }).catch(() => undefined);
      if (result?.mismatch !== undefined) {
        steps = [...result.steps];
        removed = true;
      } else from += chunk;
    }
    if (!removed || chunk > 1) chunk = Math.floor(chunk / 2);
  }
  return steps;
}

/** Goes on after mismatches, and prints one of each kind: an overview while much differs. */
async function survey(firstSeed: number, seeds: number, requests: number): Promise<number> {
  const kinds = new Map<string, { count: number; first: string }>();
  for (let seed = firstSeed; seed < firstSeed + seeds; seed++) {
    const result = await runFresh(seed, { requests }, (mismatch) => {
      const places = differences(mismatch.reference, mismatch.subject);
      const what =
        mismatch.step.kind === "unary"
          ? mismatch.step.method.name
          : `${mismatch.step.kind} ${"what" in mismatch.step ? mismatch.step.what : ""}`;
      const door = mismatch.step.kind === "unary" ? mismatch.step.door : "";
      const kind = `${door} ${what} ${places.map((place) => place.split(":")[0]?.replaceAll(/\d+/g, "N")).join(" ")}`;
      const known = kinds.get(kind);
      if (known === undefined) kinds.set(kind, { count: 1, first: describeMismatch(mismatch) });
      else known.count++;
      return (
        !places.some((place) => place.startsWith("answer:")) &&
        !places.some((place) => place.includes("header.revision"))
      );
    });
    console.log(`seed ${seed}: ${result.steps.length} requests`);
  }
  for (const { count, first } of kinds.values()) console.log(`${count} times like ${first}`);
  return kinds.size;
}

/** Runs seeds one after the other; the number of seeds that failed, and what the runs met on the way. */
export async function runSeeds(options: {
  readonly firstSeed: number;
  readonly seeds: number;
  readonly requests: number;
  readonly shrinkMs: number;
}): Promise<{ failures: string[]; known: Map<string, number>; codes: Map<number, number> }> {
  const failures: string[] = [];
  const known = new Map<string, number>();
  const codes = new Map<number, number>();
  const tools = await ensureEtcd();
  for (let seed = options.firstSeed; seed < options.firstSeed + options.seeds; seed++) {
    const startedAt = performance.now();
    const result = await runFresh(seed, { requests: options.requests });
    for (const [name, count] of result.known) known.set(name, (known.get(name) ?? 0) + count);
    for (const [code, count] of result.codes) codes.set(code, (codes.get(code) ?? 0) + count);
    const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
    console.log(
      `seed ${seed}: ${result.steps.length} requests against etcd ${tools.version} in ${seconds} s, ${result.mismatch === undefined ? "equal" : "DIFFERENT"}`,
    );
    if (result.mismatch === undefined) continue;
    let report = describeMismatch(result.mismatch);
    if (options.shrinkMs > 0) {
      const steps = await shrink(seed, result.steps, options.shrinkMs);
      const last = steps.slice(-40);
      const story = last
        .map(
          (step, index) => `    ${steps.length - last.length + index}. ${describeStep(step).slice(0, 1000)}`,
        )
        .join("\n");
      const again = await runFresh(seed, { steps });
      report += `\n  shortest story found (${steps.length} steps):\n${story}`;
      if (again.mismatch !== undefined) report += `\n  there: ${describeMismatch(again.mismatch)}`;
    }
    console.log(report);
    failures.push(report);
  }
  return { failures, known, codes };
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      seeds: { type: "string", default: "3" },
      requests: { type: "string", default: "2000" },
      "first-seed": { type: "string", default: "1" },
      "shrink-seconds": { type: "string", default: "60" },
      survey: { type: "boolean", default: false },
    },
  });
  if (values.survey) {
    const kinds = await survey(Number(values["first-seed"]), Number(values.seeds), Number(values.requests));
    process.exit(kinds === 0 ? 0 : 1);
  }
  const { failures, known, codes } = await runSeeds({
    firstSeed: Number(values["first-seed"]),
    seeds: Number(values.seeds),
    requests: Number(values.requests),
    shrinkMs: Number(values["shrink-seconds"]) * 1000,
  });
  console.log(`answers by code: ${JSON.stringify(Object.fromEntries(codes))}`);
  console.log(`known differences met: ${JSON.stringify(Object.fromEntries(known))}`);
  console.log(failures.length === 0 ? "no mismatch" : `${failures.length} of ${values.seeds} seeds failed`);
  process.exit(failures.length === 0 ? 0 : 1);
}
