import { describe, expect, test } from "bun:test";
import { GrpcCode } from "../errors";
import { methods } from "../transport/methods";
import { Histogram, doublingBounds } from "./instruments";
import { createMetrics } from "./metrics";
import { parseOpenFilesLimit, parseStat } from "./process";
import { startStallMonitor } from "./stall-monitor";

/** The types of all series in an exposition. */
function typesOf(text: string): Map<string, string> {
  return new Map([...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map((match) => [match[1]!, match[2]!]));
}

describe("the exposition", () => {
  /** Every series that the official dashboard and alerts use, and those whose type surprises. */
  const expected: Readonly<Record<string, string>> = {
    etcd_disk_backend_commit_duration_seconds: "histogram",
    etcd_disk_wal_fsync_duration_seconds: "histogram",
    etcd_mvcc_db_total_size_in_bytes: "gauge",
    etcd_mvcc_db_total_size_in_use_in_bytes: "gauge",
    etcd_network_client_grpc_received_bytes_total: "counter",
    etcd_network_client_grpc_sent_bytes_total: "counter",
    etcd_network_peer_received_bytes_total: "counter",
    etcd_network_peer_round_trip_time_seconds: "histogram",
    etcd_network_peer_sent_bytes_total: "counter",
    etcd_network_peer_sent_failures_total: "counter",
    etcd_server_has_leader: "gauge",
    etcd_server_leader_changes_seen_total: "counter",
    etcd_server_proposals_applied_total: "gauge",
    etcd_server_proposals_committed_total: "gauge",
    etcd_server_proposals_failed_total: "counter",
    etcd_server_proposals_pending: "gauge",
    etcd_server_quota_backend_bytes: "gauge",
    grpc_server_started_total: "counter",
    grpc_server_handled_total: "counter",
    grpc_server_msg_received_total: "counter",
    grpc_server_msg_sent_total: "counter",
    process_resident_memory_bytes: "gauge",
    process_cpu_seconds_total: "counter",
    etcd_disk_wal_write_bytes_total: "gauge",
    etcd_debugging_mvcc_keys_total: "gauge",
    etcd_debugging_mvcc_watcher_total: "gauge",
    etcd_debugging_mvcc_pending_events_total: "gauge",
    etcd_server_snapshot_apply_in_progress_total: "gauge",
    etcd_debugging_mvcc_db_compaction_total_duration_milliseconds: "histogram",
    etcd_server_health_failures: "counter",
    os_fd_used: "gauge",
  };

  test("has etcd's names with etcd's types", async () => {
    const types = typesOf(await createMetrics().text());
    for (const [name, type] of Object.entries(expected))
      expect([name, types.get(name)]).toEqual([name, type]);
  });

  test("has every method and code at zero from the start", async () => {
    const text = await createMetrics().text();
    const handled = [...text.matchAll(/^grpc_server_handled_total\{.*\} 0$/gm)];
    expect(handled).toHaveLength(methods.length * 17);
    expect(text).toContain(
      'grpc_server_handled_total{grpc_type="unary",grpc_service="etcdserverpb.KV",grpc_method="Put",grpc_code="OK"} 0',
    );
    expect(text).toContain(
      'grpc_server_started_total{grpc_type="bidi_stream",grpc_service="etcdserverpb.Watch",grpc_method="Watch"} 0',
    );
    for (const code of [
      "Canceled",
      "DeadlineExceeded",
      "FailedPrecondition",
      "DataLoss",
      "Unauthenticated",
    ]) {
      expect(text).toContain(`grpc_code="${code}"`);
    }
    expect(text).not.toContain("grpc_server_handling_seconds");
  });

  test("has the latency of calls when it is asked to be extensive", async () => {
    const metrics = createMetrics({ extensive: true });
    const put = methods.find((method) => method.path === "/etcdserverpb.KV/Put")!;
    metrics.grpc.handled(put, GrpcCode.ok, 7);
    const labels = 'grpc_type="unary",grpc_service="etcdserverpb.KV",grpc_method="Put"';
    const text = await metrics.text();
    expect(text).toContain(`grpc_server_handling_seconds_bucket{${labels},le="0.005"} 0\n`);
    expect(text).toContain(`grpc_server_handling_seconds_bucket{${labels},le="0.01"} 1\n`);
    expect(text).toContain(`grpc_server_handling_seconds_count{${labels}} 1\n`);
  });

  test("shows what was counted", async () => {
    const metrics = createMetrics();
    const put = methods.find((method) => method.path === "/etcdserverpb.KV/Put")!;
    metrics.grpc.started(put);
    metrics.grpc.received(put, 100);
    metrics.grpc.handled(put, GrpcCode.invalidArgument, 1);
    metrics.grpc.clientRequest("unary", "3.6");
    metrics.wal.fsync.observe(0.0015);
    metrics.server.alarms.of("1a", "NOSPACE").set(1);
    metrics.onScrape(() => metrics.server.proposalsPending.set(3));
    const text = await metrics.text();
    expect(text).toMatch(/^grpc_server_handled_total\{.*Put",grpc_code="InvalidArgument"\} 1$/m);
    expect(text).toContain("etcd_network_client_grpc_received_bytes_total 100\n");
    expect(text).toContain('etcd_server_client_requests_total{type="unary",client_api_version="3.6"} 1\n');
    expect(text).toContain('etcd_disk_wal_fsync_duration_seconds_bucket{le="0.001"} 0\n');
    expect(text).toContain('etcd_disk_wal_fsync_duration_seconds_bucket{le="0.002"} 1\n');
    expect(text).toContain('etcd_disk_wal_fsync_duration_seconds_bucket{le="8.192"} 1\n');
    expect(text).toContain('etcd_disk_wal_fsync_duration_seconds_bucket{le="+Inf"} 1\n');
    expect(text).toContain('etcd_debugging_server_alarms{server_id="1a",alarm_type="NOSPACE"} 1\n');
    expect(text).toContain("etcd_server_proposals_pending 3\n");
  });

  test("client versions cannot make it grow without bound", async () => {
    const metrics = createMetrics();
    for (let i = 0; i < 1_000; i++) metrics.grpc.clientRequest("unary", `made-up-${i}`);
    const series = [...(await metrics.text()).matchAll(/^etcd_server_client_requests_total\{/gm)];
    expect(series.length).toBeLessThanOrEqual(65);
  });

  test("tells memory and CPU time of this process", async () => {
    const text = await createMetrics().text();
    const value = (name: string): number => Number(new RegExp(`^${name} (\\S+)$`, "m").exec(text)![1]);
    expect(value("process_resident_memory_bytes")).toBeGreaterThan(10_000_000);
    expect(value("process_cpu_seconds_total")).toBeGreaterThan(0);
    expect(value("process_open_fds")).toBeGreaterThan(3);
    expect(value("process_max_fds")).toBeGreaterThan(value("process_open_fds"));
    expect(value("process_virtual_memory_bytes")).toBeGreaterThan(value("process_resident_memory_bytes"));
    expect(Math.abs(value("process_start_time_seconds") - Date.now() / 1000)).toBeLessThan(600);
  });
});

describe("instruments", () => {
  test("a bucket's upper end belongs to it", () => {
    const histogram = new Histogram(doublingBounds(1, 3));
    for (const value of [0.5, 1, 1.5, 4, 5]) histogram.observe(value);
    expect([...histogram.counts]).toEqual([2, 1, 1, 1]);
    expect(histogram.sum).toBe(12);
  });

  test("counting a call costs less than 0.3 microseconds", () => {
    const metrics = createMetrics({ extensive: true });
    const put = methods.find((method) => method.path === "/etcdserverpb.KV/Put")!;
    const rounds = 200_000;
    const measure = (): number => {
      const began = performance.now();
      for (let i = 0; i < rounds; i++) {
        metrics.grpc.started(put);
        metrics.grpc.received(put, 300);
        metrics.grpc.clientRequest("unary", "3.6");
        metrics.mvcc.puts.inc();
        metrics.wal.fsync.observe(0.0002);
        metrics.grpc.sent(put, 30);
        metrics.grpc.handled(put, GrpcCode.ok, 0.4);
      }
      return ((performance.now() - began) * 1000) / rounds;
    };
    // The best of several: neighbours on the machine only ever add.
    const bestMicros = Math.min(...Array.from({ length: 8 }, measure));
    expect(bestMicros).toBeLessThan(0.3);
  });
});

test("the files of the operating system are read", () => {
  expect(
    parseOpenFilesLimit("Max open files            1024                 4096                 files"),
  ).toBe(1024);
  expect(parseOpenFilesLimit("")).toBe(0);
  const stat = "12 (a ) b) S 1 1 1 0 -1 4194304 1 0 0 0 250 50 0 0 20 0 5 0 777 123456 99 0";
  expect(parseStat(stat)).toEqual({ cpuSeconds: 3, startTicks: 777, virtualBytes: 123456 });
});

test("the stall monitor sees a stall of its length and nothing in an idle loop", async () => {
  const metrics = createMetrics();
  const reported: number[] = [];
  const monitor = startStallMonitor({
    histogram: metrics.keelson.stall,
    longest: metrics.keelson.longestStall,
    reportMs: 50,
    onStall: (stallMs) => reported.push(stallMs),
  });
  await new Promise((resolve) => setTimeout(resolve, 30));
  const until = performance.now() + 80;
  while (performance.now() < until);
  await new Promise((resolve) => setTimeout(resolve, 30));
  monitor.stop();
  expect(monitor.longestMs()).toBeGreaterThan(70);
  expect(reported.length).toBeGreaterThanOrEqual(1);
  expect(metrics.keelson.longestStall.value).toBeGreaterThan(0.07);
  monitor.reset();
  expect(monitor.longestMs()).toBe(0);
});
