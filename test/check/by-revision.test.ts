import { expect, test } from "bun:test";
import { create } from "@bufbuild/protobuf";
import {
  PutRequestSchema,
  PutResponseSchema,
  RangeRequestSchema,
  RangeResponseSchema,
} from "../../src/proto/gen/etcd/rpc_pb";
import { CommandSchema } from "../../src/proto/gen/keelson/command_pb";
import { SeededRng } from "../../src/rng";
import { KvModel } from "../model/kv-model";
import { checkByRevision } from "./by-revision";
import { courseModel, registerKey, registerModel, searchOrder } from "./by-search";
import type { History, Operation } from "./history";
import { KvTimeline } from "./kv-state";
import { logOf, randomHistory, withOneLie } from "./random-history";

const large = { operations: 400, clients: 6, keys: 5, unknownOneIn: 12 };
const small = { operations: 9, clients: 3, keys: 2, unknownOneIn: 6 };

/** Serializable reads are exempt from time in one and unknown to the other. */
function withoutSerializable(history: History): History {
  return {
    ...history,
    operations: history.operations.filter(
      ({ kind, request }) => !(kind === "range" && "serializable" in request && request.serializable),
    ),
  };
}

test("random histories with a known order pass", () => {
  let unknownThatHappened = 0;
  for (let seed = 1; seed <= 60; seed++) {
    const verdict = checkByRevision(randomHistory(new SeededRng(seed), large));
    expect({ seed, problems: verdict.problems }).toEqual({ seed, problems: [] });
    unknownThatHappened += verdict.counts["unknownThatHappened"]!;
  }
  expect(unknownThatHappened).toBeGreaterThan(60);
});

test("revision order and search agree on small histories, true and altered", () => {
  const tally = { agreedGood: 0, agreedBad: 0 };
  for (let seed = 1; seed <= 1_500; seed++) {
    const rng = new SeededRng(seed);
    let history = withoutSerializable(randomHistory(rng, small));
    if (seed % 3 > 0) history = withOneLie(rng, history);
    // Compaction has its own rule, which the search does not know.
    if (history.operations.some(({ kind }) => kind === "compaction")) continue;
    const { problems } = checkByRevision(history);
    const search = searchOrder(history.operations, courseModel(new KvTimeline(history.log)));
    if (problems.some((problem) => problem.includes("refused as"))) continue;
    const verdicts = { seed, byRevision: problems.length === 0 ? "linearizable" : "violated" };
    if (verdicts.byRevision !== search.kind) console.log(problems.join("\n"), JSON.stringify(search));
    expect(verdicts).toEqual({ seed, byRevision: search.kind });
    if (problems.length === 0) tally.agreedGood++;
    else tally.agreedBad++;
  }
  expect(tally.agreedGood).toBeGreaterThan(300);
  expect(tally.agreedBad).toBeGreaterThan(300);
});

test("a lie in a large history is found unless nobody could see it", () => {
  let found = 0;
  const runs = 100;
  for (let seed = 1; seed <= runs; seed++) {
    const rng = new SeededRng(seed);
    if (checkByRevision(withOneLie(rng, randomHistory(rng, large))).problems.length > 0) found++;
  }
  // Invisible are mainly small shifts in time, and another revision under a read of the same state.
  expect(found).toBeGreaterThan(runs * 0.7);
});

test("a large history is judged quickly", () => {
  const history = randomHistory(new SeededRng(5), {
    operations: 1_500,
    clients: 20,
    keys: 20,
    unknownOneIn: 20,
  });
  // The model that makes the history is slow; the same operations again and again are as much work for the checker.
  const beginMs = performance.now();
  for (let round = 0; round < 10; round++) checkByRevision(history);
  expect(performance.now() - beginMs).toBeLessThan(5_000);
});

