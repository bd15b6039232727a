import { beforeEach, describe, expect, test } from "bun:test";
import { StoreError } from "../errors";
import { WatchCreateRequest_FilterType as Filter } from "../proto/gen/etcd/rpc_pb";
import { pendingEventsMax, tailRevisionsMax } from "./bounds";
import { WatchHub } from "./hub";
import type { CreateOptions, Write } from "./test-support";
import { brief, createRequest, ModelStore, Reader, testHeader } from "./test-support";
import type { WatchHubOptions } from "./types";

let store: ModelStore;
let hub: WatchHub;

function newHub(options: Partial<WatchHubOptions> = {}): WatchHub {
  return new WatchHub({ history: store, header: testHeader, ...options });
}

beforeEach(() => {
  store = new ModelStore();
  hub = newHub();
});

function write(...writes: Write[]): void {
  const changes = store.write(...writes);
  if (changes !== undefined) hub.publish(changes);
}

function put(key: string, value = "v"): void {
  write([key, value]);
}

function compact(revision: number): void {
  store.compact(revision);
  hub.compacted(revision);
}

function settle(target = hub): void {
  target.flush();
  while (target.work()) {
    // Until nobody is behind.
  }
}

function open(capacity = Infinity, nowMs = 0) {
  const reader = new Reader(capacity);
  const stream = hub.openStream(reader, nowMs);
  return {
    reader,
    stream,
    create: (key: string, options: CreateOptions = {}) => stream.create(createRequest(key, options)),
    /** Everything that was sent since the last call, after all work is done. */
    seen: () => {
      settle();
      return reader.take().map(brief);
    },
    drain: () => {
      reader.makeRoom();
      stream.drained();
    },
  };
}

