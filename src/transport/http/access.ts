/**
 * Who may speak to the HTTP door (etcd-wire 7.1). A page of another site must not reach this server through a
 * browser that stands beside it: neither directly, which its Origin or Sec-Fetch-Site betrays, nor by pointing a
 * name of its own at this address (DNS rebinding), which its Host betrays.
 */
import { isIP } from "node:net";
import type { IncomingHttpHeaders } from "node:http";

/** A set of names in which "*", or nothing at all, means all. */
export class AllowList {
  readonly all: boolean;
  readonly #names: ReadonlySet<string>;

  constructor(names: readonly string[] | undefined) {
    this.#names = new Set(names);
    this.all = this.#names.size === 0 || this.#names.has("*");
  }

  has(name: string): boolean {
    return this.all || this.#names.has(name);
  }
}

/** The name in a Host header: without its port, and without the brackets of an IPv6 address. */
export function hostName(host: string): string {
  const bracketed = /^\[([^\]]*)\](?::\d*)?$/.exec(host);
  if (bracketed !== null) return bracketed[1]!;
  const colon = host.indexOf(":");
  return colon === -1 || colon !== host.lastIndexOf(":") ? host : host.slice(0, colon);
}

/** What a client with an unknown Host is told. */
export function misdirectedText(host: string): string {
  return [
    `This server does not answer to the Host name ${JSON.stringify(host)}.`,
    "",
    "Plain HTTP is answered only for known names, so that a web page cannot reach this server by pointing a name",
    "of its own at it (DNS rebinding, CVE-2018-5702). Either use TLS, or allow the name:",
    `  --host-whitelist ${JSON.stringify(host)}`,
  ].join("\n");
}

/** Suffixes that nobody can register in the public DNS, so that a page elsewhere cannot own such a name. */
const privateSuffixes = [".localhost", ".local", ".internal", ".home.arpa", ".svc", ".lan", ".test"];

/** A name that leads a browser to this server only when its user meant to: an address, or not a public name. */
export function isPrivateName(name: string): boolean {
  const lower = name.toLowerCase().replace(/\.$/, "");
  if (isIP(lower) !== 0) return true;
  return !lower.includes(".") || privateSuffixes.some((suffix) => lower.endsWith(suffix));
}

export interface BrowserAccessOptions {
  /** etcd's --cors; undefined when the flag was not given: pages of this server's own origin only. */
  readonly cors: readonly string[] | undefined;
  /** etcd's --host-whitelist; undefined when it was not given: addresses, private names and `ownNames`. */
  readonly hostWhitelist: readonly string[] | undefined;
  /** Names by which this server is known. */
  readonly ownNames: readonly string[];
}

/** Why a request is turned away. */
export interface Denial {
  readonly status: 403 | 421;
  readonly text: string;
}

export class BrowserAccess {
  readonly #hosts: AllowList | undefined;
  readonly #origins: AllowList | undefined;
  readonly #ownNames: ReadonlySet<string>;

  constructor({ cors, hostWhitelist, ownNames }: BrowserAccessOptions) {
    this.#hosts =
      hostWhitelist === undefined
        ? undefined
        : new AllowList(hostWhitelist.map((name) => name.toLowerCase()));
    this.#origins = cors === undefined ? undefined : new AllowList(cors);
    this.#ownNames = new Set(ownNames.map((name) => name.toLowerCase()));
  }

  /** The value of access-control-allow-origin for this request, if there is to be one. */
  allowedOrigin(
    origin: string | undefined,
  ): { readonly value: string; readonly varies: boolean } | undefined {
    if (this.#origins === undefined) return undefined;
    if (this.#origins.all) return { value: "*", varies: false };
    return origin !== undefined && this.#origins.has(origin) ? { value: origin, varies: true } : undefined;
  }

  /** Why this request may come from another site's page, or undefined when it may not. */
  denial(method: string, headers: IncomingHttpHeaders, encrypted: boolean): Denial | undefined {
    const host = headers.host ?? "";
    const name = hostName(host);
    // A certificate proves the name to the browser, so TLS needs no check of it.
    if (!encrypted && !this.#knowsHost(name)) return { status: 421, text: misdirectedText(name) };
    const { origin } = headers;
    if (origin !== undefined) {
      const own = `${encrypted ? "https" : "http"}://${host}`.toLowerCase();
      if (origin.toLowerCase() !== own && !this.#letsIn(origin))
        return { status: 403, text: crossSiteText(origin) };
      return undefined;
    }
    const site = headers["sec-fetch-site"];
    if (site !== "cross-site" && site !== "same-site") return undefined;
    // Following a link is the user's own doing, and the page that has the link learns nothing.
    const visits = headers["sec-fetch-mode"] === "navigate" && headers["sec-fetch-dest"] === "document";
    if ((visits && (method === "GET" || method === "HEAD")) || this.#origins?.all === true) return undefined;
    return { status: 403, text: crossSiteText("another site") };
  }

  #knowsHost(name: string): boolean {
    if (this.#hosts !== undefined) return this.#hosts.has(name.toLowerCase());
    return isPrivateName(name) || this.#ownNames.has(name.toLowerCase());
  }

  #letsIn(origin: string): boolean {
    return this.#origins?.has(origin) === true;
  }
}

function crossSiteText(origin: string): string {
  return [
    `A page of ${origin} may not call this server.`,
    "",
    "Browsers may call it from its own pages only. Allow another origin by naming it:",
    "  --cors https://console.example",
  ].join("\n");
}
