/** The hub over the real store: SQLite rows, pages, compaction in steps, memory small enough to need history. */
import { expect, test } from "bun:test";
import { create } from "@bufbuild/protobuf";
import { fromBinaryString } from "../bytes";
import type { Revision } from "../ids";
import { type Command, CommandSchema } from "../proto/gen/keelson/command_pb";
import { SeededRng } from "../rng";
import { StateMachine } from "../state/state-machine";
import type { RevisionChanges } from "../state/types";
import { openStateDatabase } from "../storage/sqlite";
import type { Truth } from "./checker";
import { StreamChecker } from "./checker";
import { WatchHub } from "./hub";
import { createRequest, Reader, testHeader } from "./test-support";

const keys = ["a", "b", "b\0", "c", "\xff", "d/1", "d/2"];
const ends = ["", "", "\0", "c", "d0", "\xff"];

/** Keeps what was applied, beside the store under test. */
class Applied implements Truth {
  readonly log: RevisionChanges[] = [];
  readonly #records = new Map<string, { revision: Revision; record: Uint8Array | undefined }[]>();

  constructor(readonly state: StateMachine) {}

  get revision(): Revision {
    return this.state.revision;
  }

  get compactedRevision(): Revision {
    return this.state.compactedRevision;
  }

  add(entry: RevisionChanges): void {
    this.log.push(entry);
    for (const { key, type, record } of entry.changes) {
      const versions = this.#records.get(key) ?? [];
      this.#records.set(key, versions);
      versions.push({ revision: entry.revision, record: type === "put" ? record.slice() : undefined });
    }
  }

  recordBefore(key: string, revision: Revision): Uint8Array | undefined {
    return this.#records.get(key)?.findLast((version) => version.revision < revision)?.record;
  }
}

function live(seed: number, steps: number) {
  const rng = new SeededRng(seed);
  const below = (bound: number) => rng.below(bound);
  const pick = <Item>(items: readonly Item[]): Item => items[below(items.length)]!;
  const database = openStateDatabase(":memory:");
  const state = StateMachine.open(database, { sliceKeys: 3 });
  const truth = new Applied(state);
  // A hub that starts anew has no memory of recent revisions: everything late comes from history.
  let hub = new WatchHub({ history: state.history, header: testHeader, fragmentBytes: 300 });
  let index = 0;
  const apply = (operation: Command["operation"]) => {
    let applied = state.apply(++index, 1, create(CommandSchema, { version: 1, operation }));
    while (applied.pending) {
      // Nobody sees a revision before it is complete.
      expect(hub.revision).toBe(state.revision);
      hub.work();
      applied = state.resume();
    }
    if (applied.changes !== undefined) {
      truth.add(applied.changes);
      hub.publish(applied.changes);
    }
  };
  const command = (init: Parameters<typeof create<typeof CommandSchema>>[1]) =>
    create(CommandSchema, init).operation;
  const putOf = () => ({ key: fromBinaryString(pick(keys)), value: Buffer.from("v".repeat(below(80))) });
  const deleteOf = () => ({ key: fromBinaryString(pick(keys)), rangeEnd: fromBinaryString(pick(ends)) });
  const write = () => {
    const action = below(10);
    if (action < 5) apply(command({ operation: { case: "put", value: putOf() } }));
    else if (action < 7) apply(command({ operation: { case: "deleteRange", value: deleteOf() } }));
    else {
      const chosen = keys.filter(() => below(2) === 0).map((key) => fromBinaryString(key));
      const success = chosen.map((key) => ({
        request:
          below(3) === 0
            ? { case: "requestDeleteRange" as const, value: { key } }
            : { case: "requestPut" as const, value: { key, value: Buffer.from("t") } },
      }));
      apply(command({ operation: { case: "txn", value: { success } } }));
    }
  };

  interface Client {
    readonly checker: StreamChecker;
    readonly reader: Reader;
    stream: ReturnType<WatchHub["openStream"]>;
  }
  let clients: Client[] = [];
  const totals = { events: 0, compacted: 0, resumed: 0 };
  const drop = (client: Client) => {
    totals.events += client.checker.counts.events;
    totals.compacted += client.checker.counts.compacted;
    client.stream.close();
    clients = clients.filter((other) => other !== client);
  };
  const watch = (client: Client) => {
    const start = pick([0, Math.max(1, state.revision - below(30)), Math.max(1, state.compactedRevision)]);
    const request = createRequest(pick(keys), {
      end: pick(ends),
      start,
      prevKv: below(2) === 0,
      fragment: below(3) === 0,
    });
    client.checker.asked(request);
    client.stream.create(request);
  };
  for (let step = 0; step < steps; step++) {
    const client = clients.length === 0 ? undefined : pick(clients);
    const action = below(100);
    if (action < 45) write();
    else if (action < 55) hub.flush();
    else if (action < 65) hub.work({ revisionsMax: 1 + below(8), bytesMax: 1 + below(500) });
    else if (action < 72 && clients.length < 5) {
      const checker = new StreamChecker(truth);
      const reader = new Reader(pick([Infinity, 1, 3]), (message) => checker.received(message));
      clients.push({ checker, reader, stream: hub.openStream(reader, 0) });
    } else if (action < 82 && client !== undefined && !client.stream.paused) watch(client);
    else if (action < 90 && client !== undefined) {
      client.reader.makeRoom();
      client.stream.drained();
    } else if (action < 92 && client !== undefined) drop(client);
    else if (action < 95) state.compactionStep(1 + below(20));
    else if (action < 97 && state.revision > state.compactedRevision + 4) {
      const floor = Math.max(1, state.compactedRevision + 1);
      const revision = floor + below(state.revision - floor + 1);
      apply(command({ operation: { case: "compaction", value: { revision: BigInt(revision) } } }));
      hub.compacted(revision);
    } else if (action === 97) {
      // A restart: clients come back to a hub without memory.
      while (clients.length > 0) drop(clients[0]!);
      hub.flush();
      hub = new WatchHub({ history: state.history, header: testHeader, fragmentBytes: 300 });
      totals.resumed++;
    } else if (client !== undefined && !client.stream.paused) client.stream.requestProgress();
  }
  for (let turn = 0; turn < 1_000; turn++) {
    hub.flush();
    while (hub.work()) {
      // Until nobody who can be fed is behind.
    }
    if (clients.every(({ stream }) => !stream.paused && stream.behind.size === 0)) break;
    for (const { reader, stream } of clients) {
      reader.makeRoom();
      stream.drained();
    }
  }
  for (const { checker } of clients) checker.finish();
  while (clients.length > 0) drop(clients[0]!);
  state.close();
  database.close();
  return totals;
}

test("W8 W12 W13 W16 W18 W26 random lives over the real store keep P7 to P14", () => {
  const seeds = Number(process.env["KEELSON_WATCH_SEEDS"] ?? 80);
  const sum = { events: 0, compacted: 0, resumed: 0 };
  for (let seed = 1; seed <= seeds; seed++) {
    try {
      const totals = live(seed, 400);
      for (const name of Object.keys(sum) as (keyof typeof sum)[]) sum[name] += totals[name];
    } catch (error) {
      throw new Error(`seed ${seed}: ${String(error)}`, { cause: error });
    }
  }
  expect(sum.events).toBeGreaterThan(seeds * 50);
  expect(sum.compacted).toBeGreaterThan(seeds / 10);
  expect(sum.resumed).toBeGreaterThan(seeds);
}, 60_000);
