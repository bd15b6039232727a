import { expect, test } from "bun:test";
import { getTableConfig } from "drizzle-orm/sqlite-core";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Database } from "bun:sqlite";
import { openStateDatabase, StateDatabaseError, stateFormat } from "../storage/sqlite";
import * as schema from "./schema";

test("the migrated database has exactly drizzle's tables", () => {
  const database = openStateDatabase(":memory:");
  const tables = Object.values(schema).map((table) => getTableConfig(table));
  const found = database
    .query<{ name: string }, []>("SELECT name FROM sqlite_master WHERE type = 'table'")
    .all();
  expect(found.map(({ name }) => name).sort()).toEqual(tables.map(({ name }) => name).sort());
  for (const { name, columns } of tables) {
    const stored = database
      .query<{ name: string; type: string; notnull: number; pk: number }, []>(`PRAGMA table_info(${name})`)
      .all();
    expect(stored.map((column) => [column.name, column.type.toLowerCase(), column.pk === 1])).toEqual(
      columns.map((column) => [column.name, column.getSQLType(), column.primary]),
    );
    for (const column of stored) expect(column.notnull === 1 || column.pk === 1).toBe(true);
  }
  database.close();
});

test("a newer format and another program's database are refused with advice, and left alone", () => {
  const directory = mkdtempSync(join(tmpdir(), "keelson-format-"));
  try {
    const path = join(directory, "state.db");
    const first = openStateDatabase(path);
    expect(first.query<unknown, []>("PRAGMA journal_mode").values()[0]).toEqual(["wal"]);
    expect(first.query<unknown, []>("PRAGMA auto_vacuum").values()[0]).toEqual([2]);
    expect(first.query<unknown, []>("PRAGMA synchronous").values()[0]).toEqual([1]);
    first.run(`PRAGMA user_version = ${stateFormat + 1}`);
    first.close();
    expect(() => openStateDatabase(path)).toThrow("start the newer version again");
    const other = join(directory, "other.db");
    const foreign = new Database(other);
    foreign.run("CREATE TABLE mine (a)");
    foreign.close();
    const before = readFileSync(other);
    expect(() => openStateDatabase(other)).toThrow("database of another program");
    expect(readFileSync(other).equals(before)).toBe(true);
    const garbage = join(directory, "garbage.db");
    writeFileSync(garbage, "x".repeat(5000));
    expect(() => openStateDatabase(garbage)).toThrow(StateDatabaseError);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
