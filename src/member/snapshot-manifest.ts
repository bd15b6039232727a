/** What members call a snapshot that one of them offers, and what they say about it before its bytes. */
import { fromBinary } from "@bufbuild/protobuf";
import type { Configuration, SnapshotPosition } from "../consensus/types";
import type { LogIndex, MemberId, Revision, Term } from "../ids";
import { MemberSchema } from "../proto/gen/etcd/rpc_pb";
import type { SnapshotFile } from "../storage/jobs/jobs";

/** The form of a manifest, and of what it describes. */
const manifestVersion = 1;
/** More than a manifest ever takes. */
export const manifestBytesMax = 4_096;

/** What a follower learns before it pulls. */
export interface SnapshotManifest {
  readonly index: LogIndex;
  readonly term: Term;
  readonly revision: Revision;
  readonly bytes: number;
  /** SHA-256 of the whole file. */
  readonly digest: Uint8Array;
}

/** The file that describes the offered snapshot of a position. */
export function manifestName({ term, index }: Pick<SnapshotPosition, "term" | "index">): string {
  return `snapshot-${term}-${index}.json`;
}

/** The file itself. Copies of one position differ from member to member, so it is named by its content. */
export function dataName(digest: Uint8Array): string {
  return `snapshot-${Buffer.from(digest).toString("hex")}`;
}

export function encodeManifest({
  appliedIndex,
  appliedTerm,
  revision,
  bytes,
  digest,
}: SnapshotFile): Uint8Array {
  return Buffer.from(
    JSON.stringify({
      version: manifestVersion,
      index: appliedIndex,
      term: appliedTerm,
      revision,
      bytes,
      sha256: Buffer.from(digest).toString("hex"),
    }),
  );
}

/** Throws when it is not a manifest of that position, or one of a newer form. */
export function decodeManifest(encoded: Uint8Array, position: SnapshotPosition): SnapshotManifest {
  if (encoded.length === 0) throw new Error("the sender does not offer it any more");
  const { version, index, term, revision, bytes, sha256 } = JSON.parse(
    Buffer.from(encoded).toString(),
  ) as Record<string, unknown>;
  if (version !== manifestVersion) {
    throw new Error(
      `the snapshot is described in form ${String(version)}, this build knows ${manifestVersion}`,
    );
  }
  const digest = Buffer.from(typeof sha256 === "string" ? sha256 : "", "hex");
  if (
    index !== position.index ||
    term !== position.term ||
    !Number.isSafeInteger(revision) ||
    !Number.isSafeInteger(bytes) ||
    (bytes as number) <= 0 ||
    digest.length !== 32
  ) {
    throw new Error(`the description of the snapshot at entry ${position.index} makes no sense`);
  }
  return { index, term, revision: revision as number, bytes: bytes as number, digest };
}

/** The configuration that the members in a copy make up. */
export function configurationIn(members: readonly Uint8Array[]): Configuration {
  const voters: MemberId[] = [];
  const learners: MemberId[] = [];
  for (const encoded of members) {
    const { ID, isLearner } = fromBinary(MemberSchema, encoded);
    (isLearner ? learners : voters).push(ID);
  }
  return { voters: voters.sort(compareIds), learners: learners.sort(compareIds) };
}

/** Whether two configurations say the same. */
export function sameConfiguration(a: Configuration, b: Configuration): boolean {
  return sameIds(a.voters, b.voters) && sameIds(a.learners, b.learners);
}

function sameIds(a: readonly MemberId[], b: readonly MemberId[]): boolean {
  return (
    a.length === b.length && [...a].sort(compareIds).every((id, at) => id === [...b].sort(compareIds)[at])
  );
}

function compareIds(a: MemberId, b: MemberId): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
