/**
 * The rules R1–R8, R9, R13 and R15 as a referee watches them: told of everything that members do, it objects to the
 * first step that no correct member takes. It looks only at what leaves a member and at its disk.
 */
import { assert } from "../../assert";
import type { LogIndex, MemberId, Term } from "../../ids";
import { voterSets } from "../configuration";
import { quorumHolds } from "../quorum";
import type { Status } from "../raft";
import type { ConfirmedRead, Entry, Message, Ready } from "../types";
import { digest, type SimulatedMember } from "./simulated-member";

interface GoldenEntry {
  readonly term: Term;
  readonly digest: number;
}

export class Referee {
  readonly #members: ReadonlyMap<MemberId, SimulatedMember>;
  /** R1: who led each term, and in which life. */
  readonly #leaders = new Map<Term, string>();
  /** R3: for each (index, term) its content and the term before it. */
  readonly #known = new Map<string, string>();
  /** What is committed, by index; R5 allows one history. */
  readonly #golden = new Map<LogIndex, GoldenEntry>();
  #goldenLast: LogIndex;
  readonly #digests = new Map<LogIndex, number>();
  /** R13: per read, the highest index that was committed when it was asked for. */
  readonly #reads = new Map<string, LogIndex>();
  readonly #before = new Map<MemberId, { status: Status; incarnation: number }>();
  readonly counts = {
    elections: 0,
    committed: 0,
    reads: 0,
    snapshots: 0,
    changes: 0,
    transfers: 0,
    crashes: 0,
    wanted: 0,
  };

  constructor(members: ReadonlyMap<MemberId, SimulatedMember>, start: LogIndex, startDigest: number) {
    this.#members = members;
    this.#goldenLast = start;
    this.#digests.set(start, startDigest);
  }

  get committed(): LogIndex {
    return this.#goldenLast;
  }

  /** After any call into a member's core. */
  observe(member: SimulatedMember): void {
    const status = member.raft.status();
    const last = this.#before.get(member.id);
    const before = last?.incarnation === member.incarnation ? last.status : undefined;
    this.#before.set(member.id, { status, incarnation: member.incarnation });
    assert(status.applied <= status.commit, `R15: applied ${status.applied} > commit ${status.commit}`);
    assert(status.commit <= status.lastIndex, `R15: commit ${status.commit} > last ${status.lastIndex}`);
    if (before !== undefined) {
      assert(status.term >= before.term, `term of ${member.id} went back`);
      assert(status.commit >= before.commit, `R14: commit of ${member.id} went back`);
    }
    if (status.role !== "leader") return;
    assert(
      status.configuration.voters.includes(member.id),
      `leader ${member.id} goes on although it was removed`,
    );
    const name = `${member.id} (life ${member.incarnation})`;
    const known = this.#leaders.get(status.term);
    if (known === undefined) {
      this.#leaders.set(status.term, name);
      this.counts.elections++;
      this.#checkCompleteness(member, status);
    } else assert(known === name, `R1: ${known} and ${name} both lead term ${status.term}`);
    if (before?.role === "leader" && before.term === status.term && status.commit > before.commit)
      assert(
        this.#termAt(member, status, status.commit) === status.term,
        `R6: leader ${name} committed ${status.commit} of an earlier term by counting`,
      );
    if (status.commit > this.#goldenLast) this.#extend(member, status);
  }

  #termAt(member: SimulatedMember, status: Status, index: LogIndex): Term | undefined {
    // What a leader has not handed out yet was appended in its own term.
    return index > member.mirror.lastIndex ? status.term : member.mirror.term(index);
  }

