/**
 * Power is cut at every operation. Whatever the disk makes of the unsynced rest, a restart must find the state
 * after some prefix of the batches that contains every acknowledged one, and the log must serve on from there.
 */
import { describe, expect, test } from "bun:test";
import type { Entry, HardState } from "../../consensus/types";
import type { Disk } from "../../member/ports";
import { SeededRng } from "../../rng";
import { PowerCutError, SimulatedDisk } from "../../../test/sim/disk";
import { wrapSyncs } from "../disk-wrap";
import { createLog, LogFailedError, LogFullError, logExists, openLog } from "./log";
import type { DurableLog, LogBatch, RecoveredLog } from "./types";

const directory = "/data/log";
const identity = { clusterId: 11n, memberId: 22n };
/** Small, so that a few dozen batches pass several segments. */
const segmentBytes = 2048;

const seedsPerCut = Number(process.env["KEELSON_POWER_CUT_SEEDS"] ?? 2);
const randomRuns = Number(process.env["KEELSON_POWER_CUT_RUNS"] ?? 400);

/** What a log holds, by the plainest means. */
interface Content {
  readonly start: number;
  readonly startTerm: number;
  readonly entries: readonly Entry[];
  readonly hardState: HardState;
  readonly snapshot: LogBatch["snapshot"];
}

const emptyContent: Content = {
  start: 0,
  startTerm: 0,
  entries: [],
  hardState: { term: 0, vote: 0n, commit: 0 },
  snapshot: undefined,
};

function lastIndexOf(content: Content): number {
  return content.start + content.entries.length;
}

function after(content: Content, batch: LogBatch): Content {
  let { start, startTerm, entries, hardState, snapshot } = content;
  if (batch.snapshot !== undefined) {
    snapshot = batch.snapshot;
    const agrees = entries[snapshot.index - start - 1]?.term === snapshot.term;
    if (snapshot.index > start && !agrees) {
      ({ index: start, term: startTerm } = snapshot);
      entries = [];
    }
  }
  const first = batch.entries[0];
  if (first !== undefined) entries = [...entries.slice(0, first.index - start - 1), ...batch.entries];
  hardState = batch.hardState ?? hardState;
  return { start, startTerm, entries, hardState, snapshot };
}

/** The differences between what a log returned and what it should hold; undefined when there are none. */
function mismatch(log: DurableLog, recovered: RecoveredLog, content: Content): string | undefined {
  const last = lastIndexOf(content);
  if (recovered.lastIndex !== last || log.lastIndex !== last)
    return `last index ${recovered.lastIndex}, not ${last}`;
  if (!Bun.deepEquals(recovered.hardState, content.hardState)) return "another hard state";
  if (recovered.start.index < content.start) return "a start before the snapshot";
  const kept = content.entries.slice(recovered.start.index - content.start);
  if (!Bun.deepEquals(log.read(recovered.start.index + 1, last + 1, 1e9), kept)) return "other entries";
  const startTerm =
    recovered.start.index === content.start
      ? content.startTerm
      : content.entries[recovered.start.index - content.start - 1]?.term;
  if (recovered.start.term !== startTerm) return `start term ${recovered.start.term}, not ${startTerm}`;
  return undefined;
}

async function ticks(): Promise<void> {
  for (let i = 0; i < 12; i++) await undefined;
}

class CheckFailed extends Error {
  override readonly name = "CheckFailed";
}

/** One member's use of its log over several lives, and the check at the start of each. */
class Driver {
  log: DurableLog | undefined;
  /** State after each batch that may be in the log: [0] is surely there. */
  history: Content[] = [emptyContent];
  /** How many of the batches in `history` (from 1 on) were acknowledged. */
  acknowledged = 0;
  /** What the state database holds durably. */
  applied = 0;
  cutTo = 0;
  lives = 0;
  /** What was seen at starts, so that a run cannot pass by never meeting anything. */
  repairs = 0;
  cuts = 0;
  snapshots = 0;

  constructor(
    readonly simulated: SimulatedDisk,
    readonly disk: Disk,
    readonly rng: SeededRng,
  ) {}

  get content(): Content {
    return this.history.at(-1)!;
  }

  get durable(): Content {
    return this.history[this.acknowledged]!;
  }

