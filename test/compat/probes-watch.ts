/** Probes 26 to 34 and 49: watches. */
import { expect } from "bun:test";
import {
  KV,
  WatchCreateRequest_FilterType as Filter,
  type WatchResponse,
} from "../../src/proto/gen/etcd/rpc_pb";

import { type Probe } from "./probe-context";

export const watchProbes: readonly Probe[] = [
  {
    number: 26,
    title: "watchers without an id are numbered from 0",
    async run(probe) {
      const watch = probe.watch();
      expect(await probe.create(watch)).toMatchObject({ created: true, watchId: 0n });
      expect(await probe.create(watch)).toMatchObject({ created: true, watchId: 1n });
      watch.cancel();
    },
  },
  {
    number: 27,
    title: "an id that is taken is refused",
    async run(probe) {
      const watch = probe.watch();
      expect(await probe.create(watch, { watchId: 7n })).toMatchObject({
        created: true,
        canceled: false,
        watchId: 7n,
      });
      expect(await probe.create(watch, { watchId: 7n })).toMatchObject({
        created: true,
        canceled: true,
        watchId: -1n,
        cancelReason: "mvcc: duplicate watch ID provided on the WatchStream",
      });
      watch.cancel();
    },
  },
  {
    number: 28,
    title: "a watch from a compacted revision is created and then cancelled with the compact revision",
    async run(probe) {
      const old = await probe.put("a");
      const at = await probe.put("a");
      await probe.client.call(KV.method.compact, { revision: at, physical: true });
      const watch = probe.watch();
      expect(await probe.create(watch, { startRevision: old })).toMatchObject({
        created: true,
        canceled: false,
      });
      expect(await watch.next()).toMatchObject({
        created: false,
        canceled: true,
        watchId: 0n,
        compactRevision: at,
        cancelReason: "",
      });
      watch.cancel();
    },
  },
  {
    number: 29,
    title: "cancelling an unknown watcher is met with silence",
    async run(probe) {
      const watch = probe.watch();
      await probe.create(watch);
      watch.send({ requestUnion: { case: "cancelRequest", value: { watchId: 42n } } });
      expect(await watch.silent(250)).toBe(true);
      watch.cancel();
    },
  },
  {
    number: 30,
    title: "a progress request is answered once for the whole stream",
    async run(probe) {
      const watch = probe.watch();
      await probe.create(watch);
      await probe.create(watch);
      const revision = await probe.put("elsewhere");
      for (let events = 0; events < 2; events++) await watch.next();
      watch.send({ requestUnion: { case: "progressRequest", value: {} } });
      const progress = await watch.next();
      expect(progress).toMatchObject({ watchId: -1n, events: [], created: false, canceled: false });
      expect(progress.header?.revision).toBeGreaterThanOrEqual(revision);
      expect(await watch.silent(200)).toBe(true);
      watch.cancel();
    },
  },
  {
    number: 31,
    title: "a progress request without watchers is met with silence",
    async run(probe) {
      const watch = probe.watch();
      watch.send({ requestUnion: { case: "progressRequest", value: {} } });
      expect(await watch.silent(250)).toBe(true);
      watch.cancel();
    },
  },
  {
    number: 32,
    title: "the events of one txn come in one response",
    async run(probe) {
      const watch = probe.watch();
      await probe.create(watch);
      const txn = await probe.client.call(KV.method.txn, {
        success: [probe.putOp("1"), probe.putOp("2"), probe.putOp("3")],
      });
      const response = await watch.next();
      expect(response.events).toHaveLength(3);
      expect(response.header?.revision).toBe(txn.header?.revision ?? 0n);
      watch.cancel();
    },
  },
  {
    number: 33,
    title: "a watcher that filters puts sees only deletes",
    async run(probe) {
      const watch = probe.watch();
      await probe.create(watch, { filters: [Filter.NOPUT] });
      await probe.put("a");
      await probe.client.call(KV.method.deleteRange, { key: probe.key("a") });
      expect((await watch.next()).events.map(({ type }) => type)).toEqual([1]);
      watch.cancel();
    },
  },
  {
    number: 34,
    title: "a delete event carries the key and the revision and nothing else",
    async run(probe) {
      await probe.put("a");
      const watch = probe.watch();
      await probe.create(watch);
      const deleted = await probe.client.call(KV.method.deleteRange, { key: probe.key("a") });
      const { events } = await watch.next();
      expect(events[0]?.prevKv).toBeUndefined();
      expect(events[0]?.kv).toMatchObject({
        createRevision: 0n,
        modRevision: deleted.header?.revision ?? 0n,
        version: 0n,
        lease: 0n,
      });
      expect(events[0]?.kv?.value).toHaveLength(0);
      watch.cancel();
    },
  },
  {
    number: 49,
    title: "a large watch response comes in fragments when asked for, all of one header",
    async run(probe) {
      // With the previous values, the events of one revision are larger than a response without fragments may be.
      const txn = (letter: string) => ({
        success: ["1", "2", "3"].map((name) => probe.putOp(name, letter.repeat(450_000))),
      });
      await probe.client.call(KV.method.txn, txn("x"));
      const { header } = await probe.client.call(KV.method.txn, txn("y"));
      const startRevision = header?.revision ?? 0n;
      const whole = probe.watch();
      await probe.create(whole, { startRevision, prevKv: true });
      expect((await whole.next()).events).toHaveLength(3);
      whole.cancel();
      const watch = probe.watch();
      await probe.create(watch, { startRevision, prevKv: true, fragment: true });
      const parts: WatchResponse[] = [];
      let events = 0;
      while (events < 3) {
        const part = await watch.next();
        parts.push(part);
        events += part.events.length;
      }
      expect(parts.length).toBeGreaterThan(1);
      expect(parts.map(({ fragment }) => fragment)).toEqual(
        parts.map((_, index) => index < parts.length - 1),
      );
      expect(new Set(parts.map(({ header }) => header?.revision)).size).toBe(1);
      watch.cancel();
    },
  },
];
