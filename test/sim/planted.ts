/**
 * Planted bugs: classic mistakes, each a small change of a source file that is made while the file is loaded. So
 * production code has no switches for them, and a snippet that moved is noticed: it must be there exactly once.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { plugin } from "bun";
import { plantedBugs } from "./planted-bugs";

export interface PlantedBug {
  readonly name: string;
  /** What goes wrong, in a few words. */
  readonly what: string;
  readonly patches: readonly { readonly file: string; readonly find: string; readonly replace: string }[];
}

const root = join(import.meta.dir, "..", "..");

/** The text of a file with the bug in it; throws when the snippet is not there exactly once. */
export function patched(text: string, { file, find, replace }: PlantedBug["patches"][number]): string {
  const at = text.indexOf(find);
  if (at === -1) throw new Error(`${file} has no ${JSON.stringify(find)} to replace`);
  if (text.includes(find, at + 1)) throw new Error(`${file} has ${JSON.stringify(find)} more than once`);
  return text.slice(0, at) + replace + text.slice(at + find.length);
}

/** The files that a bug changes, with their changed texts. */
export function changedFiles(bug: PlantedBug): Map<string, string> {
  const texts = new Map<string, string>();
  for (const patch of bug.patches) {
    const path = join(root, patch.file);
    texts.set(path, patched(texts.get(path) ?? readFileSync(path, "utf8"), patch));
  }
  return texts;
}

/** The changed texts of a bug's files; throws when there is no such bug, or a snippet of it has moved. */
export function changesOf(name: string): Map<string, string> {
  const bug = plantedBugs.find((one) => one.name === name);
  if (bug === undefined) throw new Error(`no bug is called ${JSON.stringify(name)}`);
  return changedFiles(bug);
}

/** From now on, whoever loads the files of this bug gets them with it. */
export function plant(name: string): void {
  const texts = changesOf(name);
  plugin({
    name: `planted bug: ${name}`,
    setup(build) {
      build.onLoad({ filter: /\/src\/.*\.ts$/ }, ({ path }) => ({
        contents: texts.get(path) ?? readFileSync(path, "utf8"),
        loader: "ts",
      }));
    },
  });
}
