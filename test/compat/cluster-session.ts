/**
 * One operator's session with a cluster of three: everything that etcdctl can ask about members, in an order in which
 * an operator would. Run on two kinds of clusters, it must give the same notes.
 */
import { Cluster as ClusterRpc, KV, Lease, Maintenance } from "../../src/proto/gen/etcd/rpc_pb";
import type { Cluster, ClusterMember } from "../tools/cluster";
import { Etcdctl } from "../tools/etcdctl";
import { GrpcClient, type Status, statusOfReply } from "../tools/grpc-client";
import { ClusterNames, unknownId } from "./cluster-names";

/** One thing that was done, and what came of it. */
export interface Note {
  readonly what: string;
  readonly came: unknown;
}

/** etcd wants members to have been connected this long before it lets membership change. */
const settledMs = 5_500;
const formats = ["simple", "json", "fields", "table"] as const;

export class Session {
  readonly notes: Note[] = [];
  readonly names: ClusterNames;
  #files = 0;

  constructor(readonly cluster: Cluster) {
    this.names = new ClusterNames(cluster);
  }

  member(name: string): ClusterMember {
    const member = this.cluster.members.find((one) => one.name === name);
    if (member === undefined) throw new Error(`there is no ${name}`);
    return member;
  }

  note(what: string, came: unknown): void {
    this.notes.push({ what, came });
  }

  /** etcdctl against the named members ("m1", "m1,m2"); ids and URLs in its arguments are written "ID(m1)". */
  async ctl(at: string, ...args: string[]): Promise<void> {
    const file = `${this.member("m1").dataDir}.file-${++this.#files}`;
    const endpoints = at.split(",").map((name) => `127.0.0.1:${this.member(name).clientPort}`);
    const etcdctl = await Etcdctl.for(endpoints.join(","));
    const real = args.map((argument) =>
      argument
        .replaceAll(/ID\((\w+)\)/g, (_, name: string) => this.names.hex(name))
        .replaceAll("FILE", file)
        .replaceAll(/PORT\((\w+)\)/g, (_, name: string) => String(this.member(name).peerPort))
        .replaceAll(/PEER\((\w+)\)/g, (_, name: string) => this.member(name).peerUrl),
    );
    const { code, stdout, stderr } = await etcdctl.run(["--command-timeout=15s", ...real]);
    const result = { code, stdout: stdout.replaceAll(file, "FILE"), stderr: stderr.replaceAll(file, "FILE") };
    await this.names.learn(this.member("m1").clientUrl).catch(() => {});
    this.note(`${at}: etcdctl ${args.join(" ")}`, this.names.comparable(result));
  }

  /** The exact statuses of calls that are refused, from one member. */
  async callsTogether(
    at: string,
    list: Record<string, (client: GrpcClient) => ReturnType<GrpcClient["unary"]>>,
    known: (status: Status) => unknown = (status) => status,
  ): Promise<void> {
    const client = new GrpcClient(this.member(at).clientUrl);
    try {
      const statuses = await Promise.all(Object.values(list).map((call) => call(client)));
      Object.keys(list).forEach((what, position) => {
        const { code, text } = statusOfReply(statuses[position]!);
        this.note(`${at}: ${what}`, known({ code, text: this.names.text(text) }));
      });
    } finally {
      client.close();
    }
  }

  /** The same, one after the other. */
  async calls(
    at: string,
    list: Record<string, (client: GrpcClient) => ReturnType<GrpcClient["unary"]>>,
  ): Promise<void> {
    for (const [what, call] of Object.entries(list)) await this.callsTogether(at, { [what]: call });
  }

  async makeLeader(name: string): Promise<void> {
    const leader = await this.cluster.leader();
    if (leader.name === name) return;
    const client = new GrpcClient(leader.clientUrl);
    try {
      await client.call(Maintenance.method.moveLeader, { targetID: this.names.id(name) });
    } finally {
      client.close();
    }
    const deadline = performance.now() + 10_000;
    while ((await this.cluster.leader()).name !== name) {
      if (performance.now() > deadline) throw new Error(`${name} does not lead`);
      await Bun.sleep(50);
    }
  }

