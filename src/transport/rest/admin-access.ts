/**
 * Who may use REST until users exist: callers on this machine, or, with a token file, whoever holds the token. A
 * proxy on this machine speaks for callers elsewhere, so its headers count as coming from elsewhere.
 */
import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import { Problem } from "./problem";

/** Any of these says that somebody passed the request on. */
const forwardingHeaders = [
  "forwarded",
  "via",
  "x-forwarded-for",
  "x-forwarded-host",
  "x-forwarded-proto",
  "x-forwarded-port",
  "x-forwarded-server",
  "x-real-ip",
  "x-client-ip",
  "x-cluster-client-ip",
  "true-client-ip",
  "cf-connecting-ip",
  "fastly-client-ip",
] as const;

/** Wrong tokens that are answered per second; more have to wait. */
const wrongTokensPerSecondMax = 10;
const tokenCharactersMin = 16;

function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}

/** Whether a caller is on this machine. */
export function isLoopback(address: string | undefined): boolean {
  // A Unix socket has no address: its folder's permissions say who may connect.
  if (address === undefined || address === "") return true;
  const bare = address.startsWith("::ffff:") ? address.slice(7) : address;
  return bare === "::1" || /^127\.\d+\.\d+\.\d+$/.test(bare);
}

/** Checks the text of a token file; the token is its only line. Throws with what is wrong. */
export function tokenOf(text: string): string {
  const token = text.trim();
  if (!/^[\x21-\x7e]+$/.test(token) || token.length < tokenCharactersMin) {
    throw new Error(
      `the admin token has to be one line of at least ${tokenCharactersMin} printable characters without spaces`,
    );
  }
  return token;
}

export class AdminAccess {
  readonly #tokenDigest: Buffer | undefined;
  #wrong = 0;
  #windowEndMs = 0;

  constructor(token: string | undefined) {
    this.#tokenDigest = token === undefined ? undefined : digest(token);
  }

  /** Throws a Problem when the caller may not use REST. */
  check(remoteAddress: string | undefined, headers: IncomingHttpHeaders): void {
    if (this.#tokenDigest === undefined) {
      const passedOn = forwardingHeaders.find((name) => headers[name] !== undefined);
      if (isLoopback(remoteAddress) && passedOn === undefined) return;
      throw new Problem(
        "forbidden",
        passedOn === undefined
          ? "Without a token, REST and console answer callers on this machine only."
          : `Without a token, REST and console answer nobody whose request was passed on (it has a ${passedOn} header).`,
      );
    }
    const given = /^Bearer +([\x21-\x7e]+) *$/i.exec(headers.authorization ?? "")?.[1];
    if (given !== undefined && this.isToken(given)) return;
    throw new Problem(
      "unauthorized",
      given === undefined ? "No token was sent." : "The token is not the right one.",
      {
        headers: { "www-authenticate": 'Bearer realm="keelson"' },
      },
    );
  }

  /** Whether callers prove themselves by the token; otherwise by where they are. */
  get needsToken(): boolean {
    return this.#tokenDigest !== undefined;
  }

  /** Whether this is the token. Throws a Problem when too many wrong ones were tried. */
  isToken(given: string): boolean {
    // Digests have one length, so the comparison takes the same time whatever was sent.
    if (this.#tokenDigest !== undefined && timingSafeEqual(digest(given), this.#tokenDigest)) return true;
    this.#countWrong();
    return false;
  }

  /** A key that only those who know the token can know: what it signs proves that its holder showed the token. */
  signingKey(purpose: string): Buffer {
    return createHmac("sha256", this.#tokenDigest ?? "")
      .update(purpose)
      .digest();
  }

  #countWrong(): void {
    const nowMs = performance.now();
    if (nowMs >= this.#windowEndMs) {
      this.#windowEndMs = nowMs + 1_000;
      this.#wrong = 0;
    }
    if (++this.#wrong > wrongTokensPerSecondMax)
      throw new Problem("too-many-requests", "Too many wrong tokens.");
  }
}
