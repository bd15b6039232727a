/**
 * Leases (P15): never gone sooner than the granted time after the last renewal was sent, gone at last, and renewed
 * never again once gone. Times are those of the clients, so every bound is taken to the side that accuses nobody
 * wrongly: a lease was renewed when the renewal was sent at the earliest, and expired when the first witness saw it
 * at the latest.
 */
import { fromBinary } from "@bufbuild/protobuf";
import { KeyValueSchema } from "../../src/proto/gen/etcd/kv_pb";
import { operationText, revisionOf } from "./describe";
import type { History, Operation, OperationOf, Verdict } from "./history";

/** Someone saw the store at this revision, at this time. */
export interface Sighting {
  readonly revision: number;
  readonly at: number;
}

export interface LeaseCheckOptions {
  /** How many units of the history's time a second has. */
  readonly unitsPerSecond: number;
  /** How much later than its time a lease may end once nothing disturbs the members: an election, and slack. */
  readonly lateSeconds: number;
  /** Until then members were disturbed, and every new leader may have begun leases anew. */
  readonly disturbedUntil?: number;
  /** The end of the run: a lease that should be gone by then and is not is late. */
  readonly endAt: number;
  /** What watchers saw, besides the answers of the history. */
  readonly sightings?: readonly Sighting[];
}

interface LeaseLife {
  readonly id: bigint;
  ttlSeconds: number;
  grant: Operation;
  readonly renewals: Operation[];
  revokedAt: number;
  /** Revision in which its keys went. */
  goneRevision: number | undefined;
}

function leaseIdOf(operation: Operation): bigint | undefined {
  switch (operation.kind) {
    case "leaseGrant":
      return operation.outcome.kind === "replied" ? operation.outcome.reply.ID : operation.request.ID;
    case "leaseRevoke":
    case "leaseKeepAlive":
      return operation.request.ID;
    default:
      return undefined;
  }
}

/** The first time at which anyone is known to have seen each revision or a later one. */
function firstSeen(history: History, sightings: readonly Sighting[]): (revision: number) => number {
  const last = history.log.at(-1)?.revision ?? 1;
  const seen = new Float64Array(last + 2).fill(Infinity);
  const note = (revision: number, at: number): void => {
    if (revision >= 0 && revision <= last) seen[revision] = Math.min(seen[revision]!, at);
  };
  for (const operation of history.operations) {
    const revision = revisionOf(operation);
    if (revision !== undefined) note(revision, operation.returnAt);
  }
  for (const { revision, at } of sightings) note(revision, at);
  for (let revision = last; revision >= 0; revision--) {
    seen[revision] = Math.min(seen[revision]!, seen[revision + 1]!);
  }
  return (revision) => seen[revision]!;
}

function livesOf(history: History): Map<bigint, LeaseLife> {
  const lives = new Map<bigint, LeaseLife>();
  for (const operation of history.operations) {
    const id = leaseIdOf(operation);
    if (id === undefined) continue;
    const life = lives.get(id);
    if (operation.kind === "leaseGrant") {
      if (operation.outcome.kind !== "replied") continue;
      const ttlSeconds = Number(operation.outcome.reply.TTL);
      lives.set(id, {
        id,
        ttlSeconds,
        grant: operation,
        renewals: [],
        revokedAt: Infinity,
        goneRevision: undefined,
      });
    } else if (life === undefined) continue;
    else if (operation.kind === "leaseRevoke") {
      // Even a revoke that failed may have worked.
      if (operation.outcome.kind !== "failed" || !operation.outcome.definite) {
        life.revokedAt = Math.min(life.revokedAt, operation.callAt);
      }
    } else if (operation.kind === "leaseKeepAlive") life.renewals.push(operation);
  }
  return lives;
}

