/** One test per claim of the Raft paper ("In Search of an Understandable Consensus Algorithm") and thesis. */
import { describe, expect, test } from "bun:test";
import { encodeConfigurationChange } from "./configuration-change";
import { entry, LoneMember } from "./testing/lone-member";
import type { Entry, Message } from "./types";

const empty = new Uint8Array(0);

function kinds(messages: readonly Message[]): string[] {
  return messages.map((message) => `${message.kind}→${message.to}`);
}

function append(
  term: number,
  previous: [index: number, term: number],
  entries: ReturnType<typeof entry>[],
  commit = 0,
) {
  return {
    kind: "append" as const,
    from: 2n,
    term,
    previousIndex: previous[0],
    previousTerm: previous[1],
    entries,
    commit,
  };
}

describe("§5.1 Raft basics", () => {
  for (const role of ["follower", "candidate", "leader"] as const) {
    test(`§5.1 a ${role} that sees a later term moves to it and becomes a follower`, () => {
      const member = new LoneMember(3);
      if (role === "candidate") member.raft.campaign();
      if (role === "leader") member.lead(2n);
      member.settle();
      expect(member.status.role).toBe(role);
      member.hear(append(7, [0, 0], []));
      expect(member.status).toMatchObject({ role: "follower", term: 7, leader: 2n });
    });
  }

  test("§5.1 a message of an earlier term changes nothing", () => {
    const member = new LoneMember(3, { hardState: { term: 5, vote: 0n, commit: 0 } });
    member.hear(append(4, [0, 0], [entry(1, 4)], 1));
    expect(member.status).toMatchObject({ term: 5, leader: 0n, lastIndex: 0, commit: 0 });
  });

  test("§5.1 a request with a stale term is refused with the current one (R12)", () => {
    const member = new LoneMember(3, { hardState: { term: 5, vote: 0n, commit: 0 } });
    const [toLeader] = member.hear(append(4, [0, 0], []));
    expect(toLeader).toMatchObject({ kind: "append-answer", accepted: false, term: 5, to: 2n });
    const ask = { lastIndex: 9, lastTerm: 3, transfer: false, from: 3n, term: 4 };
    expect(member.hear({ kind: "vote", ...ask })[0]).toMatchObject({ granted: false, term: 5 });
    expect(member.hear({ kind: "pre-vote", ...ask })[0]).toMatchObject({ granted: false, term: 5 });
  });
});

