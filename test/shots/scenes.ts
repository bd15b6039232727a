/** The states in which the console's pages are looked at; see run.ts. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import type { Page } from "playwright-core";
import { AlarmType, KV, Lease, Maintenance } from "../../src/proto/gen/etcd/rpc_pb";
import { Cluster, startCluster } from "../tools/cluster";
import { GrpcClient } from "../tools/grpc-client";
import { scratchDir } from "../tools/server";
import type { Camera } from "./camera";

const coded = (key: string): string => Buffer.from(key).toString("base64url");
const utf8 = (text: string): Uint8Array => Buffer.from(text);

async function withCluster(
  options: Parameters<typeof startCluster>[0],
  use: (cluster: Cluster, client: GrpcClient) => Promise<void>,
): Promise<void> {
  const cluster = await startCluster({ kind: "keelson", ...options });
  const client = new GrpcClient(cluster.members[0]!.clientUrl);
  try {
    await use(cluster, client);
  } finally {
    client.close();
    await cluster.kill();
  }
}

async function putAll(
  client: GrpcClient,
  pairs: readonly (readonly [string | Uint8Array, string | Uint8Array])[],
): Promise<void> {
  for (let at = 0; at < pairs.length; at += 100) {
    await client.call(KV.method.txn, {
      success: pairs.slice(at, at + 100).map(([key, value]) => ({
        request: {
          case: "requestPut" as const,
          value: {
            key: typeof key === "string" ? utf8(key) : key,
            value: typeof value === "string" ? utf8(value) : value,
          },
        },
      })),
    });
  }
}

const deployment = (replicas: number, image: string): string =>
  `${JSON.stringify({ apiVersion: "apps/v1", kind: "Deployment", spec: { replicas, image, ports: [8080, 9090] } }, null, 2)}\n`;
const yaml = (level: string): string =>
  `log:\n  level: ${level}\n  format: json\nlimits:\n  requests: 1200\n  burst: 40\nfeatures:\n  - search\n  - export\n`;

/** What a small company keeps. */
async function fill(client: GrpcClient): Promise<void> {
  const pairs: [string, string | Uint8Array][] = [
    ["cluster-name", "frankfurt"],
    ["config/api.yaml", yaml("info")],
    ["config/web.json", deployment(2, "web:1.8")],
    ["config/motd", "Maintenance on Sunday, 02:00 to 04:00 UTC.\n"],
    ["config/archive.gz", gzipSync("line one\nline two\nline three\n")],
    ["config/binary", Buffer.from(Array.from({ length: 400 }, (_, at) => (at * 37) % 256))],
    ["config/token", Buffer.from("a token that is here in base64").toString("base64")],
    ["empty", ""],
    ["/registry/secrets/default/web-tls", "k8s\0\n\u000b\n\u0002v1\u0012\u0006Secret"],
    ["/registry/pods/default/web-0", "k8s\0\n\u000b\n\u0002v1\u0012\u0003Pod"],
    ["/registry/pods/default/web-1", "k8s\0\n\u000b\n\u0002v1\u0012\u0003Pod"],
    ["locks/leader-election", "worker-3"],
  ];
  for (let at = 0; at < 240; at++)
    pairs.push([`services/api/instances/${1_000 + at}`, `10.0.${at % 8}.${at}`]);
  for (let at = 0; at < 60; at++)
    pairs.push([`services/web/instances/${1_000 + at}`, `10.1.${at % 8}.${at}`]);
  for (let at = 0; at < 1_400; at++) pairs.push([`users/${String(at).padStart(6, "0")}`, `{"id":${at}}`]);
  await putAll(client, pairs);
  const { ID } = await client.call(Lease.method.leaseGrant, { TTL: 900n });
  await client.call(KV.method.put, {
    key: utf8("locks/leader-election"),
    value: utf8("worker-7"),
    lease: ID,
  });
  for (let at = 3; at <= 9; at++)
    await putAll(client, [["config/web.json", deployment(at, `web:1.${6 + at}`)]]);
  await putAll(client, [["config/api.yaml", yaml("debug")]]);
  await client.call(KV.method.deleteRange, { key: utf8("config/motd") });
  await putAll(client, [["config/motd", "All systems are up.\n"]]);
}

