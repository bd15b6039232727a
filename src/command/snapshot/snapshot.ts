/** `keelson snapshot`: its options, its progress bar, and its exit code. */
import { readFileSync } from "node:fs";
import { SingleBar } from "cli-progress";
import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import type { InitialMember } from "../../member/bootstrap";
import { parseEndpoints } from "../endpoint";
import { BadValue } from "../flag-types";
import { initialCluster } from "../flags";
import { checkSnapshot, type Progress, type SnapshotFacts } from "./file";
import { restore } from "./restore";
import { save } from "./save";

interface Common {
  readonly writeOut: "text" | "json";
  readonly progress: boolean;
}

interface SaveFlags extends Common {
  readonly endpoint: string;
  readonly tokenFile?: string;
  readonly member?: string;
  readonly keep?: boolean;
}

interface RestoreFlags extends Common {
  readonly dataDir: string;
  readonly name: string;
  readonly initialCluster?: readonly InitialMember[];
  readonly initialAdvertisePeerUrls?: readonly string[];
  readonly initialClusterToken?: string;
  readonly bumpRevision: number;
  readonly markCompacted?: boolean;
}

/** Runs the command; answers the exit code. Problems are one line on standard error. */
export async function runSnapshot(argv: readonly string[]): Promise<number> {
  const program = new Command("keelson snapshot")
    .description("Take, look at and restore snapshots of the store.")
    .exitOverride()
    .showHelpAfterError(false)
    .configureOutput({ outputError: () => {} });
  common(program.command("save <file>"))
    .description("take a snapshot of a running member and download it")
    .option("--endpoint <url>", "the member to ask", "http://127.0.0.1:2379")
    .option("--token-file <path>", "file with the admin token, as of the server's --admin-token-file")
    .option("--member <id>", "the member that takes it, by its hexadecimal id; any member can be asked")
    .option("--keep", "leave the member's own copy in its data directory")
    .action(runSave);
  common(program.command("status <file>"))
    .description("check all of a snapshot and say what it holds")
    .action(runStatus);
  common(program.command("restore <file>"))
    .description("make the data directory of a member of a new cluster; run it once for each member")
    .requiredOption("--data-dir <directory>", "where the member's data will lie; must not exist or be empty")
    .option("--name <name>", "this member's name", "default")
    .option(
      "--initial-cluster <name=url,...>",
      "all members of the new cluster",
      argument((text) => initialCluster.parse(text)),
    )
    .option(
      "--initial-advertise-peer-urls <urls>",
      "this member's peer URLs (default: http://localhost:2380, or those in --initial-cluster)",
      argument((text) => parseEndpoints(text, "advertise-peer", false).map(({ url }) => url)),
    )
    .option(
      "--initial-cluster-token <token>",
      "makes the new cluster's id; from the snapshot's digest unless given",
    )
    .option(
      "--bump-revision <number>",
      "raise the revision by this much, so that none is seen twice",
      wholeNumber,
      0,
    )
    .option("--mark-compacted", "tell watchers from before that history was compacted; needs --bump-revision")
    .action(runRestore);
  try {
    await program.parseAsync([...argv], { from: "user" });
    return 0;
  } catch (error) {
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return 0;
      process.stderr.write(`keelson snapshot: ${error.message.replace(/^error: /, "")}\n`);
      return 2;
    }
    process.stderr.write(`keelson snapshot: ${error instanceof Error ? error.message : String(error)}\n`);
    return 1;
  }
}

function common(command: Command): Command {
  return command
    .exitOverride()
    .addOption(new Option("-w, --write-out <form>", "text or json").choices(["text", "json"]).default("text"))
    .option("--no-progress", "no progress bar");
}

function wholeNumber(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value))
    throw new InvalidArgumentError("It must be a whole number.");
  return value;
}

/** A reader of flags as a reader of commander's. */
function argument<Value>(read: (text: string) => Value): (text: string) => Value {
  return (text) => {
    try {
      return read(text);
    } catch (error) {
      if (error instanceof BadValue) throw new InvalidArgumentError(error.message);
      throw error;
    }
  };
}

