/** Stopping, and being started twice. */
import { expect, test } from "bun:test";
import { spawn } from "node:child_process";
import { KV, Watch } from "../../src/proto/gen/etcd/rpc_pb";
import { GrpcClient } from "../tools/grpc-client";
import { repositoryDir } from "../tools/install";
import { freePorts, keelsonCommand, keelsonFlags, startKeelson } from "../tools/server";
import { Load } from "./load";

const calibrating = process.env["KEELSON_TEST_SUBJECT"] === "etcd";
const utf8 = (text: string): Uint8Array => Buffer.from(text);

/** Runs a command to its end, or ends it after a while. */
async function outcome(
  command: readonly string[],
  timeoutMs: number,
): Promise<{ code: number | null; output: string }> {
  const [program = "", ...rest] = command;
  const child = spawn(program, rest, { cwd: repositoryDir, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream.on("data", (chunk: Buffer) => (output += chunk.toString()));
  const { promise, resolve } = Promise.withResolvers<number | null>();
  child.once("close", (code) => resolve(code));
  const timer = setTimeout(() => child.kill("SIGKILL"), timeoutMs);
  const code = await promise;
  clearTimeout(timer);
  return { code, output };
}

test("SIGTERM under load ends the process within 10 s, loses nothing, and leaves hardly a request unanswered", async () => {
  const load = new Load();
  let server = await startKeelson();
  const idle = new GrpcClient(server.url);
  const watch = idle.stream(Watch.method.watch);
  watch.send({ requestUnion: { case: "createRequest", value: { key: utf8("w/"), rangeEnd: utf8("w0") } } });
  await watch.next();

  const writers = 8;
  const writing = load.run(server.url, { writers, seed: 1, stop: () => false });
  await Bun.sleep(700);
  const askedAt = performance.now();
  const status = await server.stop(20_000);
  const tookMs = performance.now() - askedAt;
  await writing;
  expect(status.signal).not.toBe("SIGKILL");
  if (!calibrating) expect(status.code).toBe(0);
  expect(tookMs).toBeLessThan(10_000);

  // The stream has been ended by the server, not forgotten.
  await watch.ended();
  idle.close();

  // Requests in flight were finished: those without an answer were sent after the doors closed.
  expect(load.acknowledged).toBeGreaterThan(100);
  expect(load.unknown).toBeLessThanOrEqual(writers);

  server = await startKeelson({ dataDir: server.dataDir });
  expect(await load.check(server.url)).toEqual([]);
  await server.stop();
}, 60_000);

test("a put that was under way at SIGTERM is answered", async () => {
  const server = await startKeelson();
  const client = new GrpcClient(server.url);
  await client.call(KV.method.put, { key: utf8("a"), value: utf8("0") });
  const value = new Uint8Array(1_000_000).fill(120);
  const underWay = Array.from({ length: 20 }, () => client.unary(KV.method.put, { key: utf8("a"), value }));
  const all = Promise.allSettled(underWay);
  // The first answer shows that the server has taken requests of this batch.
  await Promise.race(underWay);
  const stopped = server.stop(20_000);
  const settled = await all;
  await stopped;
  const answered = settled.filter((result) => result.status === "fulfilled" && result.value.ok).length;
  expect(answered).toBeGreaterThan(0);
  client.close();
  const again = await startKeelson({ dataDir: server.dataDir });
  const reader = new GrpcClient(again.url);
  const range = await reader.call(KV.method.range, { key: utf8("a") });
  expect(Number(range.kvs[0]?.version ?? 0n)).toBeGreaterThanOrEqual(answered + 1);
  reader.close();
  await again.stop();
}, 60_000);

test.skipIf(calibrating)(
  "a second process on the same data directory is refused with one clear line",
  async () => {
    const server = await startKeelson();
    const [port = 0, peerPort = 0] = await freePorts(2);
    const second = await outcome(
      [...keelsonCommand(), ...keelsonFlags(server.dataDir, port, peerPort)],
      15_000,
    );
    expect(second.code).not.toBe(0);
    expect(second.code).not.toBeNull();
    const lines = second.output.split("\n").filter((line) => line.includes(server.dataDir));
    expect(lines.length).toBeGreaterThan(0);
    expect(second.output).toMatch(/in use|locked|another process|already/i);
    expect(second.output).not.toMatch(/\n\s+at .*\.ts:\d+/);

    // The first one has not noticed, and goes on.
    const client = new GrpcClient(server.url);
    await client.call(KV.method.put, { key: utf8("still"), value: utf8("here") });
    client.close();
    await server.stop();
    const again = await startKeelson({ dataDir: server.dataDir });
    await again.stop();
  },
  60_000,
);
