/** `keelson snapshot restore`: a new data directory, of a member of a new cluster, with a snapshot's keys in it. */
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { decodeConfigurationChange } from "../../consensus/configuration-change";
import { hexId } from "../../ids";
import { foundCluster, type InitialMember } from "../../member/bootstrap";
import { databasePathOf } from "../../member/generations";
import { rebaseState } from "../../state/rebase";
import { StateMachine } from "../../state/state-machine";
import { systemDisk } from "../../storage/disk";
import { openStateDatabase } from "../../storage/sqlite";
import { createLog } from "../../storage/wal/log";
import { BadSnapshot, checkSnapshot, type Progress } from "./file";

const pieceBytes = 1024 ** 2;
/** Half of what numbers hold exactly: enough revisions are left for whatever comes. */
const revisionMax = 2 ** 52;

export interface RestoreOptions {
  readonly file: string;
  readonly dataDirectory: string;
  readonly name: string;
  readonly initialCluster: readonly InitialMember[];
  /** Undefined: one made from the snapshot's digest, the same for each member that is restored from it. */
  readonly clusterToken: string | undefined;
  readonly bumpRevision: number;
  readonly markCompacted: boolean;
}

export interface Restored {
  readonly dataDirectory: string;
  readonly clusterId: string;
  readonly memberId: string;
  readonly clusterToken: string;
  readonly revision: number;
  readonly keys: number;
}

/**
 * Checks everything first; then writes beside the data directory and renames at the end, so that a restore that is cut
 * short leaves nothing that looks like a member.
 * @throws {BadSnapshot}
 */
export async function restore(options: RestoreOptions, progress: Progress): Promise<Restored> {
  const target = resolve(options.dataDirectory);
  if (existsSync(target) && !statSync(target).isDirectory())
    throw new BadSnapshot(`--data-dir: ${options.dataDirectory} is a file`);
  if (existsSync(target) && readdirSync(target).length > 0) {
    throw new BadSnapshot(
      `${options.dataDirectory} is not empty: a restore never overwrites a member's data`,
    );
  }
  const facts = checkSnapshot(options.file, (done, total) => progress(done, 2 * total));
  if (facts.revision + options.bumpRevision > revisionMax) {
    throw new BadSnapshot(
      `--bump-revision: the revision would be above ${revisionMax}; the snapshot's is ${facts.revision}`,
    );
  }
  const clusterToken = options.clusterToken ?? `restored-${facts.sha256.slice(0, 16)}`;
  const founding = foundCluster(options.name, options.initialCluster, clusterToken);
  const scratch = join(dirname(target), `.${basename(target)}.restoring-${process.pid}`);
  rmSync(scratch, { recursive: true, force: true });
  try {
    const path = databasePathOf(scratch, 1);
    mkdirSync(dirname(path), { recursive: true });
    copyDatabase(options.file, path, facts.databaseBytes, progress);
    const { index, term } = founding.first.entries.at(-1)!;
    const revision = rebase(path, options, founding);
    const disk = systemDisk();
    const log = await createLog({ directory: join(scratch, "log"), disk, identity: founding.identity });
    const voters = founding.members.map(({ id }) => id);
    // The log begins behind the founders' entries, as after a snapshot from a leader: members that join later get the
    // state as a whole, never entries that build on keys they lack.
    await log.append({
      entries: [],
      hardState: founding.first.hardState,
      snapshot: {
        index,
        term,
        configuration: { voters, learners: [] },
        digest: Buffer.from(facts.sha256, "hex"),
      },
    });
    await log.close();
    for (const folder of [dirname(path), scratch]) disk.syncDirectory(folder);
    if (existsSync(target)) rmSync(target, { recursive: true });
    renameSync(scratch, target);
    disk.syncDirectory(dirname(target));
    return {
      dataDirectory: options.dataDirectory,
      clusterId: hexId(founding.identity.clusterId).padStart(16, "0"),
      memberId: hexId(founding.identity.memberId).padStart(16, "0"),
      clusterToken,
      revision,
      keys: facts.keys,
    };
  } catch (error) {
    rmSync(scratch, { recursive: true, force: true });
    throw error;
  }
}

function rebase(path: string, options: RestoreOptions, { first }: ReturnType<typeof foundCluster>): number {
  const database = openStateDatabase(path);
  try {
    const { index, term } = first.entries.at(-1)!;
    const revision = rebaseState(database, {
      founders: first.entries.map(({ data }) => decodeConfigurationChange(data)),
      index,
      term,
      bumpRevision: options.bumpRevision,
      markCompacted: options.markCompacted,
    });
    // Every row and all sums once more: what is renamed into place is a state that a member will open.
    StateMachine.open(database).close();
    database.run("PRAGMA wal_checkpoint(TRUNCATE)");
    return revision;
  } finally {
    database.close();
    const file = openSync(path, "r+");
    fsyncSync(file);
    closeSync(file);
  }
}

function copyDatabase(from: string, to: string, bytes: number, progress: Progress): void {
  const source = openSync(from, "r");
  const target = openSync(to, "wx");
  try {
    const piece = Buffer.allocUnsafe(pieceBytes);
    for (let offset = 0; offset < bytes;) {
      const read = readSync(source, piece, 0, Math.min(pieceBytes, bytes - offset), offset);
      if (read === 0) throw new BadSnapshot(`${from} ended while it was copied`);
      for (let written = 0; written < read;) {
        written += writeSync(target, piece, written, read - written, offset + written);
      }
      offset += read;
      progress(bytes + offset, 2 * bytes);
    }
    fsyncSync(target);
  } finally {
    closeSync(source);
    closeSync(target);
  }
}
