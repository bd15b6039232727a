import { afterEach, beforeEach, expect, test } from "bun:test";
import { create } from "@bufbuild/protobuf";
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { RangeRequestSchema } from "../../proto/gen/etcd/rpc_pb";
import { CommandSchema } from "../../proto/gen/keelson/command_pb";
import { StateMachine } from "../../state/state-machine";
import { openStateDatabase } from "../sqlite";
import { DatabaseFullError, type DatabaseJobs, startDatabaseJobs } from "./jobs";

let directory: string;
let path: string;
let state: StateMachine;
let jobs: DatabaseJobs;
let database: ReturnType<typeof openStateDatabase>;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "keelson-jobs-"));
  path = join(directory, "state.db");
  database = openStateDatabase(path);
  state = StateMachine.open(database);
  jobs = startDatabaseJobs(path, state);
});

afterEach(async () => {
  await jobs.close();
  database.close();
  rmSync(directory, { recursive: true });
});

function put(key: string, value: string | Uint8Array = "v"): void {
  state.apply(
    state.appliedIndex + 1,
    1,
    create(CommandSchema, {
      version: 1,
      operation: {
        case: "put",
        value: { key: Buffer.from(key), value: typeof value === "string" ? Buffer.from(value) : value },
      },
    }),
  );
}

/** What a promise is rejected with. (`expect().rejects` waits without letting the Worker's messages in.) */
async function failureOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => "it did not fail",
    (error: Error) => error.message,
  );
}

test("a checkpoint covers what was applied when it began", async () => {
  expect(jobs.coveredIndex).toBe(0);
  for (let i = 0; i < 100; i++) put(`k${i}`);
  expect(await jobs.checkpoint()).toBe(100);
  put("later");
  expect(jobs.coveredIndex).toBe(100);
  // The covered entries are in the main file alone.
  const alone = join(directory, "alone.db");
  await Bun.write(alone, Bun.file(path));
  const copy = openStateDatabase(alone);
  expect(StateMachine.open(copy).appliedIndex).toBe(100);
  copy.close();
});

test("a large WAL is started over instead of growing for ever", async () => {
  const value = new Uint8Array(1024 ** 2);
  let largest = 0;
  for (let round = 0; round < 6; round++) {
    for (let i = 0; i < 20; i++) put(`k${i}`, value);
    state.range(create(RangeRequestSchema, { key: Buffer.from("k1") }));
    expect(await jobs.checkpoint()).toBe(state.appliedIndex);
    expect(jobs.holding).toBe(false);
    largest = Math.max(largest, jobs.walBytes);
  }
  // 120 MiB were written.
  expect(largest).toBeLessThan(70 * 1024 ** 2);
});

test("a snapshot file holds exactly the state of one entry, whatever is written meanwhile", async () => {
  for (let i = 0; i < 500; i++) put(`k${i}`, `${i}`);
  const target = join(directory, "snapshot.db");
  const index = state.appliedIndex;
  const taken = jobs.takeSnapshotFile(target);
  for (let i = 0; i < 500; i++) {
    put(`k${i}`, "later");
    if (i % 50 === 0) {
      state.flush();
      await Bun.sleep(1);
    }
  }
  const file = await taken;
  expect(file.appliedIndex).toBeGreaterThanOrEqual(index);
  expect(file.bytes % 512).toBe(0);
  expect(statSync(target).size).toBe(file.bytes);
  expect(existsSync(`${target}-wal`)).toBe(false);
  const copy = openStateDatabase(target);
  const restored = StateMachine.open(copy);
  expect(restored.appliedIndex).toBe(file.appliedIndex);
  expect(restored.revision).toBe(file.revision);
  copy.close();
});

test("a copy says how far it is, and comes to its end", async () => {
  for (let i = 0; i < 200; i++) put(`k${i}`, new Uint8Array(64 * 1024));
  const told: [number, number][] = [];
  const { bytes } = await jobs.takeSnapshotFile(join(directory, "snapshot.db"), (done, total) =>
    told.push([done, total]),
  );
  // A megabyte at a time, written and hashed.
  expect(told.length).toBeGreaterThan(20);
  expect(told.every(([, total]) => total === told[0]![1])).toBe(true);
  expect(told.every(([done], at) => at === 0 || done >= told[at - 1]![0])).toBe(true);
  expect(told.at(-1)![0]).toBe(told.at(-1)![1]);
  expect(told.at(-1)![1]).toBeGreaterThanOrEqual(bytes);
});