  /** Waits until a member shows what is expected of it; an operator would look again, too. */
  async until(what: string, fits: () => Promise<boolean>, timeoutMs = 20_000): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    while (!(await fits().catch(() => false))) {
      if (performance.now() > deadline) throw new Error(`${what}: not within ${timeoutMs} ms`);
      await Bun.sleep(100);
    }
  }
}

const key = new TextEncoder().encode("a");

export async function lookAround(session: Session): Promise<void> {
  await session.names.learn(session.member("m1").clientUrl);
  await session.makeLeader("m1");
  for (const value of ["1", "2", "3"]) await session.ctl("m2,m3", "put", "a", value);
  await session.ctl("m3", "get", "a", "-w", "json");
  for (const format of formats) {
    await session.ctl("m2", "member", "list", "-w", format);
    await session.ctl("m1,m2,m3", "endpoint", "status", "-w", format);
    await session.ctl("m2", "endpoint", "status", "--cluster", "-w", format);
    await session.ctl("m3", "endpoint", "hashkv", "--cluster", "-w", format);
    await session.ctl("m3", "endpoint", "health", "--cluster", "-w", format);
  }
  await session.ctl("m3", "member", "list", "--consistency=s");
  await session.ctl("m2", "alarm", "list");
  await session.ctl("m3", "snapshot", "save", "FILE");
  await session.ctl("m1,m2,m3", "defrag");
  await session.ctl("m2", "defrag", "--cluster");
}

/** A lease is granted, renewed, shown and revoked on different members, none of which leads. */
export async function leasesEverywhere(session: Session): Promise<void> {
  const ID = 77n;
  const clients = new Map(
    ["m1", "m2", "m3"].map((name) => [name, new GrpcClient(session.member(name).clientUrl)] as const),
  );
  const at = (name: string): GrpcClient => clients.get(name)!;
  /** The answer as it is, but for what two clusters never share. */
  const note = (what: string, answer: unknown): void => {
    const text = JSON.stringify(answer, (field, value: unknown) => {
      if (field === "raftTerm" || field === "$typeName") return undefined;
      // Seconds that are left: one or two may have passed.
      if (field === "TTL" && typeof value === "bigint" && value > 90n) return "about 100";
      return typeof value === "bigint" ? String(value) : value;
    });
    session.note(what, session.names.text(text));
  };
  const keepAlive = async (name: string): Promise<unknown> => {
    const stream = at(name).stream(Lease.method.leaseKeepAlive);
    stream.send({ ID });
    const answer = await stream.next();
    stream.cancel();
    return answer;
  };
  note("m2: LeaseGrant", await at("m2").call(Lease.method.leaseGrant, { ID, TTL: 100n }));
  note(
    "m3: LeaseGrant again",
    statusOfReply(await at("m3").unary(Lease.method.leaseGrant, { ID, TTL: 100n })),
  );
  note("m3: Put", await at("m3").call(KV.method.put, { key, value: key, lease: ID }));
  for (const name of clients.keys()) {
    note(`${name}: LeaseKeepAlive`, await keepAlive(name));
    note(`${name}: TimeToLive`, await at(name).call(Lease.method.leaseTimeToLive, { ID, keys: true }));
    note(`${name}: TimeToLive of none`, await at(name).call(Lease.method.leaseTimeToLive, { ID: 78n }));
    await at(name).call(KV.method.range, { key });
    note(`${name}: LeaseLeases`, await at(name).call(Lease.method.leaseLeases, {}));
  }
  note("m3: LeaseRevoke", await at("m3").call(Lease.method.leaseRevoke, { ID }));
  for (const name of clients.keys()) {
    note(`${name}: Range after it`, await at(name).call(KV.method.range, { key }));
    note(`${name}: LeaseKeepAlive after it`, await keepAlive(name));
    note(`${name}: TimeToLive after it`, await at(name).call(Lease.method.leaseTimeToLive, { ID }));
    note(`${name}: LeaseRevoke again`, statusOfReply(await at(name).unary(Lease.method.leaseRevoke, { ID })));
  }
  for (const client of clients.values()) client.close();
  await session.ctl("m2", "put", "a", "3");
}