  /** R4: everything committed so far is in the new leader's log. */
  #checkCompleteness(member: SimulatedMember, status: Status): void {
    for (let index = this.#goldenLast; index > member.mirror.start.index; index--) {
      const golden = this.#golden.get(index);
      if (golden === undefined) return;
      assert(index < status.lastIndex, `R4: leader ${member.id} of term ${status.term} lacks ${index}`);
      const own = member.mirror.term(index);
      assert(own === golden.term, `R4: leader ${member.id} of ${status.term} has ${own} at ${index}`);
    }
  }

  /** The first to commit: R8 says that a quorum has it on disk. */
  #extend(member: SimulatedMember, status: Status): void {
    const index = status.commit;
    const term = this.#termAt(member, status, index);
    assert(
      quorumHolds(voterSets(status.configuration), (id) => {
        const disk = this.#members.get(id)?.disk;
        return disk !== undefined && (disk.start.index >= index || disk.term(index) === term);
      }),
      `R8: ${index} was committed by ${member.id} in term ${status.term} without a quorum of disks`,
    );
    for (let at = this.#goldenLast + 1; at <= index; at++) {
      const entry = member.mirror.entry(at);
      assert(entry !== undefined, `committed entry ${at} was not handed out by ${member.id}`);
      this.#golden.set(at, { term: entry.term, digest: digest(0, entry) });
      this.#digests.set(at, digest(this.#digests.get(at - 1)!, entry));
      this.counts.committed++;
      if (entry.kind === "configuration") this.counts.changes++;
    }
    this.#goldenLast = index;
  }

  /** A Ready was taken and its entries are in the mirror. */
  taken(member: SimulatedMember, ready: Ready, mirrorLastBefore: LogIndex): void {
    const status = member.raft.status();
    const first = ready.entries[0];
    if (first !== undefined && status.role === "leader" && first.term === status.term)
      assert(first.index > mirrorLastBefore, `R2: leader ${member.id} overwrites its entry ${first.index}`);
    for (const entry of ready.entries) {
      const place = `${entry.index}/${entry.term}`;
      const content = `${digest(0, entry)} after ${member.mirror.term(entry.index - 1)}`;
      const known = this.#known.get(place);
      if (known === undefined) this.#known.set(place, content);
      else assert(known === content, `R3: ${place} is ${known} and, at ${member.id}, ${content}`);
    }
    if (status.role === "leader") {
      let pending = 0;
      for (let index = status.lastIndex; index > status.commit; index--)
        if (member.mirror.entry(index)?.kind === "configuration") pending++;
      assert(pending <= 1, `R9: ${pending} membership changes under way at leader ${member.id}`);
    }
    for (const entry of ready.committed) this.#checkCommitted(member, entry);
    this.counts.wanted += ready.wanted.length;
  }

  #checkCommitted(member: SimulatedMember, entry: Entry): void {
    assert(
      entry.index <= this.#goldenLast,
      `R5: ${member.id} applies ${entry.index}, which nobody committed`,
    );
    const golden = this.#golden.get(entry.index);
    if (golden === undefined) return;
    const same = golden.term === entry.term && golden.digest === digest(0, entry);
    assert(same, `R5: ${member.id} applies another entry at ${entry.index}`);
    assert(
      member.disk.term(entry.index) === entry.term,
      `${member.id} may apply ${entry.index} before its own log has it`,
    );
  }

  applied(member: SimulatedMember): void {
    const { applied, digest: own } = member.state;
    assert(own === this.#digests.get(applied), `R5: state of ${member.id} at ${applied} has diverged`);
  }

  /** R7 and R8 at the moment when a message leaves. */
  leaves(message: Message): void {
    const { disk } = this.#members.get(message.from)!;
    const { term, vote } = disk.hardState;
    switch (message.kind) {
      case "vote":
        assert(term >= message.term, `R7: ${message.from} asks for votes in a term that is not on disk`);
        return;
      case "vote-answer":
        assert(term >= message.term, `R7: ${message.from} answers in a term that is not on disk`);
        if (message.granted && term === message.term)
          assert(vote === message.to, `R7: ${message.from} reveals a vote that is not on disk`);
        return;
      case "append-answer":
        assert(term >= message.term, `R7: ${message.from} acknowledges in a term that is not on disk`);
        if (message.accepted && term === message.term)
          assert(disk.lastIndex >= message.index, `R8: ${message.from} acknowledges what is not on disk`);
        return;
      case "append":
      case "heartbeat":
        assert(term >= message.term, `R7: ${message.from} leads a term that is not on disk`);
        return;
    }
  }

  readAsked(member: SimulatedMember, context: number): void {
    this.#reads.set(`${member.id}/${member.incarnation}/${context}`, this.#goldenLast);
  }

  confirmed(member: SimulatedMember, read: ConfirmedRead): void {
    const name = `${member.id}/${member.incarnation}/${read.context}`;
    const least = this.#reads.get(name);
    assert(least !== undefined, `R13: read ${name} was confirmed twice or never asked for`);
    this.#reads.delete(name);
    assert(read.index >= least, `R13: read ${name} at ${read.index} is older than ${least}`);
    this.counts.reads++;
  }
}
