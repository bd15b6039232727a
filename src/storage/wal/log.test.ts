import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Disk } from "../../member/ports";
import { SeededRng } from "../../rng";
import { SimulatedDisk } from "../../../test/sim/disk";
import type { Entry } from "../../consensus/types";
import { systemDisk } from "../disk";
import { wrapSyncs } from "../disk-wrap";
import { createLog, logExists, LogClosedError, openLog } from "./log";
import type { DurableLog, LogBatch } from "./types";

const identity = { clusterId: 0xfedc_ba98_7654_3210n, memberId: 2n ** 64n - 1n };
const root = mkdtempSync(join(tmpdir(), "keelson-log-"));
afterAll(() => rmSync(root, { recursive: true }));
let count = 0;

function entry(index: number, term = 1, size = 20): Entry {
  return { index, term, kind: "command", data: new Uint8Array(size).fill(index) };
}

function entries(from: number, to: number, term = 1, size = 20): Entry[] {
  return Array.from({ length: to - from + 1 }, (_, i) => entry(from + i, term, size));
}

const snapshotAt = (index: number, term: number): NonNullable<LogBatch["snapshot"]> => ({
  index,
  term,
  configuration: { voters: [1n, 2n ** 63n], learners: [7n] },
  digest: new Uint8Array(32).fill(9),
});

