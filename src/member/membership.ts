/** Changes of the cluster's membership, asked of any member, judged and proposed by the leader, one at a time. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { Raft } from "../consensus/raft";
import type { ConfigurationChange } from "../consensus/types";
import { GrpcCode, type RefusalName, refusals, refuse, StoreError } from "../errors";
import { hexId, type MemberId, noMember } from "../ids";
import {
  type Member as MemberRecord,
  MemberListResponseSchema,
  MemberSchema,
} from "../proto/gen/etcd/rpc_pb";
import type { StateMachine } from "../state/state-machine";
import type { HandOver } from "./hand-over";
import { memberIdOf } from "./identity";
import { type MembershipChange, type MembershipLimits, membershipRefusal } from "./membership-rules";
import { PeerCallError, type PeerCalls } from "./peer-calls";
import type { Clock, Peers } from "./ports";
import type { Proposals } from "./proposals";

/** Who is to join. */
export interface NewMember {
  readonly peerUrls: readonly string[];
  readonly isLearner: boolean;
}

/** What an addition came to. */
export interface AddedMember {
  readonly id: MemberId;
  /** The members after it, by id. */
  readonly members: readonly MemberRecord[];
}

export interface MembershipParts {
  readonly self: MemberId;
  readonly limits: MembershipLimits;
  readonly requestTimeoutMs: number;
  readonly state: StateMachine;
  readonly raft: Raft;
  readonly proposals: Proposals;
  readonly calls: PeerCalls;
  readonly handOver: HandOver;
  readonly peers: Peers;
  readonly clock: Clock;
  readonly wake: () => void;
}

/** The call with which a change reaches the leader. */
const method = "change-membership";
/** The call with which somebody asks what the leader would say to one. */
const judgeMethod = "judge-membership";
const judgeTimeoutMs = 1_000;
/** Between two attempts: nobody leads, or an earlier change is under way. */
const retryMs = 20;
/** Changes that wait for their turn at the leader. */
const waitingMax = 64;

/**
 * Why the leader would refuse a change if it were asked for now; undefined: it would not. Changes nothing. Rejects when
 * that member does not lead, or does not answer.
 */
export async function refusalByLeader(
  calls: PeerCalls,
  leader: MemberId,
  change: MembershipChange,
): Promise<RefusalName | undefined> {
  const answer = await calls.call(leader, judgeMethod, encodeChange(change), judgeTimeoutMs);
  const name = Buffer.from(answer).toString();
  return name in refusals ? (name as RefusalName) : undefined;
}

export class Membership {
  readonly #parts: MembershipParts;
  /** The change before: one is judged when the last is applied. */
  #last: Promise<unknown> = Promise.resolve();
  #waiting = 0;
  /** Changes that were asked for here: their effect tells as much as the leader's answer, which may be lost. */
  readonly #asked = new Set<{ readonly change: MembershipChange; readonly seen: () => void }>();