describe("creating", () => {
  test("W1 the created answer comes first and reports the revision", () => {
    put("a", "1");
    const client = open();
    client.create("a", { start: 2 });
    put("a", "2");
    expect(client.seen()).toEqual(["#0 rev 2 created", "#0 rev 3 a=1@2 a=2@3"]);
  });

  test("W2 ids count from 0 on each stream and skip those in use", () => {
    const client = open();
    client.create("a");
    client.create("a", { watchId: 1 });
    client.create("a");
    client.create("a", { watchId: 77 });
    client.create("a");
    expect(client.seen().map((line) => line.split(" ")[0])).toEqual(["#0", "#1", "#2", "#77", "#3"]);
    const other = open();
    other.create("a");
    expect(other.seen()).toEqual(["#0 rev 1 created"]);
  });

  test("W2 an id below zero or above 2^53 comes back unchanged", () => {
    const client = open();
    const request = createRequest("a");
    request.watchId = 2n ** 63n - 1n;
    client.stream.create(request);
    const negative = createRequest("a");
    negative.watchId = -5n;
    client.stream.create(negative);
    put("a", "1");
    expect(client.seen()).toEqual([
      "#9223372036854775807 rev 1 created",
      "#-5 rev 1 created",
      "#9223372036854775807 rev 2 a=1@2",
      "#-5 rev 2 a=1@2",
    ]);
  });

  test("W3 an id in use is refused and its watcher goes on", () => {
    const client = open();
    client.create("a", { watchId: 7 });
    client.create("b", { watchId: 7 });
    put("a", "1");
    put("b", "1");
    expect(client.seen()).toEqual([
      "#7 rev 1 created",
      '#-1 rev 1 created canceled "mvcc: duplicate watch ID provided on the WatchStream"',
      "#7 rev 2 a=1@2",
    ]);
  });

  test("W3 an id is free again after its cancel", () => {
    const client = open();
    client.create("a", { watchId: 7 });
    client.stream.cancel(7n);
    client.create("a", { watchId: 7 });
    expect(client.seen()).toEqual(["#7 rev 1 created", "#7 rev 1 canceled", "#7 rev 1 created"]);
  });

  test("W4 an empty range is refused", () => {
    const client = open();
    client.create("b", { end: "a" });
    client.create("b", { end: "b" });
    client.create("", { end: "a" });
    expect(client.seen()).toEqual([
      '#-1 rev 1 created canceled "mvcc: watcher range is empty"',
      '#-1 rev 1 created canceled "mvcc: watcher range is empty"',
      "#0 rev 1 created",
    ]);
  });

  test("W5 an empty key, an end of one zero byte, and bytes above 0x7f", () => {
    const all = open();
    all.create("", { end: "\0" });
    const above = open();
    above.create("b", { end: "\0" });
    const high = open();
    high.create("\x80", { end: "\xff" });
    const zero = open();
    zero.create("");
    write(["a", "1"], ["b", "1"], ["\x7f", "1"], ["\x80", "1"], ["\xff\xff", "1"], ["\0", "1"]);
    const keys = (client: ReturnType<typeof open>) =>
      client.seen().map((line) =>
        line
          .split(" ")
          .slice(3)
          .map((event) => event.split("=")[0]),
      )[1];
    expect(keys(all)).toEqual(["a", "b", "\x7f", "\x80", "\xff\xff", "\0"]);
    expect(keys(above)).toEqual(["b", "\x7f", "\x80", "\xff\xff"]);
    expect(keys(high)).toEqual(["\x80"]);
    expect(keys(zero)).toEqual(["\0"]);
  });

  test("W6 a negative start is refused with the text of compacted (#20707)", () => {
    const client = open();
    client.create("a", { start: -1 });
    expect(client.seen()).toEqual([
      '#-1 rev 1 created canceled "etcdserver: mvcc: required revision has been compacted"',
    ]);
    expect(hub.stats.watchers).toBe(0);
  });

  test("W7 a compacted start gets created, then canceled with the compacted revision", () => {
    for (let i = 0; i < 5; i++) put("a", String(i));
    compact(4);
    const client = open();
    client.create("a", { start: 3 });
    expect(client.seen()).toEqual(["#0 rev 6 created", "#0 rev 0 canceled compacted 4"]);
    client.create("a");
    expect(client.seen()).toEqual(["#1 rev 6 created"]);
  });

  test("W7 the compacted revision decides even when memory still holds the events", () => {
    const other = open();
    other.create("z");
    for (let i = 0; i < 5; i++) put("a", String(i));
    compact(4);
    const client = open();
    client.create("a", { start: 3 });
    expect(client.seen()).toEqual(["#0 rev 6 created", "#0 rev 0 canceled compacted 4"]);
  });

  test("W8 a start at the compacted revision shows the delete made there (#19179)", () => {
    put("a", "1");
    write(["a", null]);
    put("b", "1");
    compact(3);
    const client = open();
    client.create("a", { start: 3 });
    expect(client.seen()).toEqual(["#0 rev 4 created", "#0 rev 4 a gone@3"]);
  });

  test("W9 a start in the future sends neither older events nor progress (#20221)", () => {
    const client = open();
    client.create("a", { start: 5, progressNotify: true });
    client.seen();
    for (let i = 2; i <= 4; i++) {
      put("a", String(i));
      client.stream.requestProgress();
      hub.tick(i * 1_000_000);
      expect(client.seen()).toEqual([]);
    }
    put("b");
    client.stream.requestProgress();
    expect(client.seen()).toEqual(["#-1 rev 5"]);
    put("a", "6");
    expect(client.seen()).toEqual(["#0 rev 6 a=6@6"]);
  });

  test("W9 a start in the future within one flush takes only what is due", () => {
    const client = open();
    client.create("a", { start: 4 });
    const usual = open();
    usual.create("a");
    for (let i = 2; i <= 5; i++) put("a", String(i));
    expect(client.seen()).toEqual(["#0 rev 1 created", "#0 rev 5 a=4@4 a=5@5"]);
    expect(usual.seen()).toEqual(["#0 rev 1 created", "#0 rev 5 a=2@2 a=3@3 a=4@4 a=5@5"]);
  });

  test("W9 a start in the future survives a snapshot that stops short of it", () => {
    const client = open();
    client.create("a", { start: 6 });
    put("a", "2");
    hub.flush();
    for (let i = 3; i <= 4; i++) store.write(["a", String(i)]);
    hub.reset(store);
    expect(client.seen()).toEqual(["#0 rev 1 created"]);
    put("a", "5");
    put("a", "6");
    expect(client.seen()).toEqual(["#0 rev 6 a=6@6"]);
  });

  test("W10 start 0 means after the reported revision, also with events unflushed", () => {
    const early = open();
    early.create("a");
    put("a", "1");
    const client = open();
    client.create("a");
    put("a", "2");
    expect(client.seen()).toEqual(["#0 rev 2 created", "#0 rev 3 a=2@3"]);
    expect(early.seen()).toEqual(["#0 rev 1 created", "#0 rev 2 a=1@2", "#0 rev 3 a=2@3"]);
  });

  test("W11 a service's refusal is answered with its reason", () => {
    const client = open();
    client.stream.reject("rpc error: code = PermissionDenied desc = etcdserver: permission denied");
    expect(client.seen()).toEqual([
      '#-1 rev 1 created canceled "rpc error: code = PermissionDenied desc = etcdserver: permission denied"',
    ]);
  });

  test("W12 W23 watches opened and closed in a tight loop lose nothing (#20655)", () => {
    for (let i = 0; i < 200; i++) {
      const before = store.revision;
      const client = open();
      client.create("a");
      put("a", String(i));
      if (i % 3 === 0) hub.flush();
      client.create("a", { start: before + 1 });
      expect(client.seen().filter((line) => line.includes(`a=${i}@${before + 1}`))).toHaveLength(2);
      client.stream.close();
    }
    expect(hub.stats).toMatchObject({ streams: 0, watchers: 0, catchingUp: 0, eventsPending: 0 });
  });
});

