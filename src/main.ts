/** The executable: reads the command line and runs what it asks for. */
import { parseCommandLine, type ServerOptions } from "./command/options";
import { createLogger, type Logger } from "./log";
import { startServer } from "./server";
import { etcdLevel, keelsonVersion } from "./version";

/** A stop that takes longer than this is cut short. */
const stopDeadlineMs = 10_000;

async function serve(options: ServerOptions, warnings: readonly string[]): Promise<void> {
  const log = createLogger({
    level: options.logLevel,
    outputs: options.logOutputs,
    format: options.logFormat,
  });
  for (const warning of warnings) log.warn(warning);
  log.info("starting keelson", {
    version: keelsonVersion,
    etcdLevel,
    bun: Bun.version,
    pid: process.pid,
    flags: options.effectiveFlags,
  });
  const fatal = (error: unknown): never => {
    log.error("the process ends: its state can no longer be trusted", { error: describe(error) });
    process.exit(1);
  };
  process.on("uncaughtException", fatal);
  process.on("unhandledRejection", fatal);
  const life: { stop?: (reason: string) => void } = {};
  /** etcd's exit code for it is 0 too: a supervisor that restarts failures leaves it alone. */
  const removed = (): void => {
    if (life.stop === undefined) process.exit(0);
    life.stop("removed from the cluster");
  };
  const server = await startServer(options, log, { fatal, removed }).catch((error: unknown) => {
    log.error("could not start", { error: error instanceof Error ? error.message : String(error) });
    process.exit(1);
  });
  log.info("ready to serve client requests", { clientUrls: server.clientUrls });
  life.stop = stopOnSignals(server, log);
}

/** Signals stop the server once, and end the process at the second time; so does the answer, with its reason. */
function stopOnSignals(server: { stop(): Promise<void> }, log: Logger): (reason: string) => void {
  let stopping = false;
  const stop = (reason: string): void => {
    if (stopping) return;
    stopping = true;
    log.info("stopping", { reason });
    setTimeout(() => {
      log.warn("stopping took too long and was cut short");
      process.exit(1);
    }, stopDeadlineMs).unref();
    server.stop().then(
      () => {
        log.info("stopped");
        process.exit(0);
      },
      (error: unknown) => {
        log.error("stopping failed", { error: describe(error) });
        process.exit(1);
      },
    );
  };
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.on(signal, () => {
      if (stopping) process.exit(1);
      stop(signal);
    });
  }
  return stop;
}

function describe(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

const command = parseCommandLine(process.argv.slice(2), process.env);
switch (command.kind) {
  case "server":
    await serve(command.options, command.warnings);
    break;
  case "bench": {
    const { runBench } = await import("./command/bench/bench");
    process.exitCode = await runBench(command.arguments);
    break;
  }
  case "snapshot": {
    const { runSnapshot } = await import("./command/snapshot/snapshot");
    process.exitCode = await runSnapshot(command.arguments);
    break;
  }
  case "health": {
    const { checkHealth } = await import("./command/health");
    process.exitCode = await checkHealth(command.url);
    break;
  }
  case "print":
    process.stdout.write(command.text);
    break;
  case "refused":
    process.stderr.write(`${command.line}\n`);
    process.exitCode = command.exitCode;
}
