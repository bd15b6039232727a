/** Runs `keelson bench` with its own arguments; answers the exit code: 0, 1 when a check failed, 2 for bad input. */
export async function runBench(_argv: readonly string[]): Promise<number> {
  throw new Error("not written yet");
}
