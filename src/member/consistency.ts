/**
 * The safety net under replication: members hash what they hold and compare. At its start a member refuses to serve
 * when it differs from the others; while it leads, it compares all members now and then, and raises the CORRUPT alarm
 * for those that differ from the majority.
 *
 * Hashes are comparable at one revision and one compacted revision (etcd's HashKV): physical compaction goes its own
 * pace on each member and does not count.
 */
import { GrpcCode, refuse, StoreError } from "../errors";
import { hexId, type MemberId, type Revision } from "../ids";
import { AlarmType } from "../proto/gen/etcd/rpc_pb";
import type { HashAnswer } from "../state/results";
import type { Member } from "./member";
import { raiseAlarm } from "./operations";
import type { Clock } from "./ports";

/** The method by which members ask each other. */
const hashMethod = "hash-kv";
/** A member that has not come to the revision by then cannot be compared this time. */
const reachTimeoutMs = 3_000;
const reachPollMs = 25;
/** An answer takes as long as hashing a few million rows in slices. */
const answerTimeoutMs = 60_000;
/** At a start nobody is waited for any longer. */
const startTimeoutMs = 4_000;
const startRetryMs = 500;
/** Rows hashed between two breaths. */
const hashSliceRows = 1_000;

export interface ConsistencyParts {
  readonly member: Member;
  readonly clock: Clock;
  /** How often a leader compares everybody's newest revision; 0: never. */
  readonly intervalMs: number;
  /** How often a leader looks whether a compaction is to be compared; 0: never. */
  readonly compactionIntervalMs: number;
  readonly report: (
    level: "info" | "warn" | "error",
    message: string,
    fields?: Record<string, unknown>,
  ) => void;
}

/** What one member holds at a revision. */
export interface MemberHash {
  readonly id: MemberId;
  readonly hash: number;
  readonly compactRevision: Revision;
}

/** What comparing comes to; "unclear": they differ, and nobody is in the majority. */
export type Verdict =
  | { readonly kind: "equal" }
  | { readonly kind: "deviants"; readonly ids: readonly MemberId[] }
  | { readonly kind: "unclear"; readonly ids: readonly MemberId[] };

/** Judges hashes of one revision: more than half of all members must agree before others are called wrong. */
export function compareHashes(hashes: readonly MemberHash[], members: number): Verdict {
  const groups = new Map<string, MemberId[]>();
  const compacted = new Set<Revision>();
  for (const { id, hash, compactRevision } of hashes) {
    const name = `${compactRevision} ${hash}`;
    groups.set(name, [...(groups.get(name) ?? []), id]);
    compacted.add(compactRevision);
  }
  // Those who compacted further are not comparable with the rest; each kind is judged on its own.
  const differing: MemberId[] = [];
  for (const compactRevision of compacted) {
    const alike = [...groups]
      .filter(([name]) => name.startsWith(`${compactRevision} `))
      .map(([, ids]) => ids);
    if (alike.length === 1) continue;
    const majority = alike.find((ids) => ids.length > members / 2);
    const others = alike.filter((ids) => ids !== majority).flat();
    if (majority !== undefined) return { kind: "deviants", ids: others };
    differing.push(...others);
  }
  return differing.length === 0 ? { kind: "equal" } : { kind: "unclear", ids: differing };
}

export class Consistency {
  readonly #parts: ConsistencyParts;
  /** The compacted revision at which all members were last found equal. */
  #comparedCompaction: Revision = -1;
  #checking = false;
  /** Under way. */
  readonly #hashing = new Map<Revision, Promise<HashAnswer>>();
  /** Comparisons that found members equal, or not; for metrics. */
  checks = 0;
  mismatches = 0;

  constructor(parts: ConsistencyParts) {
    this.#parts = parts;
    parts.member.calls.answer(hashMethod, (_from, body) => this.#answer(body));
  }

  start(): void {
    const { member, intervalMs, compactionIntervalMs } = this.#parts;
    this.#every(intervalMs, () => this.compare());
    this.#every(compactionIntervalMs, async () => {
      const { compactedRevision } = member.state;
      if (compactedRevision <= this.#comparedCompaction) return;
      if (await this.compare(compactedRevision)) this.#comparedCompaction = compactedRevision;
    });
  }

  #every(intervalMs: number, work: () => Promise<unknown>): void {
    if (intervalMs <= 0) return;
    const { member, clock, report } = this.#parts;
    clock.after(intervalMs, () => {
      if (member.stopping) return;
      this.#every(intervalMs, work);
      if (!member.isLeader || this.#checking) return;
      this.#checking = true;
      work()
        .catch((error: unknown) => {
          if (!member.stopping)
            report("warn", "could not compare the members' data", { error: String(error) });
        })
        .finally(() => {
          this.#checking = false;
        });
    });
  }

  /** Whether this very member was found to differ: it must not answer from its data. */
  get damaged(): boolean {
    const { member } = this.#parts;
    return member.state
      .alarms()
      .some(({ memberID, alarm }) => alarm === AlarmType.CORRUPT && memberID === member.id);
  }

