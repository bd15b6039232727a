/** The pages about keys, as a browser without scripts meets them. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { AlarmType } from "../../src/proto/gen/etcd/rpc_pb";
import { RestHarness } from "../rest/harness";
import { unescaped, Visitor } from "./visitor";

let server: RestHarness;
let visitor: Visitor;

beforeAll(async () => {
  server = await RestHarness.start();
  visitor = new Visitor(server.url);
  await visitor.get("/ui/");
});
afterAll(() => server.stop());

const coded = (key: string | Uint8Array): string => Buffer.from(key as string).toString("base64url");
const keyPath = (page: string, key: string | Uint8Array): string => `/ui/key${page}?k64=${coded(key)}`;

async function put(key: string | Uint8Array, value: string | Uint8Array): Promise<void> {
  const { status } = await server.ask("PUT", `/kv64/${coded(key)}`, { body: Buffer.from(value as string) });
  expect([200, 201]).toContain(status);
}
async function get(key: string | Uint8Array): Promise<string | undefined> {
  const { status, bytes } = await server.ask("GET", `/kv64/${coded(key)}`);
  return status === 404 ? undefined : Buffer.from(bytes).toString("latin1");
}
const revision = (): number => server.server.member.revision;

test("the tree shows levels with their counts, opens them in place, and pages through ten thousand children", async () => {
  const { member } = server.server;
  for (let at = 0; at < 10_000;) {
    const puts: Promise<unknown>[] = [];
    for (; puts.length < 500; at++) {
      const value = { key: Buffer.from(`wide/${String(at).padStart(5, "0")}/x`), value: Buffer.from("1") };
      puts.push(member.write({ case: "put", value: { ...emptyPut, ...value } }, "put"));
    }
    await Promise.all(puts);
  }
  await put("deep/a/b/c", "1");
  await put("deep/a/d", "2");
  const root = await visitor.get("/ui/keys?prefix=&delimiter=%2F");
  expect(root.status).toBe(200);
  expect(root.text).toMatch(/wide\/ 1 000\+/);
  const opened = await visitor.get(`/ui/keys?prefix=deep/&open=${coded("deep/a/")}`);
  expect(opened.text).toMatch(/a\/ 2 .*b\/ 1 .*d/);
  let page = await visitor.get("/ui/keys?prefix=wide/");
  const seen = new Set<string>();
  for (let pages = 0; ; pages++) {
    expect(pages).toBeLessThan(101);
    for (const [, name] of page.html.matchAll(/aria-label="Choose (wide\/\d+\/)"/g)) seen.add(name!);
    const next = /href="([^"]*)"><svg[^>]*><use[^>]*><\/use><\/svg>Next page</.exec(page.html)?.[1];
    if (next === undefined) break;
    page = await visitor.get(unescaped(next));
  }
  expect(seen.size).toBe(10_000);
}, 30_000);

const emptyPut = {
  $typeName: "etcdserverpb.PutRequest" as const,
  lease: 0n,
  prevKv: false,
  ignoreValue: false,
  ignoreLease: false,
};

test("a search finds keys by a part of them and says how far it looked", async () => {
  const found = await visitor.get("/ui/keys?find=0123");
  expect(found.text).toContain("wide/00123/x");
  expect(found.text).toContain("the search is at its end");
  expect((await visitor.get("/ui/keys?find=nowhere")).text).toContain("No key has “nowhere” in it");
});

const kept = [
  "one line",
  "line\n",
  "\nleading and trailing\n\n",
  "\n",
  "a\r\nb\r\n",
  "\r\nwindows\r\n\r\n",
  "  spaces \t",
  "<b>&amp; \u202e é 😀</textarea>",
  '{"a": 1}',
  "",
];

test.each(kept)("saving %j unchanged writes nothing, and one edit changes nothing else", async (value) => {
  await put("text/kept", value);
  const before = revision();
  const edit = await visitor.get(keyPath("/edit", "text/kept"));
  const same = await visitor.submit(edit.form("/ui/key/preview"));
  expect(same.title).toBe("Nothing to save");
  expect(revision()).toBe(before);
  const form = edit.form("/ui/key/preview");
  const shown = form.fields.find(([name]) => name === "value")![1];
  const changed = await visitor.submit(form, { value: `${shown}X` });
  expect(changed.title).toBe("Save kept?");
  expect(revision()).toBe(before);
  const saved = await visitor.submit(changed.form("/ui/key/save"));
  expect(saved.status).toBe(200);
  expect(saved.text).toContain(`Saved at revision`);
  expect(await get("text/kept")).toBe(Buffer.from(`${value}X`).toString("latin1"));
});

test("what a text field would change is edited by upload only", async () => {
  for (const value of ["a\r\nb\nc", "a\rb", Buffer.from([0, 255])]) {
    await put("text/binary", value);
    const edit = await visitor.get(keyPath("/edit", "text/binary"));
    expect(edit.html).not.toContain("<textarea");
    expect(edit.text).toContain("cannot be edited as text");
    const bytes = Buffer.from([0, 1, 13, 10, 254]);
    const preview = await visitor.submit(edit.form("/ui/key/preview"), { file: { name: "value", bytes } });
    expect(preview.title).toBe("Save binary?");
    await visitor.submit(preview.form("/ui/key/save"));
    expect(await get("text/binary")).toBe(bytes.toString("latin1"));
  }
});

test("a conflicting edit is shown with both sides and never overwrites", async () => {
  await put("text/conflict", "base\nsecond\n");
  const edit = await visitor.get(keyPath("/edit", "text/conflict"));
  const preview = await visitor.submit(edit.form("/ui/key/preview"), { value: "mine\nsecond\n" });
  await put("text/conflict", "theirs\nsecond\n");
  const conflict = await visitor.submit(preview.form("/ui/key/save"));
  expect(conflict.status).toBe(409);
  expect(conflict.text).toContain("Somebody else was faster");
  expect(conflict.text).toContain("theirs");
  expect(conflict.text).toContain("mine");
  expect(await get("text/conflict")).toBe("theirs\nsecond\n");
  // The form of before the conflict stays a conflict, also by way of editing further.
  const further = await visitor.submit(preview.form("/ui/key/save"), {}, "/ui/key/revise");
  expect((await visitor.submit(further.form("/ui/key/preview"))).status).toBe(409);
  const again = await visitor.submit(conflict.form("/ui/key/preview"));
  expect(again.title).toBe("Save conflict?");
  await visitor.submit(again.form("/ui/key/save"));
  expect(await get("text/conflict")).toBe("mine\nsecond\n");
});

test("a save without room says what to do in the console's words, and keeps the key", async () => {
  await put("text/full", "old\n");
  const edit = await visitor.get(keyPath("/edit", "text/full"));
  const preview = await visitor.submit(edit.form("/ui/key/preview"), { value: "new\n" });
  const { member } = server.server;
  const alarm = (action: number) =>
    member.write({
      case: "alarm",
      value: {
        $typeName: "etcdserverpb.AlarmRequest",
        action,
        memberID: member.id,
        alarm: AlarmType.NOSPACE,
      },
    });
  await alarm(1);
  try {
    const refused = await visitor.submit(preview.form("/ui/key/save"));
    expect(refused.status).toBe(507);
    expect(refused.text).toContain("Nothing was changed.");
    expect(refused.text).toContain("The overview has the cure step by step");
    expect(refused.text).not.toContain("POST /");
  } finally {
    await alarm(2);
  }
  expect(await get("text/full")).toBe("old\n");
});

test("a new key is created only when nobody was faster", async () => {
  const page = await visitor.get("/ui/key/new?prefix=text/");
  const preview = await visitor.submit(page.form("/ui/key/preview"), { key: "text/new", value: "1" });
  expect(preview.title).toBe("Create new?");
  await visitor.submit(preview.form("/ui/key/save"));
  expect(await get("text/new")).toBe("1");
  expect((await visitor.submit(preview.form("/ui/key/save"), { value64: coded("2") })).status).toBe(409);
  expect(await get("text/new")).toBe("1");
  const empty = await visitor.submit(page.form("/ui/key/preview"), { key: "", value: "kept\n" });
  expect(empty.status).toBe(422);
  expect(empty.form("/ui/key/preview").fields).toContainEqual(["value", "kept\n"]);
});

test("deleting asks for the number, and stops when something was written since", async () => {
  for (let at = 0; at < 12; at++) await put(`gone/${at}`, "x");
  const plan = await visitor.get("/ui/keys/delete?prefix=gone/");
  expect(plan.text).toContain("12 keys go");
  const form = plan.form("/ui/keys/delete");
  expect((await visitor.submit(form, { typed: "11" })).status).toBe(422);
  await put("gone/12", "new");
  const moved = await visitor.submit(form, { typed: "12" });
  expect(moved.status).toBe(409);
  await put("gone/3", "changed");
  expect((await visitor.submit(form, { typed: "12" })).status).toBe(409);
  expect(await get("gone/0")).toBe("x");
  const anew = await visitor.submit(form, { typed: "12" });
  const done = await visitor.submit(anew.form("/ui/keys/delete"), { typed: "13" });
  expect(done.text).toContain("13 keys deleted");
  expect(await get("gone/0")).toBeUndefined();
});

test("chosen keys and prefixes go together, overlapping ones once", async () => {
  for (const key of ["pick/a", "pick/b/1", "pick/b/2", "pick/c"]) await put(key, "x");
  const query = `k64=${coded("pick/a")}&k64=${coded("pick/b/1")}&prefix64=${coded("pick/b/")}`;
  const plan = await visitor.get(`/ui/keys/delete?${query}`);
  expect(plan.title).toBe("Delete 3 keys?");
  await visitor.submit(plan.form("/ui/keys/delete"));
  expect([await get("pick/a"), await get("pick/b/2"), await get("pick/c")]).toEqual([
    undefined,
    undefined,
    "x",
  ]);
});

test("the past is shown as it was, with writes off", async () => {
  await put("past/key", "old");
  const then = revision();
  await put("past/key", "new");
  await put("past/other", "1");
  const list = await visitor.get(`/ui/keys?prefix=past/&rev=${then}`);
  expect(list.text).toContain("Writes are off");
  expect(list.text).not.toContain("other");
  expect(list.links.some((href) => href.startsWith("/ui/key/new"))).toBe(false);
  const key = await visitor.get(`/ui/key?k=past/key&rev=${then}`);
  expect(key.text).toContain("old");
  expect(key.links.some((href) => href.startsWith("/ui/key/edit"))).toBe(false);
  const missing = await visitor.get(`/ui/key?k=past/other&rev=${then}`);
  expect([missing.status, missing.text.includes("did not exist at that revision")]).toEqual([404, true]);
  expect((await visitor.get("/ui/keys?rev=999999999")).status).toBe(400);
  expect((await visitor.get("/ui/keys?at=soon")).status).toBe(400);
  expect((await visitor.get("/ui/keys?at=2001-01-01")).status).toBe(410);
});

test("history compares any two revisions and restores one as a new revision", async () => {
  await put("hist/key", "one\n");
  const first = revision();
  await put("hist/key", "two\n");
  await server.ask("DELETE", "/kv/hist/key");
  const page = await visitor.get("/ui/key/history?k=hist/key");
  expect(page.text).toContain("deleted");
  expect(page.text).toContain("nothing of this key was compacted");
  const compared = await visitor.get(`/ui/key/history?k=hist/key&from=${first}&to=${first + 1}`);
  expect(compared.text).toMatch(/removed: one .*added: two/);
  const restore = await visitor.get(`/ui/key/restore?k=hist/key&rev=${first}`);
  await visitor.submit(restore.form("/ui/key/save"));
  expect(await get("hist/key")).toBe("one\n");
  await server.ask("POST", "/maintenance/compact", { body: { revision: String(first + 1) } });
  const cut = await visitor.get("/ui/key/history?k=hist/key");
  expect(cut.text).toContain(`Compacted at revision ${String(first + 1).replace(/\B(?=(\d{3})+$)/g, " ")}`);
  expect((await visitor.get(`/ui/keys?rev=${first}`)).status).toBe(410);
});

test("a leased key says how long it has, and keeps its lease through an edit", async () => {
  const granted = await server.ask("POST", "/leases", { body: { ttl: 600 } });
  const { id } = granted.json as { readonly id: string };
  expect((await server.ask("PUT", `/kv/leased?lease=${id}`, { body: Buffer.from("1") })).status).toBe(201);
  const page = await visitor.get("/ui/key?k=leased");
  expect(page.text).toMatch(new RegExp(`${id} vanishes in (?:10|9) min`));
  const edit = await visitor.get("/ui/key/edit?k=leased");
  const preview = await visitor.submit(edit.form("/ui/key/preview"), { value: "2" });
  expect(preview.text).toContain("It stays attached to its lease");
  await visitor.submit(preview.form("/ui/key/save"));
  expect((await server.ask("GET", "/kv/leased")).headers["keelson-lease"]).toBe(id);
  const again = await visitor.get("/ui/key/edit?k=leased");
  const loose = await visitor.submit(again.form("/ui/key/preview"), { "keep-lease": undefined });
  expect(loose.text).toContain("It is detached from its lease");
  await visitor.submit(loose.form("/ui/key/save"));
  expect((await server.ask("GET", "/kv/leased")).headers["keelson-lease"]).toBeUndefined();
});

test("hostile keys and values are shown as what they are", async () => {
  const keys = [
    "evil/<script>alert(1)</script>",
    "evil/\u202egnp.exe",
    Buffer.from("evil/\xff\xfe\0", "latin1"),
    "evil/'\"&",
  ];
  const values = [
    "<img src=x onerror=alert(1)>",
    "\u202e\u2066\0",
    Buffer.from([0xff, 0xfe, 0]),
    "&lt;\u0085\u{e0001}",
  ];
  for (const [at, key] of keys.entries()) await put(key, values[at]!);
  await put("evil/large", Buffer.alloc(1024 * 1024, "ab\u202e"));
  const seen = ["/ui/keys?prefix=evil/", "/ui/keys?prefix=evil/&view=flat", "/ui/keys/delete?prefix=evil/"];
  for (const key of [...keys, "evil/large"]) {
    for (const page of ["", "/edit", "/history", "/delete"]) seen.push(keyPath(page, key));
    for (const view of ["text", "json", "yaml", "hex", "base64", "gzip"])
      seen.push(`${keyPath("", key)}&view=${view}`);
  }
  for (const path of seen) {
    const { status, html, bytes } = await visitor.get(path);
    expect([path, status]).toEqual([path, 200]);
    const ours = html.replace(/<textarea[\s\S]*?<\/textarea>|\sdata-copy="[^"]*"/g, "");
    expect(ours).not.toMatch(/<script>alert|<img src=x|[\u202e\u2066\0\u{e0001}]/u);
    expect(bytes.length).toBeLessThan(2_500_000);
    new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  }
  const download = await visitor.get(keyPath("/value", keys[0]!));
  expect(download.headers.get("content-type")).toBe("application/octet-stream");
  expect(download.headers.get("content-disposition")).toStartWith("attachment");
  expect(Buffer.from(download.bytes).toString()).toBe(values[0] as string);
});

test("secrets of Kubernetes are hidden until asked for, and its registry warns", async () => {
  const secret = "/registry/secrets/default/db";
  await put(secret, "hunter1");
  await put(secret, "hunter2");
  await put("/registry/pods/web", "pod");
  for (const page of ["", "/history", "/edit", "/delete"]) {
    expect((await visitor.get(keyPath(page, secret))).html).not.toContain("hunter");
  }
  expect((await visitor.get(`${keyPath("/restore", secret)}&rev=${revision() - 2}`)).html).not.toContain(
    "hunter",
  );
  expect((await visitor.get(`${keyPath("", secret)}&show`)).text).toContain("hunter2");
  expect((await visitor.get(keyPath("/edit", "/registry/pods/web"))).text).toContain(
    "Kubernetes keeps its own data",
  );
});

test("export and import are each other's inverse, and a dry run writes nothing", async () => {
  const bytes = Buffer.from("io/\xff\0", "latin1");
  await put("io/a", "1");
  await put("io/b", "two\n");
  await put(bytes, Buffer.from([0, 255]));
  for (const format of ["ndjson", "json"]) {
    const file = await visitor.get(`/ui/keys/export?prefix=io/&format=${format}`);
    expect(file.headers.get("content-disposition")).toContain(`.${format}"`);
    await put("io/b", "other");
    await server.ask("DELETE", "/kv/io/a");
    await server.ask("DELETE", `/kv64/${coded(bytes)}`);
    const before = revision();
    const page = await visitor.get("/ui/keys/import");
    const upload = { file: { name: `keys.${format}`, bytes: file.bytes } };
    const careful = await visitor.submit(page.form("/ui/keys/import/preview"), upload);
    expect(careful.title).toBe("Import 2 keys?");
    const plan = await visitor.submit(page.form("/ui/keys/import/preview"), { ...upload, overwrite: "on" });
    expect(plan.title).toBe("Import 3 keys?");
    expect(revision()).toBe(before);
    // What somebody else writes in between is left alone.
    await put("io/a", "theirs");
    let job = await visitor.submit(plan.form("/ui/keys/write"));
    for (let tries = 0; tries < 50 && job.text.includes("Under way"); tries++) {
      await Bun.sleep(20);
      job = await visitor.get(job.url);
    }
    expect(job.text).toContain("1 key was left alone");
    expect([await get("io/a"), await get("io/b"), await get(bytes)]).toEqual(["theirs", "two\n", "\0\xff"]);
    expect((await visitor.submit(plan.form("/ui/keys/write"))).status).toBe(404);
    await put("io/a", "1");
  }
  const page = await visitor.get("/ui/keys/import");
  const bad = await visitor.submit(page.form("/ui/keys/import/preview"), {
    file: { name: "x", bytes: Buffer.from('{"key":"a","value":"1"}\nnonsense\n') },
  });
  expect([bad.status, bad.text.includes("Line 2")]).toEqual([422, true]);
});

test("a prefix is copied, existing keys only when that is asked for", async () => {
  await put("from/a", "1");
  await put("from/b", "2");
  await put("to/b", "stays");
  const page = await visitor.get("/ui/keys/copy?prefix=from/");
  const plan = await visitor.submit(page.form("/ui/keys/copy/preview"), { to: "to/" });
  expect(plan.title).toBe("Copy 1 key?");
  let job = await visitor.submit(plan.form("/ui/keys/write"));
  for (let tries = 0; tries < 50 && job.text.includes("Under way"); tries++) {
    await Bun.sleep(20);
    job = await visitor.get(job.url);
  }
  expect([await get("to/a"), await get("to/b")]).toEqual(["1", "stays"]);
  expect((await visitor.submit(page.form("/ui/keys/copy/preview"), { to: "from/" })).status).toBe(422);
});

test("snapshots are taken, checked, downloaded and deleted", async () => {
  const page = await visitor.get("/ui/snapshots");
  let taken = await visitor.submit(page.form("/ui/snapshots/take"));
  for (let tries = 0; tries < 200 && taken.text.includes("Under way"); tries++) {
    await Bun.sleep(20);
    taken = await visitor.get(taken.url);
  }
  const href = taken.links.find((one) => /^\/ui\/snapshots\/[^/]+$/.test(one))!;
  const one = await visitor.get(href);
  expect(one.text).toContain("keelson snapshot restore");
  let checked = await visitor.submit(one.form(`${href}/verify`));
  for (let tries = 0; tries < 200 && checked.text.includes("Under way"); tries++) {
    await Bun.sleep(20);
    checked = await visitor.get(checked.url);
  }
  expect(checked.text).toContain("Sound");
  const file = await visitor.get(`${href}/content`);
  const digest = new Bun.CryptoHasher("sha256").update(file.bytes.subarray(0, -32)).digest();
  expect(Buffer.from(file.bytes.subarray(-32)).equals(digest)).toBe(true);
  const part = await fetch(`${server.url}${href}/content`, { headers: { range: "bytes=-32" } });
  expect([part.status, Buffer.from(await part.arrayBuffer()).equals(digest)]).toEqual([206, true]);
  const sure = await visitor.get(`${href}/delete`);
  const gone = await visitor.submit(sure.form(`${href}/delete`));
  expect(gone.text).toContain("is deleted");
  expect((await visitor.get(href)).status).toBe(404);
});

test("no page writes by being looked at, and no link is broken", async () => {
  await put("crawl/a/b", "1");
  const before = revision();
  const waiting = ["/ui/keys?prefix=crawl/", "/ui/key?k=crawl/a/b", "/ui/snapshots", "/ui/keys/import"];
  const seen = new Set<string>();
  while (waiting.length > 0 && seen.size < 150) {
    const path = waiting.shift()!;
    if (seen.has(path)) continue;
    seen.add(path);
    const { status, links } = await visitor.get(path);
    expect([path, status]).toEqual([path, 200]);
    for (const link of links) {
      expect(link).toMatch(/^(?:\/|#)/);
      const ours = /^\/ui\/(?:keys?|snapshots|jobs)\b/.test(link);
      if (ours && !seen.has(link)) waiting.push(link.replace(/#.*/, ""));
    }
  }
  expect(seen.size).toBeGreaterThan(30);
  expect(revision()).toBe(before);
});
