/** How many cases of a run passed, failed and were skipped, and which failed. */
export interface Tally {
  passed: number;
  failed: number;
  skipped: number;
  /** One text per failed case: where it is, what it is called, and what it said. */
  failures: string[];
}

export function emptyTally(): Tally {
  return { passed: 0, failed: 0, skipped: 0, failures: [] };
}

/** Adds `more` to `total`. */
export function addTally(total: Tally, more: Tally): void {
  total.passed += more.passed;
  total.failed += more.failed;
  total.skipped += more.skipped;
  total.failures.push(...more.failures);
}

const entities: Readonly<Record<string, string>> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" };

function textOf(xml: string): string {
  return xml.replace(/&(?:#(\d+)|#x([0-9a-f]+)|(\w+));/gi, (whole, decimal, hex, name) => {
    if (decimal !== undefined) return String.fromCodePoint(Number(decimal));
    if (hex !== undefined) return String.fromCodePoint(Number.parseInt(hex, 16));
    return entities[name] ?? whole;
  });
}

function attribute(element: string, name: string): string {
  return textOf(new RegExp(`^<\\w+[^>]*\\s${name}="([^"]*)"`).exec(element)?.[1] ?? "");
}

/** Sums the test cases of a JUnit report as `bun test` writes it. */
export function tallyOf(report: string): Tally {
  const tally = emptyTally();
  for (const [testcase] of report.matchAll(/<testcase\b[^>]*?(?:\/>|>[\s\S]*?<\/testcase>)/g)) {
    const failure = /<(?:failure|error)\b[^>]*?(?:\/>|>([\s\S]*?)<\/(?:failure|error)>)/.exec(testcase);
    if (failure !== null) {
      tally.failed++;
      const name = [attribute(testcase, "classname"), attribute(testcase, "name")].filter(
        (part) => part !== "",
      );
      const said = textOf(failure[1] ?? "").trim() || attribute(failure[0], "message");
      tally.failures.push(`${attribute(testcase, "file")}: ${name.join(" > ")}\n${said}`);
    } else if (/<skipped\b/.test(testcase)) {
      tally.skipped++;
    } else {
      tally.passed++;
    }
  }
  return tally;
}
