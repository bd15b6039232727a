/**
 * Bad input of every kind, over three cycles: the process stays up and answers, what was refused has written
 * nothing, and memory comes back. KEELSON_FUZZ_REST_SECONDS=60 rests for a minute between cycles, as the promise
 * says; KEELSON_FUZZ_SCALE multiplies the amount; KEELSON_FUZZ_SEED draws another run.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { KV } from "../../src/proto/gen/etcd/rpc_pb";
import { SeededRng } from "../../src/rng";
import { GrpcClient } from "../tools/grpc-client";
import { startKeelson, type Server } from "../tools/server";
import { attacks, type Findings } from "./attacks";

const restSeconds = Number(process.env["KEELSON_FUZZ_REST_SECONDS"] ?? "4");
const scale = Number(process.env["KEELSON_FUZZ_SCALE"] ?? "1");
const seed = Number(process.env["KEELSON_FUZZ_SEED"] ?? "1");
const calibrating = process.env["KEELSON_TEST_SUBJECT"] === "etcd";
const cycles = 3;
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

/** Ordinary work, so that memory is measured on a server that has done some. */
async function warmUp(): Promise<void> {
  const client = new GrpcClient(server.url);
  for (let round = 0; round < 40; round++) {
    await Promise.all(
      Array.from({ length: 100 }, (_, index) =>
        client.call(KV.method.put, { key: utf8(`warm/${index}`), value: new Uint8Array(256) }),
      ),
    );
    await client.call(KV.method.range, { key: utf8("warm/"), rangeEnd: utf8("warm0") });
  }
  client.close();
}

describe("bad input", () => {
  const memory: number[] = [];

  test(
    "is survived, writes nothing when refused, and leaves no memory behind",
    async () => {
      await warmUp();
      // One small round shows the server every kind of work once, so that code is loaded and compiled.
      const firstRng = new SeededRng(seed);
      for (const attack of attacks) await attack.run(server, firstRng, 5, { wrong: [], revision: 0n });
      await Bun.sleep(restSeconds * 1000);
      memory.push(server.residentBytes());

      for (let cycle = 1; cycle <= cycles; cycle++) {
        for (const [index, attack] of attacks.entries()) {
          const findings: Findings = { wrong: [], revision: await revision() };
          const rng = new SeededRng(seed * 10_000 + cycle * 100 + index);
          await attack.run(server, rng, count, findings);
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
        await Bun.sleep(restSeconds * 1000);
        memory.push(server.residentBytes());
      }
      console.log(
        `resident memory before and after each cycle: ${memory.map((bytes) => `${(bytes / 1e6).toFixed(0)} MB`).join(", ")}`,
      );
      const [before = 0, ...after] = memory;
      if (!calibrating) for (const bytes of after) expect(bytes).toBeLessThanOrEqual(before * 1.2);
    },
    280_000 + cycles * restSeconds * 1000,
  );

  test("leaves a server that still does its work", async () => {
    const client = new GrpcClient(server.url);
    const put = await client.call(KV.method.put, { key: utf8("after"), value: utf8("all") });
    const range = await client.call(KV.method.range, { key: utf8("after") });
    expect(range.kvs[0]?.modRevision).toBe(put.header?.revision ?? 0n);
    client.close();
  });
});
