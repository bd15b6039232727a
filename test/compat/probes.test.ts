/** The conformance probes, on the reference first, which calibrates them, and on Keelson. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { ensureEtcd } from "../tools/etcd";
import { GrpcClient } from "../tools/grpc-client";
import { startEtcd, startKeelson, type Server } from "../tools/server";
import { Context, probes, survivalProbes } from "./probes";

/**
 * Probes that a real etcd 3.6 does not pass itself, with the reason; Debian's 3.4 is not held to probes at all,
 * because it predates some of what they ask.
 */
const notOnReference: ReadonlyMap<number, string> = new Map();

const subjects = [
  { kind: "a real etcd", start: startEtcd, reference: true },
  { kind: "keelson", start: startKeelson, reference: false },
] as const;

for (const subject of subjects) {
  describe(`wire probes on ${subject.kind}`, () => {
    let server: Server;
    let client: GrpcClient;
    let old = false;

    beforeAll(async () => {
      old = subject.reference && (await ensureEtcd()).version.startsWith("3.4.");
      server = await subject.start();
      client = new GrpcClient(server.url);
    });
    afterAll(async () => {
      client.close();
      await server.stop(3_000);
    });

    const applicable = subject.reference ? probes : [...probes, ...survivalProbes];
    for (const probe of applicable) {
      if (subject.reference && notOnReference.has(probe.number)) continue;
      if (probe.number > 100 && process.env["KEELSON_TEST_SUBJECT"] === "etcd") continue;
      test(`probe ${probe.number}: ${probe.title}`, async () => {
        if (old) return;
        await probe.run(new Context(server, client, `probe-${probe.number}`));
        expect(server.exited).toBeUndefined();
      }, 30_000);
    }
  });
}
