/** What the peer port of a running member tells whoever asks: etcd's `GET /members`. */
import type { ClusterId, MemberId } from "../ids";

/** A member as its cluster knows it. */
export interface KnownMember {
  readonly id: MemberId;
  readonly name: string;
  readonly peerUrls: readonly string[];
  readonly clientUrls: readonly string[];
  readonly isLearner: boolean;
}

export interface RunningCluster {
  readonly clusterId: ClusterId;
  readonly members: readonly KnownMember[];
}

/** Who answered, and what. */
export interface PeerAnswer extends RunningCluster {
  readonly peerUrl: string;
}

const answerBytesMax = 4 * 1024 ** 2;

/** Asks one peer URL; undefined when nobody answers there, or not as a member does. */
export async function askPeer(peerUrl: string, timeoutMs: number): Promise<PeerAnswer | undefined> {
  try {
    const answer = await fetch(`${peerUrl}/members`, {
      signal: AbortSignal.timeout(timeoutMs),
      redirect: "error",
    });
    if (answer.status !== 200) return undefined;
    const clusterId = answer.headers.get("x-etcd-cluster-id");
    const body = await answer.text();
    if (clusterId === null || !/^[0-9a-f]{1,16}$/.test(clusterId) || body.length > answerBytesMax)
      return undefined;
    return { peerUrl, clusterId: BigInt(`0x${clusterId}`), members: readMembers(body) };
  } catch {
    return undefined;
  }
}

/** Asks all at once; whoever answers is in the result. */
export async function askPeers(peerUrls: readonly string[], timeoutMs: number): Promise<PeerAnswer[]> {
  const answers = await Promise.all(peerUrls.map((url) => askPeer(url, timeoutMs)));
  return answers.filter((answer) => answer !== undefined);
}

/** Ids are JSON numbers of 64 bits, which JSON.parse would round: they are read as text. */
export function readMembers(body: string): KnownMember[] {
  const parsed: unknown = JSON.parse(body.replaceAll(/"id"\s*:\s*(\d{1,20})/g, '"id":"$1"'));
  if (!Array.isArray(parsed)) throw new TypeError("not a list of members");
  return parsed.map((one: unknown) => {
    const member = one as Readonly<Record<string, unknown>>;
    return {
      id: BigInt(String(member["id"])),
      name: typeof member["name"] === "string" ? member["name"] : "",
      peerUrls: texts(member["peerURLs"]),
      clientUrls: texts(member["clientURLs"]),
      isLearner: member["isLearner"] === true,
    };
  });
}

function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.map(String) : [];
}
