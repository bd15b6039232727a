/**
 * The rules of consensus (R1–R15), watched from outside: at what members say, at what their logs acknowledged as
 * durable, and at where they stand after each event.
 */
import { voterSets } from "../../src/consensus/configuration";
import type { BriefStatus } from "../../src/consensus/raft";
import { quorumHolds } from "../../src/consensus/quorum";
import type { Entry, Ready } from "../../src/consensus/types";
import type { LogIndex, MemberId, Term } from "../../src/ids";
import type { PeerMessage } from "../../src/member/peer-message";
import type { DurableLog, LogBatch } from "../../src/storage/wal/types";
import type { SimulatedHost } from "./host";
import { sameBytes, type Truth } from "./truth";
import { claim } from "./violation";

/** What is known about one host, over all its lives. */
interface Standing {
  readonly host: SimulatedHost;
  life: number;
  /** As of the last event of this life. */
  status: BriefStatus | undefined;
  revision: number;
  /** Terms of the entries that consensus handed out, by index; and of those that the log acknowledged. */
  handedOut: Term[];
  durable: Term[];
  /** Batches that its log was given and has not called durable: of these a crash leaves a beginning. */
  given: LogBatch[];
  durableTerm: Term;
  durableVote: MemberId;
  /** When a leader was last heard, on the host's own clock. */
  heardLeaderMs: number;
}

export interface RefereeCounts {
  elections: number;
  leaderships: number;
  committed: number;
  configurationChanges: number;
  installs: number;
  votesChecked: number;
  preVotes: number;
}

export class Referee {
  readonly counts: RefereeCounts = {
    elections: 0,
    leaderships: 0,
    committed: 0,
    configurationChanges: 0,
    installs: 0,
    votesChecked: 0,
    preVotes: 0,
  };
  readonly #truth: Truth;
  readonly #trace: (host: SimulatedHost, what: string) => void;
  readonly #standings = new Map<SimulatedHost, Standing>();
  readonly #byId = new Map<MemberId, Standing>();
  /** R1: who led each term, and in which life. */
  readonly #leaders = new Map<Term, string>();
  /** R3: by index, what was seen there: an entry, and the term before it. */
  readonly #seen: (undefined | { readonly entry: Entry; readonly before: Term | undefined }[])[] = [];
  /** The highest index that some leader called committed. */
  committed: LogIndex = 0;
  /** Of the receiver, when a message arrives. */
  #statusBefore: BriefStatus | undefined;

  constructor(truth: Truth, trace: (host: SimulatedHost, what: string) => void) {
    this.#truth = truth;
    this.#trace = trace;
  }