describe("events", () => {
  test("W13 a transaction's events come together, for live and late watchers", () => {
    const live = open();
    live.create("a", { end: "z" });
    write(["a", "1"], ["b", "1"], ["c", "1"]);
    const late = open();
    late.create("a", { end: "z", start: 1 });
    expect(live.seen()).toEqual(["#0 rev 1 created", "#0 rev 2 a=1@2 b=1@2 c=1@2"]);
    expect(late.seen()).toEqual(["#0 rev 2 created", "#0 rev 2 a=1@2 b=1@2 c=1@2"]);
  });

  test("W13 W27 a scan never cuts a revision, however small its budget", () => {
    for (let i = 0; i < 5; i++) write(["a", String(i)], ["b", String(i)], ["c", String(i)]);
    const client = open();
    client.create("a", { end: "z", start: 1 });
    while (hub.work({ revisionsMax: 1, bytesMax: 1 })) {
      // One revision at a time.
    }
    const messages = client.reader.take().slice(1);
    expect(messages).toHaveLength(5);
    for (const message of messages) {
      expect(message.events).toHaveLength(3);
      expect(new Set(message.events.map((event) => event.kv!.modRevision)).size).toBe(1);
    }
  });

  test("W12 a key put and deleted in one transaction gives each event once (#17247)", () => {
    const client = open();
    client.create("a", { prevKv: true });
    put("a", "0");
    write(["a", "1"], ["a", null]);
    expect(client.seen()).toEqual(["#0 rev 1 created", "#0 rev 3 a=0@2 a=1@3 was 0 a gone@3 was 0"]);
    put("a", "4");
    write(["a", null], ["a", "5"]);
    expect(client.seen()).toEqual(["#0 rev 5 a=4@4 a gone@5 was 4 a=5@5"]);
  });

  test("W14 the header follows the events of a live watcher and the store for a late one", () => {
    const live = open();
    live.create("a");
    put("a", "1");
    put("b", "1");
    hub.flush();
    const late = open();
    late.create("a", { start: 1 });
    expect(live.seen()).toEqual(["#0 rev 1 created", "#0 rev 2 a=1@2"]);
    expect(late.seen()).toEqual(["#0 rev 3 created", "#0 rev 3 a=1@2"]);
  });

  test("W15 filters remove puts or deletes, and nothing is sent when nothing is left", () => {
    const client = open();
    client.create("a", { filters: [Filter.NOPUT] });
    client.create("a", { filters: [Filter.NODELETE] });
    client.create("a", { filters: [Filter.NOPUT, Filter.NODELETE] });
    put("a", "1");
    hub.flush();
    write(["a", null]);
    expect(client.seen().slice(3)).toEqual(["#1 rev 2 a=1@2", "#0 rev 3 a gone@3"]);
    client.create("a", { filters: [Filter.NOPUT], start: 1 });
    expect(client.seen()).toEqual(["#3 rev 3 created", "#3 rev 3 a gone@3"]);
  });

  test("W16 prev_kv is the record before, absent on creation and where compacted", () => {
    const client = open();
    client.create("a", { prevKv: true });
    client.create("a");
    put("a", "1");
    put("a", "2");
    write(["a", null]);
    put("a", "3");
    expect(client.seen().slice(2)).toEqual([
      "#0 rev 5 a=1@2 a=2@3 was 1 a gone@4 was 2 a=3@5",
      "#1 rev 5 a=1@2 a=2@3 a gone@4 a=3@5",
    ]);
    hub = newHub();
    compact(3);
    const late = open();
    late.create("a", { prevKv: true, start: 3 });
    expect(late.seen()).toEqual(["#0 rev 5 created", "#0 rev 5 a=2@3 a gone@4 was 2 a=3@5"]);
  });

  test("W17 only a watcher that asked gets fragments, of one header, and only above the limit", () => {
    hub = newHub({ fragmentBytes: 400 });
    const client = open();
    client.create("a", { end: "z", fragment: true });
    client.create("a", { end: "z" });
    write(["a", "x".repeat(150)], ["b", "x".repeat(150)], ["c", "x".repeat(150)], ["d", "x".repeat(500)]);
    settle();
    const messages = client.reader.take().slice(2);
    const pieces = messages.filter((message) => message.watchId === 0n);
    expect(pieces.map((piece) => [piece.fragment, piece.events.length])).toEqual([
      [true, 2],
      [true, 1],
      [false, 1],
    ]);
    expect(new Set(pieces.map((piece) => piece.header!.revision))).toEqual(new Set([2n]));
    const whole = messages.filter((message) => message.watchId === 1n);
    expect(whole.map((message) => [message.fragment, message.events.length])).toEqual([[false, 4]]);
    put("a", "small");
    expect(client.seen()).toEqual(["#0 rev 3 a=small@3", "#1 rev 3 a=small@3"]);
  });

  test("W17 W24 fragments that the sink refused follow in order, before anything else", () => {
    hub = newHub({ fragmentBytes: 300 });
    const client = open(2);
    client.create("a", { end: "z", fragment: true });
    write(["a", "x".repeat(200)], ["b", "x".repeat(200)], ["c", "x".repeat(200)]);
    hub.flush();
    expect(client.stream.paused).toBe(true);
    expect(client.stream.queued).toBe(2);
    client.stream.requestProgress();
    put("d", "late");
    hub.flush();
    expect(client.reader.messages).toHaveLength(2);
    for (let i = 0; i < 3; i++) {
      client.drain();
      settle();
    }
    const keys = client.reader.messages.map((message) =>
      message.events.map((event) => Buffer.from(event.kv!.key).toString()).join(),
    );
    expect(keys).toEqual(["", "a", "b", "c", "", "d"]);
    expect(client.reader.messages[4]!.header!.revision).toBe(2n);
  });

  test("W18 a watcher resumed after the last seen event continues exactly, also on another hub", () => {
    const client = open();
    client.create("a");
    put("a", "1");
    put("a", "2");
    client.seen();
    client.stream.close();
    put("b", "1");
    put("a", "3");
    const again = open();
    again.create("a", { start: 4 });
    expect(again.seen()).toEqual(["#0 rev 5 created", "#0 rev 5 a=3@5"]);
    hub = newHub();
    const elsewhere = open();
    elsewhere.create("a", { start: 4 });
    expect(elsewhere.seen()).toEqual(["#0 rev 5 created", "#0 rev 5 a=3@5"]);
  });
});

