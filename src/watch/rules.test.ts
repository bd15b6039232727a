import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** Ids of rules that a rules file declares, and those that titles of tests beside it mention. */
function idsOf(folder: string, rulesFile: string, prefix: string) {
  const declared = [...readFileSync(join(folder, rulesFile), "utf8").matchAll(/^- ([A-Z]\d+)\./gm)].map(
    (match) => match[1]!,
  );
  const titled = new Set<string>();
  for (const file of readdirSync(folder)) {
    if (!file.endsWith(".test.ts")) continue;
    for (const [, title] of readFileSync(join(folder, file), "utf8").matchAll(/\btest\(\s*[`"]([^`"]+)/g)) {
      for (const [id] of title!.matchAll(new RegExp(`\\b${prefix}\\d+\\b`, "g"))) titled.add(id);
    }
  }
  return { declared, titled: [...titled] };
}

test("every rule of the hub is named by a test, and every named rule exists", () => {
  const { declared, titled } = idsOf(import.meta.dir, "rules.md", "W");
  expect(declared.length).toBeGreaterThan(20);
  expect(declared.filter((id) => !titled.includes(id))).toEqual([]);
  expect(titled.filter((id) => !declared.includes(id))).toEqual([]);
});
