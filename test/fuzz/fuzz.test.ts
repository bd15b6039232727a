/**
 * Bad input of every kind, over three cycles: the process stays up and answers, what was refused has written
 * nothing, and memory comes back to within 20 % of before in a minute's rest at most. KEELSON_FUZZ_REST_SECONDS=60
 * rests for the whole minute each time; KEELSON_FUZZ_SCALE multiplies the amount; KEELSON_FUZZ_SEED draws another run.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { KV, Watch } from "../../src/proto/gen/etcd/rpc_pb";
import { SeededRng } from "../../src/rng";
import { GrpcClient } from "../tools/grpc-client";
import { startKeelson, type Server } from "../tools/server";
import { type Attack, attacks, type Findings } from "./attacks";

const restSeconds = Number(process.env["KEELSON_FUZZ_REST_SECONDS"] ?? "4");
const scale = Number(process.env["KEELSON_FUZZ_SCALE"] ?? "1");
const seed = Number(process.env["KEELSON_FUZZ_SEED"] ?? "1");
const calibrating = process.env["KEELSON_TEST_SUBJECT"] === "etcd";
const cycles = 3;
const attackTimeoutMs = 30_000 * Math.max(1, scale);
/** Scaled so that three cycles open about 10,000 connections. */
const count = Math.round(100 * scale);

const utf8 = (text: string): Uint8Array => Buffer.from(text);
let server: Server;

beforeAll(async () => {
  server = await startKeelson();
});
afterAll(async () => {
  await server.stop(5_000);
});

async function revision(): Promise<bigint> {
  const client = new GrpcClient(server.url);
  const range = await client.call(KV.method.range, { key: utf8("a") });
  client.close();
  return range.header?.revision ?? 0n;
}

/**
 * Ordinary work of every kind and about as much of it as one cycle brings, so that memory is measured on a server
 * in use: connections, small and large puts, ranges, watches, JSON.
 */
async function warmUp(): Promise<void> {
  for (let round = 0; round < 20; round++) {
    const clients = Array.from({ length: 40 }, () => new GrpcClient(server.url));
    await Promise.all(
      clients.map(async (client, index) => {
        const watch = client.stream(Watch.method.watch);
        watch.send({ requestUnion: { case: "createRequest", value: { key: utf8(`warm/${index}`) } } });
        await watch.next();
        for (let put = 0; put < 20; put++) {
          await client.call(KV.method.put, { key: utf8(`warm/${index}`), value: new Uint8Array(256) });
        }
        if (index === 0) {
          await client.call(KV.method.put, { key: utf8("warm/large"), value: new Uint8Array(1_400_000) });
        }
        await client.call(KV.method.range, { key: utf8("warm/"), rangeEnd: utf8("warm0"), limit: 30n });
        const body = JSON.stringify({ key: "d2FybS8=", range_end: "d2FybTA=", limit: 20 });
        await (await fetch(`${server.url}/v3/kv/range`, { method: "POST", body })).arrayBuffer();
        client.close();
      }),
    );
  }
}

/** Rests until memory is within the bound, for a minute at most; the memory then. */
async function memoryAtRest(boundBytes: number): Promise<number> {
  const deadline = performance.now() + 60_000;
  await Bun.sleep(restSeconds * 1000);
  while (server.residentBytes() > boundBytes && performance.now() < deadline) await Bun.sleep(500);
  return server.residentBytes();
}

/** An attack that never ends is a server that leaves a client waiting. */
async function bounded(attack: Attack, rng: SeededRng, amount: number, findings: Findings): Promise<void> {
  const over = await Promise.race([
    attack.run(server, rng, amount, findings).then(() => true),
    Bun.sleep(attackTimeoutMs).then(() => false),
  ]);
  if (!over) throw new Error(`"${attack.name}" is not over after ${attackTimeoutMs} ms`);
}

describe("bad input", () => {
  const memory: number[] = [];

  test(
    "is survived, writes nothing when refused, and leaves no memory behind",
    async () => {
      await warmUp();
      // One small round shows the server every kind of work once, so that code is loaded and compiled.
      const firstRng = new SeededRng(seed);
      for (const attack of attacks) await bounded(attack, firstRng, 5, { wrong: [], revision: 0n });
      await Bun.sleep(restSeconds * 1000);
      memory.push(server.residentBytes());

      for (let cycle = 1; cycle <= cycles; cycle++) {
        for (const [index, attack] of attacks.entries()) {
          const findings: Findings = { wrong: [], revision: await revision() };
          const rng = new SeededRng(seed * 10_000 + cycle * 100 + index);
          await bounded(attack, rng, count, findings);
          if (server.exited !== undefined)
            throw new Error(`${attack.name} ended the process:\n${server.log().slice(-3000)}`);
          expect({ attack: attack.name, wrong: findings.wrong.slice(0, 5) }).toEqual({
            attack: attack.name,
            wrong: [],
          });
          // Only what was answered with OK may have moved the revision.
          expect({ attack: attack.name, revision: await revision() }).toEqual({
            attack: attack.name,
            revision: findings.revision,
          });
        }
        memory.push(await memoryAtRest((memory[0] ?? 0) * 1.2));
      }
      console.log(
        `resident memory before and after each cycle: ${memory.map((bytes) => `${(bytes / 1e6).toFixed(0)} MB`).join(", ")}`,
      );
      const [before = 0, ...after] = memory;
      if (!calibrating) for (const bytes of after) expect(bytes).toBeLessThanOrEqual(before * 1.2);
    },
    280_000 + cycles * (restSeconds + 60) * 1000,
  );

  test("leaves a server that still does its work", async () => {
    const client = new GrpcClient(server.url);
    const put = await client.call(KV.method.put, { key: utf8("after"), value: utf8("all") });
    const range = await client.call(KV.method.range, { key: utf8("after") });
    expect(range.kvs[0]?.modRevision).toBe(put.header?.revision ?? 0n);
    client.close();
  });
});
