import { describe, expect, test } from "bun:test";
import { Jobs } from "./jobs";
import { adviceFor, previewOf } from "./overview";

/** Work that a test ends by hand. */
function byHand() {
  const { promise, resolve, reject } = Promise.withResolvers<unknown>();
  return { promise, resolve, reject };
}
const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe("jobs", () => {
  test("tell their progress and their end", async () => {
    let nowMs = 1_000;
    const jobs = new Jobs("p", () => nowMs++);
    const work = byHand();
    const { id } = jobs.start("copy", (context) => {
      context.progress(3, 10);
      return work.promise;
    });
    expect(jobs.get(id)).toMatchObject({
      kind: "copy",
      state: "running",
      done: 3,
      total: 10,
      startedAtMs: 1_000,
    });
    work.resolve({ bytes: 10 });
    await settle();
    expect(jobs.get(id)).toMatchObject({ state: "done", result: { bytes: 10 }, endedAtMs: 1_001 });
    const failing = jobs.start("copy", () => Promise.reject(new Error("no room")));
    await settle();
    expect(jobs.get(failing.id)).toMatchObject({ state: "failed", error: "no room" });
    expect(jobs.list().map((job) => job.id)).toEqual([failing.id, id]);
    expect(jobs.get("other")).toBeUndefined();
  });

  test("that are given up say so, unless they came to their end all the same", async () => {
    const jobs = new Jobs("p", () => 0);
    const [obeys, finishes] = [byHand(), byHand()];
    const first = jobs.start("a", async (context) => {
      await obeys.promise;
      if (context.canceled) throw new Error("given up");
    });
    const second = jobs.start("b", () => finishes.promise);
    jobs.cancel(first.id);
    jobs.cancel(second.id);
    obeys.resolve(undefined);
    finishes.resolve("result");
    await settle();
    expect(jobs.get(first.id)?.state).toBe("canceled");
    expect(jobs.get(second.id)).toMatchObject({ state: "done", result: "result" });
    expect(jobs.cancel(second.id)?.state).toBe("done");
    expect(jobs.cancel("none")).toBeUndefined();
  });

  test("are bounded: a fifth waits for nobody, and old ones are forgotten", async () => {
    const jobs = new Jobs("p", () => 0);
    const works = Array.from({ length: 4 }, byHand);
    const [first] = works.map(({ promise }) => jobs.start("x", () => promise));
    expect(() => jobs.start("x", () => Promise.resolve())).toThrow("4 jobs are running already");
    for (const { resolve } of works) resolve(undefined);
    await settle();
    for (let at = 0; at < 300; at++) {
      jobs.start("y", () => Promise.resolve());
      await settle();
    }
    expect(jobs.list().length).toBeLessThanOrEqual(257);
    expect(jobs.get(first!.id)).toBeUndefined();
  });
});

describe("a change of membership that is thought about", () => {
  const members = [1n, 2n, 3n].map((ID) => ({ ID, isLearner: false }));
  const learner = { ID: 4n, isLearner: true };
  const all = new Set([1n, 2n, 3n, 4n]);

  test("shows the quorum before and after", () => {
    const added = previewOf({ kind: "add", learner: false }, members, all);
    expect(added.before).toMatchObject({ quorum: 2, spare: 1 });
    expect(added.after).toMatchObject({ quorum: 3, spare: 0, voters: expect.arrayContaining(["new"]) });
    expect(added.needed).toHaveLength(3);
    expect(previewOf({ kind: "add", learner: true }, members, all)).toMatchObject({
      after: { quorum: 2, spare: 1 },
      problems: [],
    });
    expect(previewOf({ kind: "promote", id: 4n }, [...members, learner], all).after).toMatchObject({
      quorum: 3,
      spare: 1,
    });
  });

  test("and what would break", () => {
    const twoAnswer = new Set([1n, 2n]);
    expect(previewOf({ kind: "remove", id: 1n }, members, twoAnswer).problems.join()).toContain(
      "writes would stop",
    );
    expect(previewOf({ kind: "remove", id: 3n }, members, twoAnswer).after).toMatchObject({
      quorum: 2,
      spare: 0,
    });
    expect(previewOf({ kind: "add", learner: false }, members, twoAnswer).after.spare).toBe(-1);
    expect(previewOf({ kind: "remove", id: 9n }, members, all).problems.join()).toContain("no member");
    expect(previewOf({ kind: "promote", id: 1n }, members, all).problems.join()).toContain("votes already");
    expect(
      previewOf({ kind: "promote", id: 4n }, [...members, learner], new Set([1n, 2n, 3n])).problems.join(),
    ).toContain("does not answer");
    expect(previewOf({ kind: "remove", id: 1n }, [members[0]!], all).problems.join()).toContain("No voter");
  });

  test("and what to do where the leader would refuse", () => {
    const named = [1n, 2n, 3n].map((ID) => ({ ID, name: `m${ID}`, isLearner: false }));
    const twoAnswer = new Set([1n, 2n]);
    expect(adviceFor("unhealthy", "add", named, twoAnswer)).toContain("Remove m3 first");
    expect(adviceFor("unhealthy", "remove", named, twoAnswer)).toContain("Bring m3 back, or remove it first");
    expect(adviceFor("unhealthy", "add", named, all)).toContain("wait a moment");
    const unstarted = [...named, { ID: 4n, name: "", isLearner: false }];
    expect(adviceFor("memberNotEnoughStarted", "add", unstarted, all)).toContain(
      "Start 0000000000000004 first",
    );
    expect(adviceFor("memberNotEnoughStarted", "remove", named.slice(0, 1), all)).toContain("The last voter");
    const second = [...named, { ID: 4n, name: "l", isLearner: true }];
    expect(adviceFor("tooManyLearners", "add", second, all)).toContain("Promote or remove l first");
  });
});
