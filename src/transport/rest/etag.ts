/** Conditions of a request: entity tags are quoted mod revisions (RFC 9110, section 13). */
import { Problem } from "./problem";

/** What an If-Match or If-None-Match header lists. */
export type TagList = "*" | readonly bigint[];

/** Tags beyond this in one header are refused. */
const tagsMax = 32;
const int64Max = (1n << 63n) - 1n;

export function entityTag(modRevision: bigint): string {
  return `"${modRevision}"`;
}

/**
 * The tags of a header. Weak ones count like strong ones: proxies that compress weaken tags, and ours name whole
 * revisions. A tag that no revision can have is left out, since it matches nothing. Throws a Problem.
 */
export function tagList(header: string | undefined, name: string): TagList | undefined {
  if (header === undefined) return undefined;
  const text = header.trim();
  if (text === "*") return "*";
  const tags: bigint[] = [];
  let count = 0;
  const part = /\s*(?:W\/)?"([\x21\x23-\x7e\x80-\xff]*)"\s*(?:,|$)|\s*,/y;
  while (part.lastIndex < text.length) {
    const found = part.exec(text);
    if (found === null) {
      throw new Problem("bad-parameter", `${name} is neither * nor a list of quoted entity tags.`, {
        fix: `Send the ETag of an earlier answer as it was, quotes included: ${name}: "42"`,
      });
    }
    if (found[1] === undefined) continue;
    if (++count > tagsMax)
      throw new Problem("bad-parameter", `${name} lists more than ${tagsMax} entity tags.`);
    if (!/^[1-9]\d{0,18}$/.test(found[1])) continue;
    const tag = BigInt(found[1]);
    if (tag <= int64Max && !tags.includes(tag)) tags.push(tag);
  }
  if (count === 0) throw new Problem("bad-parameter", `${name} is empty.`);
  return tags;
}

/** Whether a list names the present revision of a key; undefined when the key does not exist. */
export function matches(list: TagList, modRevision: bigint | undefined): boolean {
  if (modRevision === undefined) return false;
  return list === "*" || list.includes(modRevision);
}
