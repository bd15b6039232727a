/** How long a cluster is without writes when its leader dies. */
import { KV } from "../../src/proto/gen/etcd/rpc_pb";
import type { ClusterMember } from "../tools/cluster";
import { GrpcClient, type Reply } from "../tools/grpc-client";

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  return sorted.length % 2 === 1 ? sorted[Math.floor(middle)]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Told of every put that a measurement sent. */
export type PutListener = (put: {
  readonly member: string;
  readonly key: string;
  readonly value: string;
  readonly callAt: number;
  readonly returnAt: number;
  /** undefined when no answer came. */
  readonly reply: Reply<typeof KV.method.put.output> | undefined;
}) => void;

/**
 * Kills the leader and puts to the survivors every 10 ms, without waiting for answers: the time from the kill to the
 * first success of a put that was sent after it. A put that was sent in vain may wait for long, so each attempt is one
 * of its own, as new requests of other clients would be.
 */
export async function measureFailover(
  leader: ClusterMember,
  survivors: readonly ClusterMember[],
  listener: PutListener = () => {},
  timeoutMs = 20_000,
): Promise<number> {
  const clients = survivors.map((member) => ({
    member: member.name,
    client: new GrpcClient(member.clientUrl),
  }));
  // Connections are there before, as those of the clients of a running cluster are.
  const hello = { key: Buffer.from("x"), serializable: true };
  await Promise.all(clients.map(({ client }) => client.unary(KV.method.range, hello)));
  const done: { atMs?: number } = {};
  await leader.kill();
  const killedAt = performance.now();
  const deadline = killedAt + timeoutMs;
  const puts: Promise<void>[] = [];
  const put = async (attempt: number): Promise<void> => {
    const { member, client } = clients[attempt % clients.length]!;
    const key = "probe/failover";
    const value = `${killedAt}.${attempt}`;
    const callAt = performance.now();
    const request = { key: Buffer.from(key), value: Buffer.from(value) };
    const reply = await client.unary(KV.method.put, request, { timeoutMs: 8_000 }).catch(() => undefined);
    const returnAt = performance.now();
    if (reply?.ok) done.atMs ??= returnAt;
    listener({ member, key, value, callAt, returnAt, reply });
  };
  for (let attempt = 0; done.atMs === undefined && performance.now() < deadline; attempt++) {
    puts.push(put(attempt));
    await Bun.sleep(10);
  }
  for (const { client } of clients) client.close();
  await Promise.all(puts);
  if (done.atMs === undefined)
    throw new Error(`no write succeeded within ${timeoutMs} ms after the leader's end`);
  return done.atMs - killedAt;
}
