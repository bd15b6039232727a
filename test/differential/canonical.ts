/**
 * Answers in a form that can be compared: everything that a client can see, except what two clusters can never
 * share. Ids and terms are reduced to "set" or "unset"; a lease's remaining time to a coarse number.
 */
import { hash } from "bun";

/** Fields that only have to be present on one side if they are on the other. */
const identities = new Set(["clusterId", "memberId", "raftTerm", "cluster_id", "member_id", "raft_term"]);

const printableMax = 80;

function text(bytes: Uint8Array): string {
  const latin1 = Buffer.from(bytes).toString("latin1");
  if (latin1.length <= printableMax) return latin1;
  return `${latin1.slice(0, 16)}… ${bytes.length} bytes, hash ${hash(bytes).toString(16)}`;
}

/**
 * A plain value for a decoded message or a parsed JSON answer. Unknown fields of a message are kept, so that a field
 * that only one server sends is seen.
 */
export function canonical(value: unknown, field = ""): unknown {
  if (identities.has(field)) {
    // A nested header of a txn has none of these; JSON leaves zeroes out.
    return String(value) === "0" ? "unset" : "set";
  }
  if (value instanceof Uint8Array) return text(value);
  if (typeof value === "bigint") return String(value);
  if (Array.isArray(value)) return value.map((item) => canonical(item));
  if (typeof value === "object" && value !== null) {
    const plain: Record<string, unknown> = {};
    const names = Object.keys(value).sort();
    for (const name of names) {
      if (name === "$typeName") continue;
      const item = (value as Record<string, unknown>)[name];
      if (item !== undefined) plain[name] = canonical(item, name);
    }
    return plain;
  }
  if (typeof value !== "string") return value;
  // Go's protobuf library writes a plain or a no-break space into its messages, as the hash of its executable decides,
  // so that nobody compares them.
  const plain = value.replaceAll("\u00a0", " ");
  if (plain.length <= printableMax) return plain;
  return `${plain.slice(0, 16)}… ${plain.length} characters, hash ${hash(plain).toString(16)}`;
}

/** The seconds that a lease may differ between two servers that were asked one after the other. */
const leaseSlackSeconds = 3;

/** Sorts what has no promised order, and coarsens remaining lease times, in an answer about leases. */
export function withoutLeaseTimes(answer: unknown): unknown {
  if (typeof answer !== "object" || answer === null) return answer;
  const copy = { ...(answer as Record<string, unknown>) };
  for (const list of ["keys", "leases"]) {
    const items = copy[list];
    if (Array.isArray(items)) copy[list] = items.map((item) => JSON.stringify(item)).sort();
  }
  const ttl = copy["TTL"];
  const granted = copy["grantedTTL"];
  if (ttl !== undefined && Number(ttl) > 0 && granted !== undefined) {
    const left = Number(granted) - Number(ttl);
    copy["TTL"] = left >= 0 && left < 600 + leaseSlackSeconds ? "alive" : String(ttl);
  }
  return copy;
}
