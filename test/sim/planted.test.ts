/** That every planted bug still finds its place; `bun run sim -- --planted` shows that each is caught. */
import { expect, test } from "bun:test";
import { changedFiles, patched } from "./planted";
import { plantedBugs } from "./planted-bugs";

test.each(plantedBugs.map((bug) => [bug.name, bug] as const))("%s changes what it means to", (_name, bug) => {
  const texts = changedFiles(bug);
  expect(texts.size).toBeGreaterThan(0);
  const transpiler = new Bun.Transpiler({ loader: "ts" });
  for (const text of texts.values()) transpiler.transformSync(text);
});

test("a snippet that is gone, or is there twice, is noticed", () => {
  const patch = { file: "f", find: "a", replace: "b" };
  expect(patched("xay", patch)).toBe("xby");
  expect(() => patched("xy", patch)).toThrow("has no");
  expect(() => patched("aa", patch)).toThrow("more than once");
});