  /**
   * Compares all members at a revision, by default the newest, and raises alarms. Resolves with true when every
   * member could be compared and all are equal.
   */
  async compare(revision?: Revision): Promise<boolean> {
    const { member, report } = this.#parts;
    const members = member.state.members().length;
    if (members < 2) return true;
    await member.linearizable();
    const first = await this.#hashes(revision ?? member.revision);
    let verdict = compareHashes(first, members);
    // What differs for good differs twice.
    if (verdict.kind !== "equal") verdict = compareHashes(await this.#hashes(member.revision), members);
    this.checks++;
    if (verdict.kind === "equal") {
      const comparable = new Set(first.map(({ compactRevision }) => compactRevision)).size === 1;
      return comparable && first.length === members;
    }
    this.mismatches++;
    const wrong = verdict.kind === "deviants" ? verdict.ids : [0n];
    report("error", "members hold different data: raising the CORRUPT alarm", {
      members: verdict.ids.map(hexId),
      majority: verdict.kind === "deviants",
    });
    const raised = member.state.alarms().filter(({ alarm }) => alarm === AlarmType.CORRUPT);
    for (const id of wrong) {
      if (!raised.some(({ memberID }) => memberID === id)) {
        await member.propose(raiseAlarm(id, AlarmType.CORRUPT));
      }
    }
    return false;
  }

  /**
   * Before this member serves: throws when other members hold something else at its revision, unless it is with the
   * majority. Members that do not answer within seconds, or are not as far, are not compared.
   */
  async checkBeforeServing(): Promise<void> {
    const { member, clock, report } = this.#parts;
    const { revision } = member.state;
    const members = member.state.members();
    const others = members.filter(({ ID }) => ID !== member.id);
    if (others.length === 0 || member.state.appliedIndex === 0) return;
    const deadlineMs = clock.monotonicMs() + startTimeoutMs;
    // Everybody hashes at the same time: one after the other, little of the time would be left for the answers.
    const [own, ...answers] = await Promise.all([
      this.#hash(revision),
      ...others.map(({ ID }) => this.#askUntil(ID, revision, deadlineMs)),
    ]);
    const hashes = [{ id: member.id, ...own }, ...answers.filter((answer) => answer !== undefined)];
    const verdict = compareHashes(hashes, members.length);
    if (verdict.kind === "equal" || !verdict.ids.includes(member.id)) {
      report("info", "compared the own data with other members'", { revision, members: hashes.length });
      return;
    }
    throw new Error(
      `at revision ${revision} this member's data differs from that of other members, so it must not serve: ` +
        "check its disk; then remove it from the cluster (etcdctl member remove) and add it anew with an empty --data-dir. " +
        "If it is the others that are wrong, start it with --feature-gates=InitialCorruptCheck=false",
    );
  }

  async #askUntil(id: MemberId, revision: Revision, deadlineMs: number): Promise<MemberHash | undefined> {
    const { member, clock } = this.#parts;
    for (;;) {
      try {
        return await this.#ask(id, revision, Math.max(1, deadlineMs - clock.monotonicMs()));
      } catch (error) {
        if (member.stopping) throw error;
        const { message } = error as Error;
        const refused = message === refuse("compacted").message || message === refuse("futureRev").message;
        if (refused || clock.monotonicMs() + startRetryMs >= deadlineMs) return undefined;
      }
      await member.pause(startRetryMs);
    }
  }

  async #hashes(revision: Revision): Promise<MemberHash[]> {
    const { member, report } = this.#parts;
    const own = this.#hash(revision);
    const others = member.state.members().filter(({ ID }) => ID !== member.id);
    const answers = await Promise.all(
      others.map(({ ID }) =>
        this.#ask(ID, revision, answerTimeoutMs).catch((error: unknown) => {
          report("warn", "a member's data could not be compared", {
            member: hexId(ID),
            revision,
            error: String(error),
          });
          return undefined;
        }),
      ),
    );
    return [{ id: member.id, ...(await own) }, ...answers.filter((answer) => answer !== undefined)];
  }

  async #ask(id: MemberId, revision: Revision, timeoutMs: number): Promise<MemberHash> {
    const { calls } = this.#parts.member;
    const answer = await calls.call(id, hashMethod, Buffer.from(JSON.stringify({ revision })), timeoutMs);
    const { hash, compactRevision } = JSON.parse(Buffer.from(answer).toString()) as Record<string, unknown>;
    if (typeof hash !== "number" || typeof compactRevision !== "number") {
      throw new Error("a member's answer about its data makes no sense");
    }
    return { id, hash, compactRevision };
  }

  async #answer(body: Uint8Array): Promise<Uint8Array> {
    const { member, clock } = this.#parts;
    const { revision } = JSON.parse(Buffer.from(body).toString()) as Record<string, unknown>;
    if (typeof revision !== "number" || !Number.isSafeInteger(revision) || revision < 1) {
      throw new StoreError(GrpcCode.invalidArgument, "the question about data names no revision");
    }
    const deadlineMs = clock.monotonicMs() + reachTimeoutMs;
    while (member.revision < revision && clock.monotonicMs() < deadlineMs) await member.pause(reachPollMs);
    const { hash, compactRevision } = await this.#hash(revision);
    return Buffer.from(JSON.stringify({ hash, compactRevision }));
  }

  /** Whoever asks about a revision that is being hashed shares the answer: at a start of all, everybody asks everybody. */
  #hash(revision: Revision): Promise<HashAnswer> {
    const running = this.#hashing.get(revision);
    if (running !== undefined) return running;
    const answer = this.#hashAnew(revision).finally(() => this.#hashing.delete(revision));
    this.#hashing.set(revision, answer);
    return answer;
  }

  async #hashAnew(revision: Revision): Promise<HashAnswer> {
    const { member } = this.#parts;
    const sliced = member.state.hashKV(revision);
    try {
      for (;;) {
        const answer = sliced.next(hashSliceRows);
        if (answer !== undefined) return answer;
        await member.soon();
        if (member.stopping) throw refuse("stopped");
      }
    } finally {
      sliced.close();
    }
  }
}
