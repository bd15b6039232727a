/** What the console answers over plain HTTP: headers, sessions, forms, assets. No browser is needed for it. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { assetPaths, assetSizes } from "../../src/transport/console/assets";
import { actions, pages } from "../../src/transport/console/pages";
import { at, RestHarness } from "../rest/harness";
import { scratchDir } from "../tools/server";

const token = "a-token-of-more-than-sixteen-characters";
let open: RestHarness;
let closed: RestHarness;

beforeAll(async () => {
  const file = join(scratchDir("console"), "token");
  writeFileSync(file, `${token}\n`);
  open = await RestHarness.start();
  closed = await RestHarness.start([`--admin-token-file=${file}`]);
});
afterAll(async () => {
  await Promise.all([open.stop(), closed.stop()]);
});

interface Visit {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  readonly cookie: string;
  readonly formToken: string;
}

async function visit(url: string, init: RequestInit = {}): Promise<Visit> {
  const answer = await fetch(url, { redirect: "manual", ...init });
  const text = await answer.text();
  return {
    status: answer.status,
    headers: answer.headers,
    text,
    cookie: /^[^;]+/.exec(answer.headers.get("set-cookie") ?? "")?.[0] ?? "",
    formToken: /name="form-token" value="([^"]+)"/.exec(text)?.[1] ?? "",
  };
}

function posted(fields: Readonly<Record<string, string>>, headers: Record<string, string> = {}): RequestInit {
  return { method: "POST", body: new URLSearchParams(fields), headers };
}

test("a browser at the root is led to the console, other callers are not", async () => {
  const browser = await visit(`${open.url}/`, { headers: { accept: "text/html,*/*" } });
  expect([browser.status, browser.headers.get("location")]).toEqual([303, "/ui/"]);
  expect((await visit(`${open.url}/`)).status).toBe(404);
  expect((await visit(`${open.url}/ui`)).headers.get("location")).toBe("/ui/");
});