test("a snapshot file is examined elsewhere: what it holds, and that it is whole", async () => {
  for (let i = 0; i < 50; i++) put(`k${i}`);
  const target = join(directory, "snapshot.db");
  const taken = await jobs.takeSnapshotFile(target);
  expect(await jobs.examineSnapshotFile(target)).toEqual(taken);
  expect([taken.appliedIndex, taken.appliedTerm]).toEqual([50, 1]);
  const bytes = new Uint8Array(await Bun.file(target).arrayBuffer());
  expect(Buffer.from(taken.digest).toString("hex")).toBe(
    new Bun.CryptoHasher("sha256").update(bytes).digest("hex"),
  );
  expect(existsSync(`${target}-wal`)).toBe(false);
  const place = Buffer.from(bytes).lastIndexOf("k7");
  bytes[place] = bytes[place]! ^ 1;
  await Bun.write(target, bytes);
  expect(await failureOf(jobs.examineSnapshotFile(target))).toContain("does not match its checksum");
  await Bun.write(target, bytes.subarray(0, bytes.length - 4096));
  expect(await failureOf(jobs.examineSnapshotFile(target))).toContain("malformed");
});

test("a snapshot file has rows of every kind", async () => {
  const operation = { case: "put" as const, value: { key: Buffer.from("k"), value: Buffer.from("v") } };
  const command = create(CommandSchema, {
    version: 1,
    idempotencyKey: Buffer.from("once"),
    requestHash: Buffer.from("hash"),
    proposedAtMs: 1_000_000n,
    operation,
  });
  let applied = state.apply(state.appliedIndex + 1, 1, command);
  while (applied.pending) applied = state.resume();
  const tables = state.database
    .query<{ name: string }, []>("SELECT name FROM sqlite_master WHERE type = 'table'")
    .all();
  expect(tables.length).toBeGreaterThan(6);
  const taken = await jobs.takeSnapshotFile(join(directory, "snapshot.db"));
  expect(taken.revision).toBe(state.revision);
  expect(await jobs.checkIntegrity()).toEqual([]);
});

test("a target that exists is refused and left alone", async () => {
  put("k");
  const target = join(directory, "snapshot.db");
  await Bun.write(target, "mine");
  expect(await failureOf(jobs.takeSnapshotFile(target))).toContain("EEXIST");
  expect(await Bun.file(target).text()).toBe("mine");
  // The queue goes on after a failure.
  expect(await jobs.checkpoint()).toBe(1);
});

test("a copy that would take the disk's reserve is refused before it begins", async () => {
  put("k");
  const demanding = startDatabaseJobs(path, state, Number.MAX_SAFE_INTEGER / 2);
  const target = join(directory, "snapshot.db");
  const failure = await demanding.takeSnapshotFile(target).catch((error: unknown) => error);
  expect(failure).toBeInstanceOf(DatabaseFullError);
  expect(existsSync(target)).toBe(false);
  await demanding.close();
});

test("a copy that is being made does not hold up a close", async () => {
  const value = crypto.getRandomValues(new Uint8Array(64 * 1024));
  for (let i = 0; i < 1_000; i++) put(`k${i}`, value);
  const target = join(directory, "snapshot.db");
  const outcome = failureOf(jobs.takeSnapshotFile(target));
  while (!existsSync(target)) await Bun.sleep(1);
  const queued = failureOf(jobs.takeSnapshotFile(join(directory, "queued.db")));
  const checkpointed = jobs.checkpoint();
  await jobs.close();
  expect([await outcome, await queued]).toEqual(["the member stops", "the member stops"]);
  expect(await checkpointed).toBe(1_000);
});

test("the check agrees with the state about sound rows and names a changed one", async () => {
  for (let i = 0; i < 20; i++) put(`k${i}`);
  expect(await jobs.checkIntegrity()).toEqual([]);
  state.flush();
  database.run("UPDATE revisions SET record = zeroblob(length(record)) WHERE sequence = 7");
  expect(await jobs.checkIntegrity()).toEqual(["row 7 does not match its checksum"]);
  database.run("DELETE FROM revisions WHERE sequence = 7");
  expect(await jobs.checkIntegrity()).toEqual(["19 rows were found where 20 were written"]);
  expect(await failureOf(jobs.takeSnapshotFile(join(directory, "snapshot.db")))).toContain("damaged");
  expect(existsSync(join(directory, "snapshot.db"))).toBe(false);
});

test("after a checkpoint has failed once none is tried again", async () => {
  put("k");
  expect(await jobs.checkpoint()).toBe(1);
  const missing = startDatabaseJobs(join(directory, "missing", "state.db"), state);
  expect(await failureOf(missing.takeSnapshotFile(join(directory, "snapshot.db")))).toContain(
    "unable to open",
  );
  mkdirSync(join(directory, "missing"));
  await Bun.write(join(directory, "missing", "state.db"), Bun.file(path));
  expect(await failureOf(missing.checkpoint())).toContain("unable to open");
  expect(missing.coveredIndex).toBe(0);
  await missing.close();
});
