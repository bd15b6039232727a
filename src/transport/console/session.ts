/**
 * Who a browser is: a random id in a cookie, which forms of that browser are bound to, and with a token file the proof
 * that it showed the token. Nothing is kept on the server, so a session holds on every member that has the token.
 */
import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import type { AdminAccess } from "../rest/admin-access";

const idBytes = 18;
const idPattern = /^[\w-]{24}$/;
const sessionSeconds = 12 * 3_600;

export interface Session {
  readonly id: string;
  /** The token was shown, not too long ago. Without a token file nobody has to. */
  readonly proven: boolean;
  /** What every form of this session carries. */
  readonly formToken: string;
  /** The Set-Cookie header that starts it; absent when the browser has it already. */
  readonly cookie?: string;
}

function sameText(one: string, other: string): boolean {
  const [a, b] = [Buffer.from(one), Buffer.from(other)];
  return a.length === b.length && timingSafeEqual(a, b);
}

function formTokenOf(id: string): string {
  return createHmac("sha256", id).update("form").digest("base64url").slice(0, 32);
}

/** The cookies of a request; of two with one name the first, which has the more specific path. */
export function cookiesOf(header: string | undefined): ReadonlyMap<string, string> {
  const cookies = new Map<string, string>();
  for (const part of (header ?? "").split(";")) {
    const equals = part.indexOf("=");
    if (equals === -1) continue;
    const name = part.slice(0, equals).trim();
    if (!cookies.has(name)) cookies.set(name, part.slice(equals + 1).trim());
  }
  return cookies;
}

export class Sessions {
  readonly #access: AdminAccess;
  readonly #name: string;
  readonly #wallMs: () => number;

  /** Clusters on one host share its cookies, so the cookie's name says whose it is. */
  constructor(access: AdminAccess, clusterId: string, wallMs: () => number) {
    this.#access = access;
    this.#name = `keelson-${clusterId.slice(0, 8)}`;
    this.#wallMs = wallMs;
  }

  /** The session that a request belongs to; a new one when it brings none. */
  of(cookies: ReadonlyMap<string, string>, encrypted: boolean): Session {
    const [id = "", expires = "", signature = ""] = (cookies.get(this.#name) ?? "").split(".");
    if (!idPattern.test(id)) return this.#fresh(encrypted);
    const proven =
      /^\d{1,12}$/.test(expires) &&
      Number(expires) * 1_000 > this.#wallMs() &&
      sameText(signature, this.#sign(id, expires));
    return { id, proven, formToken: formTokenOf(id) };
  }

  /** The session of somebody who has just shown the token; under a new id, so that nobody can have chosen it. */
  proven(encrypted: boolean): Session {
    const { id, formToken } = this.#fresh(encrypted);
    const expires = String(Math.floor(this.#wallMs() / 1_000) + sessionSeconds);
    return {
      id,
      proven: true,
      formToken,
      cookie: this.#cookie(`${id}.${expires}.${this.#sign(id, expires)}`, encrypted),
    };
  }

  /** The Set-Cookie header that ends a session. */
  ended(encrypted: boolean): string {
    return `${this.#cookie("", encrypted)}; Max-Age=0`;
  }

  #fresh(encrypted: boolean): Session {
    const id = randomBytes(idBytes).toString("base64url");
    return { id, proven: false, formToken: formTokenOf(id), cookie: this.#cookie(id, encrypted) };
  }

  #sign(id: string, expires: string): string {
    const key = this.#access.signingKey("console session");
    return createHmac("sha256", key).update(`${id}.${expires}`).digest("base64url");
  }

  #cookie(value: string, encrypted: boolean): string {
    return `${this.#name}=${value}; Path=/ui; HttpOnly; SameSite=Strict${encrypted ? "; Secure" : ""}`;
  }
}

/** Whether a form was made for this session. */
export function isFormOf(session: Session, given: string | undefined): boolean {
  return given !== undefined && session.cookie === undefined && sameText(given, session.formToken);
}