describe("§5.2 Leader election", () => {
  test("§5.2 members start as followers", () => {
    expect(new LoneMember(3).status.role).toBe("follower");
  });

  test("§5.2 a leader sends heartbeats to all others at each interval", () => {
    const member = new LoneMember(3, {}, { heartbeatTicks: 2 }).lead(2n);
    expect(member.tick()).toEqual([]);
    expect(kinds(member.tick())).toEqual(["heartbeat→2", "heartbeat→3"]);
  });

  test("§5.2 a follower that hears nothing campaigns: next term, vote for itself, requests to all", () => {
    const member = new LoneMember(3);
    const sent = member.tick(20);
    expect(kinds(sent)).toEqual(["vote→2", "vote→3"]);
    expect(member.status).toMatchObject({ role: "candidate", term: 1, vote: 1n });
  });

  test("§5.2 a heartbeat puts off the election", () => {
    const member = new LoneMember(3);
    for (let i = 0; i < 10; i++) {
      member.tick(9);
      member.hear({ kind: "heartbeat", from: 2n, term: 1, commit: 0, readRound: 0 });
    }
    expect(member.status).toMatchObject({ role: "follower", term: 1, leader: 2n });
  });

  for (const [voters, grants, refusals, role] of [
    [1, 0, 0, "leader"],
    [3, 1, 0, "leader"],
    [3, 0, 1, "candidate"],
    [3, 0, 2, "follower"],
    [5, 1, 0, "candidate"],
    [5, 2, 0, "leader"],
    [5, 2, 2, "leader"],
    [5, 1, 3, "follower"],
  ] as const) {
    test(`§5.2 of ${voters} voters, ${grants} more grant and ${refusals} refuse: ${role}`, () => {
      const member = new LoneMember(voters);
      member.raft.campaign();
      member.settle();
      for (let i = 0; i < grants + refusals; i++)
        member.hear({
          kind: "vote-answer",
          from: BigInt(i + 2),
          term: 1,
          granted: i < grants,
          commit: 0,
          commitTerm: 0,
        });
      expect(member.status.role).toBe(role);
    });
  }

  test("§5.2 a voter votes for one candidate in a term, first come first served", () => {
    const member = new LoneMember(3);
    const ask = { kind: "vote" as const, term: 1, lastIndex: 0, lastTerm: 0, transfer: false };
    expect(member.hear({ ...ask, from: 2n })[0]).toMatchObject({ granted: true });
    expect(member.hear({ ...ask, from: 3n })[0]).toMatchObject({ granted: false });
    expect(member.hear({ ...ask, from: 2n })[0]).toMatchObject({ granted: true });
  });

  test("§5.2 a candidate that hears from a leader of its term follows it", () => {
    const member = new LoneMember(3);
    member.raft.campaign();
    member.settle();
    member.hear(append(1, [0, 0], []));
    expect(member.status).toMatchObject({ role: "follower", term: 1, leader: 2n });
  });

  test("§5.2 a candidate without a result campaigns again in a new term", () => {
    const member = new LoneMember(3);
    member.tick(20);
    member.tick(20);
    expect(member.status).toMatchObject({ role: "candidate", term: 2 });
  });

  test("§5.2 election timeouts are drawn from [electionTicks, 2 × electionTicks)", () => {
    const seen = new Set<number>();
    const member = new LoneMember(3);
    for (let round = 0; round < 500; round++) {
      let ticks = 0;
      const { term } = member.status;
      while (member.status.term === term) {
        member.tick();
        ticks++;
      }
      seen.add(ticks);
    }
    expect([...seen].sort((a, b) => a - b)).toEqual([10, 11, 12, 13, 14, 15, 16, 17, 18, 19]);
  });
});

