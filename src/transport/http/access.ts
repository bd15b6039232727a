/** Who may speak to the HTTP door: Host names against DNS rebinding, origins for browsers (etcd-wire 7.1). */

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