  constructor(parts: MembershipParts) {
    this.#parts = parts;
    parts.calls.answer(method, async (_from, body) => {
      const members = await this.#inTurn(decodeChange(body));
      return toBinary(MemberListResponseSchema, create(MemberListResponseSchema, { members: [...members] }));
    });
    parts.calls.answer(judgeMethod, (_from, body) => {
      if (parts.raft.status().role !== "leader") return Promise.reject(refuse("notLeader"));
      return Promise.resolve(Buffer.from(this.#refusal(decodeChange(body)) ?? ""));
    });
  }

  /** A change of membership was applied. */
  applied(): void {
    for (const { change, seen } of this.#asked) if (this.#isMade(change)) seen();
  }

  /** This member was removed: whoever asked it for that will get no answer from those who did it. */
  removed(): void {
    const { self } = this.#parts;
    for (const { change, seen } of this.#asked) if (change.type === "remove" && change.id === self) seen();
  }

  #isMade({ type, id }: MembershipChange): boolean {
    const member = this.#parts.state.members().find(({ ID }) => ID === id);
    if (type === "remove") return member === undefined;
    return member !== undefined && (type === "add" || !member.isLearner);
  }

  async add({ peerUrls, isLearner }: NewMember): Promise<AddedMember> {
    const id = this.#newId(peerUrls);
    return { id, members: await this.change({ type: "add", id, peerUrls, isLearner }) };
  }

  /** As etcd: from the URLs and the time in seconds. An id that was ever used is never used again. */
  #newId(peerUrls: readonly string[]): MemberId {
    const { clock, state } = this.#parts;
    for (let seconds = Math.floor(clock.wallMs() / 1_000); ; seconds++) {
      const id = memberIdOf(peerUrls, "", seconds);
      if (id !== noMember && !state.isRemovedMember(id) && !state.members().some(({ ID }) => ID === id)) {
        return id;
      }
    }
  }

  /**
   * Resolves with the members after the change. What certainly did not happen because leadership changed is tried
   * again until the request's time is up.
   */
  async change(change: MembershipChange): Promise<readonly MemberRecord[]> {
    const { state } = this.#parts;
    // What is so already is for the leader to refuse.
    if (this.#isMade(change)) return this.#ask(change);
    const { promise, resolve: seen } = Promise.withResolvers<undefined>();
    const asked = { change, seen: () => seen(undefined) };
    this.#asked.add(asked);
    try {
      const members = await Promise.race([this.#ask(change), promise]);
      return members ?? state.members().filter(({ ID }) => change.type !== "remove" || ID !== change.id);
    } finally {
      this.#asked.delete(asked);
    }
  }

  async #ask(change: MembershipChange): Promise<readonly MemberRecord[]> {
    const { raft, calls, clock, requestTimeoutMs } = this.#parts;
    const endMs = clock.monotonicMs() + requestTimeoutMs;
    for (;;) {
      const leftMs = endMs - clock.monotonicMs();
      if (leftMs <= 0) throw neverProposed();
      const { leader } = raft.status();
      if (leader !== noMember) {
        try {
          const answer = await calls.call(leader, method, encodeChange(change), leftMs);
          return fromBinary(MemberListResponseSchema, answer).members;
        } catch (error) {
          if (error instanceof PeerCallError) throw new StoreError(GrpcCode.unknown, error.message, false);
          if (!isLostLeader(error)) throw error;
        }
      }
      await this.#pause();
    }
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => void this.#parts.clock.after(retryMs, resolve));
  }

  async #inTurn(change: MembershipChange): Promise<readonly MemberRecord[]> {
    if (this.#waiting >= waitingMax) throw refuse("requestTooManyRequests");
    this.#waiting++;
    const mine = this.#last.then(() => this.#perform(change));
    this.#last = mine.catch(() => {});
    try {
      return await mine;
    } finally {
      this.#waiting--;
    }
  }

  async #perform(change: MembershipChange): Promise<readonly MemberRecord[]> {
    const { self, raft, state, proposals, handOver, clock, wake, requestTimeoutMs } = this.#parts;
    const endMs = clock.monotonicMs() + requestTimeoutMs;
    for (;;) {
      if (raft.status().role !== "leader") throw refuse("notLeader");
      const refusal = this.#refusal(change);
      if (refusal !== undefined) throw refuse(refusal);
      if (change.type === "remove" && change.id === self && (await handOver.away()))
        throw refuse("notLeader");
      const outcome = raft.proposeConfigurationChange(configurationChange(change));
      if (outcome.ok) {
        wake();
        const result = await proposals.follow(outcome.firstIndex, outcome.term, clock.monotonicMs());
        // Something that came before it in the log stood in its way.
        if (result.kind === "refused") throw refuse(result.name);
        return state.members();
      }
      if (outcome.reason === "no-leader" || outcome.reason === "not-leader") throw refuse("notLeader");
      // A change of an earlier leader, or a hand-over, is under way.
      if (clock.monotonicMs() >= endMs) throw neverProposed();
      await this.#pause();
    }
  }

  #refusal(change: MembershipChange) {
    const { self, state, raft, peers, clock, limits } = this.#parts;
    const { progress, lastIndex } = raft.status();
    const view = {
      self,
      members: state.members(),
      isRemoved: (id: MemberId) => state.isRemovedMember(id),
      nowMs: clock.monotonicMs(),
      activeSinceMs: (id: MemberId) => peers.activeSinceMs(id),
      progress,
      lastIndex,
    };
    return membershipRefusal(change, view, limits);
  }
}

function isLostLeader(error: unknown): boolean {
  if (!(error instanceof StoreError) || !error.definite) return false;
  return error.message === refusals.notLeader.text || error.message === refusals.leaderChanged.text;
}

/** A timeout of something that certainly has no effect. */
function neverProposed(): StoreError {
  return new StoreError(refusals.timeout.code, refusals.timeout.text, true);
}

function configurationChange(change: MembershipChange): ConfigurationChange {
  const { id: memberId } = change;
  switch (change.type) {
    case "add": {
      const { peerUrls, isLearner } = change;
      const record = create(MemberSchema, { ID: memberId, peerURLs: [...peerUrls], isLearner });
      const context = toBinary(MemberSchema, record);
      return { type: isLearner ? "add-learner" : "add-voter", memberId, context };
    }
    case "promote":
      return { type: "add-voter", memberId, context: new Uint8Array(0) };
    case "remove":
      return { type: "remove", memberId, context: new Uint8Array(0) };
  }
}

function encodeChange(change: MembershipChange): Uint8Array {
  return Buffer.from(JSON.stringify({ ...change, id: hexId(change.id) }));
}

function decodeChange(body: Uint8Array): MembershipChange {
  const change = JSON.parse(Buffer.from(body).toString()) as MembershipChange & { id: string };
  return { ...change, id: BigInt(`0x${change.id}`) };
}
