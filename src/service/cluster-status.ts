/**
 * What this member knows of all members, each figure with its age. Members are asked once a second while somebody
 * looks, and not at all otherwise; each keeps an hour of figures about itself whether somebody looks or not.
 */
import type { MemberId } from "../ids";
import type { Member } from "../member/member";
import type { Clock } from "../member/ports";
import { hex16, type Measures, type MemberStatus, OwnStatus, type Setting } from "./member-status";
import { type ClusterEvent, mergedEvents } from "./recent-events";
import { Series, type SeriesPiece, seriesStepMs } from "./series";
import type { Snapshots } from "./snapshots";
import { judge, type Verdict } from "./verdict";

export interface MemberView {
  /** 16 hexadecimal digits. */
  readonly id: string;
  /** Empty until it has started. */
  readonly name: string;
  readonly learner: boolean;
  readonly peerUrls: readonly string[];
  readonly clientUrls: readonly string[];
  /** What it said last. */
  readonly status: MemberStatus | undefined;
  /** Milliseconds since that was true; undefined: it never said anything. */
  readonly ageMs: number | undefined;
  /** Milliseconds since it was asked and has not answered; undefined: it answers, or is being asked. */
  readonly silentMs: number | undefined;
  /** Entries that are committed and not applied there. */
  readonly lagEntries: number | undefined;
  /** The age of the oldest of them. */
  readonly lagMs: number | undefined;
  /** How far its clock is ahead of this member's. */
  readonly skewMs: number | undefined;
}

export interface ClusterView {
  readonly clusterId: string;
  /** The member that answers, by id. */
  readonly self: string;
  readonly leader: string | undefined;
  readonly term: number;
  readonly revision: number;
  readonly members: readonly MemberView[];
  readonly alarms: readonly { readonly type: "nospace" | "corrupt"; readonly member: string }[];
  readonly verdict: Verdict;
  /** The last of all members, newest first. */
  readonly events: readonly ClusterEvent[];
}

const statusMethod = "console-status";
const seriesMethod = "console-series";
const settingsMethod = "console-settings";
const askEveryMs = 1_000;
const answerTimeoutMs = 1_500;
const longAnswerTimeoutMs = 3_000;
/** How long a page waits for members; those that were silent are not waited for. */
const refreshWaitMs = 1_000;
/** Answers to questions that left this close together tell of one moment. */
const sameRoundMs = 100;
const snapshotLookMs = 15_000;
const eventsShown = 20;

interface Heard {
  status: MemberStatus;
  /** When its figures were true at the earliest. */
  atMs: number;
  skewMs: number;
  /** What this member knew to be committed when it asked. */
  commit: number;
}

const nothing = new Uint8Array(0);

function parsed<Value>(bytes: Uint8Array): Value {
  return JSON.parse(Buffer.from(bytes).toString()) as Value;
}

export class ClusterStatus {
  readonly clusterId: string;
  readonly #member: Member;
  readonly #clock: Clock;
  readonly #own: OwnStatus;
  readonly #settings: readonly Setting[];
  readonly #snapshots: Snapshots;
  readonly #heard = new Map<MemberId, Heard>();
  readonly #asking = new Map<MemberId, Promise<void>>();
  /** When the first of the questions was asked that a member has not answered. */
  readonly #silentSince = new Map<MemberId, number>();
  readonly #series = new Map<MemberId, Series>();
  #cancel: (() => void) | undefined;
  #lookers = 0;
  #snapshotsSeenAtMs = Number.NEGATIVE_INFINITY;

