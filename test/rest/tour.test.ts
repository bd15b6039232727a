/** The README's REST tour, run as it stands there; only addresses and the name of the executable are others. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ensureDebianProgram, repositoryDir } from "../tools/install";
import { keelsonCommand, scratchDir, type Server, startKeelson } from "../tools/server";

const readme = readFileSync(join(repositoryDir, "README.md"), "utf8");
const folder = scratchDir("tour");

/** The shell block behind a mark. */
function block(mark: string): string {
  const found = new RegExp(`<!-- test: ${mark} -->\\s*\`\`\`sh\\n([\\s\\S]*?)\`\`\``).exec(readme);
  if (found === null) throw new Error(`the README has no block marked ${mark}`);
  return found[1]!;
}

/** Commands with what has to be in their output; a command may span lines. */
function steps(script: string): { command: string; expected: string | undefined }[] {
  const found: { command: string; expected: string | undefined }[] = [];
  let command = "";
  for (const line of script.split("\n")) {
    if (command === "" && /^\s*(?:#.*)?$/.test(line)) continue;
    const [, text = "", expected] = /^(.*?)(?:\s+# → (.*))?$/.exec(line)!;
    command += `${text}\n`;
    // A quote that is open goes on in the next line.
    if ((command.match(/'/g) ?? []).length % 2 === 1) continue;
    found.push({ command: command.trimEnd(), expected });
    command = "";
  }
  return found;
}

let server: Server;
let watching: ChildProcess;
let watched = "";
let restored: Server | undefined;

const addressed = (text: string): string =>
  text
    .replaceAll("http://127.0.0.1:2379", server.url)
    .replaceAll("backup.db", join(folder, "backup.db"))
    .replaceAll("--data-dir restored", `--data-dir ${join(folder, "restored")}`);

beforeAll(async () => {
  ensureDebianProgram("curl", "curl");
  server = await startKeelson();
  watching = spawn("bash", ["-c", `exec ${addressed(block("rest tour, second terminal")).trim()}`], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  watching.stdout!.on("data", (piece: Buffer) => (watched += piece.toString("utf8")));
  while (!watched.includes("event: progress")) await Bun.sleep(10);
});
afterAll(async () => {
  watching.kill();
  await restored?.stop(3_000);
  await server.stop(3_000);
});

test("each command says what the README says it does", async () => {
  const all = steps(block("rest tour"));
  expect(all.filter(({ expected }) => expected !== undefined).length).toBeGreaterThan(20);
  const program = keelsonCommand()
    .map((part) => `'${part}'`)
    .join(" ");
  // One shell for all, because later commands use what earlier ones found out; a mark ends each one's output.
  const script = all
    .map(({ command }) =>
      command.replaceAll("keelson snapshot save", `keelson snapshot save --endpoint ${server.url}`),
    )
    .map((command, at) => `${addressed(command)}\necho; echo "=== ${at}"`)
    .join("\n");
  const ran = spawnSync("bash", ["-c", `keelson() { ${program} "$@"; }\n${script}`], {
    cwd: repositoryDir,
    encoding: "utf8",
    timeout: 60_000,
  });
  expect(ran.stderr).toBe("");
  const outputs = ran.stdout.split(/=== \d+\n/);
  expect(outputs.length).toBe(all.length + 1);
  for (const [at, { command, expected }] of all.entries()) {
    if (expected !== undefined)
      expect([command, outputs[at]!.includes(expected) ? expected : outputs[at]]).toEqual([
        command,
        expected,
      ]);
  }
});

test("the second terminal saw the changes, once each", async () => {
  while (!watched.includes("hello again")) await Bun.sleep(10);
  expect([...watched.matchAll(/^event: change$/gm)]).toHaveLength(2);
  expect(watched).not.toContain("too late");
});

test("the restored data directory serves the keys", async () => {
  restored = await startKeelson({ dataDir: join(folder, "restored") });
  const read = await fetch(`${restored.url}/api/v1/kv/greeting`);
  expect(await read.text()).toBe("hello again");
});