export async function moveLeader(session: Session): Promise<void> {
  await session.ctl("m1,m2,m3", "move-leader", "ID(m2)");
  await session.until("m2 leads", async () => (await session.cluster.leader()).name === "m2");
  await session.ctl("m2", "endpoint", "status", "--cluster");
  await session.ctl("m1,m3", "move-leader", "ID(m1)");
  await session.ctl("m1,m2,m3", "move-leader", "ID(unknown)");
  await session.calls("m2", {
    "MoveLeader to itself": (client) =>
      client.unary(Maintenance.method.moveLeader, { targetID: session.names.id("m2") }),
    "MoveLeader to nobody": (client) => client.unary(Maintenance.method.moveLeader, { targetID: 0n }),
    "MoveLeader to a stranger": (client) =>
      client.unary(Maintenance.method.moveLeader, { targetID: unknownId }),
  });
  await session.calls("m1", {
    "MoveLeader asked of a follower": (client) =>
      client.unary(Maintenance.method.moveLeader, { targetID: session.names.id("m1") }),
  });
  await session.makeLeader("m1");
}

/**
 * Without a quorum etcd gives up in one of these ways, depending on where a request stands; which one says nothing to
 * whoever asked.
 */
function gaveUp(status: Status): unknown {
  const ways = [
    "14 etcdserver: request timed out",
    "14 etcdserver: unhealthy cluster",
    "14 etcdserver: no leader",
    "4 context deadline exceeded",
  ];
  return ways.includes(`${status.code} ${status.text}`) ? "gave up" : status;
}

/** One of three is left: what needs no quorum is served, the rest is refused after a while, and nothing is pretended. */
export async function withoutQuorum(session: Session): Promise<void> {
  const others = [session.member("m2"), session.member("m3")];
  await Promise.all(others.map((member) => member.kill()));
  const alone = await session.cluster.etcdctl([session.member("m1")]);
  await session.until("m1 knows no leader", async () =>
    (await alone.ok(["endpoint", "status"])).includes("etcdserver: no leader"),
  );
  for (const format of formats) await session.ctl("m1", "endpoint", "status", "-w", format);
  await session.ctl("m1", "get", "a", "--consistency=s");
  await session.ctl("m1", "member", "list", "--consistency=s");
  await session.ctl("m1", "endpoint", "hashkv");
  const id = session.names.id("m2");
  // As an operator's client does, for what a server would never answer.
  const patient = { deadlineMs: 12_000 };
  await session.callsTogether(
    "m1",
    {
      "linearizable Range without a leader": (client) => client.unary(KV.method.range, { key }, patient),
      "Put without a leader": (client) => client.unary(KV.method.put, { key }, patient),
      "linearizable MemberList without a leader": (client) =>
        client.unary(ClusterRpc.method.memberList, { linearizable: true }, patient),
      "MemberAdd without a leader": (client) =>
        client.unary(
          ClusterRpc.method.memberAdd,
          { peerURLs: ["http://127.0.0.1:1"], isLearner: true },
          patient,
        ),
      "MemberRemove without a leader": (client) =>
        client.unary(ClusterRpc.method.memberRemove, { ID: id }, patient),
      "MemberPromote without a leader": (client) =>
        client.unary(ClusterRpc.method.memberPromote, { ID: id }, patient),
      "Alarm without a leader": (client) => client.unary(Maintenance.method.alarm, {}, patient),
      "LeaseGrant without a leader": (client) => client.unary(Lease.method.leaseGrant, { TTL: 60n }, patient),
      "LeaseTimeToLive without a leader": (client) =>
        client.unary(Lease.method.leaseTimeToLive, { ID: 1n }, patient),
    },
    gaveUp,
  );
  await session.calls("m1", {
    "MoveLeader without a leader": (client) =>
      client.unary(Maintenance.method.moveLeader, { targetID: session.names.id("m1") }, patient),
    "LeaseLeases without a leader": (client) => client.unary(Lease.method.leaseLeases, {}, patient),
    "Range that wants a leader": (client) =>
      client.unary(
        KV.method.range,
        { key, serializable: true },
        {
          metadata: { hasleader: "true" },
        },
      ),
  });
  await Promise.all(others.map((member) => member.start()));
  await session.makeLeader("m1");
  await session.ctl("m1,m2,m3", "put", "a", "4");
}

