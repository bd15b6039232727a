import { describe, expect, test } from "bun:test";
import { create } from "@bufbuild/protobuf";
import type { ProposalResult, Raft } from "../consensus/raft";
import { refuse, StoreError } from "../errors";
import { PutRequestSchema } from "../proto/gen/etcd/rpc_pb";
import type { Command } from "../proto/gen/keelson/command_pb";
import type { ApplyResult } from "../state/results";
import { Proposals, type SendBatch } from "./proposals";

const leader = 7n;
const requestBytesMax = 2_000_000;

function command(sequence: number, valueBytes = 1): Command {
  return {
    $typeName: "keelson.Command",
    version: 1,
    requestId: {
      $typeName: "keelson.RequestId",
      memberId: 1n,
      incarnation: 9n,
      sequence: BigInt(sequence),
    },
    user: "",
    authRevision: 0n,
    idempotencyKey: new Uint8Array(0),
    requestHash: new Uint8Array(0),
    proposedAtMs: 0n,
    operation: {
      case: "put",
      value: create(PutRequestSchema, { key: new Uint8Array(1), value: new Uint8Array(valueBytes) }),
    },
  };
}

/** Consensus that follows `leader` in a term, or leads, or neither. */
class Stage {
  readonly proposals = new Proposals(requestBytesMax);
  readonly sent: { batch: number; term: number; payloads: number }[] = [];
  readonly outcomes: string[] = [];
  outcome: ProposalResult = { ok: false, reason: "no-leader", leader: 0n };
  term = 1;
  #lastIndex = 0;
  /** Whether there is a connection to the leader. */
  connected = true;
  readonly #send: SendBatch = (_leader, term, batch, payloads) => {
    if (this.connected) this.sent.push({ batch, term, payloads: payloads.length });
    return this.connected;
  };

  follow(term: number): this {
    this.term = term;
    this.outcome = { ok: false, reason: "not-leader", leader };
    return this;
  }

  lead(term: number): this {
    this.term = term;
    this.outcome = { ok: true, firstIndex: 0, term };
    return this;
  }

  without(reason: "no-leader" | "transferring" | "overloaded"): this {
    this.outcome = { ok: false, reason, leader: 0n };
    return this;
  }

  submit(sequence: number, nowMs = 0, valueBytes = 1, onlyInTerm?: number): void {
    this.proposals.submit(command(sequence, valueBytes), nowMs, onlyInTerm).then(
      () => this.outcomes.push(`${sequence} done`),
      (error: unknown) => {
        const { message, definite } = error as StoreError;
        this.outcomes.push(`${sequence} ${definite ? "never" : "unknown"}: ${message}`);
      },
    );
  }

  handIn(): this {
    const raft = {
      propose: (payloads: readonly Uint8Array[]): ProposalResult => {
        if (!this.outcome.ok) return this.outcome;
        const firstIndex = this.#lastIndex + 1;
        this.#lastIndex += payloads.length;
        return { ...this.outcome, firstIndex };
      },
      briefStatus: () => ({ term: this.term, role: this.outcome.ok ? "leader" : "follower" }),
    } as unknown as Raft;
    this.proposals.handIn(raft, this.#send);
    return this;
  }

  /** An entry with one of the own commands is applied. */
  applyForwarded(sequence: number, term: number): void {
    this.proposals.termApplied(term);
    const found = this.proposals.takeForwarded(command(sequence).requestId!);
    found?.resolve({ kind: "nothing", revision: 1 } satisfies ApplyResult);
  }

  async seen(): Promise<string[]> {
    await Promise.resolve();
    await Promise.resolve();
    return this.outcomes;
  }
}

const text = (name: Parameters<typeof refuse>[0]) => refuse(name).message;