describe("§5.3 Log replication", () => {
  test("§5.3 a leader appends a command to its log and sends it to all followers", () => {
    const member = new LoneMember(3).lead(2n);
    member.acknowledge(1, 2n, 3n);
    const sent = member.propose("a");
    expect(kinds(sent)).toEqual(["append→2", "append→3"]);
    expect(sent[0]).toMatchObject({
      previousIndex: 1,
      previousTerm: 1,
      entries: [entry(2, 1, "a")],
      commit: 1,
    });
  });

  for (const [voters, holders, committed] of [
    [1, [], true],
    [3, [], false],
    [3, [2n], true],
    [5, [2n], false],
    [5, [2n, 3n], true],
  ] as const) {
    test(`§5.3 an entry on ${holders.length + 1} of ${voters} is ${committed ? "" : "not "}committed`, () => {
      const member = new LoneMember(voters).lead(
        ...Array.from({ length: voters - 1 }, (_, i) => BigInt(i + 2)),
      );
      member.acknowledge(1, ...Array.from({ length: voters - 1 }, (_, i) => BigInt(i + 2)));
      member.propose("a");
      member.acknowledge(2, ...holders);
      expect(member.status.commit).toBe(committed ? 2 : 1);
    });
  }

  test("§5.3 committing an entry commits all before it, also of earlier leaders", () => {
    const member = new LoneMember(3, { tail: [entry(1, 1, "a"), entry(2, 2, "b")] }).lead(2n);
    member.acknowledge(3, 2n);
    expect(member.applied.map((applied) => applied.index)).toEqual([1, 2, 3]);
  });

  test("§5.3 the leader tells how far is committed, and a follower applies that, in log order", () => {
    const member = new LoneMember(3);
    member.hear(append(1, [0, 0], [entry(1, 1, "a"), entry(2, 1, "b"), entry(3, 1, "c")], 2));
    expect(member.applied).toEqual([entry(1, 1, "a"), entry(2, 1, "b")]);
    member.hear({ kind: "heartbeat", from: 2n, term: 1, commit: 3, readRound: 0 });
    expect(member.applied).toEqual([entry(1, 1, "a"), entry(2, 1, "b"), entry(3, 1, "c")]);
  });

  test("§5.3 a follower refuses an append whose predecessor it does not have", () => {
    const member = new LoneMember(3, { tail: [entry(1, 1), entry(2, 2)] });
    for (const previous of [
      [3, 2],
      [2, 1],
      [2, 3],
    ] as [number, number][]) {
      const [answer] = member.hear(append(3, previous, [entry(previous[0] + 1, 3)]));
      expect(answer).toMatchObject({ kind: "append-answer", accepted: false, index: previous[0] });
    }
    expect(member.log).toEqual([entry(1, 1), entry(2, 2)]);
  });

  test("§5.3 entries that conflict with the leader's are replaced, with all that follow", () => {
    const tail = [entry(1, 1), entry(2, 2), entry(3, 2)];
    const member = new LoneMember(3, { tail });
    member.hear(append(3, [1, 1], [entry(2, 3, "x")]));
    expect(member.log).toEqual([entry(1, 1), entry(2, 3, "x")]);
  });

  test("§5.3 entries that are there already stay, and so do those behind them", () => {
    const tail = [entry(1, 1), entry(2, 1), entry(3, 1)];
    const member = new LoneMember(3, { tail });
    const [answer] = member.hear(append(1, [0, 0], [entry(1, 1), entry(2, 1)]));
    expect(answer).toMatchObject({ accepted: true, index: 2 });
    expect(member.status.lastIndex).toBe(3);
    expect(member.readies.flatMap((ready) => ready.entries)).toEqual([]);
  });

  test("§5.3 a refusal makes the leader go back, a whole term at a time", () => {
    const tail = [1, 1, 1, 2, 2, 2, 3, 3].map((term, i) => entry(i + 1, term));
    const member = new LoneMember(3, { tail }).lead(2n);
    const refusal = { kind: "append-answer" as const, from: 3n, term: 4, accepted: false };
    const [again] = member.hear({ ...refusal, index: 8, hintIndex: 6, hintTerm: 1 });
    expect(again).toMatchObject({ kind: "append", to: 3n, previousIndex: 3, previousTerm: 1 });
  });

  test("§5.3 a leader never changes its own entries", () => {
    const member = new LoneMember(3).lead(2n);
    member.propose("a", "b");
    expect(() => member.hear(append(1, [0, 0], [entry(1, 1, "x")]))).toThrow("same term");
    expect(member.log.map((own) => own.index)).toEqual([1, 2, 3]);
  });
});

describe("§5.4 Safety", () => {
  test("§5.4.1 a voter refuses a candidate whose log is less complete than its own", () => {
    const tail = [entry(1, 1), entry(2, 2), entry(3, 2)];
    for (const [lastIndex, lastTerm, granted] of [
      [3, 2, true],
      [4, 2, true],
      [1, 3, true],
      [2, 2, false],
      [9, 1, false],
      [0, 0, false],
    ] as const) {
      const member = new LoneMember(3, { tail });
      const ask = { kind: "vote" as const, from: 2n, term: 9, transfer: false };
      expect(member.hear({ ...ask, lastIndex, lastTerm })[0]).toMatchObject({ granted });
    }
  });

  test("§5.4.2 a leader does not commit entries of earlier terms by counting", () => {
    const member = new LoneMember(3, { tail: [entry(1, 1), entry(2, 2)] }).lead(2n);
    member.acknowledge(2, 2n, 3n);
    expect(member.status.commit).toBe(0);
    member.acknowledge(3, 2n);
    expect(member.status.commit).toBe(3);
  });
});

