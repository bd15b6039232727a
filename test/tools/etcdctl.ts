/** The reference's command line client, pointed at one server. */
import { spawn } from "node:child_process";
import { ensureEtcd } from "./etcd";

export interface CommandResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunningCommand {
  /** What it printed so far. */
  output(): string;
  /** Waits until the output fits. */
  until(fits: (output: string) => boolean, timeoutMs?: number): Promise<string>;
  /** Sends a line to its standard input. */
  write(line: string): void;
  /** Ends it as Ctrl-C does, and waits. */
  interrupt(): Promise<CommandResult>;
  readonly done: Promise<CommandResult>;
}

export class Etcdctl {
  constructor(
    readonly path: string,
    readonly endpoint: string,
  ) {}

  static async for(endpoint: string): Promise<Etcdctl> {
    return new Etcdctl((await ensureEtcd()).etcdctl, endpoint.replace(/^https?:\/\//, ""));
  }

  /** Starts a command that goes on until it is told to end. */
  start(args: readonly string[], input?: string): RunningCommand {
    const child = spawn(this.path, ["--endpoints", this.endpoint, ...args], {
      env: { ...process.env, ETCDCTL_API: "3" },
      stdio: ["pipe", "pipe", "pipe"],
    });
    let stdout = "";
    let stderr = "";
    let wake: (() => void) | undefined;
    child.stdout.on("data", (chunk: Buffer) => {
      stdout += chunk.toString();
      wake?.();
    });
    child.stderr.on("data", (chunk: Buffer) => {
      stderr += chunk.toString();
      wake?.();
    });
    child.stdin.on("error", () => {});
    if (input !== undefined) child.stdin.end(input);
    const { promise: done, resolve } = Promise.withResolvers<CommandResult>();
    let over = false;
    child.once("close", (code) => {
      over = true;
      wake?.();
      resolve({ code, stdout, stderr });
    });
    return {
      done,
      output: () => stdout,
      write: (line) => void child.stdin.write(`${line}\n`),
      until: async (fits, timeoutMs = 10_000) => {
        const deadline = performance.now() + timeoutMs;
        while (!fits(stdout)) {
          if (over) throw new Error(`etcdctl ${args.join(" ")} ended: ${stdout}${stderr}`);
          if (performance.now() > deadline) {
            throw new Error(`etcdctl ${args.join(" ")} printed only: ${stdout}${stderr}`);
          }
          const changed = Promise.withResolvers<void>();
          wake = changed.resolve;
          await Promise.race([changed.promise, Bun.sleep(100)]);
        }
        return stdout;
      },
      interrupt: async () => {
        if (!over) child.kill("SIGINT");
        const timer = setTimeout(() => child.kill("SIGKILL"), 5_000);
        const result = await done;
        clearTimeout(timer);
        return result;
      },
    };
  }

  /** Runs a command to its end. */
  async run(args: readonly string[], input = ""): Promise<CommandResult> {
    const command = this.start(args, input);
    const timer = setTimeout(() => void command.interrupt(), 120_000);
    const result = await command.done;
    clearTimeout(timer);
    return result;
  }

  /** Runs a command that must succeed; what it printed. */
  async ok(args: readonly string[], input = ""): Promise<string> {
    const result = await this.run(args, input);
    if (result.code !== 0) throw new Error(`etcdctl ${args.join(" ")}: ${result.stdout}${result.stderr}`);
    return result.stdout;
  }

  /** Runs a command with JSON output and parses it. Big integers lose digits; compare those as text. */
  async json(args: readonly string[]): Promise<unknown> {
    return JSON.parse(await this.ok([...args, "-w", "json"]));
  }
}
