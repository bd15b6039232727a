// oxlint-disable unicorn/require-post-message-target-origin -- the other side is a thread, not a window
/** The probe that looks for stalls of the server, in its own thread. */
import type { Target } from "./http2/connection";

export interface ProbeReport {
  /** The longest that one small read waited, in milliseconds. */
  longestStallMs: number;
  /** When that read was sent, in milliseconds after the probe's start. */
  stalledAtMs: number;
  probes: number;
  failed: number;
}

type ProbeMessage =
  | { readonly kind: "ready" }
  | { readonly kind: "report"; readonly report: ProbeReport }
  | { readonly kind: "failed"; readonly reason: string };

export interface Probe {
  /** Ends the probe and answers what it saw. */
  stop(): Promise<ProbeReport>;
}

/** Starts probing; rejects when the probe cannot connect. */
export async function startProbe(target: Target): Promise<Probe> {
  const worker = new Worker(new URL("./probe-worker.ts", import.meta.url));
  const answers: ((message: ProbeMessage) => void)[] = [];
  worker.addEventListener("message", (event: MessageEvent<ProbeMessage>) => answers.shift()?.(event.data));
  worker.addEventListener("error", (event) => answers.shift()?.({ kind: "failed", reason: event.message }));
  const ask = (message: unknown): Promise<ProbeMessage> =>
    new Promise((resolve) => {
      answers.push(resolve);
      worker.postMessage(message);
    });
  const first = await ask(target);
  if (first.kind !== "ready") {
    worker.terminate();
    throw new Error(first.kind === "failed" ? first.reason : "the probe does not start");
  }
  return {
    async stop() {
      const last = await ask("stop");
      worker.terminate();
      if (last.kind !== "report") throw new Error("the probe did not report");
      return last.report;
    },
  };
}