async function submit(page: Page, button: string): Promise<void> {
  await page.getByRole("button", { name: button }).first().click();
  await page.waitForLoadState();
}

async function three(camera: Camera): Promise<void> {
  await withCluster({ size: 3, name: (at) => `n${at + 1}` }, async (cluster, client) => {
    await fill(client);
    const origin = cluster.members[0]!.clientUrl;
    const writing = setInterval(
      () => void putAll(client, [["services/heartbeat", new Date().toISOString()]]),
      40,
    );
    const page = await camera.browser.page([origin]);
    try {
      await page.goto(`${origin}/ui/`);
      const ids = (await page.evaluate(
        `[...document.querySelectorAll("a[data-place]")].map((a) => a.getAttribute("href").split("/").pop())`,
      )) as string[];
      await Bun.sleep(3_000);
      await camera.visit(page, origin, {
        "three-overview": "/ui/",
        "three-members": "/ui/members",
        "three-member-self": `/ui/members/${ids[0]}`,
        "three-member-other": `/ui/members/${ids[1]}`,
        "three-members-add": "/ui/members/add",
        "three-member-remove": `/ui/members/${ids[1]}/remove`,
        "three-member-lead": `/ui/members/${ids[1]}/lead`,
        "three-keys": "/ui/keys",
        "three-keys-open": `/ui/keys?open=${coded("services/")}&open=${coded("services/api/")}`,
        "three-keys-level": "/ui/keys?prefix=config/",
        "three-keys-flat": "/ui/keys?prefix=services/&delimiter=",
        "three-keys-search": "/ui/keys?find=10",
        "three-keys-nothing": "/ui/keys?find=no-such-key",
        "three-keys-empty-level": "/ui/keys?prefix=nothing/here/",
        "three-keys-past": "/ui/keys?rev=20",
        "three-keys-future": "/ui/keys?rev=99999999",
        "three-key-json": "/ui/key?k=config/web.json",
        "three-key-yaml": "/ui/key?k=config/api.yaml",
        "three-key-gzip": "/ui/key?k=config/archive.gz&view=gzip",
        "three-key-hex": "/ui/key?k=config/binary",
        "three-key-base64": "/ui/key?k=config/token&view=base64",
        "three-key-unfit": "/ui/key?k=config/motd&view=json",
        "three-key-leased": "/ui/key?k=locks/leader-election",
        "three-key-empty": "/ui/key?k=empty",
        "three-key-none": "/ui/key?k=nope",
        "three-key-secret": "/ui/key?k=/registry/secrets/default/web-tls",
        "three-key-past": "/ui/key?k=config/web.json&rev=20",
        "three-key-new": "/ui/key/new?prefix=config/",
        "three-key-edit": "/ui/key/edit?k=config/web.json",
        "three-key-edit-registry": "/ui/key/edit?k=/registry/pods/default/web-0",
        "three-key-delete": "/ui/key/delete?k=config/web.json",
        "three-key-history": "/ui/key/history?k=config/web.json",
        "three-key-history-deleted": "/ui/key/history?k=config/motd",
        "three-key-history-none": "/ui/key/history?k=nope",
        "three-keys-delete": "/ui/keys/delete?prefix=services/web/",
        "three-keys-delete-all": "/ui/keys/delete?prefix=",
        "three-keys-export": "/ui/keys/export?prefix=config/",
        "three-keys-import": "/ui/keys/import",
        "three-keys-copy": "/ui/keys/copy?prefix=config/",
        "three-snapshots-empty": "/ui/snapshots",
        "three-help": "/ui/help",
        "three-help-first": "/ui/help/first-cluster",
        "three-help-rest": "/ui/help/rest",
        "three-help-limits": "/ui/help/limits",
        "three-kit": "/ui/kit",
        "three-explorer": "/docs",
        "three-not-found": "/ui/members/0000000000000001",
        "three-no-page": "/ui/nothing-here",
      });
      await treading(camera, page, origin, client);
      await waiting(camera, page, origin);
      await page.goto(`${origin}/ui/`);
      await page.keyboard.press("Control+K");
      await page.keyboard.type("me");
      await camera.take("three-palette", page, { whole: false });
      await page.goto(`${origin}/ui/`);
      await page.setViewportSize({ width: 390, height: 900 });
      await page.click(".menu-button");
      await camera.take("three-menu", page);
      if (camera.wants("three-metrics")) {
        await Bun.sleep(45_000);
        await page.goto(`${origin}/ui/metrics`);
        await page.hover(".canvas >> nth=1");
        await camera.take("three-metrics", page);
        await page.goto(`${origin}/ui/metrics`);
        await page.click("summary >> nth=0");
        await camera.take("three-metrics-table", page);
        await page.goto(`${origin}/ui/`);
        await camera.take("three-overview-later", page);
      }
    } finally {
      clearInterval(writing);
      await page.context().close();
    }
  });
}

