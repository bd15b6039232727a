import { expect, test } from "bun:test";
import { Gate } from "./gate";

test("no more tasks run than allowed, in order, and a failing one gives its place on", async () => {
  const gate = new Gate(2);
  const started: number[] = [];
  const finish: (() => void)[] = [];
  const tasks = [0, 1, 2, 3].map((id) =>
    gate.pass(async () => {
      started.push(id);
      await new Promise<void>((resolve) => finish.push(resolve));
      if (id === 0) throw new Error("failed");
      return id;
    }),
  );
  await Promise.resolve();
  expect(started).toEqual([0, 1]);
  finish[0]!();
  await expect(tasks[0]).rejects.toThrow("failed");
  await Promise.resolve();
  expect(started).toEqual([0, 1, 2]);
  finish[1]!();
  finish[2]!();
  await Promise.all([tasks[1], tasks[2]]);
  await Promise.resolve();
  finish[3]!();
  expect(await tasks[3]).toBe(3);
});