  /** Lets syncs complete until the promise is settled; the power being cut settles it, too. */
  async settle<Value>(promise: Promise<Value>): Promise<Value> {
    const watch = { settled: false };
    const done = () => {
      watch.settled = true;
    };
    promise.then(done, done);
    for (let i = 0; i < 1000; i++) {
      await ticks();
      if (watch.settled) return promise;
      this.simulated.completeSync();
    }
    throw new CheckFailed("an operation of the log never finished");
  }

  /** Starts the log, new or old, and checks what it found. */
  async start(): Promise<void> {
    const options = { directory, disk: this.disk, segmentBytes };
    if (!logExists(directory, this.disk)) {
      if (this.acknowledged > 0) throw new CheckFailed("the whole log is gone");
      this.log = await this.settle(createLog({ ...options, identity }));
      this.history = [emptyContent];
      return;
    }
    let opened;
    try {
      opened = await this.settle(openLog({ ...options, tailBytesMax: 200, appliedIndex: this.applied }));
    } catch (error) {
      if (error instanceof PowerCutError || error instanceof LogFailedError) throw error;
      throw new CheckFailed(`the directory does not start: ${error}`);
    }
    const { log, recovered } = opened;
    this.lives++;
    if (recovered.repaired !== undefined) this.repairs++;
    if (recovered.start.index > 0 && recovered.snapshot === undefined) this.cuts++;
    if (recovered.snapshot !== undefined) this.snapshots++;
    if (recovered.identity.memberId !== identity.memberId) throw new CheckFailed("another identity");
    if (recovered.start.index > Math.max(this.cutTo, this.content.start)) {
      throw new CheckFailed(`the log begins behind ${recovered.start.index}, but was cut to ${this.cutTo}`);
    }
    const reasons: string[] = [];
    for (let k = this.history.length - 1; k >= this.acknowledged; k--) {
      const reason =
        mismatch(log, recovered, this.history[k]!) ?? this.#missingSnapshot(recovered, this.history[k]!);
      if (reason === undefined) {
        // What a start returns is on disk: it counts as acknowledged from here on.
        this.history = [this.history[k]!];
        this.acknowledged = 0;
        this.log = log;
        return;
      }
      reasons.push(`after batch ${k}: ${reason}`);
    }
    throw new CheckFailed(
      `the log holds no prefix that contains all acknowledged batches: ${reasons.join("; ")}`,
    );
  }