/** What only forms lead to: differences, conflicts, previews, results. */
async function treading(camera: Camera, page: Page, origin: string, client: GrpcClient): Promise<void> {
  if (camera.wants("three-flow-edit")) {
    await page.goto(`${origin}/ui/key/edit?k=config/api.yaml`);
    await page.fill("#value", yaml("warn").replace("1200", "2400"));
    await submit(page, "Review the change");
    await camera.take("three-flow-edit-diff", page);
    await putAll(client, [["config/api.yaml", yaml("error")]]);
    await submit(page, "Save the change");
    await camera.take("three-flow-edit-conflict", page);
    await page.goto(`${origin}/ui/key/edit?k=config/api.yaml`);
    await submit(page, "Review the change");
    await camera.take("three-flow-edit-nothing", page);
    await page.goto(`${origin}/ui/key/edit?k=config/api.yaml`);
    await page.fill("#value", yaml("trace"));
    await submit(page, "Review the change");
    await submit(page, "Save the change");
    await camera.take("three-flow-edit-saved", page);
  }
  if (camera.wants("three-flow-explorer")) {
    await page.goto(`${origin}/docs`);
    await page.click("summary >> nth=0");
    await page.getByLabel("key", { exact: true }).first().fill("config/web.json");
    await page.getByRole("button", { name: "Send GET" }).first().click();
    await page.locator(".answer").filter({ hasText: "Deployment" }).waitFor();
    await camera.take("three-flow-explorer-sent", page);
  }
  if (camera.wants("three-flow-restore")) {
    await page.goto(`${origin}/ui/key/history?k=config/web.json`);
    await page.click("text=Restore >> nth=2");
    await camera.take("three-flow-restore", page);
  }
  if (camera.wants("three-flow-delete")) {
    await page.goto(`${origin}/ui/keys?prefix=config/`);
    await page.check("tbody input >> nth=0");
    await page.check("tbody input >> nth=2");
    await submit(page, "Delete chosen");
    await camera.take("three-flow-delete-chosen", page);
    await submit(page, "Delete 2 keys");
    await camera.take("three-flow-delete-done", page);
  }
  if (camera.wants("three-flow-import")) {
    await page.goto(`${origin}/ui/keys/import`);
    const lines = Array.from({ length: 30 }, (_, at) =>
      JSON.stringify({
        key: `users/${String(at * 60).padStart(6, "0")}`,
        value: `{"id":${at % 3 === 0 ? at * 60 : -at}}`,
      }),
    );
    await page.setInputFiles("#file", {
      name: "users.ndjson",
      mimeType: "application/json",
      buffer: Buffer.from(lines.join("\n")),
    });
    await page.check("[name=overwrite]");
    await submit(page, "Compare with what is stored");
    await camera.take("three-flow-import-plan", page);
    await page.locator("main form button").first().click();
    await page.waitForSelector("text=Took");
    await camera.take("three-flow-import-done", page);
    await page.goto(`${origin}/ui/keys/import`);
    await page.setInputFiles("#file", {
      name: "bad",
      mimeType: "text/plain",
      buffer: Buffer.from("no json"),
    });
    await submit(page, "Compare with what is stored");
    await camera.take("three-flow-import-bad", page);
  }
  if (camera.wants("three-flow-copy")) {
    await page.goto(`${origin}/ui/keys/copy?prefix=services/web/`);
    await page
      .fill("main input[type=text], main input:not([type]) >> nth=-1", "services/web-copy/")
      .catch(() => {});
    await page.locator("main form button").first().click();
    await page.waitForLoadState();
    await camera.take("three-flow-copy-plan", page);
  }
  if (camera.wants("three-flow-snapshot")) {
    await page.goto(`${origin}/ui/snapshots`);
    await submit(page, "Take a snapshot");
    await page.waitForSelector("text=Done");
    await Bun.sleep(1_200);
    await camera.take("three-flow-snapshot-taken", page);
    await page.click("tbody th a");
    await camera.take("three-flow-snapshot", page);
    await submit(page, "Verify");
    await page.waitForSelector("text=Sound");
    await camera.take("three-flow-snapshot-verified", page);
    await page.click("main >> text=Delete");
    await camera.take("three-flow-snapshot-delete", page);
  }
}

