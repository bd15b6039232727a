import { afterEach, describe, expect, test } from "bun:test";
import { connect, createServer, type Server, type Socket } from "node:net";
import { createMetrics } from "../../metrics/metrics";
import { TestMember, type TestMemberOptions, until } from "./testing";

const members: TestMember[] = [];
const servers: Server[] = [];
const sockets: Socket[] = [];

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  const opened = members.splice(0);
  await Promise.all(opened.map((member) => member.transport.close()));
  for (const server of servers.splice(0)) server.close();
  for (const { failures } of opened) expect(failures).toEqual([]);
});

async function open(id: bigint, options: TestMemberOptions = {}): Promise<TestMember> {
  const member = await TestMember.open(id, options);
  members.push(member);
  return member;
}

async function pair(options: TestMemberOptions = {}): Promise<[TestMember, TestMember]> {
  const [one, two] = [await open(1n, options), await open(2n, options)];
  one.start(two);
  two.start(one);
  await connected(one, two);
  return [one, two];
}

const connected = (one: TestMember, two: TestMember) =>
  until("both are connected", () => one.connected(two) && two.connected(one));

/** A relay between two ports that can stop reading, drop what it reads, or cut. */
class Relay {
  paused = false;
  url = "";
  readonly #pairs = new Set<[Socket, Socket]>();