/** Notes in which revision each lease's keys went. */
function noteEnds(history: History, lives: ReadonlyMap<bigint, LeaseLife>): void {
  const leaseOf = new Map<string, bigint>();
  for (const { revision, changes } of history.log) {
    const gone = new Map<bigint, number>();
    for (const { type, key, record } of changes) {
      const held = leaseOf.get(key) ?? 0n;
      if (type === "delete") {
        if (held !== 0n) gone.set(held, (gone.get(held) ?? 0) + 1);
        leaseOf.delete(key);
      } else leaseOf.set(key, fromBinary(KeyValueSchema, record).lease);
    }
    for (const [lease] of gone) {
      // A client may delete a key of its own; the lease is gone when no key of it is left.
      if ([...leaseOf.values()].includes(lease)) continue;
      const life = lives.get(lease);
      if (life !== undefined) life.goneRevision = revision;
    }
  }
}

const granted = (operation: Operation): operation is OperationOf<"leaseKeepAlive"> =>
  operation.kind === "leaseKeepAlive" &&
  operation.outcome.kind === "replied" &&
  operation.outcome.reply.TTL > 0n;

/**
 * Judges the leases of a history. Keys under the leases must be deleted by nothing but the end of their lease, and
 * each lease must have held a key for its end to be seen.
 */
export function checkLeases(history: History, options: LeaseCheckOptions): Verdict {
  const problems: string[] = [];
  const counts = { leases: 0, renewals: 0, expired: 0, revoked: 0, stillAlive: 0 };
  const seen = firstSeen(history, options.sightings ?? []);
  const lives = livesOf(history);
  noteEnds(history, lives);
  const units = options.unitsPerSecond;
  for (const life of lives.values()) {
    counts.leases++;
    const renewed = life.renewals.filter(granted);
    counts.renewals += renewed.length;
    const goneAt = life.goneRevision === undefined ? Infinity : seen(life.goneRevision);
    // Renewals that were acknowledged before anyone saw the lease gone count; those sent after must be refused.
    const before = renewed.filter(({ callAt }) => callAt <= goneAt);
    const last = before.reduce<Operation>(
      (latest, one) => (one.callAt > latest.callAt ? one : latest),
      life.grant,
    );
    const risen = renewed.find(({ callAt }) => callAt > goneAt);
    if (risen !== undefined) {
      problems.push(
        `lease ${life.id} was seen gone at ${goneAt.toFixed(1)}, and renewed after that: ${operationText(risen)}`,
      );
    }
    if (Math.min(goneAt, life.revokedAt) === life.revokedAt && life.revokedAt !== Infinity) {
      counts.revoked++;
      continue;
    }
    const earliest = last.callAt + life.ttlSeconds * units;
    if (goneAt < earliest) {
      problems.push(
        `lease ${life.id} of ${life.ttlSeconds} s was gone in revision ${life.goneRevision} by ${goneAt.toFixed(1)}, ${((earliest - goneAt) / units).toFixed(2)} s too early; last renewal: ${operationText(last)}`,
      );
    }
    // Any renewal may have worked, so lateness counts from the end of the last one tried.
    const tried = [life.grant, ...life.renewals].reduce(
      (latest, { callAt, returnAt }) => Math.max(latest, Number.isFinite(returnAt) ? returnAt : callAt),
      0,
    );
    const latest =
      Math.max(tried, options.disturbedUntil ?? 0) + (life.ttlSeconds + options.lateSeconds) * units;
    if (goneAt !== Infinity) counts.expired++;
    else counts.stillAlive++;
    if (latest < Math.min(goneAt, options.endAt)) {
      problems.push(
        `lease ${life.id} of ${life.ttlSeconds} s should have been gone by ${latest.toFixed(1)}, but ${goneAt === Infinity ? `lived at the end (${options.endAt.toFixed(1)})` : `was first seen gone at ${goneAt.toFixed(1)}`}; last tried at ${tried.toFixed(1)}`,
      );
    }
  }
  return { problems, counts };
}
