import { describe, expect, test } from "bun:test";
import { AdminAccess, tokenOf } from "./admin-access";
import { Problem } from "./problem";

/** The status with which a caller is turned away; 200 when it is let in. */
function statusOf(
  access: AdminAccess,
  address: string | undefined,
  headers: Record<string, string> = {},
): number {
  try {
    access.check(address, headers);
    return 200;
  } catch (error) {
    return (error as Problem).status;
  }
}

describe("without a token", () => {
  test("callers on this machine are let in, others are not", () => {
    const access = new AdminAccess(undefined);
    for (const address of ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1", undefined]) {
      expect([address, statusOf(access, address)]).toEqual([address, 200]);
    }
    for (const address of ["10.0.0.1", "::2", "::ffff:10.0.0.1", "127.0.0.1.evil", "128.0.0.1", "fe80::1"]) {
      expect([address, statusOf(access, address)]).toEqual([address, 403]);
    }
  });

  test("what was passed on comes from elsewhere, whoever passed it on", () => {
    const access = new AdminAccess(undefined);
    for (const name of ["forwarded", "x-forwarded-for", "x-real-ip", "via", "cf-connecting-ip"]) {
      expect([name, statusOf(access, "127.0.0.1", { [name]: "" })]).toEqual([name, 403]);
    }
  });
});

describe("with a token", () => {
  const token = "a-token-of-some-length";

  test("whoever holds it is let in, from anywhere, and nobody else", () => {
    const access = new AdminAccess(token);
    expect(statusOf(access, "10.0.0.1", { authorization: `Bearer ${token}` })).toBe(200);
    expect(
      statusOf(access, "10.0.0.1", { authorization: `bearer  ${token}`, "x-forwarded-for": "1.2.3.4" }),
    ).toBe(200);
    expect(statusOf(access, "127.0.0.1")).toBe(401);
    for (const wrong of [
      "",
      token,
      `Basic ${token}`,
      `Bearer ${token}x`,
      `Bearer ${token.slice(1)}`,
      "Bearer",
      "Bearer ",
    ]) {
      expect([wrong, statusOf(access, "127.0.0.1", { authorization: wrong })]).toEqual([wrong, 401]);
    }
  });

  test("guessing is slowed down", () => {
    const access = new AdminAccess(token);
    const statuses = Array.from({ length: 20 }, (_, at) =>
      statusOf(access, "10.0.0.1", { authorization: `Bearer guess-${at}` }),
    );
    expect(statuses.filter((status) => status === 401)).toHaveLength(10);
    expect(statuses.at(-1)).toBe(429);
    expect(statusOf(access, "10.0.0.1", { authorization: `Bearer ${token}` })).toBe(200);
  });

  test("a token has to be one, and long enough to be none that is guessed", () => {
    expect(tokenOf(`${token}\n`)).toBe(token);
    for (const text of [
      "",
      "short",
      "with a space in its middle",
      "two\nlines-of-a-token-file",
      "\u00fcmlaut-in-a-long-token",
    ]) {
      expect(() => tokenOf(text)).toThrow("admin token");
    }
  });
});