export async function addLearner(session: Session): Promise<void> {
  await Bun.sleep(settledMs);
  await session.cluster.newMember();
  await session.cluster.newMember();
  await session.ctl("m2", "member", "add", "m4", "--peer-urls=PEER(m1)");
  await session.ctl("m2", "member", "add", "m4", "--learner", "--peer-urls=PEER(m4)");
  for (const format of formats) await session.ctl("m3", "member", "list", "-w", format);
  await session.ctl("m3", "member", "add", "m5", "--learner", "--peer-urls=PEER(m5)");
  // etcd's ids come from URLs and seconds: within one second it would speak of the id.
  await Bun.sleep(1_100);
  await session.ctl("m3", "member", "add", "m5", "--peer-urls=PEER(m4)");
  await session.ctl("m3", "member", "promote", "ID(m4)");
  await session.ctl("m2", "member", "promote", "ID(m1)");
  await session.ctl("m2", "member", "promote", "ID(unknown)");
  await session.ctl("m1,m2,m3", "move-leader", "ID(m4)");
  await session.calls("m3", {
    "MemberAdd without URLs": (client) => client.unary(ClusterRpc.method.memberAdd, {}),
    "MemberAdd with no URL": (client) =>
      client.unary(ClusterRpc.method.memberAdd, { peerURLs: ["nonsense"] }),
    "MemberAdd without a port": (client) =>
      client.unary(ClusterRpc.method.memberAdd, { peerURLs: ["http://h"] }),
    "MemberAdd with a path": (client) =>
      client.unary(ClusterRpc.method.memberAdd, { peerURLs: ["http://h:1/p"] }),
    "MemberAdd of another scheme": (client) =>
      client.unary(ClusterRpc.method.memberAdd, { peerURLs: ["ftp://h:1"] }),
    "MemberAdd of a second learner": (client) =>
      client.unary(ClusterRpc.method.memberAdd, { peerURLs: ["http://127.0.0.1:1"], isLearner: true }),
    "MemberAdd of a URL in use": (client) =>
      client.unary(ClusterRpc.method.memberAdd, { peerURLs: [session.member("m2").peerUrl] }),
    "MemberPromote of nobody": (client) => client.unary(ClusterRpc.method.memberPromote, { ID: 0n }),
    "MemberPromote too early": (client) =>
      client.unary(ClusterRpc.method.memberPromote, { ID: session.names.id("m4") }),
    "MemberPromote of a voter": (client) =>
      client.unary(ClusterRpc.method.memberPromote, { ID: session.names.id("m3") }),
    "MemberRemove of a stranger": (client) => client.unary(ClusterRpc.method.memberRemove, { ID: unknownId }),
    "MemberUpdate of a stranger": (client) =>
      client.unary(ClusterRpc.method.memberUpdate, { ID: unknownId, peerURLs: ["http://127.0.0.1:1"] }),
    "MemberUpdate to a URL in use": (client) =>
      client.unary(ClusterRpc.method.memberUpdate, {
        ID: session.names.id("m4"),
        peerURLs: [session.member("m2").peerUrl],
      }),
  });
}

export async function useLearner(session: Session): Promise<void> {
  const { cluster } = session;
  const learner = session.member("m4");
  await learner.launch({ begin: learner.clusterFlags("existing", cluster.members.slice(0, 4)) });
  const etcdctl = await cluster.etcdctl([learner]);
  await session.until("the learner has the data", async () =>
    (await etcdctl.ok(["get", "a", "--consistency=s"])).includes("4"),
  );
  await session.ctl("m4", "get", "a", "--consistency=s");
  await session.ctl("m4", "get", "a");
  await session.ctl("m4", "put", "a", "4");
  await session.ctl("m4", "member", "list");
  await session.ctl("m4", "member", "list", "--consistency=s");
  for (const format of formats) await session.ctl("m4", "endpoint", "status", "-w", format);
  await session.ctl("m4", "endpoint", "health");
  await session.ctl("m4", "endpoint", "hashkv");
  const file = `${learner.dataDir}.snapshot`;
  // A learner of etcd does not know its storage version yet; that it serves snapshots is what counts.
  session.note(
    "m4: snapshot save",
    (await etcdctl.ok(["snapshot", "save", file])).includes("Snapshot saved"),
  );
  await session.ctl("m4", "lease", "grant", "10");
  await session.ctl("m4", "alarm", "list");
  await session.ctl("m4", "defrag");
  await session.ctl("m4", "watch", "a", "--rev=2");
  await session.ctl("m4", "member", "promote", "ID(m4)");
  await session.calls("m4", {
    "serializable Range on a learner": (client) => client.unary(KV.method.range, { key, serializable: true }),
    "linearizable Range on a learner": (client) => client.unary(KV.method.range, { key }),
    "Txn on a learner": (client) => client.unary(KV.method.txn, {}),
    "serializable Txn on a learner": (client) =>
      client.unary(KV.method.txn, {
        success: [{ request: { case: "requestRange", value: { key, serializable: true } } }],
      }),
    "Compact on a learner": (client) => client.unary(KV.method.compact, { revision: 1n }),
    "LeaseLeases on a learner": (client) => client.unary(Lease.method.leaseLeases, {}),
    "Status on a learner": (client) => client.unary(Maintenance.method.status, {}),
    "HashKV on a learner": (client) => client.unary(Maintenance.method.hashKV, {}),
    "MoveLeader on a learner": (client) => client.unary(Maintenance.method.moveLeader, { targetID: 1n }),
  });
}

