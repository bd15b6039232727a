/** Operations that a member proposes by itself. */
import type { LeaseId, MemberId, Term } from "../ids";
import { AlarmRequest_AlarmAction as AlarmAction, type AlarmType } from "../proto/gen/etcd/rpc_pb";
import type { Command } from "../proto/gen/keelson/command_pb";
import { LeaseKeeper, type LeaseRest } from "./lease-keeper";
import type { MemberOptions } from "./options";
import type { Clock } from "./ports";

/** Records how much time leases have left. */
export function recordRests(rests: readonly LeaseRest[]): Command["operation"] {
  const checkpoints = rests.map(({ id, remainingSeconds }) => ({
    $typeName: "etcdserverpb.LeaseCheckpoint" as const,
    ID: id,
    remainingTTL: BigInt(remainingSeconds),
  }));
  return {
    case: "leaseCheckpoint",
    value: { $typeName: "etcdserverpb.LeaseCheckpointRequest", checkpoints },
  };
}

/** Raises an alarm about a member; 0: nobody knows which. */
export function raiseAlarm(memberID: MemberId, alarm: AlarmType): Command["operation"] {
  return {
    case: "alarm",
    value: { $typeName: "etcdserverpb.AlarmRequest", action: AlarmAction.ACTIVATE, memberID, alarm },
  };
}

/** Ends a lease whose time is over; apply ignores it in any term but this one. */
export function revokeExpired(id: LeaseId, term: Term): Command["operation"] {
  return {
    case: "leaseRevoke",
    value: { $typeName: "keelson.LeaseRevoke", id, expiredInTerm: BigInt(term) },
  };
}

/**
 * The timing of leases; `propose` reports its failures itself. What a leader wants done about leases is not to be done
 * in a later term: meanwhile another leader may have given them their time again.
 */
export function leaseKeeperOf(
  { electionTimeoutMs, leaseCheckpoints }: MemberOptions,
  clock: Clock,
  propose: (operation: Command["operation"], onlyInTerm: Term) => void,
): LeaseKeeper {
  return new LeaseKeeper({
    clock,
    electionTimeoutMs,
    expired(ids, term) {
      for (const id of ids) propose(revokeExpired(id, term), term);
    },
    ...(leaseCheckpoints ? { checkpoint: (rests, term) => propose(recordRests(rests), term) } : {}),
  });
}