  constructor(member: Member, clock: Clock, measures: Measures, snapshots: Snapshots) {
    this.#member = member;
    this.#clock = clock;
    this.#own = new OwnStatus(member, measures);
    this.#settings = measures.settings;
    this.#snapshots = snapshots;
    this.clusterId = hex16(member.clusterId);
    member.calls.answer(statusMethod, () => {
      this.#lookForSnapshots();
      return Promise.resolve(Buffer.from(JSON.stringify(this.#own.read())));
    });
    member.calls.answer(seriesMethod, (_from, body) => {
      const { after } = parsed<{ readonly after: number }>(body);
      return Promise.resolve(Buffer.from(JSON.stringify(this.#own.series.after(Number(after)))));
    });
    member.calls.answer(settingsMethod, () => Promise.resolve(Buffer.from(JSON.stringify(this.#settings))));
    member.onStop(() => this.#cancel?.());
    this.#tick();
  }

  #tick(): void {
    if (this.#member.stopping) return;
    this.#own.sample();
    if (this.#lookers > 0) this.#askAll();
    this.#cancel = this.#clock.after(askEveryMs, () => this.#tick());
  }

  /** What is known now; waits for nothing. */
  view(): ClusterView {
    const { state, id, leader, term, revision } = this.#member;
    const nowMs = this.#clock.monotonicMs();
    const self = hex16(id);
    const known = leader === 0n ? undefined : hex16(leader);
    const records = state.members().sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
    const ownCommit = this.#member.status().commit;
    const led = leader === 0n ? undefined : this.#heard.get(leader);
    const members = records.map((record): MemberView => {
      const own = record.ID === id;
      const heard = own
        ? { status: this.#own.read(), atMs: nowMs, skewMs: 0, commit: ownCommit }
        : this.#heard.get(record.ID);
      const silentSinceMs = this.#silentSince.get(record.ID);
      // Figures of different moments must not be compared: entries come in between.
      const together =
        led !== undefined && heard !== undefined && Math.abs(led.atMs - heard.atMs) < sameRoundMs;
      const commit = Math.max(
        heard?.commit ?? 0,
        heard?.status.commit ?? 0,
        together || own ? (led?.status.commit ?? 0) : 0,
      );
      return {
        id: hex16(record.ID),
        name: record.name,
        learner: record.isLearner,
        peerUrls: record.peerURLs,
        clientUrls: record.clientURLs,
        status: heard?.status,
        ageMs: heard === undefined ? undefined : nowMs - heard.atMs,
        silentMs: own || silentSinceMs === undefined ? undefined : nowMs - silentSinceMs,
        lagEntries: heard === undefined ? undefined : Math.max(0, commit - heard.status.applied),
        lagMs: heard === undefined ? undefined : this.#own.commits.lagMs(heard.status.applied, heard.atMs),
        skewMs: heard?.skewMs,
      };
    });
    const alarms = members.find((member) => member.id === self)?.status?.alarms ?? [];
    const verdict = judge({
      self,
      alarms,
      members: members.map(({ status, ...member }) => ({
        ...member,
        leader: status?.leader,
        term: status?.term,
        diskFreeBytes: status?.diskFreeBytes,
        databaseBytes: status?.databaseBytes,
        quotaBytes: status?.quotaBytes,
      })),
    });
    const events = mergedEvents(
      members.map(({ status }) => status?.events ?? []),
      eventsShown,
    );
    return {
      clusterId: this.clusterId,
      self,
      leader: known,
      term,
      revision,
      members,
      alarms,
      verdict,
      events,
    };
  }

  /**
   * Asks members whose figures are older than a second, and waits a moment for those of them that answered last time
   * and whose figures are older than `patienceMs`.
   */
  async refresh(patienceMs = askEveryMs): Promise<void> {
    const nowMs = this.#clock.monotonicMs();
    const ageMs = (id: MemberId): number => nowMs - (this.#heard.get(id)?.atMs ?? Number.NEGATIVE_INFINITY);
    const awaited = this.#others()
      .filter((id) => ageMs(id) > askEveryMs)
      .flatMap((id) => {
        const answered = this.#ask(id);
        return ageMs(id) <= patienceMs || this.#silentSince.has(id) ? [] : [answered];
      });
    if (awaited.length === 0) return;
    let cancel: () => void = () => {};
    const late = new Promise<void>((resolve) => {
      cancel = this.#clock.after(refreshWaitMs, resolve);
    });
    await Promise.race([Promise.all(awaited), late]);
    cancel();
  }

  /** Keeps asking once a second until the answer is called. */
  keepAsking(): () => void {
    this.#lookers++;
    this.#askAll();
    let over = false;
    return () => {
      if (!over) this.#lookers--;
      over = true;
    };
  }

  #others(): MemberId[] {
    return this.#member.state
      .members()
      .map(({ ID }) => ID)
      .filter((id) => id !== this.#member.id);
  }

  #askAll(): void {
    this.#lookForSnapshots();
    const others = this.#others();
    for (const id of others) void this.#ask(id);
    for (const id of this.#heard.keys()) if (!others.includes(id)) this.#forget(id);
  }

  #forget(id: MemberId): void {
    this.#heard.delete(id);
    this.#silentSince.delete(id);
    this.#series.delete(id);
  }

  /** Never rejects: silence shows as age. */
  #ask(id: MemberId): Promise<void> {
    const under = this.#asking.get(id);
    if (under !== undefined) return under;
    const askedAtMs = this.#clock.monotonicMs();
    const { commit } = this.#member.status();
    const asking = this.#member
      .call(id, statusMethod, nothing, answerTimeoutMs)
      .then((body) => {
        const status = parsed<MemberStatus>(body);
        const tripMs = this.#clock.monotonicMs() - askedAtMs;
        const skewMs = status.wallMs - (this.#clock.wallMs() - tripMs / 2);
        this.#heard.set(id, { status, atMs: askedAtMs, skewMs, commit });
        this.#silentSince.delete(id);
      })
      .catch(() => {
        if (!this.#silentSince.has(id)) this.#silentSince.set(id, askedAtMs);
      })
      .finally(() => this.#asking.delete(id));
    this.#asking.set(id, asking);
    return asking;
  }

  /** Reads the own folder now and then, since a status is not to wait for a disk. */
  #lookForSnapshots(): void {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#snapshotsSeenAtMs < snapshotLookMs) return;
    this.#snapshotsSeenAtMs = nowMs;
    void this.#snapshots.own().then(
      (infos) => {
        const latest = infos.reduce<(typeof infos)[number] | undefined>(
          (found, info) => (found === undefined || info.takenAtMs > found.takenAtMs ? info : found),
          undefined,
        );
        this.#own.lastSnapshot =
          latest === undefined
            ? undefined
            : { name: latest.name, takenAtMs: latest.takenAtMs, revision: latest.revision };
      },
      () => {},
    );
  }

  /** The last hour of every member that answers, by id. Only what is new travels. */
  async series(): Promise<ReadonlyMap<string, Series>> {
    const found = new Map<string, Series>();
    await Promise.all(
      this.#member.state.members().map(async ({ ID }) => {
        if (ID === this.#member.id) {
          found.set(hex16(ID), this.#own.series);
          return;
        }
        const series = this.#series.get(ID) ?? new Series();
        this.#series.set(ID, series);
        found.set(hex16(ID), series);
        // There is a new point every few seconds.
        if (series.last >= Math.floor(this.#clock.wallMs() / seriesStepMs)) return;
        const question = Buffer.from(JSON.stringify({ after: series.last }));
        await this.#member.call(ID, seriesMethod, question, longAnswerTimeoutMs).then(
          (body) => series.take(parsed<SeriesPiece>(body)),
          () => {},
        );
      }),
    );
    return found;
  }

  /** The settings in force on a member. Rejects as {@link Member.call} does. */
  async settings(id: MemberId): Promise<readonly Setting[]> {
    return parsed<readonly Setting[]>(
      await this.#member.call(id, settingsMethod, nothing, longAnswerTimeoutMs),
    );
  }
}
