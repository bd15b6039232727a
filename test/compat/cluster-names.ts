/** Makes what two clusters say comparable: ids, addresses, times and sizes differ, everything else must not. */
import { hexId } from "../../src/ids";
import { Cluster as ClusterRpc } from "../../src/proto/gen/etcd/rpc_pb";
import type { Cluster } from "../tools/cluster";
import type { CommandResult } from "../tools/etcdctl";
import { GrpcClient } from "../tools/grpc-client";

/** What stands for an id that no member has. */
export const unknownId = 0x1234567890abcdefn;

export class ClusterNames {
  readonly #names = new Map<string, string>([
    [String(unknownId), "ID(unknown)"],
    [hexId(unknownId), "ID(unknown)"],
  ]);
  readonly #cluster: Cluster;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  /** Learns the ids of the members that there are, from one of them; each is called by its place. */
  async learn(clientUrl: string): Promise<void> {
    const client = new GrpcClient(clientUrl);
    try {
      const { header, members } = await client.call(ClusterRpc.method.memberList, {});
      this.#name(header!.clusterId, "CLUSTER");
      for (const { ID, peerURLs } of members) {
        const place = this.#cluster.members.find(
          ({ peerUrl, peerPort }) => peerURLs.includes(peerUrl) || peerURLs[0]?.endsWith(`:${peerPort}`),
        );
        this.#name(ID, place === undefined ? "ID(?)" : `ID(${place.name})`);
      }
    } finally {
      client.close();
    }
  }

  #name(id: bigint, name: string): void {
    this.#names.set(String(id), name);
    this.#names.set(hexId(id), name);
    // etcdctl pads some ids.
    this.#names.set(hexId(id).padStart(16, "0"), name);
  }

  /** The id of a member, as etcdctl wants it. */
  hex(name: string): string {
    for (const [text, known] of this.#names) {
      if (known === `ID(${name})` && /[a-f]/.test(text)) return text;
    }
    throw new Error(`no id is known for ${name}`);
  }

  id(name: string): bigint {
    return BigInt(`0x${this.hex(name)}`);
  }

  /** Words and numbers of one text under common names. */
  text(text: string): string {
    // A learner of etcd says 3.5.0 until it is promoted.
    let named = text.replaceAll(/(?<![\d.])3\.5\.0(?![\d.])/g, "3.6.0");
    for (const [id, name] of this.#names) {
      named = named.replaceAll(new RegExp(`(?<![0-9a-zA-Z])${id}(?![0-9a-zA-Z])`, "g"), name);
    }
    for (const { name, clientPort, peerPort } of this.#cluster.members) {
      named = named
        .replaceAll(`:${clientPort}`, `:CLIENT(${name})`)
        .replaceAll(`:${peerPort}`, `:PEER(${name})`);
    }
    return named;
  }

  /** A command's result: lines in an order of their own, since members are listed by id. */
  comparable(result: CommandResult): { code: number | null; stdout: string[]; errors: string[] } {
    return {
      code: result.code,
      stdout: this.#lines(result.stdout),
      errors: this.#lines(
        result.stderr
          .split("\n")
          .filter((line) => !line.startsWith('{"level":"'))
          .join("\n"),
      ),
    };
  }

  #lines(text: string): string[] {
    const named = this.text(text);
    const json = structured(named);
    if (json !== undefined) return [json];
    return (
      named
        .split("\n")
        .map((line) =>
          masked(line)
            .replaceAll(/\s+/g, " ")
            .replaceAll(/-{2,}/g, "--")
            .replace(
              /^(ETCD_INITIAL_CLUSTER=")(.*)"$/,
              (_, head: string, list: string) => head + list.split(",").sort().join(","),
            ),
        )
        // etcd's members come to know their storage version some time after their start.
        .filter((line) => line !== "" && !line.startsWith("Server version "))
        .sort()
    );
  }
}

/** Numbers that no two clusters share, in the human forms. */
function masked(line: string): string {
  const cells = line.split(line.startsWith("|") ? "|" : ", ").map((cell) => cell.trim());
  const status = line.startsWith("|") ? 1 : 0;
  // endpoint status: sizes, then term and indexes stand at fixed places.
  if (cells.length - 2 * status === 16 && /CLIENT\(/.test(cells[status] ?? "")) {
    for (const place of [2, 4, 5, 6, 10, 11, 12]) cells[place + status] = "N";
    return cells.join(" | ");
  }
  return line
    .replaceAll(/took = [^,\n]+/g, "took = T")
    .replaceAll(/\b[\d.]+(?:µs|ms|s)\b/g, "T")
    .replaceAll(/^"(RaftTerm|RaftIndex|RaftAppliedIndex|DBSize|DBSizeInUse)" : .*$/g, '"$1" : N')
    .replaceAll(/^"Version" : ".*$/g, '"Version" : N');
}

const variable = new Set([
  "raft_term",
  "raftIndex",
  "raftTerm",
  "raftAppliedIndex",
  "dbSize",
  "dbSizeInUse",
  "took",
]);

/** JSON with its lists sorted and its variable numbers hidden; undefined for other text. */
function structured(text: string): string | undefined {
  let value: unknown;
  try {
    // Names of ids stand where numbers were.
    value = JSON.parse(text.replaceAll(/:(ID\([^)]*\)|CLUSTER)/g, ':"$1"'));
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null) return undefined;
  return JSON.stringify(tidy(value));
}

function tidy(value: unknown, key = ""): unknown {
  if (variable.has(key) || (key === "version" && typeof value === "string")) return "N";
  if (Array.isArray(value)) {
    const texts = value.map((one) => JSON.stringify(tidy(one)));
    return texts.sort().map((text): unknown => JSON.parse(text));
  }
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, inner]) => [name, tidy(inner, name)]),
  );
}
