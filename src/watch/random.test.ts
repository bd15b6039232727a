import { expect, test } from "bun:test";
import { SeededRng } from "../rng";
import { WatchCreateRequest_FilterType as Filter } from "../proto/gen/etcd/rpc_pb";
import { StreamChecker } from "./checker";
import { WatchHub } from "./hub";
import type { WatchStream } from "./hub";
import { createRequest, ModelStore, Reader, testHeader } from "./test-support";
import type { Write } from "./test-support";

const keys = ["a", "b", "ba", "bb", "c", "c\0", "c\xff", "\0", "\xff", "d/1", "d/2", "d/3"];
const ends = ["", "", "", "\0", "c", "d", "d0", "\xff", "bb"];

interface Client {
  readonly reader: Reader;
  readonly stream: WatchStream;
  readonly checker: StreamChecker;
}

/** One random life of a hub with readers of every speed; every message goes through the checker. */
function live(seed: number, steps: number) {
  const rng = new SeededRng(seed);
  const store = new ModelStore();
  const below = (bound: number) => rng.below(bound);
  const pick = <Item>(items: readonly Item[]): Item => items[below(items.length)]!;
  const options = {
    header: testHeader,
    fragmentBytes: 60 + below(400),
    progressIntervalMs: 1_000,
    jitter: () => below(1_000) / 1_000,
  };
  const hub = new WatchHub({ history: store, ...options });
  let clients: Client[] = [];
  let nowMs = 0;
  const totals = { created: 0, canceled: 0, compacted: 0, progresses: 0, events: 0, resets: 0, queuedMax: 0 };
  const count = (checker: StreamChecker) => {
    const { counts } = checker;
    totals.created += counts.created;
    totals.canceled += counts.canceled;
    totals.compacted += counts.compacted;
    totals.progresses += counts.progresses;
    totals.events += counts.events;
  };

  const open = () => {
    const checker = new StreamChecker(store);
    const reader = new Reader(pick([Infinity, Infinity, 1, 2, 5]), (message) => checker.received(message));
    clients.push({ checker, reader, stream: hub.openStream(reader, nowMs) });
  };
  const createWatcher = ({ checker, stream }: Client) => {
    const past = Math.max(1, store.revision - below(40));
    const start = pick([0, 0, past, past, store.compactedRevision, store.revision + 1 + below(5), -1]);
    const request = createRequest(pick([...keys, ""]), {
      end: pick(ends),
      start,
      watchId: below(6) === 0 ? below(4) : 0,
      prevKv: below(2) === 0,
      fragment: below(3) === 0,
      progressNotify: below(2) === 0,
      filters: pick([[], [], [], [Filter.NOPUT], [Filter.NODELETE]]),
    });
    checker.asked(request);
    stream.create(request);
  };
  const writes = () => {
    const chosen = new Map<string, Write>();
    for (let i = below(4); i >= 0; i--) {
      const key = pick(keys);
      chosen.set(key, [key, below(4) === 0 ? null : "v".repeat(below(60))]);
    }
    return [...chosen.values()];
  };
  const drain = ({ reader, stream }: Client) => {
    reader.makeRoom();
    stream.drained();
  };

  open();
  for (let step = 0; step < steps; step++) {
    nowMs += below(100);
    const client = clients.length === 0 ? undefined : pick(clients);
    const action = below(100);
    if (action < 40) {
      const changes = store.write(...writes());
      if (changes !== undefined) hub.publish(changes);
      if (below(3) === 0) hub.flush();
    } else if (action < 50) {
      hub.work({
        revisionsMax: 1 + below(20),
        bytesMax: 1 + below(2_000),
        watchersMax: 1 + below(10),
      });
    } else if (action < 62) {
      // An owner reads no request while its stream is paused.
      if (client !== undefined && !client.stream.paused) createWatcher(client);
    } else if (action < 66) {
      const id = client === undefined || client.checker.ids.length === 0 ? 99n : pick(client.checker.ids);
      if (client !== undefined && !client.stream.paused) {
        client.checker.canceling(id);
        client.stream.cancel(id);
      }
    } else if (action < 72) {
      if (client !== undefined && !client.stream.paused) client.stream.requestProgress();
    } else if (action < 86) {
      if (client !== undefined) drain(client);
    } else if (action < 90) {
      hub.tick(nowMs);
    } else if (action < 92) {
      if (store.revision > store.compactedRevision + 3 && below(2) === 0) {
        const revision = store.compactedRevision + 1 + below(store.revision - store.compactedRevision);
        store.compact(revision, below(2) === 0);
        hub.compacted(revision);
      }
    } else if (action < 94) {
      if (below(3) === 0) {
        // A member that lagged is replaced by a snapshot that is ahead, perhaps compacted beyond it.
        for (let i = below(30); i > 0; i--) store.write(...writes());
        if (below(2) === 0 && store.revision > store.compactedRevision + 3)
          store.compact(store.revision - 2, below(2) === 0);
        hub.reset(store);
        totals.resets++;
      }
    } else if (action < 97) {
      if (clients.length < 6) open();
    } else if (client !== undefined && clients.length > 1 && below(2) === 0) {
      client.stream.close();
      count(client.checker);
      clients = clients.filter((other) => other !== client);
    }
    for (const { stream } of clients) totals.queuedMax = Math.max(totals.queuedMax, stream.queued);
  }

  for (let turn = 0; turn < 10_000; turn++) {
    hub.flush();
    while (hub.work()) {
      // Until nobody who can be fed is behind.
    }
    if (clients.every(({ stream }) => !stream.paused && stream.behind.size === 0)) break;
    for (const client of clients) drain(client);
  }
  for (const { checker, stream } of clients) {
    checker.finish();
    count(checker);
    stream.close();
  }
  expect(hub.stats).toMatchObject({ streams: 0, watchers: 0, catchingUp: 0, paused: 0, eventsPending: 0 });
  return totals;
}

test("W12 W13 W14 W15 W16 W17 W19 W20 W22 W25 W26 W28 random lives keep P7 to P13", () => {
  const seeds = Number(process.env["KEELSON_WATCH_SEEDS"] ?? 400);
  const sum = { created: 0, canceled: 0, compacted: 0, progresses: 0, events: 0, resets: 0, queuedMax: 0 };
  for (let seed = 1; seed <= seeds; seed++) {
    try {
      const totals = live(seed, 500);
      for (const name of Object.keys(sum) as (keyof typeof sum)[]) sum[name] += totals[name];
    } catch (error) {
      throw new Error(`seed ${seed}: ${String(error)}`, { cause: error });
    }
  }
  // The lives were full ones.
  expect(sum.created).toBeGreaterThan(seeds * 10);
  expect(sum.events).toBeGreaterThan(seeds * 100);
  expect(sum.compacted).toBeGreaterThan(seeds / 4);
  expect(sum.progresses).toBeGreaterThan(seeds);
  expect(sum.resets).toBeGreaterThan(seeds / 2);
}, 60_000);