/** The members of the new cluster. Throws when this one is not rightly among them. */
function membersOf({
  name,
  initialCluster,
  initialAdvertisePeerUrls: own,
}: RestoreFlags): readonly InitialMember[] {
  if (initialCluster === undefined) return [{ name, peerUrls: own ?? ["http://localhost:2380"] }];
  const refuse = (problem: string): never => {
    throw new CommanderError(2, "keelson.cluster", `--initial-cluster: ${problem}`);
  };
  const urls = initialCluster.flatMap(({ peerUrls }) => peerUrls);
  const twice = urls.find((url, at) => urls.indexOf(url) !== at);
  if (twice !== undefined) refuse(`${twice} is there twice; each member needs URLs of its own`);
  const listed = initialCluster.find((member) => member.name === name)?.peerUrls;
  if (listed === undefined) {
    const names = initialCluster.map((member) => member.name).join(", ");
    refuse(`this member's name, "${name}", is not in the list; give --name one of ${names}`);
  } else if (own !== undefined && new Set(own).symmetricDifference(new Set(listed)).size > 0) {
    refuse(`the URLs of "${name}" differ from --initial-advertise-peer-urls; give both the same`);
  }
  return initialCluster;
}

/** A bar on a terminal; silence elsewhere, and where the answer is for programs. */
function startProgress({ progress, writeOut }: Common): { report: Progress; stop: () => void } {
  if (!progress || writeOut === "json" || process.stderr.isTTY !== true)
    return { report: () => {}, stop: () => {} };
  const bar = new SingleBar({
    format: "{bar} {percentage} % | {eta_formatted} left",
    stream: process.stderr,
  });
  let started = false;
  return {
    report(done, total) {
      if (started) bar.update(done);
      else bar.start(total, done);
      started = true;
    },
    stop: () => bar.stop(),
  };
}

async function withProgress<Result>(
  flags: Common,
  work: (report: Progress) => Promise<Result>,
): Promise<Result> {
  const { report, stop } = startProgress(flags);
  try {
    return await work(report);
  } finally {
    stop();
  }
}

function print({ writeOut }: Common, facts: Readonly<Record<string, unknown>>): void {
  if (writeOut === "json") {
    process.stdout.write(`${JSON.stringify(facts)}\n`);
    return;
  }
  const width = Math.max(...Object.keys(facts).map((name) => name.length));
  for (const [name, value] of Object.entries(facts)) {
    process.stdout.write(
      `${name.padEnd(width)}  ${Array.isArray(value) ? value.join(", ") : String(value)}\n`,
    );
  }
}

function shown(facts: SnapshotFacts): Record<string, unknown> {
  return { ...facts, keys: facts.keys < 0 ? "unknown: an older format" : facts.keys };
}

async function runSave(file: string, flags: SaveFlags): Promise<void> {
  const { endpoint, member, keep = false, tokenFile } = flags;
  const token = tokenFile === undefined ? undefined : tokenIn(tokenFile);
  if (!/^https?:\/\//i.test(endpoint) || !URL.canParse(endpoint)) {
    throw new CommanderError(
      2,
      "keelson.endpoint",
      `--endpoint: "${endpoint}" is not a URL such as http://127.0.0.1:2379`,
    );
  }
  const saved = await withProgress(flags, (report) => save({ endpoint, file, token, member, keep }, report));
  print(flags, { file, ...saved });
}

function tokenIn(path: string): string {
  try {
    return readFileSync(path, "utf8").trim();
  } catch (error) {
    throw new Error(`--token-file: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
}

async function runStatus(file: string, flags: Common): Promise<void> {
  print(flags, shown(await withProgress(flags, async (report) => checkSnapshot(file, report))));
}

async function runRestore(file: string, flags: RestoreFlags): Promise<void> {
  if (flags.markCompacted === true && flags.bumpRevision === 0) {
    throw new CommanderError(2, "keelson.bump", "--mark-compacted needs --bump-revision");
  }
  const members = membersOf(flags);
  const restored = await withProgress(flags, (report) =>
    restore(
      {
        file,
        dataDirectory: flags.dataDir,
        name: flags.name,
        initialCluster: members,
        clusterToken: flags.initialClusterToken,
        bumpRevision: flags.bumpRevision,
        markCompacted: flags.markCompacted ?? false,
      },
      report,
    ),
  );
  print(flags, { ...restored });
}
