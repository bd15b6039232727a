/** Peer URLs as MemberAdd and MemberUpdate take them (reference etcd-wire 8.10). */
import { refuse } from "../errors";

/**
 * The URLs in etcd's order, sorted. Throws `memberBadURLs` for an empty list and for what no member could dial: members
 * talk over plain HTTP so far, to a host and port without a path.
 */
export function checkedPeerUrls(urls: readonly string[]): string[] {
  if (urls.length === 0) throw refuse("memberBadURLs");
  for (const text of urls) {
    const port = /^http:\/\/(?:\[[0-9a-fA-F:.%]+\]|[^\s:/?#@[\]]+):(\d{1,5})$/.exec(text)?.[1];
    if (port === undefined || Number(port) > 65_535 || Number(port) === 0) throw refuse("memberBadURLs");
  }
  return [...new Set(urls)].sort();
}
