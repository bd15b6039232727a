/** `keelson health`: asks a member whether it is healthy, for health checks of containers. */

const timeoutMs = 3000;

/** Prints one line; answers the exit code: 0 when the member says that it is healthy, 1 otherwise. */
export async function checkHealth(
  url: string,
  print: (line: string) => void = (line) => void process.stdout.write(`${line}\n`),
): Promise<number> {
  const fail = (reason: string): number => {
    print(`${url} is not healthy: ${reason}`);
    return 1;
  };
  try {
    const answer = await fetch(new URL("/health", url), { signal: AbortSignal.timeout(timeoutMs) });
    const body: unknown = await answer.json();
    const { health, reason } = body as { health?: unknown; reason?: unknown };
    if (answer.ok && health === "true") {
      print(`${url} is healthy`);
      return 0;
    }
    return fail(typeof reason === "string" && reason !== "" ? reason : `HTTP status ${answer.status}`);
  } catch (error) {
    return fail(error instanceof Error ? error.message : String(error));
  }
}
