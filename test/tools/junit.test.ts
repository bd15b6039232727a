import { expect, test } from "bun:test";
import { addTally, emptyTally, tallyOf } from "./junit";

const report = `<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="bun test" tests="4" failures="2" skipped="1">
  <testsuite name="a.test.ts" file="a.test.ts">
    <testcase name="holds" classname="" time="0.1" file="a.test.ts" line="2" />
    <testcase name="is &lt;small&gt;" classname="a group" time="0.1" file="a.test.ts" line="3">
      <failure type="AssertionError" message="first line">AssertionError: 1 &gt; 2&#10;&#10;      at a.test.ts:3:71&#10;</failure>
    </testcase>
    <testcase name="waits" classname="" time="0.1" file="a.test.ts" line="4">
      <failure type="TimeoutError" message="test timed out" />
    </testcase>
    <testcase name="is for later" classname="" time="0" file="a.test.ts" line="5">
      <skipped />
    </testcase>
  </testsuite>
</testsuites>`;

test("a report is summed, and its failures say where, which and what", () => {
  expect(tallyOf(report)).toEqual({
    passed: 1,
    failed: 2,
    skipped: 1,
    failures: [
      "a.test.ts: a group > is <small>\nAssertionError: 1 > 2\n\n      at a.test.ts:3:71",
      "a.test.ts: waits\ntest timed out",
    ],
  });
});

test("groups add up", () => {
  const total = emptyTally();
  addTally(total, tallyOf(report));
  addTally(total, tallyOf(report));
  expect([total.passed, total.failed, total.skipped, total.failures.length]).toEqual([2, 4, 2, 4]);
});