/** A member that was added and not started, and one that would be next. */
async function waiting(camera: Camera, page: Page, origin: string): Promise<void> {
  if (!camera.wants("three-flow-member")) return;
  await page.goto(`${origin}/ui/members/add`);
  await page.getByLabel("Peer URL").fill("nonsense");
  await submit(page, "Show effect");
  await camera.take("three-flow-member-wrong", page);
  await page.getByLabel("Peer URL").fill("http://10.0.0.4:2380");
  await submit(page, "Show effect");
  await camera.take("three-flow-member-preview", page);
  await submit(page, "Add learner");
  await camera.take("three-flow-member-added", page);
  await page.goto(`${origin}/ui/`);
  await Bun.sleep(3_500);
  await camera.take("three-flow-member-overview", page);
  await page.goto(`${origin}/ui/members`);
  await camera.take("three-flow-member-list", page);
  await page.click("text=Promote");
  await camera.take("three-flow-member-promote", page);
}

async function one(camera: Camera): Promise<void> {
  await withCluster({ size: 1, name: () => "n1" }, async (cluster, client) => {
    const origin = cluster.members[0]!.clientUrl;
    const page = await camera.browser.page([origin]);
    await page.goto(`${origin}/ui/`);
    await Bun.sleep(1_500);
    await camera.visit(page, origin, {
      "one-overview": "/ui/",
      "one-members": "/ui/members",
      "one-keys-empty": "/ui/keys",
      "one-delete-nothing": "/ui/keys/delete?prefix=",
      "one-snapshots": "/ui/snapshots",
      "one-metrics-empty": "/ui/metrics",
    });
    await fill(client);
    const { header } = await client.call(KV.method.put, { key: utf8("a"), value: utf8("b") });
    await client.call(KV.method.compact, { revision: header!.revision, physical: true });
    await camera.visit(page, origin, {
      "one-compacted-keys": "/ui/keys?rev=5",
      "one-compacted-key": "/ui/key?k=config/web.json&rev=5",
      "one-compacted-history": "/ui/key/history?k=config/web.json",
    });
    await page.context().close();
  });
}

const bidi = "evil/\u202e<script>alert(1)</script>\u0000\u2066&\"'";
const longKey = `/registry/deployments.apps/${"a-very-long-name-".repeat(14)}end`;

