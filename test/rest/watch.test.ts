import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { SeededRng } from "../../src/rng";
import { at, RestHarness } from "./harness";

let store: RestHarness;
beforeAll(async () => {
  store = await RestHarness.start();
});
afterAll(() => store.stop());

interface Message {
  readonly id?: string;
  readonly revision?: string;
  readonly events?: readonly {
    readonly type: string;
    readonly key: string;
    readonly value?: string;
    readonly modRevision: string;
    readonly prev?: unknown;
  }[];
  readonly part?: number;
  readonly last?: boolean;
  readonly progress?: string;
  readonly heartbeat?: boolean;
  readonly compacted?: boolean;
  readonly oldestRevision?: string;
}

/** A watch that is read line by line, and cut where the test likes. */
class LineWatch {
  #text = "";
  readonly #reader: { read(): Promise<{ done: boolean; value?: Uint8Array }>; cancel(): Promise<void> };
  readonly #stop: AbortController;

  private constructor(
    readonly response: Response,
    stop: AbortController,
  ) {
    this.#reader = response.body!.getReader();
    this.#stop = stop;
  }

  static async open(
    query: string,
    headers: Record<string, string> = {},
    url = store.url,
  ): Promise<LineWatch> {
    const stop = new AbortController();
    const response = await fetch(`${url}/api/v1/watch?${query}`, {
      headers: { accept: "application/x-ndjson", ...headers },
      signal: stop.signal,
    });
    return new LineWatch(response, stop);
  }

  /** The next message; undefined at the end of the stream. */
  async next(): Promise<Message | undefined> {
    for (;;) {
      const end = this.#text.indexOf("\n");
      if (end !== -1) {
        const line = this.#text.slice(0, end);
        this.#text = this.#text.slice(end + 1);
        return JSON.parse(line) as Message;
      }
      const piece = await this.#reader.read();
      if (piece.done || piece.value === undefined) return undefined;
      this.#text += Buffer.from(piece.value).toString("utf8");
    }
  }

  /** The next message with events. */
  async change(): Promise<Message> {
    for (;;) {
      const message = await this.next();
      if (message === undefined || message.compacted === true)
        throw new Error(`the watch ended: ${JSON.stringify(message)}`);
      if (message.events !== undefined) return message;
    }
  }

  cut(): void {
    this.#stop.abort();
    this.#reader.cancel().catch(() => {});
  }
}

const put = async (key: string, body: string | Uint8Array): Promise<string> =>
  at((await store.ask("PUT", `/kv/${key}`, { body })).json, "revision");

