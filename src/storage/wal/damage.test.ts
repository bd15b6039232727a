/** Bytes that were on disk once and are not what they were: refused with file, offset and advice, or harmless. */
import { beforeAll, describe, expect, test } from "bun:test";
import type { Entry, HardState } from "../../consensus/types";
import { SeededRng } from "../../rng";
import { SimulatedDisk } from "../../../test/sim/disk";
import { formatVersion, readFrameHeader, viewOf } from "./format";
import { createLog, LogDamagedError, LogVersionError, openLog } from "./log";

const directory = "/data/log";
const identity = { clusterId: 5n, memberId: 6n };
const segmentBytes = 1024;
const lastIndex = 36;

interface Image {
  readonly disk: SimulatedDisk;
  readonly files: readonly string[];
  readonly entries: readonly Entry[];
  readonly hardState: HardState;
}

/** A small log over several segments, all of it acknowledged. */
async function build(end: "closed" | "killed"): Promise<Image> {
  const disk = new SimulatedDisk(new SeededRng(1));
  const log = await createLog({ directory, disk, identity, segmentBytes });
  const entries: Entry[] = [];
  let hardState: HardState = { term: 0, vote: 0n, commit: 0 };
  for (let index = 1; index <= lastIndex; index++) {
    const entry: Entry = { index, term: 2, kind: "command", data: new Uint8Array(40).fill(index) };
    // No commit here: it would give damage away by itself.
    hardState = { term: 2, vote: BigInt(index), commit: 0 };
    await log.append({ entries: [entry], hardState });
    entries.push(entry);
  }
  if (end === "closed") await log.close();
  else disk.restart();
  const files = disk.list(directory).map((name) => `${directory}/${name}`);
  return { disk, files, entries, hardState };
}

type Outcome = "refused" | "harmless";

/** Opens a damaged copy: it has to be refused properly, or to hold exactly what it held. */
async function judge(
  image: Image,
  damage: (disk: SimulatedDisk) => void,
  appliedIndex = 0,
): Promise<Outcome> {
  const disk = image.disk.clone(new SeededRng(2));
  damage(disk);
  let opened;
  try {
    opened = await openLog({ directory, disk, segmentBytes, tailBytesMax: 1e6, appliedIndex });
  } catch (error) {
    if (error instanceof LogVersionError) return "refused";
    if (!(error instanceof LogDamagedError)) throw error;
    expect(error.file).toStartWith(`${directory}/`);
    expect(error.offset).toBeGreaterThanOrEqual(0);
    expect(error.message).toContain(`${error.file} at byte ${error.offset}`);
    expect(error.message).toContain("remove this member and add it again");
    return "refused";
  }
  const { recovered } = opened;
  if (recovered.lastIndex !== lastIndex || !Bun.deepEquals(recovered.hardState, image.hardState)) {
    throw new Error(`acknowledged writes are gone silently: the log ends at ${recovered.lastIndex}`);
  }
  expect(recovered.tail).toEqual([...image.entries]);
  return "harmless";
}

/** Bytes in use in a file: behind them is preallocated space. */
function usedBytes(disk: SimulatedDisk, file: string): number {
  return disk.content(file).findLastIndex((byte) => byte !== 0) + 1;
}

for (const end of ["closed", "killed"] as const) {
  describe(`[P20] damage to a log that was ${end}`, () => {
    let image: Image;
    beforeAll(async () => {
      image = await build(end);
    });

    test("has an image worth damaging", async () => {
      expect(image.files.length).toBeGreaterThanOrEqual(5);
      expect(await judge(image, () => {})).toBe("harmless");
    });

    test("a flipped bit is refused wherever it hits, or is harmless", async () => {
      const outcomes = { refused: 0, harmless: 0 };
      const rng = new SeededRng(3);
      for (const file of image.files) {
        for (let offset = 0; offset < image.disk.content(file).length; offset++) {
          const outcome = await judge(image, (disk) => disk.flipBit(file, offset, rng.below(8)));
          outcomes[outcome]++;
        }
      }
      const used = image.files.reduce((sum, file) => sum + usedBytes(image.disk, file), 0);
      // Harmless is only what holds no data: slots, the last marker, and space that is not in use yet.
      expect(outcomes.refused).toBeGreaterThan(used * 0.8);
      expect(outcomes.harmless).toBeGreaterThan(0);
    });

    test("a file cut short is refused at whatever length, and so is a missing one", async () => {
      for (const file of image.files) {
        const isSpare = usedBytes(image.disk, file) === 0;
        for (let size = 0; size < usedBytes(image.disk, file); size += 7) {
          expect(await judge(image, (disk) => disk.damage(file, (content) => content.slice(0, size)))).toBe(
            "refused",
          );
        }
        if (!isSpare && file !== image.files[0]) {
          const isNewest = image.files.every((other) => other <= file || usedBytes(image.disk, other) === 0);
          const opening = judge(image, (disk) => disk.remove(file));
          // Without commit or applied index, nothing tells that a whole newest segment ever was.
          if (!isNewest) expect(await opening).toBe("refused");
          else await opening.catch(() => {});
        }
      }
    });

    test("a sector of zeros is refused, or is harmless", async () => {
      let refused = 0;
      for (const file of image.files) {
        for (let offset = 0; offset < image.disk.content(file).length; offset += 512) {
          const zeroed = judge(image, (disk) =>
            disk.damage(file, (content) => void content.fill(0, offset, offset + 512)),
          );
          const isLast = offset + 512 >= usedBytes(image.disk, file);
          if (end === "killed" && isLast) {
            // The frames and the marker that vouches for them went together: only the state can tell, below.
            if ((await zeroed.catch(() => "lost")) === "refused") refused++;
          } else if ((await zeroed) === "refused") refused++;
        }
      }
      expect(refused).toBeGreaterThanOrEqual(image.files.length);
    });

    test("a sector written to the wrong place is refused, or is harmless", async () => {
      let refused = 0;
      for (const from of image.files) {
        for (const to of image.files) {
          for (const [source, target] of [
            [0, 0],
            [0, 512],
            [512, 0],
            [512, 512],
          ] as const) {
            if (from === to && source === target) continue;
            const outcome = await judge(
              image,
              (disk) => {
                const sector = disk.content(from).slice(source, source + 512);
                disk.damage(to, (content) => void content.set(sector, target));
              },
              // The state's applied index is what vouches for the last sector of a killed log.
              end === "killed" ? lastIndex : 0,
            );
            if (outcome === "refused") refused++;
          }
        }
      }
      expect(refused).toBeGreaterThan(image.files.length);
    });

    test("segments that changed places are refused", async () => {
      const [first, second] = [image.files[1]!, image.files[2]!];
      const swap = (disk: SimulatedDisk) => {
        const one = disk.content(first).slice();
        const other = disk.content(second).slice();
        disk.damage(first, () => other);
        disk.damage(second, () => one);
      };
      expect(await judge(image, swap)).toBe("refused");
    });
  });
}

