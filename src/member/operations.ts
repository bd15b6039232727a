/** Operations that a member proposes by itself. */
import type { MemberId } from "../ids";
import { AlarmRequest_AlarmAction as AlarmAction, type AlarmType } from "../proto/gen/etcd/rpc_pb";
import type { Command } from "../proto/gen/keelson/command_pb";
import type { LeaseRest } from "./lease-keeper";

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