async function hostile(camera: Camera): Promise<void> {
  const names = [
    "n1",
    "rack-17-frankfurt-am-main-database-member-two.internal.example.com",
    "<b>three\u202eeerht",
  ];
  await withCluster(
    { size: 3, name: (at) => names[at]!, flags: ["--max-txn-ops=200"] },
    async (cluster, client) => {
      const origin = cluster.members[0]!.clientUrl;
      const page = await camera.browser.page([origin]);
      await putAll(client, [
        [bidi, "<img src=x onerror=alert(1)>\u202edesrever\u0000\u001b[31mred\n"],
        [longKey, "long"],
        ["big/value", Buffer.from(`${"<b>\u202e\u0000 markup ".repeat(64_000)}`).subarray(0, 1024 ** 2)],
        ["big/line", "x".repeat(200_000)],
        ["bad/\xff", Buffer.from([0xff, 0xfe, 0, 1])],
        [Buffer.from([0, 1, 2, 255, 254]), "key of bytes"],
        [`deep/${Array.from({ length: 16 }, (_, at) => `level-${at}`).join("/")}`, "deep"],
      ]);
      await putAll(client, [[bidi, "<script>second()</script>\u202e\n"]]);
      for (let base = 0; base < 10_000; base += 200) {
        await client.call(KV.method.txn, {
          success: Array.from({ length: 200 }, (_, at) => ({
            request: {
              case: "requestPut" as const,
              value: { key: utf8(`many/child-${base + at}`), value: utf8("v".repeat(at)) },
            },
          })),
        });
      }
      await page.goto(`${origin}/ui/`);
      await Bun.sleep(2_000);
      const ids = (await page.evaluate(
        `[...document.querySelectorAll("a[data-place]")].map((a) => a.getAttribute("href").split("/").pop())`,
      )) as string[];
      await camera.visit(page, origin, {
        "hostile-overview": "/ui/",
        "hostile-members": "/ui/members",
        "hostile-member": `/ui/members/${ids[1]}`,
        "hostile-member-remove": `/ui/members/${ids[1]}/remove`,
        "hostile-keys": "/ui/keys",
        "hostile-keys-many": "/ui/keys?prefix=many/",
        "hostile-keys-flat": "/ui/keys?delimiter=",
        "hostile-keys-deep": `/ui/keys?${["deep/", "deep/level-0/", "deep/level-0/level-1/", "deep/level-0/level-1/level-2/"].map((level) => `open=${coded(level)}`).join("&")}`,
        "hostile-keys-long": "/ui/keys?prefix=/registry/deployments.apps/",
        "hostile-key": `/ui/key?k64=${coded(bidi)}`,
        "hostile-key-long": `/ui/key?k64=${coded(longKey)}`,
        "hostile-key-big": "/ui/key?k=big/value",
        "hostile-key-big-hex": "/ui/key?k=big/value&view=hex",
        "hostile-key-line": "/ui/key?k=big/line",
        "hostile-key-edit": `/ui/key/edit?k64=${coded(bidi)}`,
        "hostile-key-edit-big": "/ui/key/edit?k=big/value",
        "hostile-key-history": `/ui/key/history?k64=${coded(bidi)}`,
        "hostile-keys-delete": "/ui/keys/delete?prefix=many/",
        "hostile-metrics": "/ui/metrics",
        "hostile-snapshots": "/ui/snapshots",
      });
      await page.context().close();
    },
  );
}