/** What every log promises, on the real disk and on the simulated one. */
function registerLogContract(name: string, makeDisk: () => Disk): void {
  describe(name, () => {
    let disk: Disk;
    let directory: string;
    beforeEach(() => {
      disk = makeDisk();
      directory = join(root, `log-${count++}`);
    });
    const create = (segmentBytes = 4096) => createLog({ directory, disk, identity, segmentBytes });
    const reopen = async (log: DurableLog | undefined, appliedIndex = 0, tailBytesMax = 1e6) => {
      await log?.close();
      return openLog({ directory, disk, segmentBytes: 4096, tailBytesMax, appliedIndex });
    };

    test("no directory is synced on the event loop while the log is at work, and each before it counts", async () => {
      await (await create()).close();
      const synced: string[] = [];
      const watched: Disk = {
        ...wrapSyncs(disk, (sync) => sync()),
        syncDirectory: () => synced.push("at once"),
        syncDirectoryLater: (path) => disk.syncDirectoryLater(path).then(() => void synced.push(path)),
      };
      const { log } = await openLog({
        directory,
        disk: watched,
        segmentBytes: 4096,
        tailBytesMax: 1,
        appliedIndex: 0,
      });
      synced.length = 0;
      for (let i = 0; i < 6; i++) await log.append({ entries: entries(10 * i + 1, 10 * i + 10, 1, 200) });
      const made = synced.length;
      expect(made).toBeGreaterThanOrEqual(3);
      await log.cut(50);
      expect(synced.length).toBeGreaterThan(made);
      expect(new Set(synced)).toEqual(new Set([directory]));
      await log.close();
    });

    test("a new log is empty, and opens as whose it is", async () => {
      expect(logExists(directory, disk)).toBe(false);
      const log = await create();
      expect(logExists(directory, disk)).toBe(true);
      expect([log.firstIndex, log.lastIndex, log.term(0)]).toEqual([1, 0, 0]);
      expect(log.read(1, 10, 100)).toEqual([]);
      const { recovered } = await reopen(log);
      expect(recovered).toEqual({
        identity,
        hardState: { term: 0, vote: 0n, commit: 0 },
        start: { index: 0, term: 0 },
        tail: [],
        lastIndex: 0,
        snapshot: undefined,
        repaired: undefined,
      });
    });

    test("a second log is not begun over the first", async () => {
      await (await create()).close();
      expect(create()).rejects.toThrow(/already/);
    });

    test("entries and hard state come back after a reopen, of every kind and size", async () => {
      const log = await create();
      const written: Entry[] = [
        entry(1, 1, 0),
        { index: 2, term: 3, kind: "configuration", data: Uint8Array.of(0, 255) },
        entry(3, 3, 100_000),
        entry(4, 2 ** 40, 7),
      ];
      const hardState = { term: 2 ** 40, vote: 2n ** 64n - 1n, commit: 4 };
      await log.append({ entries: written, hardState });
      const { log: again, recovered } = await reopen(log);
      expect(recovered.tail).toEqual(written);
      expect(recovered.hardState).toEqual(hardState);
      expect(again.read(1, 5, 1e9)).toEqual(written);
      expect([1, 2, 3, 4, 5].map((index) => again.term(index))).toEqual([1, 3, 3, 2 ** 40, undefined]);
    });

    test("entries overwrite the log from their first index on", async () => {
      const log = await create();
      await log.append({ entries: entries(1, 40) });
      await log.append({ entries: entries(20, 22, 2) });
      const expected = [...entries(1, 19), ...entries(20, 22, 2)];
      expect(log.lastIndex).toBe(22);
      expect(log.read(1, 100, 1e9)).toEqual(expected);
      const { log: again, recovered } = await reopen(log);
      expect(recovered.tail).toEqual(expected);
      expect([19, 20, 23].map((index) => again.term(index))).toEqual([1, 2, undefined]);
    });

    test("what is appended can be read at once, written or not, with overwrites among it", async () => {
      const log = await create();
      const waits = [
        log.append({ entries: entries(1, 10) }),
        log.append({ entries: entries(5, 6, 2) }),
        log.append({ entries: entries(3, 3, 3) }),
        log.append({ entries: entries(4, 8, 4) }),
      ];
      const expected = [...entries(1, 2), entry(3, 3), ...entries(4, 8, 4)];
      expect(log.lastIndex).toBe(8);
      expect(log.read(1, 9, 1e9)).toEqual(expected);
      expect(log.term(3)).toBe(3);
      await Promise.all(waits);
      expect(log.read(1, 9, 1e9)).toEqual(expected);
      expect((await reopen(log)).recovered.tail).toEqual(expected);
    });

    test("a read stops at about the bytes asked for, but gives one entry at least", async () => {
      const log = await create(1 << 20);
      await log.append({ entries: entries(1, 2000, 1, 100) });
      expect(log.read(1, 2001, 1)).toHaveLength(1);
      expect(log.read(500, 2001, 1000)).toEqual(entries(500, 509, 1, 100));
      expect(log.read(1990, 5000, 1e9)).toHaveLength(11);
    });

    test("the recovered tail fits into the bytes asked for", async () => {
      const log = await create();
      await log.append({ entries: entries(1, 300, 1, 100) });
      const { recovered } = await reopen(log, 0, 5000);
      expect(recovered.tail.at(-1)).toEqual(entry(300, 1, 100));
      expect(recovered.tail.length).toBeGreaterThan(30);
      expect(recovered.tail.length).toBeLessThan(50);
    });

    test("a batch larger than a segment is written all the same", async () => {
      const log = await create();
      await log.append({ entries: entries(1, 3, 1, 10_000) });
      await log.append({ entries: entries(4, 6, 1, 10_000) });
      await log.append({ entries: entries(7, 7) });
      const { recovered } = await reopen(log);
      expect(recovered.tail).toEqual([...entries(1, 6, 1, 10_000), entry(7)]);
    });

    test("a cut removes whole segments, and the rest starts where it should after a reopen", async () => {
      const log = await create();
      for (let index = 1; index <= 200; index++)
        await log.append({ entries: entries(index, index, index, 100) });
      await log.append({ entries: [], hardState: { term: 200, vote: 5n, commit: 200 } });
      const sizeBefore = log.sizeBytes;
      await log.cut(150);
      expect(log.firstIndex).toBeGreaterThan(100);
      expect(log.firstIndex).toBeLessThanOrEqual(151);
      expect(log.sizeBytes).toBeLessThan(sizeBefore / 2);
      const start = log.firstIndex - 1;
      expect([start - 1, start, start + 1].map((index) => log.term(index))).toEqual([
        undefined,
        start,
        start + 1,
      ]);
      const { log: again, recovered } = await reopen(log, 150);
      expect(recovered.start).toEqual({ index: start, term: start });
      expect(recovered.hardState).toEqual({ term: 200, vote: 5n, commit: 200 });
      expect(again.term(start)).toBe(start);
      expect(again.read(start + 1, 201, 1e9)).toHaveLength(200 - start);
      await again.cut(200);
      await again.append({ entries: entries(201, 201, 201) });
      expect((await reopen(again, 200)).recovered.lastIndex).toBe(201);
    });

    test("a segment whose predecessors' entries it rewrote is not made the first", async () => {
      const log = await create();
      for (let index = 1; index <= 100; index++) await log.append({ entries: entries(index, index, 1, 100) });
      await log.append({ entries: entries(20, 30, 2, 100) });
      for (let index = 31; index <= 60; index++) await log.append({ entries: entries(index, index, 2, 100) });
      await log.cut(40);
      const { log: again, recovered } = await reopen(log, 40);
      expect(recovered.start.index).toBeLessThanOrEqual(40);
      expect(again.read(41, 61, 1e9)).toEqual(entries(41, 60, 2, 100));
      expect(again.term(recovered.start.index)).toBe(recovered.start.index < 20 ? 1 : 2);
    });

    test("a snapshot ahead of the log replaces its entries", async () => {
      const log = await create();
      await log.append({ entries: entries(1, 10) });
      const snapshot = snapshotAt(500, 7);
      await log.append({
        entries: entries(501, 502, 8),
        snapshot,
        hardState: { term: 8, vote: 0n, commit: 502 },
      });
      expect([log.firstIndex, log.lastIndex, log.term(500), log.term(10)]).toEqual([501, 502, 7, undefined]);
      const { log: again, recovered } = await reopen(log, 5);
      expect(recovered.snapshot).toEqual(snapshot);
      expect(recovered.start).toEqual({ index: 500, term: 7 });
      expect(recovered.tail).toEqual(entries(501, 502, 8));
      for (let index = 503; index < 600; index++)
        await again.append({ entries: entries(index, index, 8, 100) });
      const carried = await reopen(again, 5);
      expect(carried.recovered.snapshot).toEqual(snapshot);
      await carried.log.cut(520);
      for (let index = 600; index < 700; index++) {
        await carried.log.append({ entries: entries(index, index, 8, 100) });
      }
      await carried.log.cut(690);
      expect((await reopen(carried.log, 690)).recovered.snapshot).toBeUndefined();
    });

    test("a snapshot that the log agrees with leaves the entries behind it", async () => {
      const log = await create();
      await log.append({ entries: entries(1, 10, 3) });
      await log.append({ entries: [], snapshot: snapshotAt(5, 3) });
      expect([log.firstIndex, log.lastIndex]).toEqual([1, 10]);
      await log.append({ entries: [], snapshot: snapshotAt(6, 4) });
      expect([log.firstIndex, log.lastIndex]).toEqual([7, 6]);
      const { recovered } = await reopen(log, 0);
      expect(recovered.start).toEqual({ index: 6, term: 4 });
      expect(recovered.lastIndex).toBe(6);
    });

    test("batches of one turn share a sync, and batches that arrive during it share the next", async () => {
      let syncs = 0;
      const log = await createLog({
        directory,
        disk,
        identity,
        observer: { synced: () => syncs++ },
      });
      const first = Array.from({ length: 10 }, (_, i) => log.append({ entries: [entry(i + 1)] }));
      await Promise.resolve();
      await Promise.resolve();
      const second = Array.from({ length: 10 }, (_, i) => log.append({ entries: [entry(i + 11)] }));
      await Promise.all([...first, ...second]);
      expect(syncs).toBe(2);
      await log.close();
    });

    test("a gap, or a commit beyond the end, is a broken invariant", async () => {
      const log = await create();
      expect(() => log.append({ entries: [entry(2)] })).toThrow(/does not fit/);
      expect(() => log.append({ entries: [], hardState: { term: 1, vote: 0n, commit: 1 } })).toThrow(
        /commit 1/,
      );
      await log.append({ entries: [entry(1)] });
    });

    test("closing writes what waits, and refuses what comes after", async () => {
      const log = await create();
      const wait = log.append({ entries: entries(1, 5) });
      const closed = log.close();
      expect(log.append({ entries: [entry(6)] })).rejects.toThrow(LogClosedError);
      await Promise.all([wait, closed]);
      expect((await reopen(undefined)).recovered.lastIndex).toBe(5);
    });

    test("a log that is opened again and again without writes stays sound", async () => {
      let log = await create(1024);
      await log.append({ entries: [entry(1)] });
      for (let i = 0; i < 40; i++) {
        await log.close();
        ({ log } = await openLog({
          directory,
          disk,
          segmentBytes: 1024,
          tailBytesMax: 100,
          appliedIndex: 0,
        }));
      }
      await log.append({ entries: entries(2, 30) });
      expect((await reopen(log)).recovered.lastIndex).toBe(30);
    });
  });
}