describe("§5.5 and §8 Crashes and clients", () => {
  test("§5.5 a repeated append changes nothing and is acknowledged again", () => {
    const member = new LoneMember(3);
    const message = append(1, [0, 0], [entry(1, 1, "a")]);
    const first = member.hear(message);
    expect(member.hear(message)).toEqual(first);
    expect(member.log).toEqual([entry(1, 1, "a")]);
  });

  test("§8 a leader opens its term with an empty entry", () => {
    const member = new LoneMember(3).lead(2n);
    expect(member.log).toEqual([entry(1, 1)]);
  });

  test("§8 [R13] a read waits for a commit in the own term and for a quorum asked after it", () => {
    const member = new LoneMember(3, { tail: [entry(1, 1)] }).lead(2n);
    member.raft.readIndex(7);
    expect(kinds(member.settle())).toEqual([]);
    member.acknowledge(2, 2n);
    expect(member.reads).toEqual([]);
    member.hear({ kind: "heartbeat-answer", from: 2n, term: 2, readRound: 0 });
    expect(member.reads).toEqual([]);
    member.hear({ kind: "heartbeat-answer", from: 2n, term: 2, readRound: 1 });
    expect(member.reads).toEqual([{ context: 7, index: 2 }]);
  });

  test("§8 [R13] an answer to an earlier round confirms nothing, and one to a round of the future neither", () => {
    const member = new LoneMember(3).lead(2n);
    member.acknowledge(1, 2n);
    member.raft.readIndex(1);
    member.settle();
    member.hear({ kind: "heartbeat-answer", from: 2n, term: 1, readRound: 1 });
    member.raft.readIndex(2);
    member.settle();
    member.hear({ kind: "heartbeat-answer", from: 3n, term: 1, readRound: 1 });
    member.hear({ kind: "heartbeat-answer", from: 3n, term: 1, readRound: 99 });
    expect(member.reads.map((read) => read.context)).toEqual([1]);
    member.hear({ kind: "heartbeat-answer", from: 3n, term: 1, readRound: 2 });
    expect(member.reads.map((read) => read.context)).toEqual([1, 2]);
  });

  test("thesis §6.4 one round serves every read that waits", () => {
    const member = new LoneMember(3).lead(2n);
    member.acknowledge(1, 2n);
    for (let context = 1; context <= 50; context++) member.raft.readIndex(context);
    expect(kinds(member.settle())).toEqual(["heartbeat→2", "heartbeat→3"]);
    member.hear({ kind: "heartbeat-answer", from: 2n, term: 1, readRound: 1 });
    expect(member.reads.length).toBe(50);
  });
});

