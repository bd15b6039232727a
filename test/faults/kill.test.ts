/**
 * kill -9 under write load, again and again: no acknowledged write is lost, the revision never goes back, and what
 * nobody knows the outcome of either happened wholly or not at all. 20 rounds; KEELSON_KILL_ROUNDS=100 for more.
 */
import { expect, test } from "bun:test";
import { SeededRng } from "../../src/rng";
import { startKeelson } from "../tools/server";
import { checkLeases, leaseKey, Load, type LeasedKey } from "./load";

const rounds = Number(process.env["KEELSON_KILL_ROUNDS"] ?? "20");
const seed = Number(process.env["KEELSON_KILL_SEED"] ?? "7");

test(
  `${rounds} rounds of kill -9 under load lose no acknowledged write and never lower the revision`,
  async () => {
    const rng = new SeededRng(seed);
    const load = new Load();
    const leases: LeasedKey[] = [];
    let server = await startKeelson();
    const { dataDir } = server;
    for (let round = 1; round <= rounds; round++) {
      leases.push(await leaseKey(load, server.url, BigInt(round)));
      const before = load.acknowledged;
      let killed = false;
      const writing = load.run(server.url, { writers: 8, seed: seed * 100 + round, stop: () => killed });
      await Bun.sleep(60 + rng.below(400));
      const status = await server.kill();
      killed = true;
      expect(status.signal).toBe("SIGKILL");
      await writing;
      expect(load.acknowledged).toBeGreaterThan(before);

      server = await startKeelson({ dataDir, port: server.port });
      expect(await checkLeases(server.url, leases)).toEqual([]);
      const found = await load.check(server.url);
      if (found.length > 0)
        throw new Error(`round ${round}:\n${found.slice(0, 10).join("\n")}\n${server.log().slice(-3000)}`);
    }
    await server.stop();
    console.log(
      `${rounds} kills: ${load.acknowledged} acknowledged writes, ${load.unknown} of unknown outcome, revision ${load.knownRevision}`,
    );
    // A run in which hardly anything was written, or nothing was under way when the process died, shows nothing.
    expect(load.acknowledged).toBeGreaterThan(rounds * 20);
    expect(load.unknown).toBeGreaterThan(rounds / 2);
  },
  60_000 + rounds * 10_000,
);