export async function promoteAndUpdate(session: Session): Promise<void> {
  await session.until("the learner is promoted", async () => {
    const etcdctl = await session.cluster.etcdctl([session.member("m2")]);
    const { code, stdout, stderr } = await etcdctl.run(["member", "promote", session.names.hex("m4")]);
    if (/in sync with leader/.test(stderr)) return false;
    session.note("member promote", session.names.comparable({ code, stdout, stderr: "" }));
    return true;
  });
  await session.ctl("m2", "member", "promote", "ID(m4)");
  await session.until("m4 serves", async () => {
    await session.member("m4").server!.ready(1_000);
    return true;
  });
  await session.ctl("m4", "put", "a", "5");
  await session.ctl("m4", "get", "a", "-w", "json");
  await session.ctl("m4", "member", "update", "ID(m4)", "--peer-urls=http://localhost:PORT(m4)");
  await session.ctl("m2", "member", "list");
  await session.ctl("m2", "member", "update", "ID(unknown)", "--peer-urls=http://127.0.0.1:1");
  await session.ctl("m2", "member", "update", "ID(m4)", "--peer-urls=PEER(m1)");
  await session.ctl("m2", "member", "list", "-w", "json");
}

export async function removeMembers(session: Session): Promise<void> {
  await Bun.sleep(settledMs);
  await session.ctl("m2", "member", "remove", "ID(unknown)");
  await session.ctl("m2", "member", "remove", "ID(m4)");
  const status = await session.member("m4").server!.exit();
  session.note("m4 ends by itself", status);
  await session.ctl("m2", "member", "remove", "ID(m4)");
  await session.ctl("m2", "member", "promote", "ID(m4)");
  await session.ctl("m2", "member", "update", "ID(m4)", "--peer-urls=http://127.0.0.1:1");
  await session.ctl("m2", "member", "list");
  await session.makeLeader("m3");
  await session.ctl("m1", "member", "remove", "ID(m3)");
  session.note("m3, which led, ends by itself", await session.member("m3").server!.exit());
  await session.cluster.leader();
  await session.ctl("m1", "put", "a", "5");
  await session.ctl("m1", "member", "list");
}

export async function strictChecks(session: Session): Promise<void> {
  await session.makeLeader("m1");
  await Bun.sleep(settledMs);
  // Two voters, a third that never started: the next one would make a majority of strangers possible.
  await session.ctl("m1", "member", "add", "m5", "--peer-urls=PEER(m5)");
  await session.ctl("m1", "member", "list", "-w", "json");
  const stranger = await session.cluster.newMember();
  await session.ctl("m1", "member", "add", stranger.name, `--peer-urls=PEER(${stranger.name})`);
  await session.calls("m1", {
    "MemberAdd with too few started": (client) =>
      client.unary(ClusterRpc.method.memberAdd, { peerURLs: [stranger.peerUrl] }),
    "MemberRemove with too few started": (client) =>
      client.unary(ClusterRpc.method.memberRemove, { ID: session.names.id("m2") }),
    "MemberRemove of one that never started": (client) =>
      client.unary(ClusterRpc.method.memberRemove, { ID: session.names.id("m5") }),
  });
  await session.ctl("m1", "member", "list");
}
