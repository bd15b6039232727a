/**
 * Every series that Keelson exposes, grouped by the station that keeps it. Names, types, labels and buckets are
 * etcd's wherever etcd has the series (etcd-operations 7), `keelson_` is the prefix of our own.
 */
import { methods } from "../transport/methods";
import { Catalogue } from "./catalogue";
import { GrpcMetrics } from "./grpc-metrics";
import { doublingBounds } from "./instruments";
import { collectProcess } from "./process";

const milliseconds = doublingBounds(0.001, 14);
const applyBounds = doublingBounds(0.0001, 20);

export interface MetricsOptions {
  /** etcd's --metrics=extensive: adds grpc_server_handling_seconds. */
  readonly extensive?: boolean;
}

export type Metrics = ReturnType<typeof createMetrics>;

/** Creates all series at zero. One per process in production; tests make as many as they like. */
export function createMetrics(options: MetricsOptions = {}) {
  const catalogue = new Catalogue();
  const c = catalogue;
  const metrics = {
    /** An observer for every door that serves the method table. */
    grpc: new GrpcMetrics(c, methods, { extensive: options.extensive ?? false }),

    wal: {
      /** Seconds. */
      fsync: c.histogram(
        "etcd_disk_wal_fsync_duration_seconds",
        "Time that a sync of the Raft log took.",
        milliseconds,
      ),
      /** Seconds. */
      write: c.histogram(
        "etcd_disk_wal_write_duration_seconds",
        "Time that a write to the Raft log took.",
        milliseconds,
      ),
      writtenBytes: c.gauge("etcd_disk_wal_write_bytes_total", "Bytes written to the Raft log."),
      queuedBytes: c.gauge("keelson_wal_queued_bytes", "Bytes that wait for the Raft log's next sync."),
    },

    backend: {
      /** Seconds. */
      commit: c.histogram(
        "etcd_disk_backend_commit_duration_seconds",
        "Time that a commit of the storage engine took.",
        milliseconds,
      ),
      /** Seconds. */
      defrag: c.histogram(
        "etcd_disk_backend_defrag_duration_seconds",
        "Time that a defragmentation took.",
        doublingBounds(0.1, 13),
      ),
      /** Seconds. */
      snapshot: c.histogram(
        "etcd_disk_backend_snapshot_duration_seconds",
        "Time that a snapshot of the storage engine was held.",
        doublingBounds(0.01, 17),
      ),
      defragInflight: c.gauge("etcd_disk_defrag_inflight", "1 while a defragmentation runs."),
    },

    mvcc: {
      databaseBytes: c.gauge("etcd_mvcc_db_total_size_in_bytes", "Size of the database file."),
      databaseBytesInUse: c.gauge(
        "etcd_mvcc_db_total_size_in_use_in_bytes",
        "Size of the database file without its free pages.",
      ),
      openReadTransactions: c.gauge(
        "etcd_mvcc_db_open_read_transactions",
        "Read transactions that are open.",
      ),
      ranges: c.counter("etcd_mvcc_range_total", "Range operations."),
      puts: c.counter("etcd_mvcc_put_total", "Put operations."),
      deletes: c.counter("etcd_mvcc_delete_total", "Delete operations."),
      txns: c.counter("etcd_mvcc_txn_total", "Transactions."),
      putBytes: c.gauge("etcd_debugging_mvcc_total_put_size_in_bytes", "Bytes of keys and values put."),
      keys: c.gauge("etcd_debugging_mvcc_keys_total", "Keys in the index."),
      currentRevision: c.gauge("etcd_debugging_mvcc_current_revision", "Newest revision."),
      compactRevision: c.gauge("etcd_debugging_mvcc_compact_revision", "Last compacted revision."),
      compactedKeys: c.counter(
        "etcd_debugging_mvcc_db_compaction_keys_total",
        "Records removed by compaction.",
      ),
      /** Milliseconds. */
      compaction: c.histogram(
        "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
        "Length of a whole compaction.",
        doublingBounds(100, 14),
      ),
      /** Milliseconds. */
      compactionPause: c.histogram(
        "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
        "Length of one slice of a compaction.",
        doublingBounds(1, 13),
      ),
      /** Milliseconds. */
      indexCompactionPause: c.histogram(
        "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds",
        "Length of one slice of a compaction's work on the index.",
        doublingBounds(0.5, 14),
      ),
      /** Seconds since 1970. */
      lastCompaction: c.gauge(
        "etcd_debugging_mvcc_db_compaction_last",
        "When the last compaction ended, in seconds since 1970; 0 after a start.",
      ),
      /** Seconds. */
      hash: c.histogram(
        "etcd_mvcc_hash_duration_seconds",
        "Time that a hash of the database took.",
        doublingBounds(0.01, 15),
      ),
      /** Seconds. */
      hashRevision: c.histogram(
        "etcd_mvcc_hash_rev_duration_seconds",
        "Time that a hash at a revision took.",
        doublingBounds(0.01, 15),
      ),
    },

    watch: {
      streams: c.gauge("etcd_debugging_mvcc_watch_stream_total", "Open watch streams."),
      watchers: c.gauge("etcd_debugging_mvcc_watcher_total", "Watchers."),
      slowWatchers: c.gauge("etcd_debugging_mvcc_slow_watcher_total", "Watchers that are fed from history."),
      events: c.counter("etcd_debugging_mvcc_events_total", "Events sent to watchers."),
      pendingEvents: c.gauge("etcd_debugging_mvcc_pending_events_total", "Events that wait to be sent."),
    },

    lease: {
      granted: c.counter("etcd_debugging_lease_granted_total", "Leases granted."),
      revoked: c.counter("etcd_debugging_lease_revoked_total", "Leases revoked."),
      renewed: c.counter("etcd_debugging_lease_renewed_total", "Renewals seen by the leader."),
      expired: c.counter("etcd_debugging_server_lease_expired_total", "Leases expired by this leader."),
      /** Seconds. */
      ttl: c.histogram(
        "etcd_debugging_lease_ttl_total",
        "Spread of the lifetimes that were granted.",
        doublingBounds(1, 24),
      ),
    },

    server: {
      hasLeader: c.gauge("etcd_server_has_leader", "1 while a leader is known."),
      isLeader: c.gauge("etcd_server_is_leader", "1 while this member leads."),
      isLearner: c.gauge("etcd_server_is_learner", "1 while this member is a learner."),
      leaderChanges: c.counter("etcd_server_leader_changes_seen_total", "Changes of leader seen."),
      learnerPromoteFailures: c.counters(
        "etcd_server_learner_promote_failures",
        "Promotions of learners refused while leading.",
        "Reason",
      ),
      learnerPromoteSuccesses: c.counter(
        "etcd_server_learner_promote_successes",
        "Promotions of learners done while leading.",
      ),
      heartbeatSendFailures: c.counter(
        "etcd_server_heartbeat_send_failures_total",
        "Heartbeats that a leader sent too late.",
      ),
      /** The applied index; etcd types it as a gauge. */
      proposalsApplied: c.gauge("etcd_server_proposals_applied_total", "Index applied last."),
      /** The committed index; etcd types it as a gauge. */
      proposalsCommitted: c.gauge("etcd_server_proposals_committed_total", "Index committed last."),
      proposalsPending: c.gauge("etcd_server_proposals_pending", "Proposals that wait for their result."),
      proposalsFailed: c.counter("etcd_server_proposals_failed_total", "Proposals that failed."),
      readIndexesFailed: c.counter(
        "etcd_server_read_indexes_failed_total",
        "Read index requests that failed.",
      ),
      readIndexesSlow: c.counter(
        "etcd_server_slow_read_indexes_total",
        "Read index requests that were retried or timed out.",
      ),
      slowApplies: c.counter(
        "etcd_server_slow_apply_total",
        "Applies that took longer than the warning limit.",
      ),
      /** Seconds; labels "v3", operation, "true" or "false". */
      applyDuration: c.histograms(
        "etcd_server_apply_duration_seconds",
        "Time that applying a request took.",
        applyBounds,
        "version",
        "op",
        "success",
      ),
      /** Seconds; label "true" or "false". */
      rangeDuration: c.histograms(
        "etcd_server_range_duration_seconds",
        "Time that a range took.",
        applyBounds,
        "success",
      ),
      snapshotApplyInProgress: c.gauge(
        "etcd_server_snapshot_apply_in_progress_total",
        "1 while a snapshot of another member is installed.",
      ),
      quotaBytes: c.gauge("etcd_server_quota_backend_bytes", "Quota of the database."),
      healthFailures: c.counter("etcd_server_health_failures", "Health questions answered with no."),
      healthSuccesses: c.counter("etcd_server_health_success", "Health questions answered with yes."),
      /** Labels "livez" or "readyz", and the check. */
      healthcheck: c.gauges("etcd_server_healthcheck", "Last result of a health check.", "type", "name"),
      /** Labels "livez" or "readyz", the check, and "success" or "error". */
      healthchecks: c.counters(
        "etcd_server_healthchecks_total",
        "Results of health checks.",
        "type",
        "name",
        "status",
      ),
      /** Labels: the name and "ALPHA", "BETA" or "". */
      featureEnabled: c.gauges(
        "etcd_server_feature_enabled",
        "1 for each feature that is on.",
        "name",
        "stage",
      ),
      id: c.gauges("etcd_server_id", "1 on the label of this member's id.", "server_id"),
      version: c.gauges("etcd_server_version", "1 on the label of the server's version.", "server_version"),
      clusterVersion: c.gauges(
        "etcd_cluster_version",
        "1 on the label of the cluster's version.",
        "cluster_version",
      ),
      /** Labels: member id in hexadecimal, "NOSPACE" or "CORRUPT". */
      alarms: c.gauges("etcd_debugging_server_alarms", "1 for each alarm raised.", "server_id", "alarm_type"),
      authRevision: c.gauge("etcd_debugging_auth_revision", "Revision of the users and roles."),
    },

    /** Labels are member ids in hexadecimal. */
    network: {
      peerReceivedBytes: c.counters("etcd_network_peer_received_bytes_total", "Bytes from a peer.", "From"),
      peerSentBytes: c.counters("etcd_network_peer_sent_bytes_total", "Bytes to a peer.", "To"),
      peerReceiveFailures: c.counters(
        "etcd_network_peer_received_failures_total",
        "Failures to receive from a peer.",
        "From",
      ),
      peerSendFailures: c.counters(
        "etcd_network_peer_sent_failures_total",
        "Failures to send to a peer.",
        "To",
      ),
      /** Seconds. */
      peerRoundTrip: c.histograms(
        "etcd_network_peer_round_trip_time_seconds",
        "Round trip time to a peer.",
        doublingBounds(0.0001, 16),
        "To",
      ),
      activePeers: c.gauges("etcd_network_active_peers", "Live links to peers.", "Local", "Remote"),
      disconnectedPeers: c.counters(
        "etcd_network_disconnected_peers_total",
        "Links to peers that broke.",
        "Local",
        "Remote",
      ),
      /** As of the last look, four times within an election timeout. */
      peerQueuedBytes: c.gauges("keelson_peer_queued_bytes", "Bytes of messages that wait for a peer.", "To"),
      knownPeers: c.gauges("etcd_network_known_peers", "Peers of the configuration.", "Local", "Remote"),
    },

    /** Our own: where work waits, and how long the event loop stood still. */
    keelson: {
      /** Seconds; fed by the stall monitor. */
      stall: c.histogram(
        "keelson_event_loop_stall_seconds",
        "How long the event loop was late.",
        doublingBounds(0.001, 14),
      ),
      longestStall: c.gauge(
        "keelson_event_loop_stall_longest_seconds",
        "Longest time for which the event loop was late since the start.",
      ),
      applyQueueEntries: c.gauge("keelson_apply_queue_entries", "Committed entries that wait to be applied."),
      waitingReads: c.gauge("keelson_waiting_reads", "Reads that wait for a read index or for apply."),
      watchQueuedBytes: c.gauge("keelson_watch_queued_bytes", "Bytes of events that wait for slow readers."),
      requestBufferedBytes: c.gauge(
        "keelson_request_buffered_bytes",
        "Bytes of requests that have not arrived in full.",
      ),
      responseBytesInFlight: c.gauge(
        "keelson_response_bytes_in_flight",
        "Bytes of answers that clients have not taken yet.",
      ),
      /** Label "grpc" or "http". */
      connections: c.gauges("keelson_client_connections", "Open connections of clients.", "door"),
      /** Labels: the route and the status code. */
      httpRequests: c.counters("keelson_http_requests_total", "HTTP/1.1 requests answered.", "route", "code"),
      /** Label "sent" or "received". */
      snapshotBytes: c.counters(
        "keelson_snapshot_bytes_total",
        "Bytes of snapshots between members.",
        "direction",
      ),
      /** Labels: "sent" or "received", and "success" or "failure". */
      snapshots: c.counters("keelson_snapshots_total", "Snapshots between members.", "direction", "result"),
      /** Label: the other member's id in hexadecimal. From 0 to 1, only while one is under way. */
      snapshotProgress: c.gauges(
        "keelson_snapshot_progress_ratio",
        "How much of a snapshot has been sent or received.",
        "direction",
        "member",
      ),
      /** Label "equal" or "different". */
      dataComparisons: c.counters(
        "keelson_data_comparisons_total",
        "Comparisons of all members' data by this member as leader.",
        "result",
      ),
      /** Labels: the versions of Keelson and of Bun. */
      buildInfo: c.gauges("keelson_build_info", "1 on the labels of this build.", "version", "bun_version"),
    },

    /** Adds a series of the caller's own, such as one with few users. */
    catalogue,
    /** Runs before each scrape; for values that are cheaper to sample than to keep up to date. */
    onScrape: (callback: () => void | Promise<void>): void => c.onScrape(callback),
    /** The exposition in Prometheus' text format. */
    text: (): Promise<string> => c.text(),
    /** The exposition's content type. */
    contentType: c.contentType,
  };
  collectProcess(c);
  return metrics;
}
