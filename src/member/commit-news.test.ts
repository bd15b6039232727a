import { describe, expect, test } from "bun:test";
import type { Message } from "../consensus/types";
import { CommitNews } from "./commit-news";
import type { Clock } from "./ports";

/** Time that passes when told to. */
function setUp() {
  let nowMs = 0;
  let timers: { atMs: number; callback: () => void }[] = [];
  const clock: Clock = {
    monotonicMs: () => nowMs,
    wallMs: () => nowMs,
    soon: (callback) => callback(),
    after(delayMs, callback) {
      const timer = { atMs: nowMs + delayMs, callback };
      timers.push(timer);
      return () => void (timers = timers.filter((one) => one !== timer));
    },
  };
  const later: Message[] = [];
  const news = new CommitNews(clock, (messages) => void later.push(...messages));
  const pass = (ms: number): void => {
    nowMs += ms;
    const due = timers.filter(({ atMs }) => atMs <= nowMs);
    timers = timers.filter(({ atMs }) => atMs > nowMs);
    for (const { callback } of due) callback();
  };
  return { news, later, pass };
}

function append(to: bigint, previousIndex: number, commit: number, entries = 0, term = 1): Message {
  const data = new Uint8Array();
  return {
    kind: "append",
    from: 1n,
    to,
    term,
    previousIndex,
    previousTerm: 1,
    commit,
    entries: Array.from({ length: entries }, (_, i) => ({
      term,
      index: previousIndex + 1 + i,
      kind: "command" as const,
      data,
    })),
  };
}

describe("news that entries are committed", () => {
  test("leave after a moment when nothing else is said", () => {
    const { news, later, pass } = setUp();
    expect(news.sift([append(2n, 5, 5), append(3n, 5, 5)])).toEqual([]);
    expect(later).toEqual([]);
    pass(1);
    expect(later).toEqual([append(2n, 5, 5), append(3n, 5, 5)]);
    pass(10);
    expect(later).toHaveLength(2);
  });

  test("are not said when an append to the same member says the same, and only to that member", () => {
    const { news, later, pass } = setUp();
    news.sift([append(2n, 5, 5), append(3n, 5, 5)]);
    const next = append(2n, 5, 5, 1);
    expect(news.sift([next])).toEqual([next]);
    pass(1);
    expect(later).toEqual([append(3n, 5, 5)]);
  });

  test("wait the whole moment, however shortly before others were made needless", () => {
    const { news, later, pass } = setUp();
    news.sift([append(2n, 5, 5)]);
    pass(0.6);
    news.sift([append(2n, 5, 5, 1)]);
    news.sift([append(2n, 6, 6)]);
    pass(0.6);
    expect(later).toEqual([]);
    pass(0.6);
    expect(later).toEqual([append(2n, 6, 6)]);
  });

  test("newer news take the place of older ones, which do not wait any longer for that", () => {
    const { news, later, pass } = setUp();
    news.sift([append(2n, 5, 5)]);
    pass(0.6);
    expect(news.sift([append(2n, 6, 6)])).toEqual([]);
    pass(0.6);
    expect(later).toEqual([append(2n, 6, 6)]);
  });

  test.each([
    ["an earlier place in the log", append(2n, 3, 5, 1)],
    ["an older commit", append(2n, 5, 4, 1)],
    ["another term", append(2n, 5, 5, 1, 2)],
  ])("leave before an append with %s", (_, other) => {
    const { news, later, pass } = setUp();
    news.sift([append(2n, 5, 5)]);
    expect(news.sift([other])).toEqual([append(2n, 5, 5), other]);
    pass(1);
    expect(later).toEqual([]);
  });

  test("are said at once to a member that asked lately", () => {
    const { news, pass } = setUp();
    news.asked(2n);
    expect(news.sift([append(2n, 5, 5), append(3n, 5, 5)])).toEqual([append(2n, 5, 5)]);
    pass(1_000);
    expect(news.sift([append(2n, 6, 6)])).toEqual([]);
  });

  test("hold nothing else back, and keep its order", () => {
    const { news } = setUp();
    const beat: Message = { kind: "heartbeat", from: 1n, to: 2n, term: 1, commit: 5, readRound: 0 };
    const first = append(2n, 4, 4, 1);
    expect(news.sift([first, append(2n, 5, 5), beat])).toEqual([first, beat]);
  });

  test("end with the loop", () => {
    const { news, later, pass } = setUp();
    news.sift([append(2n, 5, 5)]);
    news.stop();
    pass(1);
    expect(later).toEqual([]);
  });
});