describe("progress and end", () => {
  test("W19 a progress request is answered once for the stream, when all are caught up", () => {
    const client = open();
    client.stream.requestProgress();
    expect(client.seen()).toEqual([]);
    put("a", "1");
    client.create("a");
    client.create("b");
    client.stream.requestProgress();
    expect(client.seen().slice(2)).toEqual(["#-1 rev 2"]);
    client.create("a", { start: 1 });
    client.stream.requestProgress();
    expect(client.seen()).toEqual(["#2 rev 2 created", "#2 rev 2 a=1@2"]);
    client.stream.requestProgress();
    expect(client.seen()).toEqual(["#-1 rev 2"]);
  });

  test("W20 progress is queued behind the events that it vouches for (#15220)", () => {
    const client = open(2);
    client.create("a");
    put("a", "1");
    client.stream.requestProgress();
    expect(client.reader.take().map(brief)).toEqual(["#0 rev 1 created", "#0 rev 2 a=1@2"]);
    put("a", "2");
    client.stream.requestProgress();
    client.drain();
    expect(client.reader.take().map(brief)).toEqual(["#-1 rev 2"]);
    expect(client.seen()).toEqual(["#0 rev 3 a=2@3"]);
  });

  test("W20 a watcher behind keeps the stream silent", () => {
    const client = open(1);
    client.create("a");
    put("a", "1");
    hub.flush();
    client.stream.requestProgress();
    expect(client.stream.queued).toBe(0);
    client.drain();
    client.stream.requestProgress();
    settle();
    expect(client.reader.take().map(brief)).toEqual(["#0 rev 1 created", "#0 rev 2 a=1@2"]);
  });

  test("W21 periodic progress goes to quiet, caught-up watchers that asked", () => {
    hub = newHub({ progressIntervalMs: 1_000, jitter: () => 0.5 });
    const client = open(Infinity, 10_000);
    client.create("a", { progressNotify: true });
    client.create("b", { progressNotify: true });
    client.create("c");
    client.seen();
    hub.tick(11_049);
    expect(client.seen()).toEqual([]);
    put("a", "1");
    hub.tick(11_050);
    expect(client.seen()).toEqual(["#0 rev 2 a=1@2", "#1 rev 2"]);
    hub.tick(12_099);
    expect(client.seen()).toEqual([]);
    hub.tick(12_100);
    expect(client.seen()).toEqual(["#0 rev 2", "#1 rev 2"]);
    client.stream.cancel(0n);
    client.seen();
    hub.tick(13_200);
    expect(client.seen()).toEqual(["#1 rev 2"]);
  });

  test("W21 a watcher behind, or with a full sink, gets no periodic progress", () => {
    hub = newHub({ progressIntervalMs: 1_000 });
    put("a", "1");
    const behind = open();
    behind.create("a", { progressNotify: true, start: 1 });
    const full = open(1);
    full.create("a", { progressNotify: true });
    hub.tick(1_000);
    expect(behind.reader.take().map(brief)).toEqual(["#0 rev 2 created"]);
    expect(full.reader.take().map(brief)).toEqual(["#0 rev 2 created"]);
    expect(full.stream.queued).toBe(0);
    expect(behind.seen()).toEqual(["#0 rev 2 a=1@2"]);
  });

  test("W22 cancel is confirmed once, nothing follows, an unknown id gets silence", () => {
    const client = open();
    client.create("a");
    put("a", "1");
    client.stream.cancel(0n);
    client.stream.cancel(0n);
    client.stream.cancel(9n);
    put("a", "2");
    expect(client.seen()).toEqual(["#0 rev 1 created", "#0 rev 2 a=1@2", "#0 rev 2 canceled"]);
    expect(hub.stats.watchers).toBe(0);
  });

  test("W22 a watcher canceled while behind sends nothing more", () => {
    put("a", "1");
    const client = open(1);
    client.create("a", { start: 1 });
    client.stream.cancel(0n);
    client.drain();
    expect(client.seen()).toEqual(["#0 rev 2 created", "#0 rev 2 canceled"]);
    expect(hub.hasWork).toBe(false);
  });

  test("W23 a closed stream leaves nothing behind", () => {
    const client = open(1);
    client.create("a");
    client.create("a", { end: "b", progressNotify: true, start: 1 });
    put("a", "1");
    hub.flush();
    client.stream.close();
    client.drain();
    client.create("a");
    client.stream.requestProgress();
    put("a", "2");
    settle();
    expect(client.reader.messages).toHaveLength(1);
    expect(hub.stats).toMatchObject({ streams: 0, watchers: 0, catchingUp: 0, paused: 0, eventsPending: 0 });
  });
});

