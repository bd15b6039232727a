/** Lists of keys against the obvious way to make them, over random keys, delimiters, slices and revisions. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { openStateDatabase } from "../../storage/sqlite";
import { StateMachine } from "../state-machine";
import { compact, put, remove } from "../testing";
import { type ListedRow, type ListingQuery, listedCountMax, prefixEndOf } from "./listing";

function opened(): StateMachine {
  return StateMachine.open(openStateDatabase(":memory:"));
}

/** Reads one page in slices of `visits` keys. */
function page(
  state: StateMachine,
  query: ListingQuery,
  revision = 0,
  visits = 3,
): { readonly rows: ListedRow[]; readonly next: string | undefined } {
  const run = state.listing(query, revision);
  const rows: ListedRow[] = [];
  try {
    for (;;) {
      const slice = run.next(visits);
      rows.push(...slice.rows);
      if (slice.done) return { rows, next: slice.next };
    }
  } finally {
    run.close();
  }
}

/** All pages, one behind the other. */
function pages(state: StateMachine, query: ListingQuery, revision: number, visits: number): ListedRow[] {
  const rows: ListedRow[] = [];
  let from = query.from;
  for (;;) {
    const { rows: some, next } = page(state, { ...query, from }, revision, visits);
    expect(some.length).toBeLessThanOrEqual(query.rowsMax);
    rows.push(...some);
    if (next === undefined) return rows;
    expect(from === undefined || next > from).toBe(true);
    from = next;
  }
}

interface Known {
  readonly create: number;
  readonly mod: number;
  readonly version: number;
  readonly value: string;
}

/** The same by looking at every key. */
function expected(
  keys: ReadonlyMap<string, Known>,
  { prefix, delimiter, contains }: ListingQuery,
): ListedRow[] {
  const rows: ListedRow[] = [];
  for (const key of [...keys.keys()].sort()) {
    if (!key.startsWith(prefix)) continue;
    if (contains !== undefined && !key.slice(prefix.length).includes(contains)) continue;
    const end = delimiter === undefined ? -1 : key.indexOf(delimiter, prefix.length);
    if (end === -1) {
      const { create, mod, version, value } = keys.get(key)!;
      rows.push({ kind: "key", key, create, mod, version, lease: 0n, valueBytes: value.length });
      continue;
    }
    const child = key.slice(0, end + delimiter!.length);
    const last = rows.at(-1);
    if (last?.kind === "prefix" && last.prefix === child)
      rows[rows.length - 1] = { ...last, keys: last.keys + 1 };
    else rows.push({ kind: "prefix", prefix: child, keys: 1, more: false });
  }
  return rows;
}

const part = fc.constantFrom("a", "b", "ab", "/", "//", "\xff", "\xff\xff", "\0", ":");
const key = fc.array(part, { minLength: 1, maxLength: 4 }).map((parts) => parts.join(""));
const step = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("put" as const),
      key,
      size: fc.constantFrom(0, 1, 127, 128, 20_000),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("delete" as const), key }) },
);

test("pages of lists hold what looking at every key finds, at every revision", () => {
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 40 }),
      fc.record({
        prefix: fc.oneof(fc.constant(""), key),
        delimiter: fc.constantFrom(undefined, "/", "b", "//", "\xff"),
        contains: fc.constantFrom(undefined, undefined, "a", "/a"),
        rowsMax: fc.integer({ min: 1, max: 5 }),
      }),
      fc.integer({ min: 1, max: 6 }),
      fc.nat(),
      (steps, asked, visits, pick) => {
        const state = opened();
        const pasts = new Map<number, ReadonlyMap<string, Known>>([[state.revision, new Map()]]);
        let keys = new Map<string, Known>();
        for (const one of steps) {
          keys = new Map(keys);
          const revision = state.revision + 1;
          const before = keys.get(one.key);
          if (one.kind === "put") {
            const value = "v".repeat(one.size);
            put(state, one.key, value);
            keys.set(one.key, {
              create: before?.create ?? revision,
              mod: revision,
              version: (before?.version ?? 0) + 1,
              value,
            });
          } else {
            remove(state, one.key);
            keys.delete(one.key);
          }
          pasts.set(state.revision, keys);
        }
        const query = asked.delimiter === undefined ? asked : { ...asked, contains: undefined };
        const revisions = [...pasts.keys()];
        const revision = revisions[pick % revisions.length]!;
        expect(pages(state, query, revision, visits)).toEqual(expected(pasts.get(revision)!, query));
        expect(pages(state, query, 0, visits)).toEqual(expected(keys, query));
        state.close();
      },
    ),
    { numRuns: 300 },
  );
});

test("a level of the tree costs its children, not the keys below them", () => {
  const state = opened();
  for (let folder = 0; folder < 20; folder++) {
    for (let at = 0; at < 1_100 * Number(folder === 3) + 300; at++)
      put(state, `f${folder.toString().padStart(2, "0")}/${at}`);
  }
  const run = state.listing({ prefix: "", delimiter: "/", rowsMax: 100 }, 0);
  const { rows, visited, done } = run.next(1_000);
  run.close();
  expect(done).toBe(true);
  expect(rows.length).toBe(20);
  expect(rows[0]).toEqual({ kind: "prefix", prefix: "f00/", keys: 300, more: false });
  expect(rows[3]).toEqual({ kind: "prefix", prefix: "f03/", keys: listedCountMax, more: true });
  expect(visited).toBeLessThan(100);
});

test("deleted and compacted keys neither show nor cost a page", () => {
  const state = opened();
  for (let at = 0; at < 5_000; at++) put(state, `k${at.toString().padStart(5, "0")}`);
  remove(state, "k", "k04990");
  const run = state.listing({ prefix: "", rowsMax: 100 }, 0);
  const { rows, visited } = run.next(10_000);
  run.close();
  expect(rows.length).toBe(10);
  expect(visited).toBeLessThan(600);
  compact(state, state.revision);
  expect(() => state.listing({ prefix: "", rowsMax: 1 }, 5)).toThrow("compacted");
  expect(() => state.listing({ prefix: "", rowsMax: 1 }, 9_999)).toThrow("future");
});

test("the end of a prefix's range is the least key behind it", () => {
  expect(prefixEndOf("")).toBeUndefined();
  expect(prefixEndOf("a/")).toBe("a0");
  expect(prefixEndOf("a\xff\xff")).toBe("b");
  expect(prefixEndOf("\xff")).toBeUndefined();
});