  #standing(host: SimulatedHost): Standing {
    let standing = this.#standings.get(host);
    if (standing === undefined) {
      standing = {
        host,
        life: 0,
        status: undefined,
        revision: 0,
        handedOut: [],
        durable: [],
        given: [],
        durableTerm: 0,
        durableVote: 0n,
        heardLeaderMs: Number.NEGATIVE_INFINITY,
      };
      this.#standings.set(host, standing);
    }
    return standing;
  }

  status(host: SimulatedHost): BriefStatus | undefined {
    const standing = this.#standings.get(host);
    return standing !== undefined && standing.life === host.life && host.state === "up"
      ? standing.status
      : undefined;
  }

  /** The leader of the highest term, as far as it knows itself. */
  leader(): SimulatedHost | undefined {
    let found: Standing | undefined;
    for (const standing of this.#standings.values()) {
      const status = this.status(standing.host);
      if (status?.role !== "leader") continue;
      if (found === undefined || status.term > found.status!.term) found = standing;
    }
    return found?.host;
  }

  /** P1 and R8 over a restart: the log has whatever it once called durable, and then a beginning of what it was given. */
  logOpened(host: SimulatedHost, log: DurableLog): void {
    const standing = this.#standing(host);
    const { durable, given } = standing;
    const terms: Term[] = [];
    for (let index = log.firstIndex - 1; index <= log.lastIndex; index++) {
      const term = log.term(index);
      if (term !== undefined) terms[index] = term;
    }
    claim(durable.length === 0 || isBeginning(log, terms, durable, given), () => {
      const index = terms.findIndex((term, at) => at >= log.firstIndex && term !== (durable[at] ?? term));
      return (
        `P1: the log of ${host.name} ends at ${log.lastIndex}, ${durable.length - 1} was acknowledged` +
        (index === -1 ? "" : `; at ${index} it has term ${terms[index]}, acknowledged was ${durable[index]}`)
      );
    });
    standing.handedOut = terms;
    standing.durable = terms.slice();
    standing.given = [];
  }

  given(host: SimulatedHost, batch: LogBatch): void {
    this.#standing(host).given.push(batch);
  }

  durable(host: SimulatedHost, batch: LogBatch): void {
    const standing = this.#standing(host);
    const { entries, hardState, snapshot } = batch;
    // Batches become durable in order.
    standing.given.splice(0, standing.given.indexOf(batch) + 1);
    if (snapshot !== undefined) {
      this.counts.installs++;
      this.#trace(host, `snapshot ${snapshot.index} is in the log`);
      // Entries behind it stay when the log agrees with it there.
      for (const terms of [standing.durable, standing.handedOut]) {
        if (terms[snapshot.index] !== snapshot.term) terms.length = snapshot.index;
        terms[snapshot.index] = snapshot.term;
      }
    }
    const first = entries[0];
    if (first !== undefined) {
      standing.durable.length = first.index;
      for (const entry of entries) {
        standing.durable.push(entry.term);
        // Founders write their first entries past consensus.
        standing.handedOut[entry.index] ??= entry.term;
      }
    }
    if (hardState !== undefined) {
      standing.durableTerm = hardState.term;
      standing.durableVote = hardState.vote;
    }
  }

  ready(host: SimulatedHost, { entries, committed }: Ready): void {
    const standing = this.#standing(host);
    const { handedOut } = standing;
    const first = entries[0];
    if (first !== undefined) {
      const status = standing.status;
      if (status?.role === "leader" && first.term === status.term) {
        claim(
          first.index >= handedOut.length,
          () => `R2: leader ${host.name} overwrites its entry ${first.index}`,
        );
      }
      if (first.index < handedOut.length) handedOut.length = first.index;
      for (const entry of entries) {
        this.#check(entry, handedOut[entry.index - 1], host);
        handedOut[entry.index] = entry.term;
      }
    }
    for (const entry of committed) {
      claim(
        standing.durable[entry.index] === entry.term,
        () => `R8: ${host.name} may apply ${entry.index} before its own log has it`,
      );
      this.#truth.commit(entry, host.name);
    }
  }

  /** R3 */
  #check(entry: Entry, before: Term | undefined, host: SimulatedHost): void {
    const seen = (this.#seen[entry.index] ??= []);
    const known = seen.find((one) => one.entry.term === entry.term);
    if (known === undefined) {
      seen.push({ entry, before });
      return;
    }
    const same =
      known.entry === entry || (known.entry.kind === entry.kind && sameBytes(known.entry.data, entry.data));
    claim(same, () => `R3: ${entry.index}/${entry.term} has another content at ${host.name}`);
    claim(
      known.before === before || known.before === undefined || before === undefined,
      () =>
        `R3: ${entry.index}/${entry.term} follows term ${before} at ${host.name}, elsewhere ${known.before}`,
    );
  }

  /** R7 and R8 at the moment when a message leaves. */
  leaves(host: SimulatedHost, message: PeerMessage): void {
    const { durable, durableTerm, durableVote } = this.#standing(host);
    switch (message.kind) {
      case "vote":
      case "append":
      case "heartbeat":
        claim(
          durableTerm >= message.term,
          () => `R7: ${host.name} says ${message.kind} in a term not on disk`,
        );
        return;
      case "vote-answer":
        claim(durableTerm >= message.term, () => `R7: ${host.name} answers in a term that is not on disk`);
        if (message.granted && durableTerm === message.term) {
          this.counts.votesChecked++;
          claim(durableVote === message.to, () => `R7: ${host.name} reveals a vote that is not on disk`);
        }
        return;
      case "append-answer":
        claim(
          durableTerm >= message.term,
          () => `R7: ${host.name} acknowledges in a term that is not on disk`,
        );
        if (message.accepted && durableTerm === message.term) {
          claim(
            durable.length > message.index,
            () => `R8: ${host.name} acknowledges ${message.index}, its disk ends at ${durable.length - 1}`,
          );
        }
        return;
      default:
    }
  }

  arrives(host: SimulatedHost, message: PeerMessage): void {
    switch (message.kind) {
      case "append":
      case "heartbeat":
        if (message.term >= (host.member?.briefStatus().term ?? 0))
          this.#standing(host).heardLeaderMs = host.monotonicMs();
        return;
      case "pre-vote":
      case "vote":
        this.#statusBefore = host.member?.briefStatus();
        return;
      default:
    }
  }

  /** R11 */
  arrived(host: SimulatedHost, message: PeerMessage): void {
    if (message.kind !== "pre-vote" && message.kind !== "vote") return;
    this.counts.preVotes++;
    const { member } = host;
    const before = this.#statusBefore;
    if (member === undefined || before === undefined) return;
    const { term } = member.briefStatus();
    if (message.kind === "pre-vote") {
      claim(term === before.term, () => `R11: a pre-vote moved ${host.name} to term ${term}`);
      return;
    }
    if (message.transfer || term === before.term) return;
    if (before.role !== "follower" || before.leader === 0n) return;
    const { heartbeatIntervalMs, electionTimeoutMs } = member.options;
    const { heardLeaderMs } = this.#standing(host);
    const silenceMs = host.monotonicMs() - heardLeaderMs;
    claim(
      silenceMs >= electionTimeoutMs - 2 * heartbeatIntervalMs,
      () => `R11: ${host.name} heard its leader ${silenceMs} ms ago and yet took part in an election`,
    );
  }

  /** After an event of this host. */
  observe(host: SimulatedHost): void {
    const { member } = host;
    if (member === undefined) return;
    const standing = this.#standing(host);
    const status = member.briefStatus();
    const before = standing.life === host.life ? standing.status : undefined;
    if (before === undefined) this.#began(standing, status);
    standing.status = status;
    const { revision, state } = member;
    if (
      before !== undefined &&
      before.commit === status.commit &&
      before.term === status.term &&
      before.role === status.role &&
      before.lastIndex === status.lastIndex &&
      before.applied === status.applied &&
      standing.revision === revision
    )
      return;
    const { applied, commit, lastIndex, term, role } = status;
    claim(applied <= commit, () => `R15: ${host.name} applied ${applied} > commit ${commit}`);
    claim(commit <= lastIndex, () => `R15: ${host.name} commit ${commit} > last ${lastIndex}`);
    claim(
      state.appliedIndex <= commit,
      () => `R15: the state of ${host.name} is at ${state.appliedIndex}, commit ${commit}`,
    );
    const step = this.#truth.steps[state.appliedIndex];
    claim(
      step === undefined || state.pending || step.outcome.revision === revision,
      () => `P5: ${host.name} is at revision ${revision} after entry ${state.appliedIndex}`,
    );
    if (before !== undefined) {
      claim(term >= before.term, () => `R7: the term of ${host.name} went back`);
      claim(commit >= before.commit, () => `R14: commit of ${host.name} went back`);
      claim(applied >= before.applied, () => `R14: applied of ${host.name} went back`);
      claim(revision >= standing.revision, () => `P5: the revision of ${host.name} went back`);
    }
    standing.revision = revision;
    if (before?.role !== role) this.#roleChanged(standing, status);
    if (role === "leader") this.#observeLeader(standing, status, before);
    // A leader that stepped down in the same event was not asked.
    this.committed = Math.max(this.committed, commit);
  }

  #began(standing: Standing, status: BriefStatus): void {
    const { host, durableTerm, durableVote } = standing;
    standing.life = host.life;
    standing.revision = 0;
    standing.heardLeaderMs = Number.NEGATIVE_INFINITY;
    this.#byId.set(status.id, standing);
    claim(
      status.term > durableTerm ||
        (status.term === durableTerm && (durableVote === 0n || status.vote === durableVote)),
      () => `R7: ${host.name} starts in term ${status.term}, ${durableTerm} with a vote was on its disk`,
    );
    // What a restart found is on disk, acknowledged before or not. A single voter campaigns at once.
    if (status.role === "follower") {
      standing.durableTerm = status.term;
      standing.durableVote = status.vote;
    }
  }

  #roleChanged({ host }: Standing, { role, term, applied, commit }: BriefStatus): void {
    this.#trace(host, `${role} of term ${term}`);
    if (role !== "candidate" && role !== "pre-candidate") return;
    this.counts.elections++;
    for (let index = applied + 1; index <= commit; index++) {
      claim(
        this.#truth.committed[index]?.kind !== "configuration",
        () => `R10: ${host.name} campaigns before it applied membership change ${index}`,
      );
    }
  }

  #observeLeader(standing: Standing, status: BriefStatus, before: BriefStatus | undefined): void {
    const { host } = standing;
    const { term, commit, lastIndex, configuration } = status;
    if (before?.role !== "leader" || before.term !== term) {
      const known = this.#leaders.get(term);
      const name = lifeOf(host);
      claim(known === undefined || known === name, () => `R1: ${known} and ${name} both lead term ${term}`);
      this.#leaders.set(term, name);
      this.counts.leaderships++;
      this.#checkCompleteness(standing, status);
      return;
    }
    claim(
      configuration.voters.includes(status.id),
      () => `P19: ${lifeOf(host)} leads although it was removed`,
    );
    if (commit > before.commit) {
      claim(
        (standing.handedOut[commit] ?? term) === term,
        () => `R6: leader ${lifeOf(host)} committed ${commit} of an earlier term by counting`,
      );
    }
    if (commit > before.commit && commit > this.committed) this.#extend(standing, status, before);
    if (lastIndex > before.lastIndex) {
      let pending = 0;
      for (let index = lastIndex; index > commit; index--) {
        const seen = this.#seen[index]?.find((one) => one.entry.term === standing.handedOut[index]);
        if (seen?.entry.kind === "configuration") pending++;
      }
      claim(pending <= 1, () => `R9: ${pending} membership changes under way at leader ${lifeOf(host)}`);
    }
  }

  /** R4: whoever is elected has everything that is committed. */
  #checkCompleteness({ host, handedOut }: Standing, { term, lastIndex }: BriefStatus): void {
    // By R3 it is enough to look at the last one.
    const index = this.#truth.committedIndex;
    const golden = this.#truth.committed[index];
    if (golden === undefined) return;
    claim(index <= lastIndex, () => `R4: leader ${host.name} of term ${term} lacks ${index}`);
    const own = handedOut[index];
    claim(
      own === undefined || own === golden.term,
      () => `R4: leader ${host.name} of term ${term} has term ${own} at ${index}, not ${golden.term}`,
    );
  }

  /** R8: the first to call an entry committed can name a quorum of disks that have it. */
  #extend(
    { host, handedOut }: Standing,
    { commit, term, configuration }: BriefStatus,
    before: BriefStatus,
  ): void {
    const entryTerm = handedOut[commit] ?? term;
    const has = (id: MemberId): boolean => this.#byId.get(id)?.durable[commit] === entryTerm;
    // A membership change that was committed in this event may have been applied in it as well.
    claim(
      quorumHolds(voterSets(before.configuration), has) || quorumHolds(voterSets(configuration), has),
      () => `R8: ${host.name} calls ${commit} committed in term ${term} without a quorum of disks`,
    );
    this.counts.committed += commit - this.committed;
    this.committed = commit;
  }
}

/** Whether a log that was found is the durable one with some of the entries that it was given after that. */
function isBeginning(
  log: DurableLog,
  found: readonly (Term | undefined)[],
  durable: readonly Term[],
  given: readonly LogBatch[],
): boolean {
  const terms = durable.slice();
  const fits = (): boolean => {
    if (terms.length !== log.lastIndex + 1) return false;
    // What the log begins behind was cut, or came by snapshot.
    for (let index = log.lastIndex; index >= log.firstIndex; index--) {
      if (found[index] !== terms[index]) return false;
    }
    return true;
  };
  if (fits()) return true;
  for (const { entries, snapshot } of given) {
    if (snapshot !== undefined) {
      if (terms[snapshot.index] !== snapshot.term) terms.length = snapshot.index;
      terms[snapshot.index] = snapshot.term;
      if (fits()) return true;
    }
    for (const { index, term } of entries) {
      terms.length = index;
      terms.push(term);
      if (fits()) return true;
    }
  }
  return false;
}

function lifeOf({ name, life }: SimulatedHost): string {
  return `${name} (life ${life})`;
}
