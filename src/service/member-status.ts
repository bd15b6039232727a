/** What a member says of itself to whoever looks at the cluster. */
import { createHash } from "node:crypto";
import { hexId, type MemberId } from "../ids";
import type { Member } from "../member/member";
import { AlarmType } from "../proto/gen/etcd/rpc_pb";
import { etcdLevel, keelsonVersion } from "../version";
import { CommitTimes } from "./commit-times";
import { type ClusterEvent, RecentEvents } from "./recent-events";
import { type Buckets, BucketWindow, quantileMs, Series, seriesStepMs } from "./series";

export const hex16 = (id: MemberId): string => hexId(id).padStart(16, "0");

/** A setting in force. */
export interface Setting {
  /** The flag's name, such as "election-timeout". */
  readonly name: string;
  readonly value: string;
  /** Where it was said: a flag, a variable, a line of the configuration file; undefined: nowhere, it is the default. */
  readonly from?: string | undefined;
}

/** Who can reach what without proving who they are. */
export interface Posture {
  readonly clientTls: boolean;
  readonly peerTls: boolean;
  /** The console and REST want the admin token. */
  readonly adminToken: boolean;
  /** The client port listens on this machine's own addresses only. */
  readonly loopbackOnly: boolean;
}

export interface FollowerStatus {
  readonly id: string;
  readonly state: "probe" | "replicate" | "snapshot";
  readonly match: number;
  readonly active: boolean;
  readonly snapshot?: { readonly doneBytes: number; readonly totalBytes: number };
}

export interface MemberStatus {
  readonly id: string;
  readonly role: "leader" | "follower" | "candidate" | "learner";
  readonly leader?: string;
  readonly term: number;
  readonly commit: number;
  readonly applied: number;
  readonly persisted: number;
  readonly firstIndex: number;
  readonly lastIndex: number;
  readonly revision: number;
  readonly compactedRevision: number;
  readonly keys: number;
  readonly version: string;
  readonly etcdVersion: string;
  /** Of the settings that all members should share. */
  readonly settingsHash: string;
  readonly posture: Posture;
  readonly databaseBytes: number;
  readonly databaseBytesInUse: number;
  /** Absent: there is no quota. */
  readonly quotaBytes?: number;
  readonly growthBytesPerDay?: number;
  readonly diskFreeBytes?: number;
  readonly logBytes: number;
  readonly fsyncP99Ms?: number;
  readonly requestP99Ms?: number;
  readonly requestsPerSecond?: number;
  /** Since the start. */
  readonly longestStallMs: number;
  readonly memoryBytes: number;
  readonly watchers: number;
  readonly wallMs: number;
  readonly uptimeMs: number;
  /** Milliseconds since 1970 when this member saw the present leader first. */
  readonly leaderSinceMs?: number;
  readonly leaderChanges: number;
  readonly lastSnapshot?: { readonly name: string; readonly takenAtMs: number; readonly revision: number };
  /** Round trips to the members that it reaches, by id. */
  readonly roundTripsMs: Readonly<Record<string, number>>;
  /** Of a leader. */
  readonly followers: readonly FollowerStatus[];
  /** Of a member that installs a snapshot. */
  readonly receiving?: {
    readonly from: string;
    readonly stage: string;
    readonly doneBytes: number;
    readonly totalBytes: number;
  };
  readonly alarms: readonly { readonly type: "nospace" | "corrupt"; readonly member: string }[];
  readonly events: readonly ClusterEvent[];
}

/** What others measure: the transport, the doors, the system. */
export interface Measures {
  readonly settings: readonly Setting[];
  readonly posture: Posture;
  requests(): Buckets;
  fsyncs(): Buckets;
  applies(): Buckets;
  longestStallMs(): number;
  memoryBytes(): number;
  diskFreeBytes(): number | undefined;
  roundTripMs(to: MemberId): number | undefined;
  wallMs(): number;
}

/** Settings that every member has for itself. */
const ownSettings =
  /^(?:name|data-dir|wal-dir|listen-|advertise-|initial-|join|log-|config-file|discovery|cert-file|key-file|peer-cert|peer-key|admin-token-file|force-new)/;
const p99 = 0.99;
/** Points of five seconds that a figure of "lately" covers. */
const latelyPoints = 12;
const eventsTold = 20;

function sum(counts: ArrayLike<number> | undefined): number {
  let total = 0;
  for (let at = 0; at < (counts?.length ?? 0); at++) total += counts![at]!;
  return total;
}

/** Adds windows of one length, so that a quantile covers all of them. */
class Lately {
  readonly #window = new BucketWindow();
  #recent: Float64Array[] = [];