describe("Thesis: membership, transfer, pre-vote, check-quorum", () => {
  const learner = { type: "add-learner", memberId: 4n, context: empty } as const;

  test("thesis §4.1 [R9] one change at a time, and none before a commit in the own term", () => {
    const member = new LoneMember(3).lead(2n);
    expect(member.raft.proposeConfigurationChange(learner)).toMatchObject({ reason: "not-ready" });
    member.acknowledge(1, 2n);
    expect(member.raft.proposeConfigurationChange(learner)).toMatchObject({ ok: true, firstIndex: 2 });
    const other = { ...learner, memberId: 5n };
    expect(member.raft.proposeConfigurationChange(other)).toMatchObject({ reason: "pending-change" });
    member.settle();
    member.acknowledge(2, 2n);
    expect(member.raft.proposeConfigurationChange(other)).toMatchObject({ ok: true });
  });

  test("thesis §4.1 changes that are no legal single step are refused", () => {
    const member = new LoneMember(1);
    member.tick();
    const refused = (type: "add-voter" | "add-learner" | "remove", memberId: bigint): unknown =>
      member.raft.proposeConfigurationChange({ type, memberId, context: empty });
    expect(refused("add-voter", 1n)).toMatchObject({ reason: "invalid" });
    expect(refused("add-learner", 1n)).toMatchObject({ reason: "invalid" });
    expect(refused("remove", 1n)).toMatchObject({ reason: "invalid" });
    expect(refused("remove", 9n)).toMatchObject({ reason: "invalid" });
    expect(refused("add-voter", 0n)).toMatchObject({ reason: "invalid" });
  });

  test("[R10] nobody campaigns while a committed membership change is unapplied", () => {
    const change = encodeConfigurationChange(learner);
    const tail = [{ ...entry(1, 1), kind: "configuration" as const, data: change }];
    const member = new LoneMember(3, { tail, hardState: { term: 1, vote: 0n, commit: 1 } });
    for (let i = 0; i < 40; i++) member.raft.tick();
    expect(member.status).toMatchObject({ role: "follower", term: 1 });
    member.settle();
    member.tick(20);
    expect(member.status.role).toBe("candidate");
  });

  test("[R10] a second change in the log proves the first committed, whatever the durable commit index says", () => {
    const add = (memberId: bigint): Uint8Array =>
      encodeConfigurationChange({ ...learner, type: "add-voter", memberId });
    const tail: Entry[] = [4n, 5n].map((id, i) => ({
      index: i + 1,
      term: 1,
      kind: "configuration",
      data: add(id),
    }));
    const member = new LoneMember(3, { tail, hardState: { term: 1, vote: 0n, commit: 0 } });
    expect(member.status.commit).toBe(1);
    member.raft.campaign();
    expect(member.status.role).toBe("follower");
    member.settle();
    expect(member.status.configuration.voters).toEqual([1n, 2n, 3n, 4n]);
  });

  test("thesis §3.10 a handover brings the target up to date, stops proposals, and ends after an election timeout", () => {
    const member = new LoneMember(3).lead(2n);
    member.acknowledge(1, 2n);
    expect(member.raft.transferLeader(3n)).toEqual({ ok: true });
    expect(kinds(member.settle())).not.toContain("timeout-now→3");
    expect(member.raft.propose([empty])).toMatchObject({ ok: false, reason: "transferring" });
    expect(kinds(member.acknowledge(1, 3n))).toContain("timeout-now→3");
    member.tick(10);
    expect(member.raft.propose([empty])).toMatchObject({ ok: true });
  });

  test("thesis §3.10 a member told to take over campaigns at once, without pre-vote", () => {
    const member = new LoneMember(3, {}, { preVote: true, checkQuorum: true });
    member.hear(append(1, [0, 0], []));
    const sent = member.hear({ kind: "timeout-now", from: 2n, term: 1 });
    expect(sent).toMatchObject([
      { kind: "vote", transfer: true, term: 2 },
      { kind: "vote", transfer: true, term: 2 },
    ]);
  });

  test("thesis §9.6 [R11] a pre-vote changes neither term nor vote, at the asker or the asked", () => {
    const member = new LoneMember(3, {}, { preVote: true });
    const ask = { kind: "pre-vote" as const, from: 2n, term: 8, lastIndex: 0, lastTerm: 0, transfer: false };
    expect(member.hear(ask)[0]).toMatchObject({ granted: true, term: 8 });
    member.raft.campaign();
    expect(kinds(member.settle())).toEqual(["pre-vote→2", "pre-vote→3"]);
    expect(member.status).toMatchObject({ role: "pre-candidate", term: 0, vote: 0n });
  });

  test("thesis §4.2.3 [R11] who hears a leader ignores vote requests, except in a handover", () => {
    const member = new LoneMember(3, {}, { checkQuorum: true });
    member.hear(append(1, [0, 0], []));
    const ask = { kind: "vote" as const, from: 3n, term: 2, lastIndex: 0, lastTerm: 0 };
    expect(member.hear({ ...ask, transfer: false })).toEqual([]);
    expect(member.status.term).toBe(1);
    expect(member.hear({ ...ask, transfer: true })[0]).toMatchObject({ granted: true });
  });

  test("thesis §6.2 a leader that no quorum answers steps down, and says which reads it gives up", () => {
    const member = new LoneMember(3, {}, { checkQuorum: true }).lead(2n);
    member.acknowledge(1, 2n);
    member.raft.readIndex(5);
    member.tick(20);
    expect(member.status).toMatchObject({ role: "follower", term: 1 });
    expect(member.abandoned).toEqual([5]);
  });

  test("[P19] learners count neither for commits nor for votes nor for reads", () => {
    const configuration = { voters: [1n, 2n, 3n], learners: [4n, 5n] };
    const member = new LoneMember(3, { configuration });
    member.raft.campaign();
    member.settle();
    const grant = { kind: "vote-answer" as const, term: 1, granted: true, commit: 0, commitTerm: 0 };
    member.hearFrom([4n, 5n], grant);
    expect(member.status.role).toBe("candidate");
    member.hearFrom([2n], grant);
    member.acknowledge(1, 4n, 5n);
    expect(member.status.commit).toBe(0);
    member.acknowledge(1, 2n);
    member.raft.readIndex(1);
    member.settle();
    member.hearFrom([4n, 5n], { kind: "heartbeat-answer", term: 1, readRound: 1 });
    expect(member.reads).toEqual([]);
  });
});