test("pages let nothing in from elsewhere, nothing inline, no frame, and are not kept", async () => {
  for (const path of ["/ui/", "/ui/members", "/ui/metrics", "/ui/kit", "/ui/nothing-here"]) {
    const { headers, text } = await visit(open.url + path);
    expect(headers.get("content-security-policy")).toBe(
      "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; " +
        "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    );
    expect(headers.get("x-content-type-options")).toBe("nosniff");
    expect(headers.get("referrer-policy")).toBe("same-origin");
    expect(headers.get("cache-control")).toBe("no-store");
    expect(headers.get("set-cookie")).toMatch(/; Path=\/ui; HttpOnly; SameSite=Strict$/);
    expect(text).not.toMatch(/<script(?![^>]* src=)|<style| style=| on[a-z]+=/);
    expect(text).toStartWith("<!doctype html>");
  }
});

test("what does not exist says so, as a page", async () => {
  const { status, text } = await visit(`${open.url}/ui/members/0000000000000001`);
  expect(status).toBe(404);
  expect(text).toContain("There is no member 0000000000000001");
  expect((await visit(`${open.url}/ui/keys%00`)).status).toBe(404);
  expect((await visit(`${open.url}/ui/?x=%zz`)).status).toBe(400);
});

describe("assets", () => {
  test("stay within the budget", async () => {
    const { gzipBytes, fontBytes } = await assetSizes();
    expect(gzipBytes).toBeLessThanOrEqual(100 * 1024);
    expect(fontBytes).toBeLessThanOrEqual(60 * 1024);
    expect(gzipBytes).toBeGreaterThan(10_000);
  });

  test("are kept for ever under names that change, and travel compressed", async () => {
    for (const path of Object.values(assetPaths)) {
      for (const encoding of ["br", "gzip", "identity"]) {
        const answer = await fetch(open.url + path, { headers: { "accept-encoding": encoding } });
        expect(answer.status).toBe(200);
        expect(answer.headers.get("cache-control")).toBe("public, max-age=31536000, immutable");
        const fontsAreCompressed = path.endsWith(".woff2");
        expect(answer.headers.get("content-encoding")).toBe(
          encoding === "identity" || fontsAreCompressed ? null : encoding,
        );
        expect((await answer.bytes()).length).toBeGreaterThan(100);
      }
    }
    expect((await visit(`${open.url}/ui/assets/console-0000000000.css`)).status).toBe(404);
  });
});

describe("forms", () => {
  test("are taken from the session that they were made for, only", async () => {
    const page = await visit(`${open.url}/ui/`);
    const fields = { theme: "dark", to: "/ui/members" };
    const url = `${open.url}/ui/theme`;
    const right = await visit(
      url,
      posted({ ...fields, "form-token": page.formToken }, { cookie: page.cookie }),
    );
    expect([right.status, right.headers.get("location")]).toEqual([303, "/ui/members"]);
    expect(right.headers.get("set-cookie")).toStartWith("keelson-theme=dark;");
    const other = await visit(`${open.url}/ui/`);
    for (const [sent, cookie] of [
      [{ ...fields }, page.cookie],
      [{ ...fields, "form-token": other.formToken }, page.cookie],
      [{ ...fields, "form-token": page.formToken }, ""],
    ] as const) {
      const refused = await visit(url, posted(sent, cookie === "" ? {} : { cookie }));
      expect(refused.status).toBe(403);
      expect(refused.text).toContain("not made for this browser");
    }
  });

  test("of other sites are refused, whatever they carry", async () => {
    const page = await visit(`${open.url}/ui/`);
    const fields = { theme: "dark", "form-token": page.formToken };
    for (const headers of [
      { origin: "https://evil.example" },
      { origin: "null" },
      { "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document" },
      { "sec-fetch-site": "same-site" },
    ]) {
      const refused = await visit(
        `${open.url}/ui/theme`,
        posted(fields, { cookie: page.cookie, ...(headers as Record<string, string>) }),
      );
      expect(refused.status).toBe(403);
    }
  });

  test("lead nowhere outside of the console", async () => {
    const page = await visit(`${open.url}/ui/`);
    for (const to of ["https://evil.example/", "//evil.example", "/ui/\\evil", "/ui/a\nb", "/metrics"]) {
      const fields = { theme: "dark", to, "form-token": page.formToken };
      const answer = await visit(`${open.url}/ui/theme`, posted(fields, { cookie: page.cookie }));
      expect(answer.headers.get("location")).toBe("/ui/");
    }
  });

  test("no action can be reached by GET, and no GET writes", async () => {
    const before = await (await fetch(`${open.url}/api/v1/status`)).json();
    const members = await (await fetch(`${open.url}/api/v1/members`)).json();
    const id = (members as { members: { id: string }[] }).members[0]!.id;
    for (const { path } of [...pages, ...actions]) {
      const url = `${open.url}/ui${path.replace(":id", id).replace(/:\w+/g, "x")}`;
      for (const query of ["", "?confirm=default&url=http://127.0.0.1:1&kind=learner&k=a&prefix=a&to=/ui/"]) {
        await visit(url + query);
      }
    }
    const after = await (await fetch(`${open.url}/api/v1/status`)).json();
    const { revision, raftIndex } = before as Record<string, string>;
    expect(after).toMatchObject({ revision, raftIndex });
    expect(await (await fetch(`${open.url}/api/v1/members`)).json()).toEqual(members);
  });

  test("other methods are refused", async () => {
    for (const method of ["PUT", "DELETE", "PATCH"]) {
      expect((await visit(`${open.url}/ui/`, { method })).status).toBe(405);
    }
  });
});

describe("who may look", () => {
  test("without a token file: callers on this machine whose request nobody passed on", async () => {
    const refused = await visit(`${open.url}/ui/`, { headers: { "x-forwarded-for": "10.0.0.1" } });
    expect(refused.status).toBe(403);
    // Who may not be here learns nothing of the cluster.
    expect(refused.text).not.toContain("strip-facts");
    expect((await visit(`${open.url}/ui/login`)).headers.get("location")).toBe("/ui/");
  });

  test("with one: whoever shows the token, once", async () => {
    const led = await visit(`${closed.url}/ui/members?a=b`);
    expect([led.status, led.headers.get("location")]).toEqual([303, "/ui/login?to=%2Fui%2Fmembers%3Fa%3Db"]);
    const page = await visit(`${closed.url}/ui/login?to=%2Fui%2Fmembers`);
    expect(page.text).not.toContain("strip-facts");
    const logIn = (given: string): Promise<Visit> =>
      visit(
        `${closed.url}/ui/login`,
        posted({ token: given, to: "/ui/members", "form-token": page.formToken }, { cookie: page.cookie }),
      );
    const wrong = await logIn("wrong");
    expect([wrong.status, wrong.headers.get("set-cookie")]).toEqual([401, null]);
    expect(wrong.text).toContain("This is not the token.");
    const right = await logIn(token);
    expect([right.status, right.headers.get("location")]).toEqual([303, "/ui/members"]);
    expect(right.cookie).not.toBe(page.cookie);
    const members = await visit(`${closed.url}/ui/members`, { headers: { cookie: right.cookie } });
    expect(members.status).toBe(200);
    expect(members.text).toContain("Sign out");
    const [name, value = ""] = right.cookie.split("=");
    const [id, expires] = value.split(".");
    for (const forged of [`${id}.${Number(expires) + 1}`, `${id}.${expires}.${"A".repeat(43)}`, `${id}`]) {
      const answer = await visit(`${closed.url}/ui/`, { headers: { cookie: `${name}=${forged}` } });
      expect(answer.status).toBe(303);
    }
    const signedOut = await visit(
      `${closed.url}/ui/logout`,
      posted({ "form-token": members.formToken }, { cookie: right.cookie }),
    );
    expect(signedOut.headers.get("set-cookie")).toMatch(/=; .*Max-Age=0$/);
  });

  test("streams and scripts are told, not led", async () => {
    expect((await visit(`${closed.url}/ui/live?page=/ui/`)).status).toBe(401);
    const bearer = { authorization: `Bearer ${token}` };
    expect((await visit(`${closed.url}/ui/`, { headers: bearer })).status).toBe(200);
    expect(
      (await visit(`${closed.url}/ui/`, { headers: { authorization: "Bearer wrong-wrong-wrong" } })).status,
    ).toBe(401);
  });
});

test("only what changed travels", async () => {
  const answer = await fetch(`${open.url}/ui/live?page=${encodeURIComponent("/ui/")}`);
  expect(answer.headers.get("content-type")).toBe("text/event-stream");
  const reader = answer.body!.getReader();
  let text = "";
  const until = async (fits: () => boolean): Promise<void> => {
    while (!fits()) {
      const { value, done } = await reader.read();
      if (done) throw new Error(`the stream ended: ${text}`);
      text += Buffer.from(value).toString();
    }
  };
  await until(() => text.includes("event: boot") && text.includes("#live-strip-revision"));
  text = "";
  await fetch(`${open.url}/api/v1/kv/a`, { method: "PUT", body: "1" });
  await until(() => text.includes("#live-strip-revision"));
  await until(() => text.endsWith("event: beat\ndata: \n\n"));
  expect(text).not.toContain("#live-counts");
  await reader.cancel();
  expect((await visit(`${open.url}/ui/live?page=/ui/kit`)).status).toBe(404);
  expect((await visit(`${open.url}/ui/live?page=/ui/&once`)).text).toStartWith("<hx-partial");
});

test("REST requests count among the requests that members tell of", async () => {
  const { id } = await (
    await fetch(`${open.url}/api/v1/members`)
  )
    .json()
    .then((list) => (list as { readonly members: readonly { readonly id: string }[] }).members[0]!);
  const told = async (): Promise<string> => {
    const { text } = await visit(`${open.url}/ui/members/${id}`);
    return /id="live-request"[^>]*>([\s\S]*?)<\/(?:span|div)><\/dd>/.exec(text)![1]!;
  };
  // A window is five seconds long; nothing but REST asks here.
  for (let tries = 0; tries < 60 && (await told()).includes("nothing measured"); tries++) {
    for (let asked = 0; asked < 20; asked++) await open.ask("GET", "/kv/none");
    await Bun.sleep(200);
  }
  expect(await told()).toMatch(/\d/);
}, 30_000);

test("a dry run of a change that would be refused says so, and what to do instead", async () => {
  const list = await open.ask("GET", "/members");
  const id = at(list.json, "members", 0, "id");
  const { json, status } = await open.ask("DELETE", `/members/${id}?dryRun`);
  expect([status, at(json, "refusal", "error")]).toEqual([
    200,
    "etcdserver: re-configuration failed due to not enough started members",
  ]);
  expect(at(json, "refusal", "instead")).toContain("add another first");
  const fine = await open.ask("POST", "/members?dryRun", { body: { peerUrls: ["http://127.0.0.1:1"] } });
  expect([fine.status, at(fine.json, "refusal")]).toEqual([200, "undefined"]);
});
