/** The README's clusters: the block for one machine runs as it stands there, unit and manifest are read by the real parser. */
import { expect, test } from "bun:test";
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { parse as parseYaml } from "yaml";
import { parseCommandLine } from "../../src/command/options";
import { ensureEtcd } from "../tools/etcd";
import { repositoryDir } from "../tools/install";
import { freePorts, keelsonCommand, scratchDir } from "../tools/server";

const readme = readFileSync(join(repositoryDir, "README.md"), "utf8");
const calibrating = process.env["KEELSON_TEST_SUBJECT"] === "etcd";

function block(mark: string): string {
  const found = new RegExp(`<!-- test: ${mark} -->\\s*\`\`\`\\w+\\n([\\s\\S]*?)\`\`\``).exec(readme)?.[1];
  if (found === undefined) throw new Error(`README.md has no block "${mark}"`);
  return found;
}

/** Runs a script in a folder of its own; the processes that it leaves in the background are ended. */
async function run(
  script: string,
  folder: string,
  timeoutMs: number,
): Promise<{ code: number | null; output: string }> {
  const pids = join(folder, "pids");
  const { etcdctl } = await ensureEtcd();
  const child = spawn("bash", ["-c", `trap 'jobs -p > ${pids}' EXIT\n${script}`], {
    cwd: folder,
    env: { ...process.env, PATH: `${dirname(etcdctl)}:${process.env["PATH"]}`, ETCDCTL_API: "3" },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk: Buffer) => (output += chunk.toString()));
  }
  const timer = setTimeout(() => child.kill("SIGTERM"), timeoutMs);
  const { promise, resolve } = Promise.withResolvers<number | null>();
  // Members in the background keep the pipes open only if the script gave them away.
  child.once("exit", resolve);
  const code = await promise;
  clearTimeout(timer);
  const started = existsSync(pids) ? readFileSync(pids, "utf8").split("\n").filter(Boolean).map(Number) : [];
  for (const pid of started) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It has ended already.
    }
  }
  return { code, output };
}

test.skipIf(calibrating)(
  "three members on one machine, and a fourth that joins",
  async () => {
    const ports = await freePorts(8);
    const folder = scratchDir("readme-cluster");
    // The program may be more than one word.
    mkdirSync(join(folder, "dist"));
    writeFileSync(join(folder, "dist/keelson"), `#!/bin/sh\nexec ${keelsonCommand().join(" ")} "$@"\n`, {
      mode: 0o755,
    });
    const script = `set -e\n${block("cluster")}\n${block("join")}`
      .replaceAll(/:\$\{n\}23(79|80)/g, (_, kind: string) => `:$(eval echo \\$PORT_\${n}_${kind})`)
      .replaceAll(
        /127\.0\.0\.1:([1-4])23(79|80)/g,
        (_, n: string, kind: string) => `127.0.0.1:$PORT_${n}_${kind}`,
      );
    const chosen = ports
      .map((port, position) => `PORT_${(position >> 1) + 1}_${position % 2 === 0 ? 79 : 80}=${port}`)
      .join("\n");
    const { code, output } = await run(`${chosen}\n${script}`, folder, 60_000);
    if (code !== 0) {
      const logs = readdirSync(folder).filter((name) => name.endsWith(".log"));
      throw new Error([output, ...logs.map((name) => readFileSync(join(folder, name), "utf8"))].join("\n"));
    }
    expect(output).toContain("OK\n");
    const [status, members] = [
      output.split("\n").filter((line) => /3\.6\.0/.test(line)),
      output.split("\n").filter((line) => /started/.test(line)),
    ];
    expect(status.length).toBe(3);
    expect(members.map((line) => /\bm\d\b/.exec(line)?.[0]).sort()).toEqual(["m1", "m2", "m3", "m4"]);
  },
  90_000,
);

/** Options of a command line with the placeholders filled in; throws what the parser would print. */
function options(argv: readonly string[]) {
  const command = parseCommandLine(argv, {});
  if (command.kind !== "server") throw new Error(JSON.stringify(command));
  return command;
}

test("the systemd unit's command is understood", () => {
  const unit = block("unit").replaceAll("\\\n", " ");
  const environment = new Map(
    [...unit.matchAll(/^Environment=(.*)$/gm)]
      .flatMap(([, list]) => list!.split(" "))
      .map((one) => [one.slice(0, one.indexOf("=")), one.slice(one.indexOf("=") + 1)] as const),
  );
  const line = /^ExecStart=(.*)$/m.exec(unit)![1]!;
  const [program, ...flags] = line
    .trim()
    .split(/\s+/)
    .map((word) => word.replaceAll(/\$\{(\w+)\}/g, (_, name: string) => environment.get(name) ?? "missing"));
  expect(program).toBe("/usr/local/bin/keelson");
  const { options: told, warnings } = options(flags);
  expect(warnings).toEqual([]);
  expect(told).toMatchObject({
    name: "m1",
    dataDirectory: "/var/lib/keelson",
    initialAdvertisePeerUrls: ["http://10.0.0.1:2380"],
    advertiseClientUrls: ["http://10.0.0.1:2379"],
  });
  expect(told.initialCluster.map(({ name }) => name)).toEqual(["m1", "m2", "m3"]);
});

test("the static pod's command is understood", () => {
  const pod = parseYaml(block("manifest")) as {
    kind: string;
    spec: { containers: { command: string[]; livenessProbe: { httpGet: { port: number } } }[] };
  };
  expect(pod.kind).toBe("Pod");
  const [container] = pod.spec.containers;
  const [program, ...flags] = container!.command.map((word) =>
    word.replaceAll("NAME", "m2").replaceAll("HOST", "10.0.0.2"),
  );
  expect(program).toBe("keelson");
  const { options: told, warnings } = options(flags);
  expect(warnings).toEqual([]);
  expect(told).toMatchObject({ name: "m2", initialAdvertisePeerUrls: ["http://10.0.0.2:2380"] });
  expect(told.listenMetricsEndpoints.map(({ port }) => port)).toEqual([
    container!.livenessProbe.httpGet.port,
  ]);
});