async function hurt(camera: Camera): Promise<void> {
  await withCluster({ size: 3, name: (at) => `n${at + 1}` }, async (cluster, client) => {
    await fill(client);
    const [first, second, third] = cluster.members;
    const origin = first!.clientUrl;
    const page = await camera.browser.page([origin]);
    await page.goto(`${origin}/ui/`);
    const ids = (await page.evaluate(
      `[...document.querySelectorAll("a[data-place]")].map((a) => a.getAttribute("href").split("/").pop())`,
    )) as string[];
    await third!.kill();
    await page.locator(".verdict").filter({ hasText: "Degraded" }).waitFor();
    await camera.visit(page, origin, {
      "hurt-degraded-overview": "/ui/",
      "hurt-degraded-members": "/ui/members",
      "hurt-degraded-member": `/ui/members/${ids[2]}`,
      "hurt-degraded-remove": `/ui/members/${ids[2]}/remove`,
      "hurt-degraded-remove-live": `/ui/members/${ids[1]}/remove`,
      "hurt-degraded-snapshots": "/ui/snapshots",
    });
    second!.server!.signal("SIGSTOP");
    await page.goto(`${origin}/ui/`);
    await page
      .locator(".verdict")
      .filter({ hasText: /No quorum|Isolated/ })
      .waitFor();
    await camera.take("hurt-lost-overview", page);
    await Bun.sleep(4_000);
    await camera.visit(page, origin, {
      "hurt-alone-overview": "/ui/",
      "hurt-alone-members": "/ui/members",
      "hurt-alone-member": `/ui/members/${ids[1]}`,
      "hurt-alone-keys": "/ui/keys",
      "hurt-alone-key": "/ui/key?k=config/web.json",
      "hurt-alone-edit": "/ui/key/edit?k=config/web.json",
      "hurt-alone-history": "/ui/key/history?k=config/web.json",
      "hurt-alone-snapshots": "/ui/snapshots",
      "hurt-alone-metrics": "/ui/metrics",
      "hurt-alone-add": "/ui/members/add",
      "hurt-alone-remove": `/ui/members/${ids[2]}/remove`,
      "hurt-alone-import": "/ui/keys/import",
    });
    await page.goto(`${origin}/ui/`);
    await page.locator("#connection-text").filter({ hasText: "Live" }).waitFor();
    first!.server!.signal("SIGSTOP");
    await page.locator("#stale").waitFor();
    await camera.take("hurt-stale-overview", page);
    first!.server!.signal("SIGCONT");
    second!.server!.signal("SIGCONT");
    await page.goto(`${origin}/ui/keys`);
    await page.locator("#connection-text").filter({ hasText: "Live" }).waitFor();
    first!.server!.signal("SIGSTOP");
    await page.locator("#stale").waitFor();
    await camera.take("hurt-stale-keys", page);
    first!.server!.signal("SIGCONT");
    await page.context().close();
  });
}

async function alarmed(camera: Camera): Promise<void> {
  for (const kind of ["nospace", "corrupt"] as const) {
    if (!camera.wants(`alarmed-${kind}`)) continue;
    await withCluster({ size: 3, name: (at) => `n${at + 1}` }, async (cluster, client) => {
      await fill(client);
      const origin = cluster.members[0]!.clientUrl;
      const page = await camera.browser.page([origin]);
      await page.goto(`${origin}/ui/`);
      const ids = (await page.evaluate(
        `[...document.querySelectorAll("a[data-place]")].map((a) => a.getAttribute("href").split("/").pop())`,
      )) as string[];
      await page.goto(`${origin}/ui/key/edit?k=config/web.json`);
      await page.fill("#value", "changed\n");
      await submit(page, "Review the change");
      await client.call(Maintenance.method.alarm, {
        action: 1,
        memberID: BigInt(`0x${ids[1]}`),
        alarm: kind === "nospace" ? AlarmType.NOSPACE : AlarmType.CORRUPT,
      });
      await submit(page, "Save the change");
      await camera.take(`alarmed-${kind}-save`, page);
      await Bun.sleep(1_500);
      await camera.visit(page, origin, {
        [`alarmed-${kind}-overview`]: "/ui/",
        [`alarmed-${kind}-members`]: "/ui/members",
        [`alarmed-${kind}-keys`]: "/ui/keys",
      });
      await page.context().close();
    });
  }
}

