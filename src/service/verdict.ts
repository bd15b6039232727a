/**
 * How the cluster is, in one word and one sentence. Pure: what is known goes in, with its age, and figures older than
 * three seconds count as not known.
 */

export type VerdictKind =
  "healthy" | "at-risk" | "degraded" | "read-only" | "no-quorum" | "isolated" | "corrupt" | "unknown";

export interface Verdict {
  readonly kind: VerdictKind;
  /** Such as "Healthy". */
  readonly word: string;
  /** One sentence, figure first: "Can lose 1 of 3 members." */
  readonly sentence: string;
  /** What is to be looked after, worst first. */
  readonly reasons: readonly string[];
}

/** What the verdict needs of one member; the figures are undefined when it has not said them. */
export interface JudgedMember {
  readonly id: string;
  readonly name: string;
  readonly learner: boolean;
  /** Milliseconds since its figures were true; undefined: it has not answered. */
  readonly ageMs: number | undefined;
  /** Milliseconds since it was asked and has not answered; undefined: it answers, or is being asked. */
  readonly silentMs: number | undefined;
  readonly leader?: string | undefined;
  readonly term?: number | undefined;
  /** Milliseconds that its state is behind what is committed. */
  readonly lagMs?: number | undefined;
  readonly diskFreeBytes?: number | undefined;
  readonly databaseBytes?: number | undefined;
  readonly quotaBytes?: number | undefined;
}

export interface Judged {
  /** The member that judges, by id. */
  readonly self: string;
  readonly members: readonly JudgedMember[];
  readonly alarms: readonly { readonly type: string; readonly member: string }[];
}

/** Figures older than this say nothing about now. */
export const freshMs = 3_000;
/** A member further behind than this holds the cluster's spare down. */
export const lagWarningMs = 5_000;
const diskFreeWarningBytes = 1024 ** 3;
const quotaWarningShare = 0.8;

const words: Readonly<Record<VerdictKind, string>> = {
  healthy: "Healthy",
  "at-risk": "At risk",
  degraded: "Degraded",
  "read-only": "Read-only",
  "no-quorum": "No quorum",
  isolated: "Isolated",
  corrupt: "Corrupt",
  unknown: "Not known yet",
};

function verdict(kind: VerdictKind, sentence: string, reasons: readonly string[] = []): Verdict {
  return { kind, word: words[kind], sentence, reasons };
}

const isFresh = ({ ageMs }: JudgedMember): boolean => ageMs !== undefined && ageMs <= freshMs;

