/** URLs of listeners and of members, checked by etcd's rules. */
import { isIP } from "node:net";

import { BadValue } from "./flag-types";
import type { Endpoint } from "./options";

/** What a URL is for decides which ones are fit. */
export type UrlUse = "listen" | "advertise-client" | "advertise-peer";

/** Reads one URL; throws {@link BadValue} that says what is wrong with it. */
export function parseEndpoint(text: string, use: UrlUse): Endpoint {
  const match = /^([a-z][a-z0-9+.-]*):\/\/([^/?#]*)(.*)$/i.exec(text);
  if (match === null) throw new BadValue(`"${text}" is not a URL such as http://127.0.0.1:2379`);
  const scheme = match[1]!.toLowerCase();
  const address = match[2]!;
  const path = match[3]!;
  if (scheme === "unix" || scheme === "unixs") {
    throw new BadValue(`"${text}": unix sockets are not part of this release; use http://`);
  }
  if (scheme !== "http" && scheme !== "https") {
    throw new BadValue(`"${text}": the scheme must be http, not ${scheme}`);
  }
  if (scheme === "https" && use !== "advertise-client") {
    throw new BadValue(`"${text}": TLS is not part of this release; https would be served as plain text`);
  }
  if (address.includes("@")) throw new BadValue(`"${text}": a URL here carries no user name`);
  if (path !== "" && path !== "/") throw new BadValue(`"${text}": the URL must not have a path`);
  const hostAndPort = /^(\[[^\]]*\]|[^:]*):(\d+)$/.exec(address);
  if (hostAndPort === null) throw new BadValue(`"${text}": the address must have the form host:port`);
  const bracketed = hostAndPort[1]!;
  const host = bracketed.startsWith("[") ? bracketed.slice(1, -1) : bracketed;
  const port = Number(hostAndPort[2]);
  if (port > 65_535) throw new BadValue(`"${text}": port ${port} is above 65535`);
  if (bracketed.startsWith("[") && isIP(host.replace(/%.*$/, "")) !== 6) {
    throw new BadValue(`"${text}": brackets hold an IPv6 address, "${host}" is none`);
  }
  if (host === "") throw new BadValue(`"${text}": the host is empty`);
  if (use === "listen" && host !== "localhost" && isIP(host.replace(/%.*$/, "")) === 0) {
    throw new BadValue(`"${text}": a listener binds to an IP address or localhost, not to a name`);
  }
  return { url: `${scheme}://${bracketed}:${port}`, scheme, host, port };
}

/** Reads a comma list of URLs; an empty list is refused unless `emptyAllowed`. */
export function parseEndpoints(text: string, use: UrlUse, emptyAllowed: boolean): Endpoint[] {
  if (text.trim() === "") {
    if (emptyAllowed) return [];
    throw new BadValue("needs at least one URL");
  }
  return text.split(",").map((one) => parseEndpoint(one.trim(), use));
}

/** True for 0.0.0.0 and ::, at which nobody can be reached. */
export function isUnspecified(endpoint: Endpoint): boolean {
  return endpoint.host === "0.0.0.0" || /^[0:]+$/.test(endpoint.host);
}
