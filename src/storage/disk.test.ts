import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SimulatedDisk } from "../../test/sim/disk";
import type { Disk } from "../member/ports";
import { SeededRng } from "../rng";
import { systemDisk } from "./disk";

const root = mkdtempSync(join(tmpdir(), "keelson-disk-"));
afterAll(() => rmSync(root, { recursive: true }));
let count = 0;

/** What storage relies on, whatever is below. */
function registerDiskContract(name: string, make: () => Disk): void {
  describe(name, () => {
    let disk: Disk;
    let directory: string;
    beforeEach(() => {
      disk = make();
      directory = join(root, `d${count++}`);
      disk.makeDirectory(directory);
    });

    test("what is written is read back, at any offset, and ends where the file ends", async () => {
      const file = disk.open(`${directory}/a`, "create");
      file.write(3, Uint8Array.of(1, 2, 3));
      expect([...file.read(0, 100)]).toEqual([0, 0, 0, 1, 2, 3]);
      expect([...file.read(4, 1)]).toEqual([2]);
      expect(file.read(6, 5)).toHaveLength(0);
      expect(file.read(60, 5)).toHaveLength(0);
      await file.sync();
      file.truncate(4);
      expect(file.size()).toBe(4);
      file.close();
      expect([...disk.open(`${directory}/a`, "read").read(0, 9)]).toEqual([0, 0, 0, 1]);
    });

    test("a buffer may be reused as soon as it was written", () => {
      const file = disk.open(`${directory}/a`, "create");
      const buffer = Uint8Array.of(1, 2, 3, 4);
      file.write(0, buffer.subarray(1, 3));
      buffer.fill(9);
      expect([...file.read(0, 9)]).toEqual([2, 3]);
      file.close();
    });

    test("allocation grows the file with zeros, keeps content and never shrinks it", () => {
      const file = disk.open(`${directory}/a`, "create");
      file.write(0, Uint8Array.of(7));
      file.allocate(10_000);
      expect(file.size()).toBe(10_000);
      file.allocate(10);
      expect(file.size()).toBe(10_000);
      const content = file.read(0, 20_000);
      expect(content).toHaveLength(10_000);
      expect([content[0], content[1], content[9999]]).toEqual([7, 0, 0]);
      file.close();
    });

    test("creating needs absence, and opening needs presence", () => {
      expect(() => disk.open(`${directory}/a`, "open")).toThrow(/ENOENT/);
      expect(() => disk.open(`${directory}/a`, "read")).toThrow(/ENOENT/);
      disk.open(`${directory}/a`, "create").close();
      expect(() => disk.open(`${directory}/a`, "create")).toThrow(/EEXIST/);
      disk.open(`${directory}/a`, "open").close();
    });

    test("names are listed sorted, and follow renames (onto a present file, too) and removals", () => {
      expect(disk.list(`${directory}/absent`)).toEqual([]);
      for (const name of ["c", "a", "b"]) {
        const file = disk.open(`${directory}/${name}`, "create");
        file.write(0, new TextEncoder().encode(name));
        file.close();
      }
      expect(disk.list(directory)).toEqual(["a", "b", "c"]);
      disk.rename(`${directory}/c`, `${directory}/a`);
      disk.remove(`${directory}/b`);
      disk.syncDirectory(directory);
      expect(disk.list(directory)).toEqual(["a"]);
      expect(new TextDecoder().decode(disk.open(`${directory}/a`, "read").read(0, 9))).toBe("c");
      expect(() => disk.remove(`${directory}/b`)).toThrow(/ENOENT/);
      disk.makeDirectory(directory);
      expect(disk.freeBytes(directory)).toBeGreaterThan(0);
    });
  });
}

registerDiskContract("the real disk", systemDisk);
registerDiskContract("the simulated disk", () => new SimulatedDisk(new SeededRng(1)));

test("a real disk that is full says ENOSPC when space is reserved", () => {
  const shm = "/dev/shm";
  const disk = systemDisk();
  const directory = mkdtempSync(join(shm, "keelson-full-"));
  try {
    mkdirSync(directory, { recursive: true });
    const file = disk.open(`${directory}/a`, "create");
    expect(() => file.allocate(disk.freeBytes(directory) * 4 + 2 ** 40)).toThrow(/ENOSPC|EFBIG/);
    file.close();
  } finally {
    rmSync(directory, { recursive: true });
  }
});
