/** Members over REST in a cluster of three: what dryRun says is so, and leadership moves wherever it is asked for. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { at, RestHarness } from "./harness";

let members: RestHarness[];
let ids: string[];
beforeAll(async () => {
  members = await RestHarness.startCluster(3);
  ids = await Promise.all(
    members.map(async (member) => at((await member.ask("GET", "/status")).json, "memberId")),
  );
});
afterAll(() => Promise.all(members.map((member) => member.stop())));

async function until(what: () => Promise<boolean>): Promise<void> {
  const endMs = performance.now() + 20_000;
  while (!(await what())) {
    if (performance.now() > endMs) throw new Error("it did not come true in time");
    await Bun.sleep(20);
  }
}

const leaderOf = async (member: RestHarness): Promise<string> =>
  at((await member.ask("GET", "/status")).json, "leader");

describe("leadership", () => {
  test("moves to the member that is named, whichever is asked", async () => {
    for (const asked of members) {
      for (const target of [...ids, ids[0]!]) {
        const answer = await asked.ask("POST", `/members/${target}/lead`);
        expect([answer.status, answer.text]).toEqual([200, JSON.stringify({ leader: target })]);
        await until(async () =>
          (await Promise.all(members.map(leaderOf))).every((leader) => leader === target),
        );
      }
    }
  }, 60_000);

  test("stays where it is when nobody has the id, and when it is only thought about", async () => {
    const before = await leaderOf(members[0]!);
    const other = ids.find((id) => id !== before)!;
    expect((await members[1]!.ask("POST", "/members/00000000000000ff/lead")).status).toBe(404);
    expect((await members[1]!.ask("POST", `/members/${other}/lead?dryRun=true`)).json).toMatchObject({
      dryRun: true,
      before: { quorum: 2, spare: 1 },
      problems: [],
    });
    expect(await leaderOf(members[0]!)).toBe(before);
  });
});

describe("dryRun", () => {
  const url = "http://127.0.0.1:12380";

  test("changes nothing, and its quorums are those of the change that follows", async () => {
    const [one] = members;
    const dry = (await one!.ask("POST", "/members?dryRun=true", { body: { peerUrls: [url] } })).json;
    expect(dry).toMatchObject({ before: { quorum: 2, spare: 1 }, after: { quorum: 2, spare: 1 } });
    expect(at((await one!.ask("GET", "/members")).json, "members", 3)).toBe("undefined");
    let added = await one!.ask("POST", "/members", { body: { peerUrls: [url] } });
    // As etcd's, a leader of a few seconds does not vouch for the others' health yet.
    await until(async () => {
      if (added.status !== 503) return true;
      expect(added.text).toContain("unhealthy cluster");
      added = await one!.ask("POST", "/members", { body: { peerUrls: [url] } });
      return false;
    });
    expect(added.status).toBe(201);
    const learner = at(added.json, "id");
    // A learner that never started cannot be promoted, and dryRun knows.
    const promotion = (await one!.ask("POST", `/members/${learner}/promote?dryRun=true`)).json;
    expect(at(promotion, "problems")).toContain("does not answer");
    expect((await one!.ask("POST", `/members/${learner}/promote`)).status).toBe(409);
    const lead = (await one!.ask("POST", `/members/${learner}/lead?dryRun=true`)).json;
    expect(at(lead, "problems")).toContain("learner cannot lead");
    expect((await one!.ask("POST", `/members/${learner}/lead`)).status).toBe(409);
    // A URL that somebody has is refused, and dryRun knows.
    const taken = { body: { peerUrls: [url] } };
    const update = (await one!.ask("PUT", `/members/${ids[1]!}?dryRun=true`, taken)).json;
    expect(at(update, "problems")).toContain("Another member has");
    expect((await one!.ask("PUT", `/members/${ids[1]!}`, taken)).status).toBe(409);
    const removal = (await one!.ask("DELETE", `/members/${learner}?dryRun=true`)).json;
    expect(removal).toMatchObject({ after: { quorum: 2, spare: 1 }, problems: [] });
    expect((await one!.ask("DELETE", `/members/${learner}`)).status).toBe(200);
  }, 30_000);

  test("sees who does not answer, and what then breaks does break", async () => {
    const [one, two, three] = members;
    await one!.ask("POST", `/members/${ids[0]!}/lead`);
    await three!.stop();
    const answering = async (): Promise<unknown> =>
      (await one!.ask("DELETE", `/members/${ids[1]!}?dryRun=true`)).json;
    await until(async () => at(await answering(), "before", "spare") === "0");
    const dry = await answering();
    expect(dry).toMatchObject({
      before: { quorum: 2, spare: 0, reachable: [ids[0], ids[1]].sort() as string[] },
      after: { quorum: 2, spare: -1, reachable: [ids[0]] },
    });
    expect(at(dry, "problems")).toContain("writes would stop");
    const lead = (await one!.ask("POST", `/members/${ids[2]!}/lead?dryRun=true`)).json;
    expect(at(lead, "problems")).toContain("does not answer");
    // Removing the silent one is what dryRun says is safe: writes go on with two of two.
    const safe = (await one!.ask("DELETE", `/members/${ids[2]!}?dryRun=true`)).json;
    expect(safe).toMatchObject({ after: { quorum: 2, spare: 0 } });
    expect(safe).toMatchObject({ needed: [ids[0]!, ids[1]!].sort() });
    expect((await one!.ask("DELETE", `/members/${ids[2]!}`)).status).toBe(200);
    expect((await two!.ask("PUT", "/kv/after", { body: "x" })).status).toBe(201);
    members = [one!, two!];
  }, 60_000);
});

describe("jobs", () => {
  const ended = async (id: string): Promise<unknown> => {
    let job: unknown;
    await until(async () => {
      job = (await members[0]!.ask("GET", `/jobs/${id}`)).json;
      return at(job, "state") !== "running";
    });
    return job;
  };

  test("of hashes count members, and end when they are given up", async () => {
    const whole = await ended(at((await members[0]!.ask("POST", "/maintenance/hashes")).json, "id"));
    expect(whole).toMatchObject({
      state: "done",
      progress: { done: 2, total: 2 },
      result: { equal: true },
    });
    const id = at((await members[0]!.ask("POST", "/maintenance/hashes")).json, "id");
    await members[0]!.ask("DELETE", `/jobs/${id}`);
    expect(await ended(id)).toMatchObject({ state: "canceled" });
  });

  test("of defragmentation and compaction tell their progress, and end when they are given up", async () => {
    const [one] = members;
    const value = "v".repeat(100_000);
    for (let round = 0; round < 200; round++)
      await one!.ask("PUT", `/kv/large/${round % 20}`, { body: value });
    const compact = at((await one!.ask("POST", "/maintenance/compact")).json, "id");
    await one!.ask("DELETE", `/jobs/${compact}`);
    // Either it was faster, or it says that it was given up; the rows go in both cases.
    expect(["done", "canceled"]).toContain(at(await ended(compact), "state"));
    const again = at((await one!.ask("POST", "/maintenance/defragment")).json, "id");
    await one!.ask("DELETE", `/jobs/${again}`);
    expect(await ended(again)).toMatchObject({ state: "canceled" });
    const last = at((await one!.ask("POST", "/maintenance/defragment")).json, "id");
    const job = await ended(last);
    expect(at(job, "state")).toBe("done");
    expect(at(job, "progress", "done")).toBe(at(job, "progress", "total"));
  }, 30_000);
});
