/** Fills the series about a member: counted where it applies, sampled when someone scrapes. */
import { hexId } from "../ids";
import type { ApplyObserver } from "../member/applier";
import type { Member } from "../member/member";
import { AlarmType } from "../proto/gen/etcd/rpc_pb";
import type { LogObserver } from "../storage/wal/types";
import { etcdLevel, keelsonVersion } from "../version";
import type { Metrics } from "./metrics";

/** etcd's names of operations in `etcd_server_apply_duration_seconds`. */
const operationNames: Readonly<Record<string, string>> = {
  put: "Put",
  deleteRange: "DeleteRange",
  txn: "Txn",
  compaction: "Compaction",
  leaseGrant: "LeaseGrant",
  leaseRevoke: "LeaseRevoke",
  leaseCheckpoint: "LeaseCheckpoint",
  alarm: "Alarm",
  publishMember: "ClusterMemberAttrSet",
  clusterVersion: "ClusterVersionSet",
};

/** Counts what is applied, and times the database's commits. */
export function applyObserver(metrics: Metrics): ApplyObserver {
  const { mvcc, lease, server, backend } = metrics;
  const ofOperation = (operation: string | undefined, success: string) =>
    server.applyDuration.of("v3", operationNames[operation ?? ""] ?? "Unknown", success);
  const successes = new Map(
    Object.keys(operationNames).map((operation) => [operation, ofOperation(operation, "true")]),
  );
  return {
    committed: (tookMs) => backend.commit.observe(tookMs / 1_000),
    applied(operation, result, tookMs) {
      if (operation === undefined) return;
      if (result.kind === "refused") {
        ofOperation(operation, "false").observe(tookMs / 1_000);
        return;
      }
      successes.get(operation)?.observe(tookMs / 1_000);
      switch (result.kind) {
        case "put":
          mvcc.puts.inc();
          return;
        case "delete-range":
          mvcc.deletes.inc();
          return;
        case "txn":
          mvcc.txns.inc();
          return;
        case "lease-grant":
          lease.granted.inc();
          lease.ttl.observe(result.ttlSeconds);
          return;
        case "lease-revoke":
          if (!result.ignored) lease.revoked.inc();
          return;
        default:
      }
    },
  };
}

/** Times the log's syncs. */
export function logObserver(metrics: Metrics): LogObserver {
  const { wal } = metrics;
  return {
    synced(durationMs, bytes) {
      wal.fsync.observe(durationMs / 1_000);
      wal.writtenBytes.inc(bytes);
    },
  };
}

/** Has everything that the member knows about itself read at each scrape. */
export function sampleMember(metrics: Metrics, member: Member): void {
  const { mvcc, watch, server, keelson } = metrics;
  server.id.of(hexId(member.id)).set(1);
  server.version.of(etcdLevel).set(1);
  keelson.buildInfo.of(keelsonVersion, Bun.version).set(1);
  server.quotaBytes.set(member.options.quotaBytes);
  let eventsSeen = 0;
  metrics.onScrape(() => {
    const { state, hub } = member;
    const counters = member.counters();
    const status = member.status();
    const sizes = state.sizes();
    mvcc.databaseBytes.set(sizes.totalBytes);
    mvcc.databaseBytesInUse.set(sizes.inUseBytes);
    mvcc.keys.set(sizes.keys);
    mvcc.currentRevision.set(state.revision);
    mvcc.compactRevision.set(Math.max(0, state.compactedRevision));
    const { streams, watchers, catchingUp, eventsSent, eventsPending } = hub.stats;
    watch.streams.set(streams);
    watch.watchers.set(watchers);
    watch.slowWatchers.set(catchingUp);
    watch.pendingEvents.set(eventsPending);
    watch.events.inc(eventsSent - eventsSeen);
    eventsSeen = eventsSent;
    server.hasLeader.set(status.leader === 0n ? 0 : 1);
    server.isLeader.set(member.isLeader ? 1 : 0);
    server.isLearner.set(member.isLearner ? 1 : 0);
    server.leaderChanges.value = member.leaderChanges;
    server.proposalsApplied.set(state.appliedIndex);
    server.proposalsCommitted.set(status.commit);
    server.proposalsPending.set(counters.proposalsPending);
    server.proposalsFailed.value = counters.proposalsFailed;
    server.readIndexesFailed.value = counters.readsFailed;
    server.slowApplies.value = counters.slowApplies;
    keelson.applyQueueEntries.set(counters.backlog);
    sampleSnapshots(metrics, member);
    const { clusterVersion } = state;
    if (clusterVersion !== undefined) server.clusterVersion.of(clusterVersion).set(1);
    for (const [, gauge] of server.alarms.entries()) gauge.set(0);
    for (const { memberID, alarm } of state.alarms()) {
      server.alarms.of(hexId(memberID), AlarmType[alarm] ?? String(alarm)).set(1);
    }
  });
}

function sampleSnapshots({ keelson, server }: Metrics, { snapshots, consistency }: Member): void {
  const { sender, receiver, status } = snapshots;
  server.snapshotApplyInProgress.set(status.receiving === undefined ? 0 : 1);
  keelson.snapshotBytes.of("sent").value = sender.sentBytes;
  keelson.snapshotBytes.of("received").value = receiver.receivedBytes;
  keelson.snapshots.of("sent", "success").value = sender.succeeded;
  keelson.snapshots.of("sent", "failure").value = sender.failed;
  keelson.snapshots.of("received", "success").value = receiver.succeeded;
  keelson.snapshots.of("received", "failure").value = receiver.failed;
  for (const [, gauge] of keelson.snapshotProgress.entries()) gauge.set(0);
  for (const { to, doneBytes, totalBytes } of status.sending) {
    keelson.snapshotProgress.of("sent", hexId(to)).set(doneBytes / Math.max(1, totalBytes));
  }
  if (status.receiving !== undefined) {
    const { from, doneBytes, totalBytes } = status.receiving;
    keelson.snapshotProgress.of("received", hexId(from)).set(doneBytes / Math.max(1, totalBytes));
  }
  keelson.dataComparisons.of("equal").value = consistency.checks - consistency.mismatches;
  keelson.dataComparisons.of("different").value = consistency.mismatches;
}
