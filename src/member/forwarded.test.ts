import { expect, test } from "bun:test";
import type { Raft } from "../consensus/raft";
import type { MemberId } from "../ids";
import { Forwarded } from "./forwarded";
import type { MemberMessage } from "./peer-message";
import type { Clock } from "./ports";

/** A member that leads, or no longer does, and what followers send it. */
class Stage {
  role: "leader" | "follower" = "leader";
  term = 5;
  transferee: MemberId = 0n;
  overloaded = false;
  stuck = false;
  nowMs = 0;
  appended = 0;
  readonly said: string[] = [];
  readonly forwarded = new Forwarded({
    self: 1n,
    raft: {
      briefStatus: () => ({ role: this.role, term: this.term, transferee: this.transferee }),
      propose: (payloads: readonly Uint8Array[]) => {
        this.appended += payloads.length;
        return { ok: true };
      },
    } as unknown as Raft,
    clock: { monotonicMs: () => this.nowMs } as Clock,
    overloaded: () => this.overloaded,
    stuck: () => this.stuck,
    stuckMaxMs: 3_000,
    send: (message: MemberMessage) => {
      if (message.kind === "propose-refused") this.said.push(`${message.batch} ${message.reason}`);
    },
  });

  receive(batch: number, term = this.term, incarnation = 1n): this {
    const payloads = [new Uint8Array(1), new Uint8Array(1)];
    this.forwarded.receive({ kind: "propose", from: 2n, to: 1n, term, incarnation, batch, payloads });
    return this;
  }

  handIn(): this {
    this.forwarded.handIn();
    return this;
  }

  become(role: "leader" | "follower", term: number): this {
    this.role = role;
    this.term = term;
    this.forwarded.stateChanged();
    return this;
  }
}

test("a leader takes each batch once, however often it comes", () => {
  const stage = new Stage().receive(1).receive(1).handIn().receive(1).receive(2).handIn();
  expect(stage.appended).toBe(4);
  stage.receive(1, 5, 2n).handIn();
  expect(stage.appended).toBe(6);
  expect(stage.said).toEqual([]);
});

test("it takes only what was meant for its very term", () => {
  const stage = new Stage().receive(1, 4).receive(2, 6).handIn();
  expect([stage.appended, stage.said]).toEqual([0, []]);
});

test("a batch that came too late for its leader is refused, because nothing of it is in the log", () => {
  const stage = new Stage().receive(1).handIn().become("follower", 6).receive(2, 5);
  expect(stage.said).toEqual(["2 not-leader"]);
});

test("a repetition of a batch that was appended is never refused, nor appended again", () => {
  const stage = new Stage().receive(1).handIn().become("follower", 6).receive(1, 5).handIn();
  stage.become("leader", 7).receive(1, 5).handIn();
  expect([stage.appended, stage.said]).toEqual([2, []]);
});

test("of terms that it cannot remember it says nothing", () => {
  const stage = new Stage().become("follower", 5).receive(1, 5).receive(2, 4).handIn();
  expect([stage.appended, stage.said]).toEqual([0, []]);
});

test("what is held when leadership ends goes back", () => {
  const stage = new Stage().receive(1).receive(2).become("follower", 6).handIn();
  expect([stage.appended, stage.said]).toEqual([0, ["1 not-leader", "2 not-leader"]]);
});

test("during a hand-over batches wait; they are appended if it fails", () => {
  const stage = new Stage();
  stage.transferee = 3n;
  stage.receive(1).handIn();
  expect([stage.appended, stage.said]).toEqual([0, []]);
  stage.transferee = 0n;
  stage.handIn();
  expect(stage.appended).toBe(2);
});

test("an overloaded leader refuses for good", () => {
  const stage = new Stage();
  stage.overloaded = true;
  stage.receive(1).handIn();
  stage.overloaded = false;
  stage.receive(1).handIn();
  expect([stage.appended, stage.said]).toEqual([0, ["1 overloaded"]]);
});

test("while the leader cannot write, batches wait for the next one, and not for ever", () => {
  const stage = new Stage();
  stage.stuck = true;
  stage.receive(1).handIn();
  stage.nowMs = 2_999;
  stage.handIn();
  expect([stage.appended, stage.said]).toEqual([0, []]);
  stage.become("follower", 6);
  expect(stage.said).toEqual(["1 not-leader"]);
  stage.become("leader", 7).receive(2).handIn();
  stage.nowMs = 6_000;
  stage.handIn();
  expect([stage.appended, stage.said]).toEqual([0, ["1 not-leader", "2 overloaded"]]);
});