describe("falling behind", () => {
  test("W24 W25 a slow reader is held nothing for and continues where it stopped", () => {
    const client = open(3);
    client.create("a");
    client.create("a");
    for (let i = 0; i < 5_000; i++) {
      put("a", String(i));
      if (i % 10 === 0) hub.flush();
      expect(client.stream.queued).toBe(0);
    }
    hub.flush();
    expect(client.stream.paused).toBe(true);
    const seen: bigint[][] = [[], []];
    for (let turn = 0; turn < 30; turn++) {
      settle();
      for (const message of client.reader.take()) {
        for (const event of message.events) seen[Number(message.watchId)]!.push(event.kv!.modRevision);
      }
      client.drain();
    }
    const all = store.log.map((entry) => BigInt(entry.revision));
    expect(seen).toEqual([all, all]);
  });

  test("W24 watchers of one stream that is full hold nothing of a shared scan", () => {
    put("a", "1");
    put("b", "1");
    const client = open(1);
    client.create("a", { start: 1 });
    client.drain();
    client.reader.makeRoom();
    for (const key of ["b", "", "a"]) {
      client.create(key, { start: 1, end: "z" });
      client.drain();
    }
    expect(hub.stats.catchingUp).toBe(4);
    hub.work();
    expect([client.stream.paused, client.stream.queued, hub.stats.catchingUp]).toEqual([true, 0, 3]);
    for (let turn = 0; turn < 4; turn++) {
      client.drain();
      settle();
    }
    expect(client.reader.messages.flatMap((message) => message.events)).toHaveLength(1 + 1 + 2 + 2);
  });

  test("W26 what a half-done sweep left is never shown to a watcher below the compacted revision", () => {
    for (let i = 0; i < 20; i++) put("a", String(i));
    const client = open();
    client.create("a", { start: 2 });
    store.compact(15, false);
    hub.compacted(15);
    expect(client.seen()).toEqual(["#0 rev 21 created", "#0 rev 0 canceled compacted 15"]);
  });

  test("W26 many starved watchers of one stream are canceled, none loses events silently (#17529)", () => {
    const client = open(2);
    // History must be needed: nothing of this comes from memory.
    const first = store.revision + 1;
    for (let i = 0; i < 2_000; i++) put(`k${i % 300}`, String(i));
    hub.flush();
    for (let i = 0; i < 300; i++) {
      client.create(`k${i}`, { start: first });
      client.drain();
    }
    while (client.stream.queued > 0) client.drain();
    hub.work({ revisionsMax: 100 });
    compact(store.revision - 10);
    const ends = new Map<bigint, string>();
    const got = new Map<bigint, bigint[]>();
    for (let turn = 0; turn < 1_000 && hub.stats.catchingUp > 0; turn++) {
      hub.work();
      for (const message of client.reader.take()) {
        if (message.canceled) ends.set(message.watchId, `compacted ${message.compactRevision}`);
        const list = got.get(message.watchId) ?? [];
        got.set(message.watchId, list);
        for (const event of message.events) list.push(event.kv!.modRevision);
      }
      client.drain();
    }
    expect(hub.stats.catchingUp).toBe(0);
    let canceled = 0;
    for (let i = 0; i < 300; i++) {
      const end = ends.get(BigInt(i));
      const expected = store.log
        .filter((entry) => entry.changes[0]!.key === `k${i}`)
        .map((entry) => BigInt(entry.revision));
      const list = got.get(BigInt(i)) ?? [];
      expect(list).toEqual(expected.slice(0, list.length));
      if (end === undefined) expect(list).toEqual(expected);
      else {
        canceled++;
        expect(end).toBe(`compacted ${store.revision - 10}`);
      }
    }
    expect(canceled).toBeGreaterThan(0);
  });

  test("W26 a caught-up watcher outlives every compaction", () => {
    const client = open();
    client.create("a");
    put("a", "1");
    for (let i = 0; i < 10; i++) put("b", String(i));
    hub.flush();
    compact(store.revision);
    put("a", "2");
    expect(client.seen()).toEqual(["#0 rev 1 created", "#0 rev 2 a=1@2", `#0 rev 13 a=2@13`]);
  });

  test("W26 a history that no longer reaches back cancels instead of skipping", () => {
    put("a", "1");
    put("a", "2");
    const client = open();
    client.create("a", { start: 2 });
    store.changes = () => {
      store.compactedRevision = 3;
      throw new StoreError(11, "etcdserver: mvcc: required revision has been compacted");
    };
    expect(client.seen()).toEqual(["#0 rev 3 created", "#0 rev 0 canceled compacted 3"]);
  });

  test("W27 watchers near each other share a scan, and a far one takes turns", () => {
    for (let i = 0; i < 3_000; i++) put("a", String(i));
    const near = Array.from({ length: 50 }, (_, i) => {
      const client = open();
      client.create("a", { start: 2_900 + i });
      return client;
    });
    const far = open();
    far.create("a", { start: 1 });
    store.scans = 0;
    hub.work();
    hub.work();
    expect(store.scans).toBe(2);
    for (const client of near) expect(client.reader.messages).toHaveLength(2);
    settle();
    expect(store.scans).toBe(4);
    for (const message of far.reader.messages.slice(1)) {
      const revisions = message.events.map((event) => Number(event.kv!.modRevision));
      expect(revisions[revisions.length - 1]! - revisions[0]!).toBeLessThan(1_000);
    }
    expect(far.reader.messages.flatMap((message) => message.events)).toHaveLength(3_000);
  });

  test("W27 live events of a slow stream leave room for its late watchers", () => {
    const client = open(2);
    for (let i = 0; i < 10; i++) {
      client.create("a");
      client.drain();
    }
    for (let i = 0; i < 400; i++) {
      client.drain();
      // The next batch comes before the member finds time to feed those that are behind.
      put("a", String(i));
      hub.flush();
      hub.work();
    }
    const newest = Array.from({ length: 10 }, () => 0);
    for (const { watchId, events } of client.reader.messages) {
      for (const event of events) newest[Number(watchId)] = Number(event.kv!.modRevision);
    }
    expect(Math.max(...newest) - Math.min(...newest)).toBeLessThan(40);
  });

  test("W27 watchers of one stream take turns as well", () => {
    for (let i = 0; i < 3_000; i++) put("a", String(i));
    const client = open();
    client.create("a", { start: 1 });
    client.create("a", { start: 2_900 });
    hub.work();
    hub.work();
    const ids = client.reader.messages.map((message) => message.watchId);
    expect(ids).toEqual([0n, 1n, 0n, 1n]);
    settle();
    expect(client.reader.messages.flatMap((message) => message.events)).toHaveLength(3_000 + 102);
  });

  test("W28 after a snapshot a watcher continues from where it was (#15271)", () => {
    const client = open();
    client.create("a", { prevKv: true });
    put("a", "1");
    client.seen();
    for (let i = 2; i < 6; i++) store.write(["a", String(i)]);
    hub.reset(store);
    expect(client.seen()).toEqual(["#0 rev 6 a=2@3 was 1 a=3@4 was 2 a=4@5 was 3 a=5@6 was 4"]);
    put("a", "6");
    expect(client.seen()).toEqual(["#0 rev 7 a=6@7 was 5"]);
  });

  test("W28 a snapshot compacted beyond a watcher cancels it, and one that would go back is impossible", () => {
    const client = open();
    client.create("a");
    put("a", "1");
    client.seen();
    for (let i = 2; i < 6; i++) store.write(["a", String(i)]);
    store.compact(5);
    hub.reset(store);
    expect(client.seen()).toEqual(["#0 rev 0 canceled compacted 5"]);
    expect(() => hub.reset(new ModelStore())).toThrow("would take watchers back");
    expect(() => hub.publish(store.log[0]!)).toThrow("published after");
  });

  test("W12 W14 revisions without changes move the store's revision alone", () => {
    const client = open();
    client.create("a");
    store.revision = 9;
    hub.advance(9);
    client.stream.requestProgress();
    put("a", "1");
    expect(client.seen()).toEqual(["#0 rev 1 created", "#-1 rev 9", "#0 rev 10 a=1@10"]);
  });
});