/** Hand-made operations on the key "a", with values that name their revision. */
function operation(
  id: number,
  [callAt, returnAt]: readonly [number, number],
  what: string,
  revision?: number,
): Operation {
  const key = Buffer.from("a");
  const common = { id, client: id, member: "m1", callAt, returnAt };
  const outcomeOf = (reply: () => unknown) =>
    revision === undefined ? { kind: "unanswered" as const } : { kind: "replied" as const, reply: reply() };
  const header = { revision: BigInt(revision ?? 0) };
  if (what === "get") {
    const reply = () =>
      create(RangeResponseSchema, {
        header,
        count: revision! > 1 ? 1n : 0n,
        kvs:
          revision! > 1
            ? [
                {
                  key,
                  value: Buffer.from(`${revision}`),
                  createRevision: 2n,
                  modRevision: BigInt(revision!),
                  version: BigInt(revision! - 1),
                },
              ]
            : [],
      });
    return {
      ...common,
      kind: "range",
      request: create(RangeRequestSchema, { key }),
      outcome: outcomeOf(reply),
    } as Operation;
  }
  return {
    ...common,
    kind: "put",
    request: create(PutRequestSchema, { key, value: Buffer.from(what) }),
    outcome: outcomeOf(() => create(PutResponseSchema, { header })),
  } as Operation;
}

/** Puts of "a" at revisions 2 to `last`, each with its revision as value. */
function logOfPuts(last: number): History["log"] {
  const model = new KvModel();
  for (let revision = 2; revision <= last; revision++) {
    const value = create(PutRequestSchema, { key: Buffer.from("a"), value: Buffer.from(`${revision}`) });
    model.apply(create(CommandSchema, { operation: { case: "put", value } }));
  }
  return logOf(model);
}

type Line = readonly [span: readonly [number, number], what: string, revision?: number];

/** Each is a story: what clients saw, the newest revision, and what is wrong with it (undefined: nothing). */
const stories: readonly { name: string; last: number; lines: readonly Line[]; wrong: RegExp | undefined }[] =
  [
    {
      name: "one put, then a read of it",
      last: 2,
      lines: [
        [[0, 1], "2", 2],
        [[2, 3], "get", 2],
      ],
      wrong: undefined,
    },
    {
      name: "a read beside the put sees it",
      last: 2,
      lines: [
        [[0, 9], "2", 2],
        [[1, 2], "get", 2],
      ],
      wrong: undefined,
    },
    {
      name: "a read beside the put does not see it",
      last: 2,
      lines: [
        [[0, 9], "2", 2],
        [[1, 2], "get", 1],
      ],
      wrong: undefined,
    },
    {
      name: "a stale read",
      last: 2,
      lines: [
        [[0, 1], "2", 2],
        [[2, 3], "get", 1],
      ],
      wrong: /stale read/,
    },
    {
      name: "a read of the future",
      last: 2,
      lines: [
        [[0, 1], "get", 2],
        [[2, 3], "2", 2],
      ],
      wrong: /read of the future/,
    },
    {
      name: "two reads go back",
      last: 2,
      lines: [
        [[0, 9], "2", 2],
        [[1, 2], "get", 2],
        [[3, 4], "get", 1],
      ],
      wrong: /stale read/,
    },
    {
      name: "puts against time",
      last: 3,
      lines: [
        [[0, 1], "3", 3],
        [[2, 3], "2", 2],
      ],
      wrong: /against time/,
    },
    {
      name: "an unknown put that happened",
      last: 2,
      lines: [
        [[0, 1], "2"],
        [[2, 3], "get", 2],
      ],
      wrong: undefined,
    },
    {
      name: "an unknown put that did not happen",
      last: 2,
      lines: [
        [[0, 1], "2", 2],
        [[2, 3], "9"],
      ],
      wrong: undefined,
    },
    {
      name: "an unknown put that happened late",
      last: 3,
      lines: [
        [[0, 1], "3"],
        [[2, 3], "2", 2],
        [[8, 9], "get", 3],
      ],
      wrong: undefined,
    },
    {
      name: "an unknown put sent after it was seen",
      last: 2,
      lines: [
        [[0, 1], "get", 2],
        [[2, 3], "2"],
      ],
      wrong: /before the only request/,
    },
    {
      name: "an acknowledged put that is lost",
      last: 2,
      lines: [
        [[0, 1], "9", 2],
        [[2, 3], "get", 2],
      ],
      wrong: /should hold/,
    },
    {
      name: "a put beyond the end",
      last: 2,
      lines: [
        [[0, 1], "2", 2],
        [[2, 3], "3", 3],
      ],
      wrong: /history ends at 2/,
    },
    {
      name: "a revision given twice",
      last: 2,
      lines: [
        [[0, 1], "2", 2],
        [[2, 3], "2", 2],
      ],
      wrong: /two requests claim/,
    },
    { name: "a change that nobody asked for", last: 3, lines: [[[0, 1], "2", 2]], wrong: /nobody asked/ },
    {
      name: "an answered put repeated",
      last: 3,
      lines: [
        [[0, 1], "2", 2],
        [[1, 2], "get", 3],
      ],
      wrong: /nobody asked|repeats/,
    },
  ];