describe("Thesis §10.2.1 Writing to disk", () => {
  test("[R8] a leader sends while its own write is under way, and counts itself only when it is done", () => {
    const member = new LoneMember(3).lead(2n);
    member.acknowledge(1, 2n, 3n);
    member.raft.propose([empty]);
    const ready = member.take();
    expect(kinds(ready.sendNow)).toEqual(["append→2", "append→3"]);
    member.raft.step({
      kind: "append-answer",
      from: 2n,
      to: 1n,
      term: 1,
      accepted: true,
      index: 2,
      hintIndex: 0,
      hintTerm: 0,
    });
    expect(member.status.commit).toBe(1);
    member.raft.persisted(ready.persist!);
    expect(member.status.commit).toBe(2);
  });

  test("[R8] a single voter commits when its disk has it, not before (etcd #14370)", () => {
    const member = new LoneMember(1);
    member.tick();
    member.raft.propose([empty, empty]);
    const ready = member.take();
    expect(member.status).toMatchObject({ lastIndex: 3, commit: 1 });
    member.raft.persisted(ready.persist!);
    expect(member.status.commit).toBe(3);
  });

  test("[R7] a vote leaves only after the persist, and the own vote counts only then", () => {
    const member = new LoneMember(3);
    member.raft.campaign();
    const campaign = member.take();
    expect(campaign.sendNow).toEqual([]);
    expect(kinds(campaign.sendAfterPersist)).toEqual(["vote→2", "vote→3"]);
    expect(campaign).toMatchObject({ hardState: { term: 1, vote: 1n }, mustSync: true });
    const voter = new LoneMember(3);
    const ask = {
      kind: "vote" as const,
      from: 2n,
      to: 1n,
      term: 1,
      lastIndex: 0,
      lastTerm: 0,
      transfer: false,
    };
    voter.raft.step(ask);
    const answer = voter.take();
    expect(answer.sendNow).toEqual([]);
    expect(answer.sendAfterPersist).toMatchObject([{ kind: "vote-answer", granted: true }]);
  });

  test("[R7] a heartbeat is answered once its term is on disk, whatever entries wait for theirs", () => {
    const member = new LoneMember(3);
    const heartbeat = { kind: "heartbeat" as const, from: 2n, to: 1n, term: 1, commit: 0, readRound: 4 };
    member.raft.step(heartbeat);
    const first = member.take();
    expect(first.sendNow).toEqual([]);
    expect(kinds(first.sendAfterPersist)).toEqual(["heartbeat-answer→2"]);
    member.raft.persisted(first.persist!);
    member.raft.step({ ...append(1, [0, 0], [entry(1, 1)]), to: 1n });
    member.raft.step(heartbeat);
    const second = member.take();
    expect(kinds(second.sendNow)).toEqual(["heartbeat-answer→2"]);
    expect(kinds(second.sendAfterPersist)).toEqual(["append-answer→2"]);
  });

  test("[R8] an old completion does not vouch for entries that came back after being overwritten", () => {
    const member = new LoneMember(3);
    const hear = (message: ReturnType<typeof append>) => {
      member.raft.step({ ...message, to: 1n });
      return member.take();
    };
    const old = [entry(1, 1, "a"), entry(2, 1, "b")];
    const first = hear(append(1, [0, 0], old));
    const second = hear(append(2, [0, 0], [entry(1, 2, "x")]));
    // A leader of term 3 that never heard of term 2 brings the same entries back.
    const third = hear(append(3, [0, 0], old));
    expect(member.log).toEqual(old);
    member.raft.persisted(first.persist!);
    expect(member.status.persisted).toBe(0);
    member.raft.persisted(second.persist!);
    expect(member.status.persisted).toBe(0);
    member.raft.persisted({ ...third.persist!, term: 2 });
    expect(member.status.persisted).toBe(0);
    member.raft.persisted(third.persist!);
    expect(member.status.persisted).toBe(2);
    member.raft.persisted(first.persist!);
    expect(member.status.persisted).toBe(2);
  });

  test("a commit index alone needs no sync and does not keep the driver busy", () => {
    const member = new LoneMember(1);
    member.tick();
    member.propose("a");
    expect(member.raft.hasReady()).toBe(false);
    member.raft.tick();
    expect(member.take()).toMatchObject({ hardState: { commit: 2 }, mustSync: false, persist: undefined });
    expect(member.tick()).toEqual([]);
    expect(member.readies[member.readies.length - 1]!.hardState).toBeDefined();
  });
});