describe("forwarding", () => {
  test("everything queued goes to the leader in one message, and each is found by its request id", async () => {
    const stage = new Stage().follow(3);
    for (let i = 1; i <= 3; i++) stage.submit(i);
    stage.handIn();
    expect(stage.sent).toEqual([{ batch: 1, term: 3, payloads: 3 }]);
    stage.applyForwarded(2, 3);
    stage.applyForwarded(1, 3);
    expect(await stage.seen()).toEqual(["2 done", "1 done"]);
    expect(stage.proposals.pending).toBe(1);
  });

  test("a message holds about a megabyte; one large proposal travels alone", () => {
    const stage = new Stage().follow(3);
    for (let i = 1; i <= 5; i++) stage.submit(i, 0, 400_000);
    stage.submit(6, 0, 1_500_000);
    stage.handIn();
    expect(stage.sent.map(({ payloads }) => payloads)).toEqual([2, 2, 1, 1]);
  });

  test("only so much is on its way to the leader; the rest follows as entries are applied, in order", async () => {
    const stage = new Stage().follow(3);
    const count = 60;
    for (let i = 1; i <= count; i++) stage.submit(i, 0, 1024 ** 2);
    stage.handIn().handIn();
    expect(stage.sent).toHaveLength(32);
    expect(stage.proposals.sendable).toBeFalse();
    stage.applyForwarded(1, 3);
    stage.applyForwarded(2, 3);
    expect(stage.proposals.sendable).toBeTrue();
    stage.handIn();
    expect(stage.sent).toHaveLength(34);
    for (let i = 3; i <= count; i++) {
      stage.applyForwarded(i, 3);
      stage.handIn();
    }
    expect(stage.sent.map(({ batch }) => batch)).toEqual(Array.from({ length: count }, (_, i) => i + 1));
    expect(await stage.seen()).toEqual(Array.from({ length: count }, (_, i) => `${i + 1} done`));
    expect(stage.proposals.pending).toBe(0);
  });

  test("[P18] what could not be sent waits, and a timeout says that it never happened", async () => {
    const stage = new Stage().follow(3);
    stage.submit(1);
    stage.submit(2, 5_000);
    stage.connected = false;
    stage.handIn();
    expect(stage.sent).toEqual([]);
    stage.proposals.sweep(7_000, 7_000, () => "timeout");
    expect(await stage.seen()).toEqual([`1 never: ${text("timeout")}`]);
    stage.connected = true;
    stage.handIn();
    expect(stage.sent).toEqual([{ batch: 1, term: 3, payloads: 1 }]);
  });

  test("proposals that are dead, refused or given up make room for others", () => {
    for (const end of ["dead", "refused", "late"] as const) {
      const stage = new Stage().follow(3);
      for (let i = 1; i <= 40; i++) stage.submit(i, i === 40 ? 5_000 : 0, 1024 ** 2);
      stage.handIn();
      expect(stage.sent).toHaveLength(32);
      if (end === "dead") stage.proposals.termApplied(4);
      else if (end === "refused") {
        for (let batch = 1; batch <= 32; batch++) stage.proposals.refused(leader, batch, "not-leader");
      } else stage.proposals.sweep(7_000, 7_000, () => "timeout");
      stage.follow(5).handIn();
      expect(stage.sent).toHaveLength(end === "late" ? 33 : 64);
    }
  });

  test("what went to a leader is not sent again, whatever leads next, until it is proven dead", () => {
    const stage = new Stage().follow(3);
    stage.submit(1);
    stage.handIn();
    stage.follow(4).handIn();
    expect(stage.sent).toHaveLength(1);
    // Entries of the leader's own term prove nothing.
    stage.proposals.termApplied(3);
    stage.handIn();
    expect(stage.sent).toHaveLength(1);
    stage.proposals.termApplied(4);
    stage.handIn();
    expect(stage.sent).toEqual([
      { batch: 1, term: 3, payloads: 1 },
      { batch: 2, term: 4, payloads: 1 },
    ]);
  });

  test("a batch that the leader did not take goes to the next one", async () => {
    const stage = new Stage().follow(3);
    stage.submit(1);
    stage.submit(2);
    stage.handIn();
    stage.proposals.refused(8n, 1, "not-leader");
    expect(stage.follow(4).handIn().sent).toHaveLength(1);
    stage.proposals.refused(leader, 1, "not-leader");
    stage.proposals.refused(leader, 1, "not-leader");
    stage.handIn();
    expect(stage.sent.at(-1)).toEqual({ batch: 2, term: 4, payloads: 2 });
    stage.applyForwarded(1, 4);
    stage.applyForwarded(2, 4);
    expect(await stage.seen()).toEqual(["1 done", "2 done"]);
  });

  test("an overloaded leader's refusal is final and says that nothing happened", async () => {
    const stage = new Stage().follow(3);
    stage.submit(1);
    stage.handIn();
    stage.proposals.refused(leader, 1, "overloaded");
    expect(await stage.seen()).toEqual([`1 never: ${text("requestTooManyRequests")}`]);
    expect(stage.proposals.pending).toBe(0);
  });

  test("a refusal that comes after the entries was late, and changes nothing", async () => {
    const stage = new Stage().follow(3);
    stage.submit(1);
    stage.handIn();
    stage.applyForwarded(1, 3);
    stage.proposals.refused(leader, 1, "not-leader");
    expect(stage.proposals.pending).toBe(0);
    expect(await stage.seen()).toEqual(["1 done"]);
  });

  test("proposals that are handed in again keep their place and their deadline", async () => {
    const stage = new Stage().follow(3);
    stage.submit(1, 0);
    stage.handIn();
    stage.without("no-leader").submit(2, 100);
    stage.proposals.termApplied(4);
    stage.proposals.sweep(7_000, 7_000, () => "timeout");
    expect(await stage.seen()).toEqual([`1 never: ${text("timeout")}`]);
    stage.follow(4).handIn();
    expect(stage.sent.at(-1)).toEqual({ batch: 2, term: 4, payloads: 1 });
  });
});