  /** What was counted since the last call. */
  next(buckets: Buckets): Float64Array | undefined {
    const counts = this.#window.next(buckets);
    if (counts !== undefined) this.#recent = [...this.#recent.slice(1 - latelyPoints), counts];
    return counts;
  }

  p99Ms({ bounds }: Buckets): number | undefined {
    const [first, ...rest] = this.#recent;
    if (first === undefined) return undefined;
    const total = Float64Array.from(first);
    for (const counts of rest) counts.forEach((count, at) => (total[at]! += count));
    return quantileMs(bounds, total, p99);
  }
}

export class OwnStatus {
  readonly commits = new CommitTimes();
  readonly series = new Series();
  readonly #member: Member;
  readonly #measures: Measures;
  readonly #self: string;
  readonly #startedAtMs: number;
  readonly #settingsHash: string;
  readonly #events: RecentEvents;
  readonly #requests = new Lately();
  readonly #fsyncs = new Lately();
  readonly #applies = new BucketWindow();
  #requestsPerSecond: number | undefined;
  #commit: number | undefined;
  #watchEvents: number | undefined;
  #stallMs = 0;
  #sampledAtMs = Number.NEGATIVE_INFINITY;
  #leader = 0n;
  #term = 0;
  #leaderSinceMs: number | undefined;
  lastSnapshot: MemberStatus["lastSnapshot"];

  constructor(member: Member, measures: Measures) {
    this.#member = member;
    this.#measures = measures;
    this.#self = hex16(member.id);
    this.#startedAtMs = member.monotonicMs();
    this.#events = new RecentEvents(this.#self);
    const shared = measures.settings.filter(({ name }) => !ownSettings.test(name));
    const text = shared.map(({ name, value }) => `${name}=${value}`).join("\n");
    this.#settingsHash = createHash("sha256").update(text).digest("hex").slice(0, 12);
  }

  /** Looks at what changes; once a second. */
  sample(): void {
    const { leader, term, state } = this.#member;
    const nowMs = this.#member.monotonicMs();
    const wallMs = this.#measures.wallMs();
    this.commits.note(this.#member.status().commit, nowMs);
    if (leader !== this.#leader || (term !== this.#term && leader !== 0n)) {
      this.#leader = leader;
      this.#term = term;
      this.#leaderSinceMs = leader === 0n ? undefined : wallMs;
    }
    const longestMs = this.#measures.longestStallMs();
    this.#events.observe(
      {
        leader: leader === 0n ? undefined : hex16(leader),
        term,
        members: state
          .members()
          .map(({ ID, name, isLearner }) => ({ id: hex16(ID), name, learner: isLearner })),
        alarms: this.#alarms(),
        reached: new Set(Object.keys(this.#roundTrips())),
        compactedRevision: state.compactedRevision,
        snapshotsInstalled: this.#member.snapshots.receiver.succeeded,
        stallMs: longestMs > this.#stallMs ? longestMs : 0,
      },
      wallMs,
    );
    this.#stallMs = longestMs;
    if (nowMs - this.#sampledAtMs >= seriesStepMs - 100) this.#samplePoint(nowMs, wallMs);
  }

  #samplePoint(nowMs: number, wallMs: number): void {
    const measures = this.#measures;
    const { hub, state, term } = this.#member;
    const seconds = (nowMs - this.#sampledAtMs) / 1_000;
    const perSecond = (count: number | undefined): number | undefined =>
      count === undefined || !Number.isFinite(seconds) ? undefined : count / seconds;
    this.#sampledAtMs = nowMs;
    const requests = measures.requests();
    const fsyncs = measures.fsyncs();
    const applies = measures.applies();
    const requestCounts = this.#requests.next(requests);
    const fsyncCounts = this.#fsyncs.next(fsyncs);
    const applyCounts = this.#applies.next(applies);
    this.#requestsPerSecond = requestCounts === undefined ? undefined : perSecond(sum(requestCounts));
    const { commit } = this.#member.status();
    const commits = this.#commit === undefined ? undefined : commit - this.#commit;
    this.#commit = commit;
    const events = hub.stats.eventsSent;
    const watchEvents = this.#watchEvents === undefined ? undefined : events - this.#watchEvents;
    this.#watchEvents = events;
    const trips = Object.values(this.#roundTrips());
    const figures = {
      requestsPerSecond: this.#requestsPerSecond,
      requestP99Ms: requestCounts && quantileMs(requests.bounds, requestCounts, p99),
      fsyncP99Ms: fsyncCounts && quantileMs(fsyncs.bounds, fsyncCounts, p99),
      applyP99Ms: applyCounts && quantileMs(applies.bounds, applyCounts, p99),
      commitsPerSecond: perSecond(commits),
      roundTripMs: trips.length === 0 ? undefined : Math.max(...trips),
      watchEventsPerSecond: perSecond(watchEvents),
      databaseBytes: state.sizes().totalBytes,
      memoryBytes: measures.memoryBytes(),
      term,
    };
    this.series.add(wallMs, figures as Partial<Record<keyof typeof figures, number>>);
  }

  #alarms(): MemberStatus["alarms"] {
    return this.#member.state.alarms().map(({ memberID, alarm }) => ({
      type: alarm === AlarmType.NOSPACE ? "nospace" : "corrupt",
      member: hex16(memberID),
    }));
  }

