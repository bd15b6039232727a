/** The curl examples of README.md, run as they stand there; only the address is another. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ensureDebianProgram, repositoryDir } from "../tools/install";
import { startKeelson, type Server } from "../tools/server";

const readme = readFileSync(join(repositoryDir, "README.md"), "utf8");
const calibrating = process.env["KEELSON_TEST_SUBJECT"] === "etcd";

/** Lines of the shell blocks that follow a mark "<!-- test: curl -->". */
const commands = [...readme.matchAll(/<!-- test: curl -->\s*```sh\n([\s\S]*?)```/g)]
  .flatMap(([, block]) => (block ?? "").replaceAll("\\\n", " ").split("\n"))
  .map((line) => line.trim())
  .filter((line) => line !== "" && !line.startsWith("#"));

let server: Server;

beforeAll(async () => {
  ensureDebianProgram("curl", "curl");
  server = await startKeelson();
});
afterAll(async () => {
  await server.stop(3_000);
});

test("the README has curl examples for the JSON gateway", () => {
  expect(commands.filter((command) => command.includes("/v3/")).length).toBeGreaterThanOrEqual(5);
});

for (const command of commands) {
  test(
    command,
    () => {
      expect(command).toStartWith("curl ");
      const address = command
        .replaceAll("http://127.0.0.1:2379", server.url)
        .replaceAll("localhost:2379", `127.0.0.1:${server.port}`);
      expect(address).not.toBe(command);
      const result = spawnSync("bash", ["-c", `${address} -w '\\n%{http_code}'`], {
        encoding: "utf8",
        timeout: 30_000,
      });
      // A watch has no end of its own: there the example's own time limit ends it (curl's code 28).
      const endless = command.includes("/v3/watch");
      expect(result.status === 0 || (endless && result.status === 28)).toBe(true);
      const lines = result.stdout.trimEnd().split("\n");
      expect(lines.pop()).toBe("200");
      const body = lines.join("\n");
      expect(body.length).toBeGreaterThan(0);
      if (endless) {
        const messages = lines
          .filter((line) => line !== "")
          .map((line) => JSON.parse(line) as { result?: object });
        expect(messages.length).toBeGreaterThan(1);
        for (const message of messages) expect(message.result).toBeDefined();
      } else if (command.includes("/v3/")) {
        expect(JSON.parse(body)).toHaveProperty("header");
      } else if (calibrating) return;
      else if (command.includes("/metrics")) expect(body).toContain("etcd_server_has_leader 1");
    },
    30_000,
  );
}
