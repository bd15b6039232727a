/** A snapshot file: the state database, and the SHA-256 of it at the end. */
import { Database } from "bun:sqlite";
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { fromBinary } from "@bufbuild/protobuf";
import { MemberSchema } from "../../proto/gen/etcd/rpc_pb";
import { StateMachine } from "../../state/state-machine";
import { stateFormat } from "../../storage/sqlite";

const digestBytes = 32;
const pieceBytes = 1024 ** 2;
/** A database is a whole number of these. */
const blockBytes = 512;
/** Where SQLite's header keeps a file's owner and format. */
const formatOffset = 60;
const ownerOffset = 68;
const headerBytes = 100;
const keelsonOwner = 0x4b65656c;

/** The file cannot be used; the message says why. */
export class BadSnapshot extends Error {
  override readonly name = "BadSnapshot";
}

export interface SnapshotFacts {
  /** Of the database in the file, in hexadecimal. */
  readonly sha256: string;
  /** Of the database. */
  readonly databaseBytes: number;
  readonly format: number;
  readonly revision: number;
  readonly compactedRevision: number;
  readonly appliedIndex: number;
  readonly keys: number;
  readonly leases: number;
  /** Names of the members in it. */
  readonly members: readonly string[];
}

export type Progress = (doneBytes: number, totalBytes: number) => void;

/**
 * Reads and checks all of a file, and changes nothing: length, digest, owner, format, every row, and their sums.
 * @throws {BadSnapshot} for one that is not a snapshot, is cut, was altered, or is of a newer format.
 */
export function checkSnapshot(path: string, progress: Progress): SnapshotFacts {
  const { sha256, databaseBytes, format } = checkDigest(path, progress);
  // The header says how many pages count, so what is behind them does no harm.
  const database = new Database(path, { readonly: true });
  try {
    if (format < stateFormat) return olderFacts(database, { sha256, databaseBytes, format });
    const state = StateMachine.open(database);
    return {
      sha256,
      databaseBytes,
      format,
      revision: state.revision,
      compactedRevision: state.compactedRevision,
      appliedIndex: state.appliedIndex,
      keys: state.sizes().keys,
      leases: state.leases().length,
      members: state.members().map(({ name }) => name),
    };
  } catch (error) {
    throw new BadSnapshot(`${path} is damaged: ${error instanceof Error ? error.message : String(error)}`);
  } finally {
    database.close();
  }
}

/** An older format is looked at as far as it is known; its rows are checked once a restore has brought it up to date. */
function olderFacts(
  database: Database,
  known: Pick<SnapshotFacts, "sha256" | "databaseBytes" | "format">,
): SnapshotFacts {
  const number = (sql: string): number =>
    Number((database.query<unknown, []>(sql).values()[0] as unknown[])[0]);
  return {
    ...known,
    revision: number("SELECT revision FROM position"),
    compactedRevision: number("SELECT compacted_revision FROM position"),
    appliedIndex: number("SELECT applied_index FROM position"),
    keys: -1,
    leases: number("SELECT count(*) FROM leases"),
    members: (
      database.query<unknown, []>("SELECT member FROM members WHERE removed = 0").values() as [Uint8Array][]
    ).map(([member]) => fromBinary(MemberSchema, member).name),
  };
}

function checkDigest(
  path: string,
  progress: Progress,
): Pick<SnapshotFacts, "sha256" | "databaseBytes" | "format"> {
  const file = openSync(path, "r");
  try {
    const { size } = fstatSync(file);
    const databaseBytes = size - digestBytes;
    if (databaseBytes < blockBytes || databaseBytes % blockBytes !== 0) {
      throw new BadSnapshot(
        `${path} is no whole snapshot: ${size} bytes are not a database with its ${digestBytes} bytes of digest; was it cut?`,
      );
    }
    const header = Buffer.alloc(headerBytes);
    readSync(file, header, 0, headerBytes, 0);
    if (
      header.toString("latin1", 0, 16) !== "SQLite format 3\0" ||
      header.readUInt32BE(ownerOffset) !== keelsonOwner
    ) {
      throw new BadSnapshot(
        `${path} is no snapshot of Keelson. Snapshots of etcd have another form: copy their keys with a client instead.`,
      );
    }
    const format = header.readUInt32BE(formatOffset);
    if (format === 0) throw new BadSnapshot(`${path} was altered: there is no format 0`);
    if (format > stateFormat) {
      throw new BadSnapshot(
        `${path} has format ${format}, written by a newer Keelson; this build knows formats up to ${stateFormat}: use the newer version`,
      );
    }
    const hash = new Bun.CryptoHasher("sha256");
    const piece = Buffer.allocUnsafe(pieceBytes);
    for (let offset = 0; offset < databaseBytes;) {
      const read = readSync(file, piece, 0, Math.min(pieceBytes, databaseBytes - offset), offset);
      if (read === 0) throw new BadSnapshot(`${path} ended while it was read`);
      hash.update(piece.subarray(0, read));
      offset += read;
      progress(offset, databaseBytes);
    }
    const end = Buffer.alloc(digestBytes);
    readSync(file, end, 0, digestBytes, databaseBytes);
    const digest = Buffer.from(hash.digest());
    if (!digest.equals(end)) {
      throw new BadSnapshot(
        `${path} was altered, or broke on its way: its content does not match the digest at its end`,
      );
    }
    return { sha256: digest.toString("hex"), databaseBytes, format };
  } finally {
    closeSync(file);
  }
}