describe("cost", () => {
  test("W29 an event is encoded once and one message serves all streams with that id", () => {
    const clients = Array.from({ length: 20 }, () => {
      const client = open();
      client.create("a", { end: "b" });
      return client;
    });
    const last = clients[clients.length - 1]!;
    last.create("a", { end: "b" });
    put("a1", "1");
    hub.flush();
    const [first, ...others] = clients.map((client) => client.reader.encoded[client === last ? 2 : 1]!);
    for (const message of others) expect(message).toBe(first!);
    expect(last.reader.encoded[3]!.chunks[1]).toBe(first!.chunks[1]!);
  });

  test("W29 readers that fell behind together share their messages as well", () => {
    const clients = Array.from({ length: 20 }, () => {
      const client = open(1);
      client.create("a");
      return client;
    });
    for (let i = 0; i < 10; i++) put("a", String(i));
    hub.flush();
    for (const client of clients) client.drain();
    settle();
    for (const client of clients) expect(client.reader.encoded[1]).toBe(clients[0]!.reader.encoded[1]!);
    expect(clients[0]!.reader.messages[1]!.events).toHaveLength(10);
  });

  test("W12 a burst is sent before it grows beyond its bound, without a flush", () => {
    const client = open();
    client.create("a");
    for (let i = 0; i < pendingEventsMax * 3; i++) {
      put("a", "1");
      expect(hub.stats.eventsPending).toBeLessThanOrEqual(pendingEventsMax);
    }
    expect(client.reader.messages.length).toBeGreaterThan(2);
    settle();
    expect(client.reader.messages.flatMap((message) => message.events)).toHaveLength(pendingEventsMax * 3);
  });

  test("W30 a reader a little late is fed from memory, a very late one from history", () => {
    const client = open(1);
    client.create("a");
    for (let i = 0; i < 100; i++) put("a", String(i));
    hub.flush();
    client.drain();
    settle();
    expect(store.scans).toBe(0);
    expect(client.reader.messages.flatMap((message) => message.events)).toHaveLength(100);
    for (let i = 0; i < tailRevisionsMax + 10; i++) put("a", String(i));
    hub.flush();
    for (let turn = 0; turn < 40; turn++) {
      client.drain();
      settle();
    }
    expect(store.scans).toBeGreaterThan(0);
    expect(client.reader.messages.flatMap((message) => message.events)).toHaveLength(
      100 + tailRevisionsMax + 10,
    );
  });

  test("W30 a late reader served from memory is not canceled by a compaction", () => {
    const client = open(1);
    client.create("a");
    for (let i = 0; i < 10; i++) put("a", String(i));
    hub.flush();
    compact(store.revision);
    client.drain();
    settle();
    expect(client.reader.messages.flatMap((message) => message.events)).toHaveLength(10);
  });

  test("W30 W23 what memory holds is let go with the last watcher", () => {
    const client = open();
    put("a", "1");
    expect(hub.stats.revisionsInMemory).toBe(0);
    client.create("a");
    put("a", "2");
    put("b", "2");
    expect(hub.stats.revisionsInMemory).toBe(2);
    client.stream.cancel(0n);
    expect(hub.stats.revisionsInMemory).toBe(0);
    put("a", "3");
    expect(hub.stats.revisionsInMemory).toBe(0);
    client.create("a", { start: 2 });
    put("a", "4");
    expect(client.seen().slice(-1)).toEqual(
      ["#1 rev 5 a=1@2 a=2@3 a=3@5 a=4@6"].map((line) => line.replace("rev 5", "rev 6")),
    );
  });

  test("W25 the hub wakes its member when work appears", () => {
    let wakes = 0;
    hub = newHub({ wake: () => wakes++ });
    put("a", "1");
    const client = open(1);
    client.create("a", { start: 1 });
    expect([wakes, hub.hasWork]).toEqual([0, false]);
    client.drain();
    expect([wakes, hub.hasWork]).toEqual([1, true]);
    const another = open();
    another.create("a", { start: 1 });
    expect(wakes).toBe(1);
    settle();
    expect(hub.hasWork).toBe(false);
    another.create("a", { start: 1 });
    expect(wakes).toBe(2);
  });
});
