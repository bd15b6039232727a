import { afterAll, expect, test } from "bun:test";
import { askPeers, readMembers } from "./peer-pages";

// The shape and the numbers are those of etcd's page.
const page =
  '[{"id":10276657743932975437,"peerURLs":["http://localhost:2380"],"name":"\\"id\\":5","clientURLs":["http://c:1"]},' +
  '{"id":18446744073709551615,"peerURLs":["http://b:2380"],"name":"","isLearner":true}]';

const servers = [
  Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: ({ url }) =>
      url.endsWith("/members")
        ? new Response(page, { headers: { "X-Etcd-Cluster-ID": "cdf818194e3a8c32" } })
        : new Response("", { status: 404 }),
  }),
  Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response("starting", { status: 503 }) }),
  Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response("<html>") }),
];
afterAll(() => {
  for (const server of servers) void server.stop(true);
});

test("ids of 64 bits keep every digit", () => {
  expect(readMembers(page)).toEqual([
    {
      id: 10276657743932975437n,
      name: '"id":5',
      peerUrls: ["http://localhost:2380"],
      clientUrls: ["http://c:1"],
      isLearner: false,
    },
    { id: 18446744073709551615n, name: "", peerUrls: ["http://b:2380"], clientUrls: [], isLearner: true },
  ]);
});

test("whoever does not answer as a member does counts as absent", async () => {
  const urls = [...servers.map(({ port }) => `http://127.0.0.1:${port}`), "http://127.0.0.1:1"];
  const answers = await askPeers(urls, 2_000);
  expect(answers.map(({ peerUrl, clusterId }) => ({ peerUrl, clusterId }))).toEqual([
    { peerUrl: urls[0]!, clusterId: 0xcdf818194e3a8c32n },
  ]);
});
