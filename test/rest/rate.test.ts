/** A configured rate holds on both ways into REST, and callers on this machine have none by default. */
import { afterAll, expect, test } from "bun:test";
import { RestHarness } from "./harness";

const stores: RestHarness[] = [];
afterAll(() => Promise.all(stores.map((store) => store.stop())));

async function statuses(store: RestHarness, path: string, requests: number): Promise<number[]> {
  const found: number[] = [];
  for (let asked = 0; asked < requests; asked++) {
    const answer = await fetch(`${store.url}/api/v1${path}`);
    found.push(answer.status);
    if (answer.status !== 429) continue;
    expect(answer.headers.get("retry-after")).toBe("1");
    expect(answer.headers.get("content-type")).toBe("application/problem+json");
    expect(await answer.json()).toMatchObject({ status: 429, fix: expect.stringContaining("Retry-After") });
  }
  return found;
}

test("too many requests of one address are 429 with Retry-After, keys and the rest alike", async () => {
  const store = await RestHarness.start(["--rest-requests-per-second=2"]);
  stores.push(store);
  await store.ask("PUT", "/kv/a", { body: "x" });
  const keys = await statuses(store, "/kv/a", 20);
  expect(keys.slice(0, 4)).toEqual([200, 200, 200, 200]);
  expect(keys).toContain(429);
  expect(await statuses(store, "/status", 20)).toContain(429);
  // gRPC's and etcd's doors know no such limit.
  for (let asked = 0; asked < 20; asked++) expect((await fetch(`${store.url}/version`)).status).toBe(200);
});

test("callers on this machine are not counted unless that is configured", async () => {
  const store = await RestHarness.start();
  stores.push(store);
  await store.ask("PUT", "/kv/a", { body: "x" });
  expect(new Set(await statuses(store, "/kv/a", 500))).toEqual(new Set([200]));
});
