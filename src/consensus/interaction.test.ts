/**
 * Stories in `testdata/*.txt`: a command, a line of dashes, what then happens. The rules of `testing/rules.ts` are
 * watched along the way. `REWRITE=1` writes down what happens now; commit only what you understand.
 */
import { expect, test } from "bun:test";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Story } from "./testing/story";

const folder = join(import.meta.dir, "testdata");

/** The text again, with what happens in place of what was expected. */
function retell(script: string): string {
  const story = new Story();
  const told: string[] = [];
  let inExpectation = false;
  for (const line of script.split("\n")) {
    if (inExpectation && line !== "") continue;
    inExpectation = false;
    if (line === "----") {
      inExpectation = true;
      continue;
    }
    told.push(line);
    if (line !== "" && !line.startsWith("#")) told.push("----", story.run(line));
  }
  return told.join("\n");
}

const files = readdirSync(folder)
  .filter((name) => name.endsWith(".txt"))
  .sort();

for (const name of files) {
  test(`story: ${name.replace(".txt", "").replaceAll("-", " ")}`, () => {
    const path = join(folder, name);
    const script = readFileSync(path, "utf8");
    const told = retell(script);
    if (process.env["REWRITE"] === "1") writeFileSync(path, told);
    else expect(told).toBe(script);
  });
}

test("there are stories", () => {
  expect(files.length).toBeGreaterThanOrEqual(12);
});