describe("[P20] a log that does not reach far enough", () => {
  const data = new Uint8Array(10);
  const entriesTo = (last: number): Entry[] =>
    Array.from({ length: last }, (_, i) => ({ index: i + 1, term: 1, kind: "command", data }));

  async function openWith(appliedIndex: number, prepare: (disk: SimulatedDisk) => Promise<void>) {
    const disk = new SimulatedDisk(new SeededRng(4));
    await prepare(disk);
    return openLog({ directory, disk, segmentBytes, tailBytesMax: 1e6, appliedIndex });
  }

  test("to the applied index is refused", async () => {
    const opening = openWith(6, async (disk) => {
      const log = await createLog({ directory, disk, identity, segmentBytes });
      await log.append({ entries: entriesTo(5) });
      await log.close();
    });
    expect(opening).rejects.toThrow(/ends at entry 5, but the state has applied entry 6/);
    await opening.catch(() => {});
  });

  test("back to the applied index is refused, unless a snapshot waits to be installed", async () => {
    const snapshot = {
      index: 50,
      term: 3,
      configuration: { voters: [6n], learners: [] },
      digest: new Uint8Array(4),
    };
    const prepare = (withSnapshot: boolean) => async (disk: SimulatedDisk) => {
      const log = await createLog({ directory, disk, identity, segmentBytes });
      await log.append({ entries: entriesTo(5) });
      if (withSnapshot) await log.append({ entries: [], snapshot });
      else {
        for (let index = 6; index < 80; index++) {
          await log.append({ entries: [{ index, term: 1, kind: "command", data }] });
        }
        await log.cut(70);
      }
      await log.close();
    };
    expect((await openWith(5, prepare(true))).recovered.snapshot).toEqual(snapshot);
    const opening = openWith(5, prepare(false));
    expect(opening).rejects.toThrow(/begins behind entry \d+, but the state has only applied entry 5/);
    await opening.catch(() => {});
  });
});

describe("a log of a newer format", () => {
  test("is refused with advice, and left as it is", async () => {
    const image = await build("closed");
    const file = image.files[0]!;
    image.disk.damage(file, (content) => {
      content[4] = formatVersion + 1;
      viewOf(content).setUint32(56, Bun.hash.crc32(content.subarray(0, 56)), true);
    });
    expect(readFrameHeader(image.disk.content(file), viewOf(image.disk.content(file)), 0)?.version).toBe(
      formatVersion + 1,
    );
    const before = image.disk.content(file);
    const opening = openLog({ directory, disk: image.disk, segmentBytes, tailBytesMax: 1, appliedIndex: 0 });
    expect(opening).rejects.toThrow(/format version 2 .*start the version that wrote it/);
    expect(opening).rejects.toThrow(LogVersionError);
    await opening.catch(() => {});
    expect(image.disk.content(file)).toEqual(before);
  });
});

describe("a record that rots while the member runs", () => {
  test("is noticed when it is read", async () => {
    const disk = new SimulatedDisk(new SeededRng(1));
    const log = await createLog({ directory, disk, identity, segmentBytes: 65_536 });
    await log.append({
      entries: [{ index: 1, term: 1, kind: "command", data: new Uint8Array(300).fill(7) }],
    });
    const file = `${directory}/${disk.list(directory)[0]}`;
    disk.flipBit(file, disk.content(file).indexOf(7) + 100, 3);
    expect(() => log.read(1, 2, 1000)).toThrow(LogDamagedError);
  });
});