describe("Bounds", () => {
  test("proposals beyond uncommittedBytesMax are refused, but never when nothing waits", () => {
    const member = new LoneMember(3).lead(2n);
    member.acknowledge(1, 2n);
    expect(member.raft.propose([new Uint8Array(5000)])).toMatchObject({ ok: true });
    expect(member.raft.propose([empty])).toMatchObject({ ok: false, reason: "overloaded" });
    member.settle();
    member.acknowledge(2, 2n);
    expect(member.raft.propose([empty])).toMatchObject({ ok: true });
  });

  test("what is in flight to a follower is bounded in messages and in bytes", () => {
    const member = new LoneMember(3, {}, { inflightMessagesMax: 4, appendBytesMax: 40 }).lead(2n);
    member.acknowledge(1, 2n);
    member.propose(..."abcdefghij");
    expect(member.status.progress[0]).toMatchObject({ state: "replicate", inflightMessages: 4, next: 6 });
  });

  test("[R8] a member whose log ends before what it acknowledged to this leader says that its disk lost it", () => {
    const heartbeat = (commit: number) =>
      ({ kind: "heartbeat", from: 2n, term: 1, commit, readRound: 0 }) as const;
    const member = new LoneMember(3);
    member.hear(append(1, [0, 0], [entry(1, 1), entry(2, 1)]));
    member.hear(heartbeat(2));
    // It comes back with an older log under its old id, and the same leader leads.
    const back = new LoneMember(3, { tail: [entry(1, 1)] });
    back.hear(heartbeat(0));
    back.hear(heartbeat(1));
    expect(() => back.hear(heartbeat(2))).toThrow(
      "acknowledged log entry 2 and its log ends at 1: its disk lost what the cluster counts on; remove member 1 ",
    );
  });

  test("malformed messages change nothing", () => {
    const member = new LoneMember(3);
    const before = member.status;
    const good = append(1, [0, 0], [entry(1, 1)]);
    for (const bad of [
      { ...good, term: 1.5 },
      { ...good, term: -1 },
      { ...good, from: 0n },
      { ...good, from: 1n },
      { ...good, entries: [entry(2, 1)] },
      { ...good, entries: [entry(1, 2)] },
      { ...good, entries: [entry(1, 1), entry(3, 1)] },
      { ...good, commit: Number.NaN },
      { ...good, previousTerm: 2 },
      { ...good, kind: "gossip" as "append" },
    ])
      expect(member.hear(bad)).toEqual([]);
    expect(member.status).toEqual(before);
  });
});
