/** Gathers what the driver must do; see `Ready` in types.ts for the contract. */
import type { MemberId, Term } from "../ids";
import type { Core } from "./core";
import { flushLeader } from "./leader";
import type { Role } from "./options";
import type { ConfirmedRead, Entry, HardState, Message, Ready } from "./types";

const noMessages: readonly Message[] = Object.freeze([]);
const noReads: readonly ConfirmedRead[] = Object.freeze([]);
const noContexts: readonly number[] = Object.freeze([]);
const noCommitted: readonly Entry[] = Object.freeze([]);
const noWanted: Ready["wanted"] = Object.freeze([]);

/** What `stateChanged` compares with. */
export interface Announced {
  role: Role;
  term: Term;
  leader: MemberId;
}

export function hasReady(core: Core, announced: Announced): boolean {
  const { leadership, log } = core;
  if (log.unstable.handed < log.lastIndex) return true;
  if (core.sendNow.length > 0 || core.sendAfterPersist.length > 0) return true;
  if (core.installing === undefined && log.hasDelivery) return true;
  if (core.confirmedReads.length > 0 || core.abandonedReads.length > 0) return true;
  if (hardStateMustSync(core) || core.commitDue || core.installOffered) return true;
  if (leadership !== undefined) {
    if (leadership.flushDue || leadership.snapshotWanted || leadership.wanted.length > 0) return true;
  }
  return stateChanged(core, announced);
}

function stateChanged(core: Core, announced: Announced): boolean {
  return core.role !== announced.role || core.term !== announced.term || core.leader !== announced.leader;
}

function hardStateMustSync(core: Core): boolean {
  return core.term !== core.handedHardState.term || core.vote !== core.handedHardState.vote;
}

export function takeReady(core: Core, announced: Announced): Ready {
  const { log } = core;
  if (core.leadership?.flushDue === true) flushLeader(core);

  const entries = log.unpersisted();
  const mustPersist = entries.length > 0 || hardStateMustSync(core);
  let sendNow: readonly Message[] = take(core, "sendNow");
  let sendAfterPersist: readonly Message[] = take(core, "sendAfterPersist");
  let persist: Ready["persist"];
  if (mustPersist || (sendAfterPersist.length > 0 && log.unstable.anyInFlight)) {
    persist = log.unstable.begin(log.lastIndex, log.lastTerm, core.term, core.vote);
  } else if (sendAfterPersist.length > 0) {
    // Everything that these reveal is on disk already.
    sendNow = sendNow.length === 0 ? sendAfterPersist : [...sendNow, ...sendAfterPersist];
    sendAfterPersist = noMessages;
  }
  const hardState = takeHardState(core, mustPersist);

  const installing = core.installing !== undefined;
  const committed = installing ? noCommitted : log.deliver();
  const wanted = takeWanted(core, installing);
  const reads = core.confirmedReads.length === 0 ? noReads : core.confirmedReads;
  if (reads !== noReads) core.confirmedReads = [];
  const abandonedReads = core.abandonedReads.length === 0 ? noContexts : core.abandonedReads;
  if (abandonedReads !== noContexts) core.abandonedReads = [];
  const install = core.installOffered ? core.installing : undefined;
  core.installOffered = false;
  const snapshotWanted = core.leadership?.snapshotWanted === true;
  if (core.leadership !== undefined) core.leadership.snapshotWanted = false;
  const announce = stateChanged(core, announced);
  if (announce) {
    announced.role = core.role;
    announced.term = core.term;
    announced.leader = core.leader;
  }
  log.trim();
  return {
    hardState,
    mustSync: persist !== undefined,
    entries,
    persist,
    sendNow,
    sendAfterPersist,
    committed,
    reads,
    abandonedReads,
    wanted,
    snapshotWanted,
    install,
    stateChanged: announce,
  };
}

function take(core: Core, outbox: "sendNow" | "sendAfterPersist"): readonly Message[] {
  const messages = core[outbox];
  if (messages.length === 0) return noMessages;
  core[outbox] = [];
  return messages;
}

/** The commit index rides along with every batch, and now and then goes alone. */
function takeHardState(core: Core, mustPersist: boolean): HardState | undefined {
  const commit = Math.max(core.log.durableCommit, core.handedHardState.commit);
  const changed = hardStateMustSync(core) || commit !== core.handedHardState.commit;
  const due = mustPersist || core.commitDue;
  core.commitDue = false;
  if (!changed || !due) return undefined;
  core.handedHardState = { term: core.term, vote: core.vote, commit };
  return core.handedHardState;
}

function takeWanted(core: Core, installing: boolean): Ready["wanted"] {
  const { leadership, log, options } = core;
  const forDelivery = installing ? undefined : log.wantedForDelivery();
  const forFollowers = leadership?.wanted ?? [];
  if (forDelivery === undefined && forFollowers.length === 0) return noWanted;
  const wanted = new Map<number, Ready["wanted"][number]>();
  for (const range of forFollowers) wanted.set(range.low, { ...range, forApply: false });
  if (forDelivery !== undefined)
    wanted.set(forDelivery.low, { ...forDelivery, bytesMax: options.appendBytesMax, forApply: true });
  if (leadership !== undefined) leadership.wanted = [];
  return [...wanted.values()];
}
