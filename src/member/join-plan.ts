/**
 * How a member without data begins in a cluster that runs already. The plan is written down before anything else is,
 * so a start that was cut short goes on where it was, and a restart needs no flags: until its own state knows the
 * cluster, a joiner knows the other members from here only.
 */
import { join } from "node:path";
import { type ClusterId, hexId, type MemberId } from "../ids";
import type { Disk, PeerAddress } from "./ports";

export interface JoinPlan {
  readonly clusterId: ClusterId;
  /** Given to this member by the cluster, and never used before. */
  readonly memberId: MemberId;
  readonly name: string;
  /** The other members as they were when this one was added. */
  readonly members: readonly PeerAddress[];
  /** Whether it asks to become a voter once it is in sync. */
  readonly promote: boolean;
}

const fileName = "join.json";
const fileFormat = 1;
const fileBytesMax = 1024 ** 2;

const idPattern = /^[0-9a-f]{1,16}$/;

/** The plan that a former start left in the data directory, if any. Throws when the file cannot be trusted. */
export function readJoinPlan(dataDirectory: string, disk: Disk): JoinPlan | undefined {
  if (!disk.list(dataDirectory).includes(fileName)) return undefined;
  const path = join(dataDirectory, fileName);
  const file = disk.open(path, "read");
  try {
    return decode(JSON.parse(new TextDecoder().decode(file.read(0, fileBytesMax))));
  } catch (error) {
    throw new Error(
      `${path} cannot be read (${error instanceof Error ? error.message : String(error)}); remove this member from ` +
        "the cluster, empty its data directory, and join again",
      { cause: error },
    );
  } finally {
    file.close();
  }
}

/** Writes the plan down; it survives a power cut once this resolves. */
export async function writeJoinPlan(dataDirectory: string, disk: Disk, plan: JoinPlan): Promise<void> {
  const path = join(dataDirectory, fileName);
  const unfinished = `${path}.tmp`;
  if (disk.list(dataDirectory).includes(`${fileName}.tmp`)) disk.remove(unfinished);
  const file = disk.open(unfinished, "create");
  try {
    file.write(0, new TextEncoder().encode(`${JSON.stringify(encode(plan), undefined, 2)}\n`));
    await file.sync();
  } finally {
    file.close();
  }
  disk.rename(unfinished, path);
  disk.syncDirectory(dataDirectory);
}

/** Takes the plan away once nothing of it is left to do. */
export function removeJoinPlan(dataDirectory: string, disk: Disk): void {
  if (!disk.list(dataDirectory).includes(fileName)) return;
  disk.remove(join(dataDirectory, fileName));
  disk.syncDirectory(dataDirectory);
}

function encode({ clusterId, memberId, name, members, promote }: JoinPlan): unknown {
  return {
    format: fileFormat,
    clusterId: hexId(clusterId),
    memberId: hexId(memberId),
    name,
    members: members.map(({ id, peerUrls }) => ({ id: hexId(id), peerUrls })),
    promote,
  };
}

function decode(content: unknown): JoinPlan {
  const fields = record(content);
  if (fields["format"] !== fileFormat) throw new Error(`its format ${String(fields["format"])} is unknown`);
  const { name, members, promote } = fields;
  if (typeof name !== "string" || typeof promote !== "boolean" || !Array.isArray(members)) {
    throw new Error("it is not complete");
  }
  return {
    clusterId: id(fields["clusterId"]),
    memberId: id(fields["memberId"]),
    name,
    promote,
    members: members.map((one: unknown): PeerAddress => {
      const member = record(one);
      const peerUrls = member["peerUrls"];
      if (!Array.isArray(peerUrls)) throw new Error("it is not complete");
      return { id: id(member["id"]), peerUrls: peerUrls.map(String) };
    }),
  };
}

function record(value: unknown): Readonly<Record<string, unknown>> {
  if (typeof value !== "object" || value === null) throw new Error("it is not complete");
  return value as Record<string, unknown>;
}

function id(value: unknown): bigint {
  if (typeof value !== "string" || !idPattern.test(value)) throw new Error("it holds a bad id");
  return BigInt(`0x${value}`);
}