  #roundTrips(): Record<string, number> {
    const trips: Record<string, number> = {};
    for (const { ID } of this.#member.state.members()) {
      const trip = ID === this.#member.id ? undefined : this.#measures.roundTripMs(ID);
      if (trip !== undefined) trips[hex16(ID)] = Number(trip.toPrecision(3));
    }
    return trips;
  }

  /** Undefined while an hour's growth cannot be told, or there is none. */
  #growthBytesPerDay(): number | undefined {
    const { last } = this.series;
    const sizes = this.series.column("databaseBytes", last - 719, last);
    const first = sizes.findIndex((size) => size !== null);
    const steps = sizes.length - 1 - first;
    const newest = sizes.at(-1);
    if (first === -1 || steps < 60 || newest === null || newest === undefined) return undefined;
    const growth = (newest - sizes[first]!) / (steps * seriesStepMs);
    return growth <= 0 ? undefined : growth * 86_400_000;
  }

  /** Everything, as of now. */
  read(): MemberStatus {
    const member = this.#member;
    const measures = this.#measures;
    const { state, hub, options, snapshots } = member;
    const status = member.status();
    const sizes = state.sizes();
    const { receiving, sending } = snapshots.status;
    const present = <Name extends string, Value>(name: Name, value: Value | undefined) =>
      (value === undefined ? {} : { [name]: value }) as { [Key in Name]?: Value };
    return {
      id: this.#self,
      role:
        status.role === "leader"
          ? "leader"
          : member.isLearner
            ? "learner"
            : status.role === "follower"
              ? "follower"
              : "candidate",
      ...present("leader", member.leader === 0n ? undefined : hex16(member.leader)),
      term: status.term,
      commit: status.commit,
      applied: state.appliedIndex,
      persisted: status.persisted,
      firstIndex: status.startIndex + 1,
      lastIndex: status.lastIndex,
      revision: state.revision,
      compactedRevision: state.compactedRevision,
      keys: sizes.keys,
      version: keelsonVersion,
      etcdVersion: etcdLevel,
      settingsHash: this.#settingsHash,
      posture: measures.posture,
      databaseBytes: sizes.totalBytes,
      databaseBytesInUse: sizes.inUseBytes,
      ...present("quotaBytes", options.quotaBytes < 0 ? undefined : options.quotaBytes),
      ...present("growthBytesPerDay", this.#growthBytesPerDay()),
      ...present("diskFreeBytes", measures.diskFreeBytes()),
      logBytes: member.counters().logBytes,
      ...present("fsyncP99Ms", this.#fsyncs.p99Ms(measures.fsyncs())),
      ...present("requestP99Ms", this.#requests.p99Ms(measures.requests())),
      ...present("requestsPerSecond", this.#requestsPerSecond),
      longestStallMs: measures.longestStallMs(),
      memoryBytes: measures.memoryBytes(),
      watchers: hub.stats.watchers,
      wallMs: measures.wallMs(),
      uptimeMs: member.monotonicMs() - this.#startedAtMs,
      ...present("leaderSinceMs", this.#leaderSinceMs),
      leaderChanges: member.leaderChanges,
      ...present("lastSnapshot", this.lastSnapshot),
      roundTripsMs: this.#roundTrips(),
      followers: status.progress.map(({ id, state: mode, match, recentlyActive }) => {
        const snapshot = sending.find(({ to }) => to === id);
        return {
          id: hex16(id),
          state: mode,
          match,
          active: recentlyActive,
          ...present(
            "snapshot",
            snapshot && { doneBytes: snapshot.doneBytes, totalBytes: snapshot.totalBytes },
          ),
        };
      }),
      ...present(
        "receiving",
        receiving && {
          from: hex16(receiving.from),
          stage: receiving.stage,
          doneBytes: receiving.doneBytes,
          totalBytes: receiving.totalBytes,
        },
      ),
      alarms: this.#alarms(),
      events: this.#events.latest.slice(0, eventsTold),
    };
  }
}
