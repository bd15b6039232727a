import { expect, test } from "bun:test";
import { VirtualClock } from "../../test/sim/clock";
import { refuse } from "../errors";
import { PeerCallError, PeerCalls } from "./peer-calls";
import type { MemberMessage } from "./peer-message";

/** Two members and what passes between them. */
class Pair {
  readonly clock = new VirtualClock();
  readonly passed: MemberMessage[] = [];
  /** How often a message arrives. */
  copies: (message: MemberMessage) => number = () => 1;
  readonly asker = this.#calls(1n, 100n);
  readonly answerer = this.#calls(2n, 200n);

  #calls(self: bigint, incarnation: bigint): PeerCalls {
    return new PeerCalls({
      self,
      incarnation,
      clock: this.clock,
      send: (message) => {
        this.passed.push(message);
        for (let copy = this.copies(message); copy > 0; copy--)
          this.clock.after(1, () => this.deliver(message));
      },
    });
  }

  deliver(message: MemberMessage): void {
    if (message.kind !== "call" && message.kind !== "call-answer") return;
    (message.to === 1n ? this.asker : this.answerer).receive(message);
  }

  call(method: string, text = "", timeoutMs = 1_000): unknown {
    const asked = this.asker.call(2n, method, Buffer.from(text), timeoutMs);
    return this.clock.settle(
      asked.then(
        (body) => Buffer.from(body).toString(),
        (error: unknown) => error,
      ),
    );
  }
}

test("a question gets its answer, a refusal or a failure", () => {
  const pair = new Pair();
  pair.answerer.answer("echo", async (from, body) => Buffer.from(`${from}:${Buffer.from(body).toString()}`));
  pair.answerer.answer("refuse", () => Promise.reject(refuse("learnerNotReady")));
  pair.answerer.answer("fail", () => Promise.reject(new Error("broken")));
  expect(pair.call("echo", "hello")).toBe("1:hello");
  expect(pair.call("refuse")).toMatchObject({ message: refuse("learnerNotReady").message, definite: true });
  expect(pair.call("fail")).toBeInstanceOf(PeerCallError);
  expect(String(pair.call("no such method"))).toContain("there is no method");
});

test("a member asks itself without a message", () => {
  const pair = new Pair();
  pair.asker.answer("echo", async (_from, body) => body);
  expect(pair.clock.settle(pair.asker.call(1n, "echo", Buffer.from("x"), 1_000))).toEqual(Buffer.from("x"));
  expect(pair.passed).toEqual([]);
});

test("a repeated question is handled once, and a repeated answer is heard once", () => {
  const pair = new Pair();
  pair.copies = () => 3;
  let handled = 0;
  pair.answerer.answer("count", async () => Buffer.from(String(++handled)));
  expect([pair.call("count"), pair.call("count")]).toEqual(["1", "2"]);
  pair.clock.run(100);
  expect(handled).toBe(2);
});

test("a lost question or answer ends in a timeout, whose outcome is unknown", () => {
  for (const lost of ["call", "call-answer"] as const) {
    const pair = new Pair();
    pair.copies = ({ kind }) => (kind === lost ? 0 : 1);
    pair.answerer.answer("echo", async (_from, body) => body);
    expect(pair.call("echo", "x", 500)).toMatchObject({
      message: refuse("timeout").message,
      definite: false,
    });
    expect(pair.clock.monotonicMs()).toBeGreaterThanOrEqual(500);
  }
});

test("[R16] answers for another life, or from another member, are ignored", () => {
  const pair = new Pair();
  pair.copies = () => 0;
  const asked = pair.asker.call(2n, "echo", new Uint8Array(0), 1_000).catch((error: unknown) => error);
  const answer = { kind: "call-answer", to: 1n, id: 1, outcome: "ok", body: new Uint8Array(0) } as const;
  pair.asker.receive({ ...answer, from: 2n, incarnation: 99n });
  pair.asker.receive({ ...answer, from: 3n, incarnation: 100n });
  expect(pair.clock.settle(asked)).toMatchObject({ message: refuse("timeout").message });
});

test("more questions than the bound are refused at once, and a stop ends those that wait", async () => {
  const pair = new Pair();
  pair.copies = () => 0;
  const outcomes: unknown[] = [];
  for (let i = 0; i < 4_097; i++) {
    pair.asker.call(2n, "echo", new Uint8Array(0), 1_000).catch((error: unknown) => outcomes.push(error));
  }
  await Promise.resolve();
  expect(outcomes).toHaveLength(1);
  expect(outcomes[0]).toMatchObject({ message: refuse("requestTooManyRequests").message, definite: true });
  pair.asker.stop();
  await Promise.resolve();
  expect(outcomes).toHaveLength(4_097);
  expect(outcomes.at(-1)).toMatchObject({ message: refuse("stopped").message });
});
