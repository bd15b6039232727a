/**
 * What open pages cost: the members' processor time for each put, beside some open Overviews and without. Pairs are
 * interleaved, and every second one runs in the other order, so that what drifts cancels out.
 */
import type { Cluster } from "../tools/cluster";
import { processCpuMs, runBench } from "../bench/load";

const goal = 1.05;
const load = "put --clients 50 --in-flight 20 --no-probe --random --key-space 100000";

interface Side {
  readonly microsecondsPerPut: number;
  readonly perSecond: number;
  /** Bytes that the pages were told. */
  readonly heardBytes: number;
}

/** Opens the streams of that many pages; they read until they are closed. */
async function opened(
  base: string,
  count: number,
): Promise<{ heardBytes(): number; close(): Promise<void> }> {
  const leaving = new AbortController();
  let heard = 0;
  const reading: Promise<void>[] = [];
  for (let at = 0; at < count; at++) {
    // Each page is loaded before its stream begins, as browsers do.
    await (await fetch(`${base}/ui/`, { headers: { accept: "text/html" } })).text();
    const stream = await fetch(`${base}/ui/live?page=/ui/`, { signal: leaving.signal });
    if (!stream.ok || stream.body === null) throw new Error(`no stream: ${stream.status}`);
    const { body } = stream;
    reading.push(
      (async () => {
        for await (const piece of body) heard += piece.length;
      })().catch(() => {}),
    );
  }
  return {
    heardBytes: () => heard,
    async close() {
      leaving.abort();
      await Promise.all(reading);
    },
  };
}

async function measured(cluster: Cluster, base: string, pages: number, seconds: number): Promise<Side> {
  const leader = await cluster.leader();
  const open = await opened(base, pages);
  const cpuMs = (): number => cluster.running.reduce((sum, { server }) => sum + processCpuMs(server!.pid), 0);
  const before = cpuMs();
  const { operations, perSecond, failures } = await runBench(
    leader.server!,
    `${load} --duration ${seconds}s`.split(" "),
  );
  const microsecondsPerPut = ((cpuMs() - before) * 1_000) / operations;
  const heardBytes = open.heardBytes();
  await open.close();
  if (failures.length > 0) throw new Error(failures.join("; "));
  if (pages > 0 && heardBytes < pages * seconds * 20) throw new Error("the pages heard next to nothing");
  return { microsecondsPerPut, perSecond, heardBytes };
}

/** Prints each pair and the median of their ratios; false when that is above the goal. */
export async function compareOpenPages(
  cluster: Cluster,
  { pages, pairs, seconds }: { readonly pages: number; readonly pairs: number; readonly seconds: number },
): Promise<boolean> {
  const { clientUrl } = await cluster.leader();
  await measured(cluster, clientUrl, 0, seconds);
  const ratios: number[] = [];
  for (let pair = 0; pair < pairs; pair++) {
    const sides: Side[] = [];
    const order = pair % 2 === 0 ? [0, pages] : [pages, 0];
    for (const count of order) sides.push(await measured(cluster, clientUrl, count, seconds));
    const [without, beside] = pair % 2 === 0 ? [sides[0]!, sides[1]!] : [sides[1]!, sides[0]!];
    ratios.push(beside.microsecondsPerPut / without.microsecondsPerPut);
    console.log(
      `pair ${pair + 1}: ${without.microsecondsPerPut.toFixed(2)} us/put at ${without.perSecond.toFixed(0)}/s alone, ` +
        `${beside.microsecondsPerPut.toFixed(2)} at ${beside.perSecond.toFixed(0)}/s beside ${pages} pages ` +
        `(${(beside.heardBytes / 1_024).toFixed(0)} KB heard), ratio ${ratios.at(-1)!.toFixed(3)}`,
    );
  }
  const sorted = [...ratios].sort((a, b) => a - b);
  const median = sorted[Math.floor(sorted.length / 2)]!;
  console.log(
    `median of ${pairs} pairs ${median.toFixed(3)}, from ${sorted[0]!.toFixed(3)} to ${sorted.at(-1)!.toFixed(3)}, goal ${goal}`,
  );
  return median <= goal;
}