  /** A snapshot record is there until a cut made it obsolete: it is the commit point of an install. */
  #missingSnapshot(recovered: RecoveredLog, { snapshot }: Content): string | undefined {
    if (snapshot === undefined || snapshot.index <= this.cutTo) return undefined;
    return Bun.deepEquals(recovered.snapshot, snapshot) ? undefined : "another snapshot record";
  }

  append(batch: LogBatch): Promise<void> {
    const generation = this.history;
    generation.push(after(this.content, batch));
    const position = generation.length - 1;
    const promise = this.log!.append(batch);
    promise.then(
      () => {
        if (this.history === generation) this.acknowledged = Math.max(this.acknowledged, position);
      },
      () => {},
    );
    return promise;
  }

  #entries(from: number, count: number, term: number): Entry[] {
    return Array.from({ length: count }, (_, i) => ({
      index: from + i,
      term,
      kind: this.rng.below(8) === 0 ? "configuration" : "command",
      data: new Uint8Array(this.rng.below(120)).fill(this.rng.below(256)),
    }));
  }

  /** One random step of a member's life. */
  async step(): Promise<void> {
    const { rng, content } = this;
    const last = lastIndexOf(content);
    const draw = rng.below(100);
    const term = content.hardState.term + (rng.below(10) === 0 ? 1 : 0);
    const withHardState = (): HardState | undefined =>
      rng.below(2) === 0
        ? {
            term,
            vote: rng.bits64(),
            commit: Math.max(content.hardState.commit, Math.min(lastIndexOf(this.durable), last)),
          }
        : undefined;
    if (draw < 55) {
      void this.append({
        entries: this.#entries(last + 1, 1 + rng.below(5), term),
        hardState: withHardState(),
      });
    } else if (draw < 63) {
      // Overwrites never reach below the commit index.
      const lowest = Math.max(content.hardState.commit, content.start, this.applied) + 1;
      const from = lowest + rng.below(Math.max(1, last + 2 - lowest));
      const newTerm = term + 1;
      void this.append({
        entries: this.#entries(from, 1 + rng.below(3), newTerm),
        hardState: { ...content.hardState, term: newTerm },
      });
    } else if (draw < 70) {
      void this.append({
        entries: [],
        hardState: withHardState() ?? { ...content.hardState, vote: rng.bits64() },
      });
    } else if (draw < 76) {
      await this.settle(this.append({ entries: [], hardState: { ...content.hardState, term } }));
    } else if (draw < 84) {
      this.applied = Math.max(this.applied, Math.min(this.durable.hardState.commit, last));
      this.cutTo = Math.max(this.cutTo, this.applied);
      if (this.applied > 0 && this.applied <= lastIndexOf(content)) await this.log!.cut(this.applied);
    } else if (draw < 87) {
      const index = last + 1 + rng.below(20);
      const snapshot = {
        index,
        term: term + 1,
        configuration: { voters: [1n, 22n], learners: [] },
        digest: new Uint8Array(8).fill(rng.below(256)),
      };
      await this.settle(
        this.append({ entries: [], snapshot, hardState: { term: term + 1, vote: 0n, commit: index } }),
      );
      if (rng.below(2) === 0) this.applied = index;
    } else {
      await ticks();
      if (rng.below(2) === 0) this.simulated.completeSync();
    }
    if (rng.below(3) === 0) await ticks();
    if (rng.below(3) === 0) this.simulated.completeSync();
  }

  /** Works until the power is cut, an error ends this life, or the steps are done. */
  async live(steps: number): Promise<void> {
    try {
      await this.start();
      for (let i = 0; i < steps && !this.simulated.isCut; i++) await this.step();
    } catch (error) {
      // An InvariantError or CheckFailed is for the test to see.
      if (!(error instanceof PowerCutError) && !(error instanceof LogFailedError)) throw error;
    }
    await ticks();
  }

  /** The member is gone; the disk comes back. */
  async restart(): Promise<void> {
    this.log = undefined;
    this.simulated.restart();
    await ticks();
  }

  /** A quiet end: everything acknowledged, closed, opened and compared once more. */
  async finish(): Promise<void> {
    await this.start();
    await this.settle(this.append({ entries: this.#entries(lastIndexOf(this.content) + 1, 2, 1_000_000) }));
    await this.settle(this.log!.close());
    await this.restart();
    await this.start();
    await this.settle(this.log!.close());
  }
}

type Wrap = (disk: Disk) => Disk;
const sound: Wrap = (disk) => disk;

/** A build that answers before the sync is done. */
const answersEarly: Wrap = (disk) =>
  wrapSyncs(disk, (sync) => {
    sync().catch(() => {});
    return Promise.resolve();
  });

/** A build that takes a failed sync for a good one. */
const swallowsErrors: Wrap = (disk) => wrapSyncs(disk, (sync) => sync().catch(() => {}));

/** A build that forgets to sync directories (etcd issue 6368). */
const forgetsDirectories: Wrap = (disk) => ({
  ...wrapSyncs(disk, (sync) => sync()),
  syncDirectory: () => {},
  syncDirectoryLater: async () => {},
});

function makeDriver(seed: number, wrap: Wrap = sound): Driver {
  const rng = new SeededRng(seed);
  const simulated = new SimulatedDisk(rng.fork(1), { manualSync: true });
  return new Driver(simulated, wrap(simulated), rng.fork(2));
}

/** A run with the same draws up to the power cut, a second one later, and a quiet end. */
async function cutAt(seed: number, operation: number, wrap?: Wrap): Promise<Driver> {
  const driver = makeDriver(seed, wrap);
  driver.simulated.cutPowerAfter(operation);
  await driver.live(60);
  await driver.restart();
  driver.simulated.cutPowerAfter(1 + driver.rng.below(60));
  await driver.live(40);
  if (!driver.simulated.isCut) driver.simulated.cutPower();
  await driver.restart();
  await driver.finish();
  return driver;
}

/** Random lives with power cuts, kills and sync errors. */
async function randomRun(seed: number, wrap?: Wrap): Promise<Driver> {
  const driver = makeDriver(seed, wrap);
  for (let life = 0; life < 5; life++) {
    const draw = driver.rng.below(4);
    if (draw < 2) driver.simulated.cutPowerAfter(1 + driver.rng.below(120));
    await driver.live(draw === 2 ? 10 : 30);
    if (draw === 2 && !driver.simulated.isCut) {
      driver.simulated.failSyncs(1);
      if (driver.log !== undefined) {
        try {
          for (let i = 0; i < 10; i++) await driver.step();
        } catch (error) {
          if (!(error instanceof LogFailedError)) throw error;
        }
      }
      driver.simulated.failSyncs(0);
    }
    // Otherwise the process alone is killed: the system's cache survives.
    if (draw === 3 && !driver.simulated.isCut) driver.simulated.cutPower();
    await driver.restart();
  }
  await driver.finish();
  return driver;
}

async function firstFailure(
  run: (seed: number) => Promise<Driver>,
  seeds: number,
): Promise<string | undefined> {
  for (let seed = 1; seed <= seeds; seed++) {
    try {
      await run(seed);
    } catch (error) {
      return `seed ${seed}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`;
    }
  }
  return undefined;
}

describe("[P1] power cuts", () => {
  test("at every operation of a life, and again later: nothing acknowledged is lost and the log goes on", async () => {
    const whole = makeDriver(42);
    await whole.live(60);
    const operations = whole.simulated.operations;
    expect(operations).toBeGreaterThan(60);
    let repairs = 0;
    for (let seed = 42; seed < 42 + seedsPerCut; seed++) {
      for (let operation = 1; operation <= operations; operation++) {
        try {
          repairs += (await cutAt(seed, operation)).repairs;
        } catch (error) {
          throw new Error(`seed ${seed}, power cut at operation ${operation}`, { cause: error });
        }
      }
    }
    expect(repairs).toBeGreaterThan(operations / 10);
  });

  test("random lives with power cuts, kills and failed syncs lose nothing acknowledged", async () => {
    const seen = { lives: 0, repairs: 0, cuts: 0, snapshots: 0 };
    const failure = await firstFailure(async (seed) => {
      const driver = await randomRun(seed);
      seen.lives += driver.lives;
      seen.repairs += driver.repairs;
      seen.cuts += driver.cuts;
      seen.snapshots += driver.snapshots;
      return driver;
    }, randomRuns);
    expect(failure).toBeUndefined();
    expect(seen.lives).toBeGreaterThan(randomRuns * 4);
    expect(seen.repairs).toBeGreaterThan(randomRuns / 4);
    expect(seen.cuts).toBeGreaterThan(randomRuns / 4);
    expect(seen.snapshots).toBeGreaterThan(randomRuns / 4);
  }, 60_000);

  test("a build that answers before the sync is caught", async () => {
    const failure = await firstFailure((seed) => randomRun(seed, answersEarly), 50);
    expect(failure).toMatch(/seed \d+: CheckFailed: .*(no prefix|does not start|is gone)/);
  });

  test("a build that swallows a sync error is caught", async () => {
    const failure = await firstFailure((seed) => randomRun(seed, swallowsErrors), 200);
    expect(failure).toMatch(/seed \d+: CheckFailed: .*(no prefix|does not start|is gone)/);
  });
});

test("a build that does not sync directories is caught", async () => {
  const failure = await firstFailure((seed) => randomRun(seed, forgetsDirectories), 100);
  expect(failure).toMatch(/seed \d+: CheckFailed: .*(no prefix|does not start|is gone)/);
});

describe("failed syncs", () => {
  test("reject what waits and everything after, and are not tried again", async () => {
    const driver = makeDriver(1);
    await driver.start();
    const { simulated } = driver;
    const before = simulated.operations;
    simulated.failSyncs(1);
    const first = driver.append({
      entries: [{ index: 1, term: 1, kind: "command", data: new Uint8Array(3) }],
    });
    await ticks();
    const second = driver.append({
      entries: [{ index: 2, term: 1, kind: "command", data: new Uint8Array(3) }],
    });
    simulated.completeSync();
    expect(first).rejects.toThrow(LogFailedError);
    expect(second).rejects.toThrow(LogFailedError);
    await ticks();
    expect(driver.log!.append({ entries: [] })).rejects.toThrow(LogFailedError);
    expect(driver.log!.cut(0)).rejects.toThrow(LogFailedError);
    await driver.log!.close();
    // One write and one sync: no second attempt, no marker that calls the bytes synced.
    expect(simulated.operations - before).toBe(2);
  });

  test("never run two at a time on one log", async () => {
    const driver = makeDriver(7);
    await driver.start();
    let most = 0;
    for (let i = 0; i < 200; i++) {
      await driver.step();
      most = Math.max(most, driver.simulated.runningSyncs);
    }
    expect(most).toBe(1);
  });

  test("an append resolves only when its sync is done", async () => {
    const driver = makeDriver(3);
    await driver.start();
    let done = false;
    const wait = driver.append({
      entries: [{ index: 1, term: 1, kind: "command", data: new Uint8Array(3) }],
    });
    void wait.then(() => (done = true));
    for (let i = 0; i < 10; i++) await ticks();
    expect(done).toBe(false);
    expect(driver.simulated.runningSyncs).toBe(1);
    driver.simulated.completeSync();
    await wait;
  });
});

describe("a full disk", () => {
  const data = new Uint8Array(100).fill(1);
  const batchAt = (index: number): LogBatch => ({
    entries: [{ index, term: 1, kind: "command", data }],
    hardState: { term: 1, vote: 3n, commit: index - 1 },
  });

  test("refuses batches with a clear error at whatever point it is met, and the log goes on when there is room", async () => {
    let refused = 0;
    let warned = 0;
    for (let budget = segmentBytes; budget < 6 * segmentBytes; budget += 96) {
      const simulated = new SimulatedDisk(new SeededRng(budget), { budgetBytes: budget });
      const observer = { preparationFailed: () => warned++ };
      const log = await createLog({ directory, disk: simulated, identity, segmentBytes, observer });
      for (let index = 1; index <= 60; index++) {
        try {
          await log.append(batchAt(index));
        } catch (error) {
          expect(error).toBeInstanceOf(LogFullError);
          refused++;
          expect(log.lastIndex).toBe(index - 1);
          // What depends on the refused batch is refused, too, and is no broken invariant.
          expect(log.append(batchAt(index + 1))).rejects.toThrow(LogFullError);
          expect(log.read(1, index, 1e9)).toHaveLength(index - 1);
          simulated.budgetBytes += 100_000;
          await log.append(batchAt(index));
        }
      }
      simulated.cutPower();
      simulated.restart();
      const { recovered } = await openLog({
        directory,
        disk: simulated,
        segmentBytes,
        tailBytesMax: 1e6,
        appliedIndex: 60,
      });
      expect(recovered.lastIndex).toBe(60);
      expect(recovered.tail.map(({ index }) => index)).toEqual(Array.from({ length: 60 }, (_, i) => i + 1));
    }
    expect(refused).toBeGreaterThan(30);
    expect(warned).toBeGreaterThan(30);
  });

  test("does not keep a member with an uncertain tail from starting, while there is room for that tail", async () => {
    const simulated = new SimulatedDisk(new SeededRng(8), { manualSync: true });
    const driver = new Driver(simulated, simulated, new SeededRng(9));
    await driver.start();
    void driver.append(batchAt(1));
    await ticks();
    simulated.restart();
    await ticks();
    simulated.budgetBytes = segmentBytes + 1024;
    await driver.start();
    expect(driver.log!.lastIndex).toBe(1);
    await driver.settle(driver.log!.close());
  });

  test("leaves room for what a member writes down at a start, several times over", async () => {
    const large = 1024 ** 2;
    const simulated = new SimulatedDisk(new SeededRng(3), { budgetBytes: large + 4096 });
    let log = await createLog({ directory, disk: simulated, identity, segmentBytes: large });
    for (let life = 1; life <= 6; life++) {
      // The vote and the first entry of the new term, at every start.
      const index = log.lastIndex + 1;
      await log.append({
        entries: [{ index, term: life, kind: "command", data }],
        hardState: { term: life, vote: 3n, commit: index - 1 },
      });
      const fill = async (): Promise<never> => {
        for (;;) {
          const next = { index: log.lastIndex + 1, term: life, kind: "command", data } as const;
          await log.append({ entries: [next] });
        }
      };
      await expect(fill()).rejects.toThrow(LogFullError);
      const { lastIndex } = log;
      simulated.restart();
      const options = { directory, disk: simulated, segmentBytes: large, tailBytesMax: 1e6 };
      const opened = await openLog({ ...options, appliedIndex: 0 });
      log = opened.log;
      expect(log.lastIndex).toBe(lastIndex);
    }
  });

  test("leaves nothing half-made when the log is begun, and a later start begins it", async () => {
    const simulated = new SimulatedDisk(new SeededRng(5), { budgetBytes: 100 });
    expect(createLog({ directory, disk: simulated, identity, segmentBytes })).rejects.toThrow(LogFullError);
    expect(logExists(directory, simulated)).toBe(false);
    simulated.budgetBytes = 1e6;
    await createLog({ directory, disk: simulated, identity, segmentBytes });
    expect(logExists(directory, simulated)).toBe(true);
  });
});
