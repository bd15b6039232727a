import { expect, test } from "bun:test";

import { checkHealth } from "./health";

async function check(body: string, status: number): Promise<{ code: number; line: string }> {
  using server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: ({ url }) => new Response(new URL(url).pathname === "/health" ? body : "", { status }),
  });
  let line = "";
  const code = await checkHealth(`http://127.0.0.1:${server.port}`, (text) => (line += text));
  return { code, line };
}

test("a healthy member gives code 0", async () => {
  expect((await check(`{"health":"true","reason":""}`, 200)).code).toBe(0);
});

test.each([
  [`{"health":"false","reason":"ALARM NOSPACE"}`, 503, "ALARM NOSPACE"],
  [`{"health":"true"}`, 500, "HTTP status 500"],
  [`{}`, 200, "HTTP status 200"],
  ["<html>", 200, "is not healthy"],
])("%s with status %d gives code 1 and the reason", async (body, status, reason) => {
  const { code, line } = await check(body, status);
  expect(code).toBe(1);
  expect(line).toContain(reason);
});

test("nobody there gives code 1", async () => {
  let line = "";
  expect(await checkHealth("http://127.0.0.1:1", (text) => (line += text))).toBe(1);
  expect(line).toContain("http://127.0.0.1:1 is not healthy");
});
