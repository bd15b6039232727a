import { describe, expect, test } from "bun:test";
import { SeededRng } from "../../src/rng";
import { type Fate, PowerCutError, SimulatedDisk } from "./disk";

const path = "/d/file";

function filled(length: number, value: number): Uint8Array {
  return new Uint8Array(length).fill(value);
}

/** A disk with one file of ones that is surely there, and one write of twos that is not. */
async function withUnsyncedWrite(seed = 1): Promise<SimulatedDisk> {
  const disk = new SimulatedDisk(new SeededRng(seed));
  const file = disk.open(path, "create");
  file.write(0, filled(2048, 1));
  await file.sync();
  disk.syncDirectory("/d");
  file.write(100, filled(1500, 2));
  return disk;
}

describe("a power cut", () => {
  test("spares what was synced, whatever becomes of the rest", async () => {
    for (let seed = 1; seed <= 100; seed++) {
      const disk = await withUnsyncedWrite(seed);
      disk.cutPower();
      disk.restart();
      const content = disk.content(path);
      expect(content).toHaveLength(2048);
      expect(content.subarray(0, 100)).toEqual(filled(100, 1));
      expect(content.subarray(1600)).toEqual(filled(448, 1));
    }
  });

  test.each([
    ["kept", [2, 2]],
    ["dropped", [1, 1]],
  ] as const)("can leave an unsynced write %s", async (fate, [first, last]) => {
    const disk = await withUnsyncedWrite();
    disk.cutPower();
    disk.restart(() => fate);
    expect([disk.content(path)[100], disk.content(path)[1599]]).toEqual([first, last]);
  });

  test("can tear an unsynced write at a sector, with old bytes or with noise", async () => {
    const seen = new Set<string>();
    for (let seed = 1; seed <= 60; seed++) {
      for (const fate of ["torn-old", "torn-random"] satisfies Fate[]) {
        const disk = await withUnsyncedWrite(seed);
        disk.cutPower();
        disk.restart(() => fate);
        const written = disk.content(path).subarray(100, 1600);
        const changes: number[] = [];
        for (let i = 1; i < written.length; i++) {
          if ((written[i] === 2) !== (written[i - 1] === 2)) changes.push(i + 100);
        }
        if (fate === "torn-old") {
          expect(changes.length).toBeLessThanOrEqual(1);
          for (const at of changes) expect(at % 512).toBe(0);
          seen.add(changes.length === 0 ? "old whole" : written[0] === 2 ? "old behind" : "old before");
        } else if (changes.length > 1) {
          seen.add("noise");
        }
      }
    }
    expect(seen).toEqual(new Set(["old whole", "old behind", "old before", "noise"]));
  });

  test("keeps no order among unsynced writes", async () => {
    const values = new Set<number>();
    for (let seed = 1; seed <= 50; seed++) {
      const disk = await withUnsyncedWrite(seed);
      disk.open(path, "open").write(100, filled(1500, 3));
      disk.cutPower();
      disk.restart(() => "kept");
      values.add(disk.content(path)[100]!);
    }
    expect(values).toEqual(new Set([2, 3]));
  });

  test("may take names that were not synced with their directory, and bring removed ones back", async () => {
    const outcomes = new Set<string>();
    for (let seed = 1; seed <= 60; seed++) {
      const disk = await withUnsyncedWrite(seed);
      disk.open("/d/new", "create");
      disk.rename(path, "/d/renamed");
      disk.cutPower();
      disk.restart();
      outcomes.add(disk.list("/d").join());
    }
    expect(outcomes).toEqual(new Set(["file", "file,new", "renamed", "new,renamed"]));
  });

  test("spares names that were synced with their directory", async () => {
    const disk = await withUnsyncedWrite();
    disk.rename(path, "/d/renamed");
    disk.syncDirectory("/d");
    disk.cutPower();
    disk.restart(() => "dropped");
    expect(disk.list("/d")).toEqual(["renamed"]);
  });

  test("comes at the operation asked for, ends running syncs, and kills handles for good", async () => {
    const disk = new SimulatedDisk(new SeededRng(1), { manualSync: true });
    const file = disk.open(path, "create");
    const sync = file.sync();
    disk.cutPowerAfter(2);
    file.write(0, filled(1, 1));
    expect(() => file.write(0, filled(1, 1))).toThrow(PowerCutError);
    expect(sync).rejects.toThrow(PowerCutError);
    expect(disk.isCut).toBe(true);
    expect(() => disk.open("/d/x", "create")).toThrow(PowerCutError);
    disk.restart();
    expect(() => file.write(0, filled(1, 1))).toThrow(PowerCutError);
    disk.open("/d/x", "create");
  });

  test("has the same outcome for the same seed and calls", async () => {
    const run = async () => {
      const disk = await withUnsyncedWrite(99);
      disk.open("/d/new", "create").write(0, filled(3000, 5));
      disk.cutPower();
      disk.restart();
      return disk.list("/d").map((name) => [name, Bun.hash.xxHash64(disk.content(`/d/${name}`))]);
    };
    expect(await run()).toEqual(await run());
  });
});

describe("a kill of the process alone", () => {
  test("loses nothing that was written", async () => {
    const disk = await withUnsyncedWrite();
    disk.restart();
    expect(disk.content(path)[100]).toBe(2);
  });
});

describe("syncs", () => {
  test("cover what was written before they began, and complete when told", async () => {
    const disk = new SimulatedDisk(new SeededRng(1), { manualSync: true });
    const file = disk.open(path, "create");
    disk.syncDirectory("/d");
    file.write(0, filled(10, 1));
    const sync = file.sync();
    file.write(10, filled(10, 2));
    expect(disk.runningSyncs).toBe(1);
    expect(disk.completeSync()).toBe(true);
    expect(disk.completeSync()).toBe(false);
    await sync;
    disk.cutPower();
    disk.restart(() => "dropped");
    expect(disk.content(path)).toEqual(filled(10, 1));
  });

  test("that fail lose their bytes at the next power cut, though a later sync succeeds", async () => {
    const disk = await withUnsyncedWrite();
    const file = disk.open(path, "open");
    disk.failSyncs(1);
    expect(file.sync()).rejects.toThrow(/EIO/);
    await file.sync();
    expect(disk.content(path)[100]).toBe(2);
    disk.cutPower();
    disk.restart(() => "kept");
    expect(disk.content(path)[100]).toBe(1);
  });
});

describe("a full disk", () => {
  test("refuses growth, leaves the part of a write that fitted, and goes on when there is room", () => {
    const disk = new SimulatedDisk(new SeededRng(1), { budgetBytes: 100 });
    const file = disk.open(path, "create");
    file.write(0, filled(60, 1));
    expect(() => file.allocate(101)).toThrow(/ENOSPC/);
    expect(() => file.write(60, filled(60, 2))).toThrow(/ENOSPC/);
    expect(file.size()).toBe(100);
    file.write(0, filled(100, 3));
    expect(disk.freeBytes("/d")).toBe(0);
    disk.budgetBytes = 200;
    file.write(60, filled(60, 2));
    expect(file.size()).toBe(120);
  });
});