  static async before(target: TestMember): Promise<Relay> {
    const relay = new Relay();
    const port = Number(new URL(target.url).port);
    const server = createServer((near) => {
      const far = connect(port, "127.0.0.1");
      const both: [Socket, Socket] = [near, far];
      relay.#pairs.add(both);
      for (const [from, to] of [both, [far, near] as const]) {
        from.on("data", (chunk: Buffer) => to.write(chunk));
        from.on("error", () => {});
        from.on("close", () => {
          relay.#pairs.delete(both);
          to.destroy();
        });
        if (relay.paused) from.pause();
      }
      sockets.push(near, far);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    servers.push(server);
    relay.url = `http://127.0.0.1:${(server.address() as { port: number }).port}`;
    return relay;
  }

  /** As a stopped process or a broken cable: nothing is read, nothing is closed. */
  pause(): void {
    this.paused = true;
    for (const both of this.#pairs) for (const socket of both) socket.pause();
  }

  resume(): void {
    this.paused = false;
    for (const both of this.#pairs) for (const socket of both) socket.resume();
  }

  cut(): void {
    for (const both of this.#pairs) for (const socket of both) socket.destroy();
  }
}

describe("two members", () => {
  test("hear each other, in order, each lane for itself", async () => {
    const [one, two] = await pair();
    for (let round = 1; round <= 500; round++) {
      one.transport.send([one.heartbeat(two, round), one.append(two, round, 100)]);
      two.transport.send([two.heartbeat(one, round)]);
    }
    await until("everything", () => two.received.length === 1000 && one.received.length === 500);
    const inOrder = Array.from({ length: 500 }, (_, position) => position + 1);
    expect(two.rounds).toEqual(inOrder);
    expect(one.rounds).toEqual(inOrder);
    expect(
      two.received.flatMap((message) => (message.kind === "append" ? [message.entries[0]!.index] : [])),
    ).toEqual(inOrder);
    expect(two.received.find(({ kind }) => kind === "append")).toEqual(one.append(two, 1, 100));
    expect(one.transport.activeSinceMs(2n)).toBeLessThanOrEqual(performance.now());
    expect(one.transport.activeSinceMs(3n)).toBeUndefined();
  });

  test("send messages of many megabytes, which arrive whole", async () => {
    const [one, two] = await pair();
    for (let index = 1; index <= 20; index++) one.transport.send([one.append(two, index, 1_500_000)]);
    await until("everything", () => two.received.length === 20, 5000);
    expect(two.received.at(-1)).toEqual(one.append(two, 20, 1_500_000));
  });

  test("hear a heartbeat before what was sent long before it", async () => {
    const [one, two] = await pair();
    for (let index = 1; index <= 60; index++) one.transport.send([one.append(two, index, 1024 ** 2)]);
    one.transport.send([one.heartbeat(two, 1)]);
    await until("the heartbeat", () => two.rounds.length === 1);
    expect(two.received.length).toBeLessThan(30);
    await until("the appends", () => two.received.length === 61, 5000);
  });

  test("keep what is sent while they connect", async () => {
    const [one, two] = [await open(1n), await open(2n)];
    two.start(one);
    one.start(two);
    one.transport.send([one.heartbeat(two, 7)]);
    await until("the heartbeat", () => two.rounds.length === 1);
  });

  test("find each other again at once when one of them restarts", async () => {
    const [one, two] = await pair();
    const port = new URL(two.url).port;
    await two.transport.close();
    members.splice(members.indexOf(two), 1);
    await until("it is missed", () => one.transport.activeSinceMs(2n) === undefined);
    one.transport.send([one.heartbeat(two, 1)]);
    await Bun.sleep(1200);
    const again = await open(2n, { listenUrl: `http://127.0.0.1:${port}`, incarnation: 2n });
    again.start(one);
    const startedMs = performance.now();
    await connected(one, again);
    // About 10 ms alone; the pause that it must not wait for has grown to between 0.5 and 1 s by now.
    expect(performance.now() - startedMs).toBeLessThan(400);
    one.transport.send([one.heartbeat(again, 2)]);
    await until("a heartbeat", () => again.rounds.length === 1);
    expect(again.rounds).toEqual([2]);
    expect(one.logged("a member cannot be reached")).toBeLessThanOrEqual(3);
  });

  test("notice within about an election timeout that nothing comes any more, and recover", async () => {
    const [one, two] = [
      await open(1n, { electionTimeoutMs: 500 }),
      await open(2n, { electionTimeoutMs: 500 }),
    ];
    const relay = await Relay.before(two);
    one.start({ id: 2n, peerUrls: [relay.url] });
    two.start(one);
    await connected(one, two);
    relay.pause();
    const pausedMs = performance.now();
    await until(
      "both ends notice",
      () => two.transport.activeSinceMs(1n) === undefined && one.transport.roundTripMs(2n) === undefined,
      3000,
    );
    expect(performance.now() - pausedMs).toBeLessThan(1500);
    one.transport.send([one.heartbeat(two, 1)]);
    relay.resume();
    await until("they are connected again", () => one.connected(two) && two.connected(one), 4000);
  });

  test("drop what does not fit into the queue, and say so once", async () => {
    const metrics = createMetrics();
    const [one, two] = [await open(1n, { metrics: metrics.network }), await open(2n)];
    const relay = await Relay.before(two);
    one.start({ id: 2n, peerUrls: [relay.url] });
    two.start(one);
    await connected(one, two);
    relay.pause();
    for (let index = 1; index <= 200; index++) one.transport.send([one.append(two, index, 1024 ** 2)]);
    for (let round = 1; round <= 20_000; round++) one.transport.send([one.heartbeat(two, round)]);
    const failures = metrics.network.peerSendFailures.of("2").value;
    expect(failures).toBeGreaterThan(200 - 64 - 1);
    expect(failures).toBeLessThan(200 + 20_000 - 64 - 16_000);
    expect(one.logged("the queue to a member is full")).toBe(2);
    // What the kernel took, up to some ten megabytes, does not wait here any more.
    await until("the queues are shown", () => metrics.network.peerQueuedBytes.of("2").value > 48 * 1024 ** 2);
    relay.resume();
    await until("what was queued arrives", () => two.rounds.length >= 16_000, 5000);
    expect(two.rounds.slice(0, 16_000)).toEqual(Array.from({ length: 16_000 }, (_, at) => at + 1));
  });

  test("lose only what was on its way when a connection breaks", async () => {
    const [one, two] = [await open(1n), await open(2n)];
    const relay = await Relay.before(two);
    one.start({ id: 2n, peerUrls: [relay.url] });
    two.start(one);
    await connected(one, two);
    for (let round = 1; round <= 1000; round++) {
      one.transport.send([one.heartbeat(two, round)]);
      if (round === 500) relay.cut();
      await Bun.sleep(round % 10 === 0 ? 1 : 0);
    }
    await until("the last one", () => two.rounds.at(-1) === 1000, 3000);
    expect(two.rounds).toEqual([...two.rounds].sort((a, b) => a - b));
    expect(new Set(two.rounds).size).toBe(two.rounds.length);
    expect(two.rounds.length).toBeGreaterThan(500);
  });

  test("use the next peer URL when one cannot be reached", async () => {
    const [one, two] = [await open(1n), await open(2n)];
    const unused = createServer();
    await new Promise<void>((resolve) => unused.listen(0, "127.0.0.1", resolve));
    const dead = `http://127.0.0.1:${(unused.address() as { port: number }).port}`;
    unused.close();
    one.start({ id: 2n, peerUrls: ["https://127.0.0.1:1", dead, two.url] });
    two.start(one);
    await until("they are connected", () => one.connected(two), 8000);
    expect(one.logged("a member cannot be reached", "TLS between members")).toBe(1);
  }, 10_000);

  test("meet over IPv6 and by host name", async () => {
    const [one, two] = [
      await open(1n, { listenUrl: "http://[::1]:0" }),
      await open(2n, { listenUrl: "http://localhost:0" }),
    ];
    expect(one.url).toContain("[::1]");
    one.start(two);
    two.start(one);
    await connected(one, two);
  });

  test("say good-bye: what was sent before the close arrives, and nothing comes after it", async () => {
    const [one, two] = await pair();
    one.transport.send([{ kind: "timeout-now", from: 1n, to: 2n, term: 3 }]);
    const closed = one.transport.close();
    two.transport.send([two.heartbeat(one, 0)]);
    await closed;
    members.splice(members.indexOf(one), 1);
    expect(two.received).toEqual([{ kind: "timeout-now", from: 1n, to: 2n, term: 3 }]);
    two.transport.send([two.heartbeat(one, 1)]);
    await Bun.sleep(20);
    expect(one.received).toEqual([]);
  });

  test("are counted", async () => {
    const metrics = createMetrics();
    const [one, two] = [await open(1n, { metrics: metrics.network }), await open(2n)];
    one.start(two);
    two.start(one);
    await connected(one, two);
    one.transport.send([one.append(two, 1, 1000)]);
    two.transport.send([two.append(one, 1, 500)]);
    await until("both", () => one.received.length === 1 && two.received.length === 1);
    const text = await metrics.text();
    expect(text).toMatch(/etcd_network_peer_sent_bytes_total\{To="2"\} 10\d\d\n/);
    expect(text).toMatch(/etcd_network_peer_received_bytes_total\{From="2"\} 5\d\d\n/);
    expect(text).toMatch(/etcd_network_peer_round_trip_time_seconds_count\{To="2"\} [1-9]/);
    expect(text).toContain('etcd_network_active_peers{Local="1",Remote="2"} 1\n');
    expect(text).toContain('etcd_network_known_peers{Local="1",Remote="2"} 1\n');
    one.knows();
    expect(await metrics.text()).not.toContain('etcd_network_active_peers{Local="1",Remote="2"}');
    expect(one.transport.activeSinceMs(2n)).toBeUndefined();
  });
});

describe("an introduction", () => {
  test("to another cluster is refused, with one line on each side", async () => {
    const [one, two] = [await open(1n, { clusterId: 5n }), await open(2n)];
    two.start(one);
    one.start(two);
    await until("both say why", () => {
      return (
        two.logged("the peer port refused a connection", "wrong-cluster") === 1 &&
        one.logged("a member cannot be reached", "wrong-cluster") === 1
      );
    });
    await Bun.sleep(200);
    expect(two.logged("the peer port refused a connection")).toBe(1);
    expect(two.transport.activeSinceMs(1n)).toBeUndefined();
    one.transport.send([one.heartbeat(two, 1)]);
    expect(two.received).toEqual([]);
  });

  test("at the wrong member's URL is refused", async () => {
    const [one, two] = [await open(1n), await open(2n)];
    two.start(one);
    one.start({ id: 3n, peerUrls: [two.url] });
    await until("it is said", () => one.logged("a member cannot be reached", "wrong-member") === 1);
    expect(two.transport.activeSinceMs(1n)).toBeUndefined();
  });

  test("to oneself is refused", async () => {
    const one = await open(1n);
    one.start({ id: 3n, peerUrls: [one.url] });
    await until("it is said", () => one.logged("a member cannot be reached", "myself") === 1);
  });

  test("of a member that is not known yet is refused until it is known", async () => {
    const [one, two] = [await open(1n), await open(2n)];
    two.start();
    one.start(two);
    await until("it is said", () => one.logged("a member cannot be reached", "unknown-member") > 0);
    expect(two.received).toEqual([]);
    // It says who came, and where it can be reached: the member may decide to know it.
    expect(two.strangers[0]).toEqual(one.address);
    two.knows(two.strangers[0]!);
    await until("they are connected", () => two.connected(one), 3000);
  });

  test("before the member has started is refused, to be tried again", async () => {
    const [one, two] = [await open(1n), await open(2n)];
    one.start(two);
    await until("it is said", () => one.logged("a member cannot be reached", "not-ready") > 0);
    two.start(one);
    await connected(one, two);
  });

  test("is what proposals wait for at their sender, which is told of each that does not leave", async () => {
    const [one, two] = [await open(1n), await open(2n)];
    const payloads = [Buffer.alloc(1024)];
    const send = (to: TestMember, batch: number) =>
      one.transport.send([
        { kind: "propose", from: 1n, to: to.id, term: 1, incarnation: 1n, batch, payloads },
      ]);
    one.start(two);
    expect(send(two, 1)).toBeFalse();
    two.start(one);
    await connected(one, two);
    expect(send(two, 2)).toBeTrue();
    expect(send(one, 3)).toBeFalse();
    await until("it came", () => two.received.length === 1);
    expect(two.received[0]).toMatchObject({ kind: "propose", batch: 2 });
    await two.transport.close();
    await until("it is gone", () => one.transport.roundTripMs(2n) === undefined);
    await until("the other lane is gone, too", () => !send(two, 4));
  });

  test("of a removed member is answered with its removal", async () => {
    const [one, two] = await pair();
    two.removedIds.add(1n);
    two.knows();
    await until("it learns of it", () => one.removedBy.length > 0);
    expect(one.removedBy[0]).toBe(2n);
    expect(two.transport.activeSinceMs(1n)).toBeUndefined();
  });

  test("of a member that comes without the data it had is refused both ways, and it is told", async () => {
    const [one, two, three] = [await open(1n), await open(2n), await open(3n)];
    one.isFresh = true;
    for (const knowing of [two, three]) knowing.livedIds.add(1n);
    // The others dial it as well as it dials them; it takes whom it does not know to be without data.
    one.start(two, three);
    two.start(one, three);
    three.start(one, two);
    await connected(two, three);
    await until("it is told by both", () => new Set(one.lostDataBy).size === 2);
    for (const knowing of [two, three]) {
      expect(knowing.transport.activeSinceMs(1n)).toBeUndefined();
      expect(knowing.transport.roundTripMs(1n)).toBeUndefined();
      knowing.transport.send([knowing.heartbeat(one, 1)]);
    }
    expect(one.received).toEqual([]);
    expect(two.lostDataBy).toEqual([]);
    // One that has data by now is a member like any other.
    one.isFresh = false;
    await connected(one, two);
  }, 10_000);

  test("by a later process of a member takes the place of the earlier", async () => {
    const [one, two] = await pair();
    const later = await open(1n, { incarnation: 9n });
    later.start(two);
    await until("the later is connected", () => later.transport.roundTripMs(2n) !== undefined);
    // The earlier process lives on and tries again, in vain.
    await until("it is told", () => one.logged("a member cannot be reached", "superseded") > 0, 3000);
    for (let round = 1; round <= 5; round++) {
      one.transport.send([one.heartbeat(two, 1000 + round)]);
      later.transport.send([later.heartbeat(two, round)]);
      await Bun.sleep(20);
    }
    await until("the later is heard", () => two.rounds.length === 5);
    expect(two.rounds).toEqual([1, 2, 3, 4, 5]);
    // It comes back once the later is gone: nothing else could tell who of them is right.
    await later.transport.close();
    members.splice(members.indexOf(later), 1);
    await until("the earlier is connected", () => two.transport.activeSinceMs(1n) !== undefined, 3000);
  });
});