describe("leading", () => {
  test("entries are found by index, and a place that another term took is handed in again", async () => {
    const stage = new Stage().lead(3);
    stage.submit(1);
    stage.submit(2);
    stage.handIn();
    stage.proposals.termApplied(3);
    stage.proposals.take(1, 3)?.resolve({ kind: "nothing", revision: 1 });
    stage.follow(4);
    stage.proposals.termApplied(4);
    expect(stage.proposals.take(2, 4)).toBeUndefined();
    stage.handIn();
    expect(stage.sent).toEqual([{ batch: 1, term: 4, payloads: 1 }]);
    stage.applyForwarded(2, 4);
    expect(await stage.seen()).toEqual(["1 done", "2 done"]);
  });

  test("[P18] what is bound to a term is handed in in that term alone, and never goes to another leader", async () => {
    const stage = new Stage().lead(3);
    stage.submit(1, 0, 1, 3);
    stage.handIn();
    stage.submit(2, 0, 1, 3);
    stage.submit(3);
    stage.follow(4).handIn();
    expect(stage.sent).toEqual([{ batch: 1, term: 4, payloads: 1 }]);
    stage.lead(5).submit(4, 0, 1, 5);
    // Of the term before, and now proven dead.
    stage.proposals.termApplied(5);
    stage.handIn();
    const changed = text("leaderChanged");
    expect(await stage.seen()).toEqual([`2 never: ${changed}`, `1 never: ${changed}`]);
    // The one without a term is handed in again.
    expect(stage.proposals.pending).toBe(2);
  });

  test("while leadership is handed over proposals wait, then go to the next leader", () => {
    const stage = new Stage().without("transferring");
    stage.submit(1);
    stage.handIn();
    expect(stage.proposals.pending).toBe(1);
    stage.follow(5).handIn();
    expect(stage.sent).toEqual([{ batch: 1, term: 5, payloads: 1 }]);
  });

  test("a change of membership is not handed in again: who asked for it judges anew", async () => {
    const { proposals } = new Stage();
    const outcome = proposals.follow(5, 3, 0).catch((error: unknown) => error);
    proposals.termApplied(4);
    expect(await outcome).toMatchObject({ message: text("leaderChanged"), definite: true });
  });
});

describe("what nobody can know", () => {
  test("[P18] a timeout of what was handed in is indefinite, of what was not is definite", async () => {
    const stage = new Stage().lead(3);
    stage.submit(1);
    stage.handIn();
    stage.follow(4).submit(2);
    stage.handIn();
    stage.without("no-leader").submit(3);
    stage.handIn();
    stage.proposals.sweep(7_000, 7_000, () => "timeoutDueToLeaderFail");
    const late = text("timeoutDueToLeaderFail");
    expect(await stage.seen()).toEqual([`1 unknown: ${late}`, `2 unknown: ${late}`, `3 never: ${late}`]);
    expect(stage.proposals.failed).toBe(3);
  });

  test("[P18] a stop tells the same", async () => {
    const stage = new Stage().lead(3);
    stage.submit(1);
    stage.handIn();
    stage.follow(4).submit(2);
    stage.handIn();
    stage.without("no-leader").submit(3);
    stage.proposals.stop();
    const stopped = text("stopped");
    expect(await stage.seen()).toEqual([
      `1 unknown: ${stopped}`,
      `2 unknown: ${stopped}`,
      `3 never: ${stopped}`,
    ]);
  });

  test("[P18] entries that a snapshot skipped may hold what was handed in until then", async () => {
    const stage = new Stage().follow(3);
    stage.submit(1);
    stage.handIn();
    stage.follow(5).submit(2);
    stage.handIn();
    stage.without("no-leader").submit(3);
    stage.proposals.skipped(4);
    expect(await stage.seen()).toEqual([`1 unknown: ${text("timeoutDueToConnectionLost")}`]);
    stage.applyForwarded(2, 5);
    expect(await stage.seen()).toHaveLength(2);
    expect(stage.proposals.pending).toBe(1);
  });

  test("a proposal above the limit, or one too many, is refused before anything happens", () => {
    const stage = new Stage();
    expect(() => stage.proposals.submit(command(1, requestBytesMax + 1), 0)).toThrow(text("requestTooLarge"));
    const small = new Proposals(200 * 1024 ** 2);
    void small.submit(command(1, 150 * 1024 ** 2), 0);
    void small.submit(command(2, 150 * 1024 ** 2), 0);
    expect(() => small.submit(command(3), 0)).toThrow(text("requestTooManyRequests"));
  });
});