describe("watch", () => {
  test("one message per revision, with all its events, ids to go on behind, and previous values when asked", async () => {
    const watch = await LineWatch.open("prefix=w1/&prev");
    expect(watch.response.headers.get("x-accel-buffering")).toBe("no");
    const began = await watch.next();
    expect(began?.progress).toBe(began?.id);
    const first = await put("w1/a", "1");
    expect(await watch.change()).toMatchObject({
      id: first,
      revision: first,
      events: [{ type: "put", key: "w1/a", value: "1", prev: null }],
    });
    const txn = await store.ask("POST", "/txn", {
      body: {
        then: [
          { put: { key: "w1/b", value: "2" } },
          { delete: { key: "w1/a" } },
          { put: { key: "other", value: "" } },
        ],
      },
    });
    const revision = at(txn.json, "revision");
    const both = await watch.change();
    expect(both).toMatchObject({
      id: revision,
      events: [
        { type: "put", key: "w1/b" },
        { type: "delete", key: "w1/a", prev: { value: "1" } },
      ],
    });
    expect(both.events).toHaveLength(2);
    watch.cut();
    const again = await LineWatch.open(`prefix=w1/&after=${first}`);
    expect((await again.change()).id).toBe(revision);
    again.cut();
    const from = await LineWatch.open(`prefix=w1/&revision=${first}&only=delete`);
    expect(await from.change()).toMatchObject({ id: revision, events: [{ type: "delete", key: "w1/a" }] });
    from.cut();
  });

  test("server-sent events carry id, event and data; the header counts more than the query", async () => {
    const revision = await put("sse", "a\nb");
    const second = await put("sse", "2");
    const stop = new AbortController();
    const response = await fetch(`${store.url}/api/v1/watch?key=sse&after=1`, {
      headers: { "last-event-id": String(Number(revision) - 1) },
      signal: stop.signal,
    });
    expect(response.headers.get("content-type")).toBe("text/event-stream");
    let text = "";
    const reader = response.body!.getReader();
    while (!text.includes(`id: ${second}`))
      text += Buffer.from((await reader.read()).value!).toString("utf8");
    stop.abort();
    const [first = ""] = text.split("\n\n");
    expect(first.split("\n").slice(0, 2)).toEqual(["event: change", `id: ${revision}`]);
    expect(JSON.parse(first.split("\n")[2]!.slice(6))).toMatchObject({ events: [{ value: "a\nb" }] });
  });

  test("heartbeats carry a progress id that vouches for everything before", async () => {
    const watch = await LineWatch.open("key=quiet&heartbeatSeconds=1");
    await watch.next();
    const revision = await put("elsewhere", "x");
    for (;;) {
      const message = await watch.next();
      if (message?.progress === undefined) continue;
      expect(Number(message.progress)).toBeGreaterThanOrEqual(Number(revision));
      break;
    }
    watch.cut();
  });

  test("a revision above a mebibyte comes in parts, and every part is a place to go on", async () => {
    const value = "v".repeat(400_000);
    const txn = await store.ask("POST", "/txn", {
      body: { then: Array.from({ length: 3 }, (_, i) => ({ put: { key: `parts/${i}`, value } })) },
    });
    const revision = at(txn.json, "revision");
    const after = await put("parts/z", "end");
    const read = async (query: string): Promise<Message[]> => {
      const watch = await LineWatch.open(`prefix=parts/&${query}`);
      const found: Message[] = [];
      while (found.at(-1)?.id !== after) found.push(await watch.change());
      watch.cut();
      return found;
    };
    const whole = await read(`revision=${revision}`);
    expect(whole.map(({ id, part, last }) => [id, part, last])).toEqual([
      [expect.stringMatching(new RegExp(`^${revision}\\.1\\.[0-9a-f]{8}$`)), 1, false],
      [expect.stringMatching(new RegExp(`^${revision}\\.2\\.[0-9a-f]{8}$`)), 2, true],
      [after, undefined, undefined],
    ]);
    expect(whole.flatMap(({ events }) => events!.map(({ key }) => key))).toEqual([
      "parts/0",
      "parts/1",
      "parts/2",
      "parts/z",
    ]);
    for (const [position, { id }] of whole.slice(0, -1).entries()) {
      expect((await read(`after=${id}`)).map((message) => message.id)).toEqual(
        whole.slice(position + 1).map((message) => message.id),
      );
      // Another query's parts are cut elsewhere: going on there would leave something out.
      for (const other of ["prefix=parts", "key=parts/2", "prefix=parts/&only=put"]) {
        const refused = await store.ask("GET", `/watch?${other}&after=${id}`);
        expect([refused.status, at(refused.json, "detail")]).toEqual([
          400,
          "The id is of a part of another query's revision.",
        ]);
      }
      // The same said otherwise is the same query; what does not move the cut does not matter.
      const same = await store.ask("GET", `/watch?prefix64=cGFydHMv&prev&heartbeatSeconds=9`, {
        headers: { "last-event-id": id! },
        leaveAfterMs: 20,
      });
      expect(same.status).toBe(200);
    }
    expect((await store.ask("GET", `/watch?prefix=parts/&after=${revision}.1`)).status).toBe(400);
    const elsewhere = { leaveAfterMs: 20 };
    expect((await store.ask("GET", `/watch?key=other&after=${revision}`, elsewhere)).status).toBe(200);
  });

  test("history that is gone is 410 when the watch opens", async () => {
    const revision = await put("compact", "1");
    await store.server.member.write({
      case: "compaction",
      value: { $typeName: "etcdserverpb.CompactionRequest", revision: BigInt(revision), physical: false },
    });
    const watch = await LineWatch.open("key=compact&revision=2");
    expect(watch.response.status).toBe(410);
    expect(await watch.response.text().catch(() => "")).toBe("");
  });

  test("what to watch has to be said, and clearly", async () => {
    for (const query of [
      "",
      "?key=",
      "?key=a&prefix=b",
      "?from=b&to=a",
      "?key=a&after=0",
      "?key=a&after=x",
      "?key=a&after=1&revision=1",
      "?key=a&only=all",
    ]) {
      expect([query, (await store.ask("GET", `/watch${query}`)).status]).toEqual([query, 400]);
    }
    expect((await store.ask("GET", "/watch?key=a", { headers: { "last-event-id": "junk" } })).status).toBe(
      400,
    );
  });
});

test("a watch that is cut and resumed on another member at random times misses nothing and repeats nothing", async () => {
  const members = await RestHarness.startCluster(3);
  const [first] = members as [RestHarness];
  const rng = new SeededRng(20_261_122);
  const wanted: string[] = [];
  // Before the first write, or the watch would rightly leave that one out.
  const start = (await first.ask("GET", "/keys?limit=1")).headers["keelson-revision"];
  const progress = { writing: true };
  const writer = (async () => {
    for (let i = 0; i < 400; i++) {
      const big = i % 40 === 7;
      const body = {
        then: Array.from({ length: 1 + rng.below(3) }, (_, at) => ({
          put: { key: `cut/${i}/${at}`, value: big ? "x".repeat(400_000) : String(i) },
        })),
      };
      const { json, status } = await first.ask("POST", "/txn", { body });
      expect(status).toBe(200);
      for (const {
        put: { key },
      } of body.then)
        wanted.push(`${at(json, "revision")} ${key}`);
      if (i % 16 === 0) await Bun.sleep(1);
    }
    progress.writing = false;
  })();
  const seen: string[] = [];
  let id = "";
  let cuts = 0;
  while (progress.writing || seen.length < wanted.length) {
    const watch = await LineWatch.open(
      id === "" ? `prefix=cut/&heartbeatSeconds=1&after=${start}` : "prefix=cut/&heartbeatSeconds=1",
      id === "" ? {} : { "last-event-id": id },
      members[rng.below(members.length)]!.url,
    );
    expect(watch.response.status).toBe(200);
    const messages = 1 + rng.below(12);
    for (let at = 0; at < messages && (progress.writing || seen.length < wanted.length); at++) {
      const message = await watch.next();
      if (message === undefined) break;
      if (message.id !== undefined) id = message.id;
      for (const { modRevision, key } of message.events ?? []) seen.push(`${modRevision} ${key}`);
    }
    watch.cut();
    cuts++;
  }
  await writer;
  await Promise.all(members.map((member) => member.stop()));
  expect(seen).toEqual(wanted);
  expect(cuts).toBeGreaterThan(30);
}, 60_000);
