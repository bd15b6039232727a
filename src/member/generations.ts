/**
 * The folders `state-N` of a data directory. One of them holds the state; a snapshot that is being received has the
 * next number, and what it replaced may still have the one before. Whichever moment a crash chose, the log tells
 * which it is: the snapshot's record in the log is what makes a received state count.
 */
import type { Database } from "bun:sqlite";
import { dirname, join } from "node:path";
import type { LogIndex } from "../ids";
import { StateMachine } from "../state/state-machine";
import type { RecoveredLog } from "../storage/wal/types";
import type { Disk, Ports } from "./ports";

const folderPattern = /^state-([1-9]\d*)$/;
const databaseName = "state.db";
/** A snapshot that is being received, beside where it will lie. */
const incomingName = "state.db.incoming";
const firstGeneration = 1;

/** Bytes that a file which nobody reads any more shrinks by in one step. */
const shrinkBytes = 8 * 1024 ** 2;

function folderOf(dataDirectory: string, generation: number): string {
  return join(dataDirectory, `state-${generation}`);
}

/** Where the database of a generation lies. */
export function databasePathOf(dataDirectory: string, generation: number): string {
  return join(folderOf(dataDirectory, generation), databaseName);
}

/** Where a snapshot is received that may become this generation. */
export function incomingPathOf(dataDirectory: string, generation: number): string {
  return join(folderOf(dataDirectory, generation), incomingName);
}

/** The generation to which a database belongs. */
export function generationOf(databasePath: string): number {
  return Number(folderPattern.exec(dirname(databasePath).split("/").at(-1)!)![1]);
}

/** All folders, with or without a database, by number. */
function foldersIn(dataDirectory: string, disk: Disk): number[] {
  const numbers: number[] = [];
  for (const name of disk.list(dataDirectory)) {
    const match = folderPattern.exec(name);
    if (match !== null) numbers.push(Number(match[1]));
  }
  return numbers.sort((a, b) => a - b);
}

/** What the log knows about the state that belongs to it. */
export type LogFindings = Pick<RecoveredLog, "start" | "snapshot">;

/**
 * Opens the database that belongs to the log: the first generation that holds all that the log no longer has. An
 * older one ends before the last snapshot; a newer one was never committed by a record in the log.
 */
export function openGeneration(
  dataDirectory: string,
  { start, snapshot }: LogFindings,
  ports: Ports,
): { readonly database: Database; readonly path: string } {
  const { disk } = ports;
  const needed = Math.max(start.index, snapshot?.index ?? 0);
  let newestIndex: LogIndex | undefined;
  for (const generation of foldersIn(dataDirectory, disk)) {
    const path = databasePathOf(dataDirectory, generation);
    if (!disk.list(dirname(path)).includes(databaseName)) continue;
    const database = ports.openDatabase(path);
    const index = StateMachine.appliedIndexOf(database);
    if (index >= needed) return { database, path };
    newestIndex = index;
    database.close();
  }
  if (needed > 0) {
    const found =
      newestIndex === undefined
        ? "there is no state database"
        : `the newest state database only reaches to entry ${newestIndex}`;
    throw new Error(
      `${found} in ${dataDirectory}, but the log no longer has the entries up to ${needed}: restore what was removed, ` +
        "or remove this member from the cluster and add it anew with an empty --data-dir",
    );
  }
  const path = databasePathOf(dataDirectory, firstGeneration);
  disk.makeDirectory(dirname(path));
  // The log is cut behind what the database holds, so the database must be found again after a power cut.
  disk.syncDirectory(dataDirectory);
  return { database: ports.openDatabase(path), path };
}

/** Removes all generations but one: what a snapshot replaced, and what never became the state. */
export async function removeOtherGenerations(
  dataDirectory: string,
  keptPath: string,
  disk: Disk,
): Promise<void> {
  const kept = generationOf(keptPath);
  for (const generation of foldersIn(dataDirectory, disk)) {
    if (generation !== kept) await removeGeneration(dataDirectory, generation, disk);
  }
}

/** Removes the folder of a generation whose database nobody has open. */
export async function removeGeneration(dataDirectory: string, generation: number, disk: Disk): Promise<void> {
  const folder = folderOf(dataDirectory, generation);
  const names = disk.list(folder);
  // The database first: without its write-ahead log it must not be taken for a state.
  if (names.includes(databaseName)) {
    await disk.removeLater(join(folder, databaseName));
    await disk.syncDirectoryLater(folder);
  }
  for (const name of names) if (name !== databaseName) await disk.removeLater(join(folder, name));
  await disk.syncDirectoryLater(folder);
  disk.removeDirectory(folder);
  await disk.syncDirectoryLater(dataDirectory);
}

/**
 * Takes away the database of a generation that is still open, and its folder; `close` closes it. SQLite, which finds
 * its file gone, then writes nothing back; and the file is shrunk bit by bit, because freeing a large one at once
 * holds the event loop.
 */
export async function removeOpenGeneration(
  dataDirectory: string,
  generation: number,
  disk: Disk,
  pause: () => Promise<void>,
  close: () => void,
): Promise<void> {
  const path = databasePathOf(dataDirectory, generation);
  const file = disk.open(path, "open");
  try {
    disk.remove(path);
    await disk.syncDirectoryLater(dirname(path));
    for (let size = file.size(); size > 0; size -= shrinkBytes) {
      file.truncate(Math.max(0, size - shrinkBytes));
      await pause();
    }
  } finally {
    file.close();
    close();
  }
  await removeGeneration(dataDirectory, generation, disk);
}
