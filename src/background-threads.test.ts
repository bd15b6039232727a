import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { startBackgroundThreads, type ThreadPorts } from "./background-threads";

function world(
  threads: Map<number, string>,
): ThreadPorts & { look(): void; readonly scheduled: number[]; readonly served: number[][] } {
  let again = (): void => {};
  const scheduled: number[] = [];
  const served: number[][] = [];
  return {
    own: 1,
    nice: () => 3,
    list: () => [...threads.keys()],
    name(thread) {
      const name = threads.get(thread)!;
      if (name === "ended") throw new Error("ESRCH");
      return name;
    },
    schedule: (thread, { nice, sliceNs }) => {
      if (thread === 1 || thread === 5) served.push([thread, nice, sliceNs]);
      else {
        expect([nice, sliceNs]).toEqual([10, 50_000_000]);
        scheduled.push(thread);
      }
    },
    every: (_intervalMs, work) => {
      again = work;
      return () => {};
    },
    look: () => again(),
    scheduled,
    served,
  };
}

test("compilers and cleaners give way, each once, and those that come later too", () => {
  const threads = new Map([
    [1, "keelson"],
    [2, "JITWorker"],
    [3, "HeapHelper"],
    [4, "mi-scavenger"],
    [5, "Bun Pool 0"],
    [6, "ended"],
  ]);
  const ports = world(threads);
  startBackgroundThreads(ports);
  expect(ports.scheduled).toEqual([2, 4]);
  threads.set(7, "JITWorker");
  ports.look();
  ports.look();
  expect(ports.scheduled).toEqual([2, 4, 7]);
  // The number of a thread that ended comes back as another one.
  threads.delete(2);
  ports.look();
  threads.set(2, "JITWorker");
  ports.look();
  expect(ports.scheduled).toEqual([2, 4, 7, 2]);
  // A thread that was met before it had given itself its name.
  threads.set(8, "keelson");
  ports.look();
  threads.set(8, "JITWorker");
  ports.look();
  ports.look();
  expect(ports.scheduled).toEqual([2, 4, 7, 2, 8]);
  // Those that serve keep their priority.
  expect(ports.served).toEqual([
    [1, 3, 500_000],
    [5, 3, 500_000],
  ]);
});

test.if(process.platform === "linux")(
  "the system does so, and leaves the thread that serves alone",
  async () => {
    const nices = (name: string) =>
      readdirSync("/proc/self/task")
        .map((thread) => readFileSync(`/proc/self/task/${thread}/stat`, "latin1"))
        .filter((stat) => stat.includes(`(${name})`))
        .map((stat) => Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[16]));
    const own = Number(
      readFileSync("/proc/thread-self/stat", "latin1")
        .replace(/^.*\) /, "")
        .split(" ")[16],
    );
    // Something to compile.
    let sum = 0;
    for (let round = 0; round < 3_000_000; round++) sum = (sum + Math.imul(round, 31)) | 0;
    expect(sum).not.toBeNaN();
    const stop = startBackgroundThreads();
    // The runtime may start a compiler at any time: the next look finds it.
    const giveWay = () => nices("JITWorker").every((nice) => nice >= 10);
    for (let waits = 0; waits < 100 && (nices("JITWorker").length === 0 || !giveWay()); waits++) {
      await Bun.sleep(50);
    }
    expect(nices("JITWorker").length).toBeGreaterThan(0);
    expect(giveWay()).toBe(true);
    stop();
    expect(
      Number(
        readFileSync("/proc/thread-self/stat", "latin1")
          .replace(/^.*\) /, "")
          .split(" ")[16],
      ),
    ).toBe(own);
  },
);