registerLogContract("on the real disk", systemDisk);
registerLogContract("on the simulated disk", () => new SimulatedDisk(new SeededRng(1)));

test("[P1] a process killed while it writes finds all that it was told is on disk", async () => {
  const directory = join(root, "killed");
  const source = `
    import { systemDisk } from ${JSON.stringify(join(import.meta.dir, "..", "disk.ts"))};
    import { createLog } from ${JSON.stringify(join(import.meta.dir, "log.ts"))};
    const log = await createLog({
      directory: process.argv[1], disk: systemDisk(), identity: { clusterId: 1n, memberId: 2n }, segmentBytes: 65536,
    });
    for (let index = 1; ; index++) {
      await log.append({ entries: [{ index, term: 1, kind: "command", data: new Uint8Array(index % 500).fill(index) }] });
      process.stdout.write(index + "\\n");
    }
  `;
  const child = Bun.spawn([process.execPath, "-e", source, directory], { stdout: "pipe" });
  let told = "";
  for await (const chunk of child.stdout) {
    told += new TextDecoder().decode(chunk);
    if (told.split("\n").length > 500) child.kill("SIGKILL");
  }
  await child.exited;
  const acknowledged = Number(told.split("\n").at(-2));
  expect(acknowledged).toBeGreaterThan(400);
  const { log, recovered } = await openLog({
    directory,
    disk: systemDisk(),
    tailBytesMax: 1e9,
    appliedIndex: 0,
  });
  expect(recovered.lastIndex).toBeGreaterThanOrEqual(acknowledged);
  expect(recovered.tail).toHaveLength(recovered.lastIndex);
  for (const { index, data } of recovered.tail) expect(data).toEqual(new Uint8Array(index % 500).fill(index));
  await log.close();
});