async function denied(camera: Camera): Promise<void> {
  const file = join(scratchDir("shots"), "token");
  writeFileSync(file, "a-token-of-more-than-sixteen-characters\n");
  await withCluster({ size: 1, name: () => "n1", flags: [`--admin-token-file=${file}`] }, async (cluster) => {
    const origin = cluster.members[0]!.clientUrl;
    const page = await camera.browser.page([origin]);
    await page.goto(`${origin}/ui/keys`);
    await camera.take("denied-login", page);
    await page.locator("main input[type=password], main input:not([type=hidden])").first().fill("wrong");
    await page.locator("main button").first().click();
    await page.waitForLoadState();
    await camera.take("denied-wrong", page);
    await page
      .locator("main input[type=password], main input:not([type=hidden])")
      .first()
      .fill("a-token-of-more-than-sixteen-characters");
    await page.locator("main button").first().click();
    await page.waitForLoadState();
    await camera.take("denied-signed-in", page);
    const forged = await camera.browser.page([origin]);
    await forged.setExtraHTTPHeaders({ "x-forwarded-for": "10.0.0.1" });
    await forged.context().close();
    await page.context().close();
  });
  await withCluster({ size: 1, name: () => "n1" }, async (cluster) => {
    const origin = cluster.members[0]!.clientUrl;
    const page = await camera.browser.page([origin]);
    await page.setExtraHTTPHeaders({ "x-forwarded-for": "10.0.0.1" });
    await page.goto(`${origin}/ui/`);
    await camera.take("denied-forwarded", page);
    await page.context().close();
  });
}

/** A million keys. */
async function huge(camera: Camera): Promise<void> {
  const flags = ["--max-txn-ops=10000", "--max-request-bytes=33554432", "--unsafe-no-fsync"];
  await withCluster({ size: 1, name: () => "n1", flags }, async (cluster, client) => {
    const origin = cluster.members[0]!.clientUrl;
    for (let base = 0; base < 1_000_000; base += 5_000) {
      await client.call(KV.method.txn, {
        success: Array.from({ length: 5_000 }, (_, at) => {
          const id = base + at;
          const key = `tenants/${String(id % 1_000).padStart(4, "0")}/objects/${id}`;
          return {
            request: { case: "requestPut" as const, value: { key: utf8(key), value: utf8(`v${id}`) } },
          };
        }),
      });
    }
    const page = await camera.browser.page([origin]);
    page.setDefaultTimeout(60_000);
    await camera.visit(page, origin, {
      "huge-overview": "/ui/",
      "huge-keys": "/ui/keys",
      "huge-keys-level": "/ui/keys?prefix=tenants/",
      "huge-keys-search": "/ui/keys?find=999999",
      "huge-keys-past": "/ui/keys?rev=100",
      "huge-keys-delete": "/ui/keys/delete?prefix=tenants/",
      "huge-export": "/ui/keys/export?prefix=tenants/",
      "huge-copy": "/ui/keys/copy?prefix=tenants/",
    });
    await page.context().close();
  });
}

/** The README's three pictures. */
export async function readme(camera: Camera): Promise<void> {
  await withCluster({ size: 3, name: (at) => `n${at + 1}` }, async (cluster, client) => {
    await fill(client);
    const origin = cluster.members[0]!.clientUrl;
    const beat = (): void => void putAll(client, [["services/heartbeat", new Date().toISOString()]]);
    const writing = setInterval(beat, 40);
    const page = await camera.browser.page([origin]);
    try {
      await page.goto(`${origin}/ui/snapshots`);
      await submit(page, "Take a snapshot");
      await page.waitForSelector("text=Done");
      await Bun.sleep(75_000);
      await page.goto(`${origin}/ui/`);
      await camera.picture("overview", page, 840, "light");
      await page.goto(`${origin}/ui/keys?open=${coded("services/")}&open=${coded("services/api/")}`);
      await camera.picture("keys", page, 900, "dark");
      await page.goto(`${origin}/ui/key?k=config/web.json`);
      await camera.picture("key", page, 840, "light");
    } finally {
      clearInterval(writing);
      await page.context().close();
    }
  });
}

export const scenes: Readonly<Record<string, (camera: Camera) => Promise<void>>> = {
  three,
  one,
  hostile,
  hurt,
  alarmed,
  denied,
  huge,
};