function named(members: readonly JudgedMember[]): string {
  const names = members.map(({ name, id }) => name || id);
  return names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)!}`;
}

/** "3 voters", "1 voter". */
function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/** Judges what is known. A learner that was added and has never started is only mentioned: nobody counts on it yet. */
export function judge({ self, members, alarms }: Judged): Verdict {
  const awaited = members.filter(({ learner, name }) => learner && name === "");
  const found = judgeStarted({
    self,
    members: members.filter((member) => !awaited.includes(member)),
    alarms,
  });
  if (awaited.length === 0) return found;
  const sentence =
    awaited.length === 1
      ? "A learner that was added has not been started yet."
      : `${awaited.length} learners that were added have not been started yet.`;
  return { ...found, reasons: [...found.reasons, sentence] };
}

function judgeStarted({ self, members, alarms }: Judged): Verdict {
  const own = members.find(({ id }) => id === self);
  if (own === undefined) return verdict("isolated", "This member is not in the cluster's list of members.");
  if (!isFresh(own)) return verdict("unknown", "This member has not measured itself yet.");
  const corrupt = alarms.filter(({ type }) => type === "corrupt");
  if (corrupt.length > 0) {
    const who = members.filter(({ id }) => corrupt.some(({ member }) => member === id));
    return verdict(
      "corrupt",
      `${who.length === 0 ? "A member" : named(who)} differs from the others; writes are refused.`,
      ["Compare the members' data, then replace the member that differs."],
    );
  }
  // Whoever has just been asked for the first time in a while is neither here nor gone.
  const asked = members.filter((member) => !isFresh(member) && member.silentMs === undefined);
  if (asked.length > 0) return verdict("unknown", `Waiting for ${named(asked)} to answer.`);
  const voters = members.filter(({ learner }) => !learner);
  const answering = voters.filter(isFresh);
  const silent = members.filter((member) => !isFresh(member));
  const quorum = Math.floor(voters.length / 2) + 1;
  const spare = answering.length - quorum;
  const reasons = silent.map(({ name, id }) => `${name || id} does not answer.`);
  if (spare < 0) {
    const alone = members.length > 1 && silent.length === members.length - 1;
    if (alone && own.leader === undefined) {
      return verdict("isolated", `This member reaches none of the ${members.length - 1} others.`, [
        "What it shows is what it held when it lost them; the others may go on without it.",
      ]);
    }
    return verdict(
      "no-quorum",
      `${answering.length} of ${counted(voters.length, "voter")} answer; ${quorum} are needed to write.`,
      reasons,
    );
  }
  // Members that answer each other but follow nobody are electing.
  if (own.leader === undefined && !answering.some(({ leader }) => leader !== undefined)) {
    return verdict("no-quorum", "There is no leader; an election is under way.", reasons);
  }
  if (own.leader === undefined) reasons.push("This member knows no leader, others do.");
  if (alarms.some(({ type }) => type === "nospace")) {
    return verdict("read-only", "The database is full: reads and deletes go on, puts are refused.", [
      "Delete or compact, give the space back, then disarm the alarm.",
      ...reasons,
    ]);
  }
  const dangers = dangersOf(members.filter(isFresh));
  if (silent.length > 0) {
    const left = spare === 0 ? "the next failure stops writes" : `can lose ${spare} more`;
    return verdict(
      "degraded",
      `${named(silent)} ${silent.length === 1 ? "does" : "do"} not answer; ${left}.`,
      [...reasons.filter((reason) => !reason.endsWith("does not answer.")), ...dangers],
    );
  }
  const behind = members.filter(({ lagMs, learner }) => !learner && (lagMs ?? 0) >= lagWarningMs);
  if (behind.length > 0) {
    return verdict(
      "degraded",
      `${named(behind)} ${behind.length === 1 ? "is" : "are"} behind by ${Math.round((behind[0]!.lagMs ?? 0) / 1_000)} s.`,
      [...reasons, ...dangers],
    );
  }
  if (own.leader === undefined || dangers.length > 0) {
    return verdict(
      "at-risk",
      dangers[0] ?? reasons[0]!,
      [...reasons, ...dangers].slice(dangers.length > 0 ? 0 : 1),
    );
  }
  if (voters.length === 1) {
    return verdict("at-risk", "Can lose 0 of 1: one member keeps no copy elsewhere.", [
      "Two more members let the cluster lose one of them.",
    ]);
  }
  if (spare === 0) {
    return verdict("at-risk", `Can lose 0 of ${voters.length}: both voters are needed to write.`, [
      "A third member lets the cluster lose one.",
    ]);
  }
  return verdict("healthy", `Can lose ${spare} of ${voters.length}.`);
}

/** What is not broken yet, but will be. */
function dangersOf(members: readonly JudgedMember[]): string[] {
  const dangers: string[] = [];
  for (const { name, id, diskFreeBytes, databaseBytes, quotaBytes } of members) {
    const who = name || id;
    if (diskFreeBytes !== undefined && diskFreeBytes < diskFreeWarningBytes) {
      dangers.push(`${who} has less than 1 GiB of disk left.`);
    }
    if (databaseBytes !== undefined && quotaBytes !== undefined && quotaBytes > 0) {
      const share = databaseBytes / quotaBytes;
      if (share >= quotaWarningShare) dangers.push(`${who} uses ${Math.floor(share * 100)} % of its quota.`);
    }
  }
  return dangers;
}