test.each(stories.map((story) => [story.name, story] as const))("%s", (_, { last, lines, wrong }) => {
  const operations = lines.map(([span, what, revision], index) => operation(index + 1, span, what, revision));
  const { problems } = checkByRevision({ operations, log: logOfPuts(last) });
  const search = searchOrder(operations, courseModel(new KvTimeline(logOfPuts(last))));
  if (wrong === undefined) expect(problems).toEqual([]);
  else expect(problems.join("\n")).toMatch(wrong);
  expect(search.kind).toBe(wrong === undefined ? "linearizable" : "violated");
});

test("a refused request that took effect is found out, and one that took effect twice", () => {
  const refused = {
    ...operation(1, [0, 1], "2"),
    outcome: { kind: "failed", definite: true, code: 8, text: "no" },
  } as Operation;
  expect(checkByRevision({ operations: [refused], log: logOfPuts(2) }).problems.join()).toMatch(
    /refused for certain/,
  );
  const [first, second] = logOfPuts(3);
  const model = new KvModel();
  for (let round = 0; round < 2; round++) {
    const value = create(PutRequestSchema, { key: Buffer.from("a"), value: Buffer.from("2") });
    model.apply(create(CommandSchema, { operation: { case: "put", value } }));
  }
  expect([first?.revision, second?.revision]).toEqual([2, 3]);
  const twice = checkByRevision({ operations: [operation(1, [0, 1], "2")], log: logOf(model) });
  expect(twice.problems.join()).toMatch(/took effect twice/);
  const repeated = checkByRevision({ operations: [operation(1, [0, 1], "2", 2)], log: logOf(model) });
  expect(repeated.problems.join()).toMatch(/repeats a request/);
});

test("a failure shows the clash and its neighbours on a timeline", () => {
  const operations = [operation(1, [0, 1], "2", 2), operation(2, [2, 3], "get", 1)];
  const [problem] = checkByRevision({ operations, log: logOfPuts(2) }).problems;
  expect(problem).toContain("* |");
  expect(problem).toContain("#1 client 1 at m1 [0.0 – 1.0] put a=2");
});

test("the register model judges single keys without revisions", () => {
  let bad = 0;
  for (let seed = 1; seed <= 60; seed++) {
    const rng = new SeededRng(seed);
    const options = { operations: 120, clients: 4, keys: 3, unknownOneIn: 15, registers: true } as const;
    const history = randomHistory(rng, options);
    const split = (operations: readonly Operation[]) =>
      [...Map.groupBy(operations, registerKey).values()].map((own) => searchOrder(own, registerModel).kind);
    const wrong = split(history.operations).filter((kind) => kind !== "linearizable");
    expect({ seed, wrong }).toEqual({ seed, wrong: [] });
    if (split(withOneLie(rng, history).operations).includes("violated")) bad++;
  }
  // Most lies are about revisions, which this model does not look at.
  expect(bad).toBeGreaterThan(4);
  const stale = [operation(1, [0, 1], "2", 2), operation(2, [2, 3], "get", 1)];
  expect(searchOrder(stale, registerModel).kind).toBe("violated");
  expect(
    searchOrder([operation(1, [0, 9], "2", 2), operation(2, [2, 3], "get", 1)], registerModel).kind,
  ).toBe("linearizable");
});
