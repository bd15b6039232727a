/** Style as failing tests: each rule says why it exists. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { Glob } from "bun";

const root = join(import.meta.dir, "..");
const sources = [...new Glob("{src,test,web}/**/*.{ts,tsx}").scanSync(root)]
  .filter((path) => !path.startsWith("src/proto/gen/") && path !== "test/tidy.test.ts")
  .map((path) => ({ path, text: readFileSync(join(root, path), "utf8") }));
const product = sources.filter(
  ({ path }) => path.startsWith("src/") && !/\.test\.tsx?$|test-support/.test(path),
);

/** Import specifiers with the names they bring, types-only ones apart. */
function imports(text: string): { from: string; typeOnly: boolean }[] {
  const statements = text.matchAll(/^(?:import|export)\s+(type\s+)?[^;]*?from\s+"([^"]+)";/gms);
  return [...statements].map(([, typeOnly, from]) => ({ typeOnly: typeOnly !== undefined, from: from! }));
}

/** Why: the same inputs must give the same outputs on every member, and in a simulator (design.md 2). */
test("consensus, state and watch use no clock, randomness, timer or I/O", () => {
  const banned =
    /\bDate\.now|\bnew Date\(|\bMath\.random|\bperformance\.now|\bset(?:Timeout|Interval|Immediate)\b|\bqueueMicrotask\b|\bcrypto\.|\bfetch\(/;
  const modules =
    /^(?:node:(?:fs|net|http|http2|https|tls|child_process|worker_threads|crypto|timers|os)|bun)(?:\/|$)/;
  const found = product
    .filter(({ path }) => /^src\/(?:consensus|state|watch)\//.test(path))
    .flatMap(({ path, text }) => [
      ...(banned.test(text) ? [`${path}: ${banned.exec(text)![0]}`] : []),
      ...imports(text)
        .filter(({ from }) => modules.test(from))
        .map(({ from }) => `${path}: imports ${from}`),
    ]);
  expect(found).toEqual([]);
});

/** Why: a station that knows only its neighbours can be read, tested and replaced alone (style-anchors 5). */
test("stations import only what they may know", () => {
  const forbidden: Record<string, RegExp> = {
    consensus: /^src\/(?:member|storage|state|watch|service|transport|command|metrics|server|main)/,
    state: /^src\/(?:member|service|transport|command|metrics|server|main)/,
    watch: /^src\/(?:member|storage|service|command|metrics|server|main|consensus)/,
    storage: /^src\/(?:service|transport|command|metrics|server|main)/,
    transport: /^src\/(?:consensus|storage|state|member|watch|command\/|server|main)/,
    member: /^src\/(?:transport|command|metrics|server|main)/,
    service: /^src\/(?:consensus|storage|command|metrics|server|main)/,
    start: /^src\/(?:consensus|storage|state|watch|service|transport|command|metrics|server|main)/,
  };
  const found = product.flatMap(({ path, text }) => {
    const station = path.split("/")[1]!;
    const rule = forbidden[station];
    if (rule === undefined) return [];
    return imports(text)
      .filter(({ from, typeOnly }) => !typeOnly && from.startsWith("."))
      .map(({ from }) => normalize(join(dirname(path), from)))
      .filter((target) => rule.test(target))
      .map((target) => `${path} imports ${target}`);
  });
  expect(found).toEqual([]);
});

/** Why: unfinished work belongs into an issue, and a silenced checker checks nothing. */
test("no markers of unfinished work, no silenced checks", () => {
  const marker =
    /TODO|FIXME|@ts-ignore|@ts-nocheck|as any\b|\b(?:it|test|describe)\.(?:only|skip|todo|failing)\b/;
  expect(sources.filter(({ text }) => marker.test(text)).map(({ path }) => path)).toEqual([]);
});

/** Why: bun reads tsconfig.json where it is started, so that a server started elsewhere would not know our JSX. */
test("every file with markup says whose JSX it is", () => {
  const markup = sources.filter(({ path }) => path.endsWith(".tsx"));
  expect(markup.length).toBeGreaterThan(20);
  const pragma = "/** @jsxImportSource #console */\n";
  expect(markup.filter(({ text }) => !text.startsWith(pragma)).map(({ path }) => path)).toEqual([]);
});

/** Why: a file that nothing reaches is read, kept and mended for nothing. */
test("every source file is reached from an entry point or a test", () => {
  const known = new Map(sources.map((source) => [source.path, source]));
  const resolve = (from: string, specifier: string): string | undefined => {
    const target = normalize(join(dirname(from), specifier));
    return [target, `${target}.ts`, `${target}.tsx`, join(target, "index.ts")].find((candidate) =>
      known.has(candidate),
    );
  };
  const entry =
    /\.test\.tsx?$|\.d\.ts$|jsx-runtime\.ts$|^src\/(?:main|build)\.ts$|worker\.ts$|^test\/run\.ts$|^test\/[\w-]+\/(?:run|generator)\.ts$|^test\/tools\//;
  const entries = sources.filter(({ path }) => entry.test(path));
  const reached = new Set<string>();
  const queue = entries.map(({ path }) => path);
  while (queue.length > 0) {
    const path = queue.pop()!;
    if (reached.has(path)) continue;
    reached.add(path);
    const specifiers = known.get(path)!.text.matchAll(/(?:from|import\()\s*"(\.[^"]+)"/g);
    for (const [, specifier] of specifiers) {
      const target = resolve(path, specifier!);
      if (target !== undefined) queue.push(target);
    }
  }
  expect(sources.map(({ path }) => path).filter((path) => !reached.has(path))).toEqual([]);
});

/** Why: most files are one concept; a long one is a question, and past this it has no good answer. */
test("no source file is longer than 650 lines, no test longer than 1,000", () => {
  const long = sources
    .map(({ path, text }) => ({ path, lines: text.split("\n").length }))
    .filter(({ path, lines }) => lines > (/^test\/|\.test\.tsx?$/.test(path) ? 1_000 : 650));
  expect(long).toEqual([]);
});

/** Why: nothing in the project may depend on one machine or one registry. */
test("no file names a machine's path or a registry's host", () => {
  const hosts = /registry\.npmjs|proxy\.golang|\/work\/|\/root\//;
  expect(sources.filter(({ text }) => hosts.test(text)).map(({ path }) => path)).toEqual([]);
});
