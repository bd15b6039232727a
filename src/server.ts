/** A running server: one member, and the doors through which clients reach it. */
import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { resolve } from "node:path";
import type { ServerOptions } from "./command/options";
import { startBackgroundThreads } from "./background-threads";
import { refuse } from "./errors";
import { hexId } from "./ids";
import { startIdleCollector } from "./idle-collector";
import { quotaBytesDefault } from "./limits";
import { type Logger, OncePerMinute } from "./log";
import { foundingTerm } from "./member/bootstrap";
import { type JoinPlan, readJoinPlan, writeJoinPlan } from "./member/join-plan";
import { replayed } from "./member/publication";
import { Member } from "./member/member";
import type { Disk, Peers } from "./member/ports";
import { systemClock, systemRng } from "./member/system";
import { doublingBounds, Histogram } from "./metrics/instruments";
import { consoleMeasures } from "./metrics/measures";
import { createMetrics, type Metrics } from "./metrics/metrics";
import { applyObserver, logObserver, sampleMember } from "./metrics/sample-member";
import { startStallMonitor } from "./metrics/stall-monitor";
import { AlarmType } from "./proto/gen/etcd/rpc_pb";
import { ClusterService } from "./service/cluster";
import { ClusterStatus } from "./service/cluster-status";
import { ElectionService } from "./service/election";
import { HistoryService } from "./service/history";
import { Jobs } from "./service/jobs";
import { KeyBrowser } from "./service/key-browser";
import { KvService } from "./service/kv";
import { LeaseService } from "./service/lease";
import { LockService } from "./service/lock";
import { MaintenanceService } from "./service/maintenance";
import type { Measures } from "./service/member-status";
import { Overview } from "./service/overview";
import { Snapshots } from "./service/snapshots";
import { WatchService } from "./service/watch";
import { askPeers, type BeginningDoors, decideBeginning, refuseForeignData } from "./start/beginning";
import { callMember } from "./start/client-call";
import { becomeVoter } from "./start/promotion";
import { systemDisk } from "./storage/disk";
import { wrapSyncs } from "./storage/disk-wrap";
import { startDatabaseJobs } from "./storage/jobs/jobs";
import { type DirectoryLock, lockDirectory } from "./storage/lock";
import { openStateDatabase } from "./storage/sqlite";
import { Console } from "./transport/console/console";
import { createGateway } from "./transport/gateway/gateway";
import type { GrpcObserver } from "./transport/grpc/options";
import { createWebSocketDoor } from "./transport/gateway/web-socket";
import { GrpcServer } from "./transport/grpc/server";
import { HealthService } from "./transport/health";
import { createHttpDoor } from "./transport/http/door";
import type { HealthSource } from "./transport/http/health-source";
import { type Listener, listen } from "./transport/listener";
import { bindMethods } from "./transport/methods";
import type { PeerPages, PeerTransport } from "./transport/peer/options";
import { createPeers } from "./transport/peer/peers";
import { ReflectionService } from "./transport/reflection";
import { AdminAccess, tokenOf } from "./transport/rest/admin-access";
import { KeyDoor, RestDoor } from "./transport/rest/node-door";
import { RateLimit } from "./transport/rest/rate-limit";
import { RestApi } from "./transport/rest/rest";
import { etcdLevel } from "./version";

/** Unary calls may finish within this time when the server stops (design: 10 s in all). */
const stopGraceMs = 7_000;

/** Why a server may end without being told to. */
export interface ServerEnds {
  /** The process must end at once. */
  fatal(error: unknown): void;
  /** The member was removed from its cluster: what is under way may finish, then it is to stop. */
  removed(): void;
}

export interface Server {
  readonly member: Member;
  /** The client URLs with their real ports. */
  readonly clientUrls: readonly string[];
  /** The REST API, to be asked without a socket. */
  readonly rest: RestApi;
  /** Stops accepting, finishes unary calls, ends streams, closes the member. At most about 10 s. */
  stop(): Promise<void>;
}

/**
 * Starts a member on its data directory and serves clients once it is ready. Rejects, with nothing left running,
 * when the directory is in use or damaged, or an address cannot be bound.
 */
export async function startServer(options: ServerOptions, log: Logger, ends: ServerEnds): Promise<Server> {
  // Without syncs an acknowledged write may be lost, which only a test can want.
  const disk = options.unsafeNoFsync ? wrapSyncs(systemDisk(), () => Promise.resolve()) : systemDisk();
  const lock = lockDirectories(options, disk);
  try {
    return await startLocked(options, log, ends, lock, disk);
  } catch (error) {
    lock.release();
    throw error;
  }
}

/** Locks the data directory, and the log's where that lies elsewhere: two members would overwrite each other's entries. */
function lockDirectories({ dataDirectory, walDirectory }: ServerOptions, disk: Disk): DirectoryLock {
  const directories = new Set([resolve(dataDirectory), resolve(walDirectory ?? dataDirectory)]);
  const locks: DirectoryLock[] = [];
  const release = () => {
    for (const lock of locks) lock.release();
  };
  try {
    for (const directory of directories) {
      disk.makeDirectory(directory);
      locks.push(lockDirectory(directory));
    }
  } catch (error) {
    release();
    throw error;
  }
  return { release };
}

async function startLocked(
  options: ServerOptions,
  log: Logger,
  ends: ServerEnds,
  lock: DirectoryLock,
  disk: Disk,
): Promise<Server> {
  const metrics = createMetrics({ extensive: options.metrics === "extensive" });
  const opened: { member?: Member } = {};
  /** Durations of unary calls of all doors, in seconds. */
  const requests = new Histogram(doublingBounds(0.0001, 17));
  const { fatal } = ends;
  const peers = openPeers(options, log, fatal, metrics, () => opened.member);
  try {
    await peers.listen();
    const joining = await decideBeginning(options, beginningDoors(log, disk));
    opened.member = await startMember(options, log, ends, disk, metrics, peers, joining);
  } catch (error) {
    await peers.close();
    throw error;
  }
  const member = opened.member;
  const committed = member.status().commit;
  try {
    sampleMember(metrics, member);
    metrics.server.featureEnabled.of("LeaseCheckpoint", "ALPHA").set(options.leaseCheckpoint ? 1 : 0);
    const ready = member.ready();
    const compared = options.initialCorruptCheck ? member.consistency.checkBeforeServing() : undefined;
    const foreign = refuseForeignData(member.clusterId, options, beginningDoors(log, disk));
    const [known] = await Promise.all([
      inTime(ready, options.clusterReadyTimeoutMs),
      replayed(member, committed),
      compared,
      foreign,
    ]);
    const late = !known;
    if (late) log.warn("timed out waiting for the ready notification: serving what needs no leader");
    keepJoining(options.dataDirectory, member, disk, log, fatal);
    const measures = consoleMeasures(options, metrics, disk, requests, (to) => peers.roundTripMs(to));
    return await openDoors(
      options,
      log,
      fatal,
      lock,
      member,
      metrics,
      requests,
      measures,
      late ? ready : undefined,
    );
  } catch (error) {
    if (!member.stopping) await member.stop();
    throw error;
  }
}

/**
 * Waits until a member is known to its cluster, but not for ever: without a leader, or with a full disk under its
 * log, it can still answer reads of its own state, and say what is wrong. False when it took too long.
 */
async function inTime(ready: Promise<void>, timeoutMs: number): Promise<boolean> {
  let cancel: () => void = () => {};
  const timeout = new Promise<boolean>((resolve) => {
    cancel = systemClock.after(timeoutMs, () => resolve(false));
  });
  try {
    return await Promise.race([ready.then(() => true), timeout]);
  } finally {
    cancel();
  }
}

/** The peer port, which answers as far as there is a member. */
function openPeers(
  options: ServerOptions,
  log: Logger,
  fatal: (error: unknown) => void,
  metrics: Metrics,
  memberOf: () => Member | undefined,
): PeerTransport {
  return createPeers({
    listenUrls: options.listenPeerEndpoints.map((endpoint) => endpoint.url),
    clock: systemClock,
    rng: systemRng,
    log,
    electionTimeoutMs: options.electionTimeoutMs,
    requestBytesMax: options.requestBytesMax,
    pages: () => {
      const member = memberOf();
      return member === undefined ? undefined : peerPages(member);
    },
    metrics: metrics.network,
    fatal,
  });
}

/** What a member without data needs to find its place. */
function beginningDoors(log: Logger, disk: Disk): BeginningDoors {
  const seldom = new OncePerMinute();
  return {
    disk,
    call: callMember,
    askPeers,
    pause: (durationMs) => new Promise((resolve) => void systemClock.after(durationMs, resolve)),
    waiting: (reason, fields) =>
      seldom.run(reason, (suppressed) => log.warn(reason, { ...fields, suppressed })),
    report: (message, fields) => log.info(message, fields),
  };
}

/** What is left to do for a member that joined by itself; also after a restart in between. */
function keepJoining(
  dataDirectory: string,
  member: Member,
  disk: Disk,
  log: Logger,
  fatal: (error: unknown) => void,
): void {
  const plan = readJoinPlan(dataDirectory, disk);
  if (plan === undefined || !plan.promote) return;
  becomeVoter(member, {
    promoted: () => writeJoinPlan(dataDirectory, disk, { ...plan, promote: false }),
    report: (level, message, fields) => log[level](message, fields),
  }).catch(fatal);
}

function startMember(
  options: ServerOptions,
  log: Logger,
  ends: ServerEnds,
  disk: Disk,
  metrics: Metrics,
  peers: Peers,
  joining: JoinPlan | undefined,
): Promise<Member> {
  return Member.start(
    {
      name: options.name,
      nameGiven: options.nameGiven,
      ...(joining === undefined ? {} : { joining }),
      dataDirectory: options.dataDirectory,
      ...(options.walDirectory === undefined ? {} : { logDirectory: options.walDirectory }),
      initialClusterState: options.initialClusterState,
      clientUrls: options.advertiseClientUrls,
      initialCluster: options.initialCluster,
      clusterToken: options.initialClusterToken,
      forceNewCluster: options.forceNewCluster,
      strictReconfiguration: options.strictReconfigurationCheck,
      learnersMax: options.learnersMax,
      heartbeatIntervalMs: options.heartbeatIntervalMs,
      electionTimeoutMs: options.electionTimeoutMs,
      preVote: options.preVote,
      requestBytesMax: options.requestBytesMax,
      quotaBytes: options.quotaBytes === undefined ? -1 : options.quotaBytes || quotaBytesDefault,
      autoCompaction: options.autoCompaction,
      compactionBatchRows: options.compactionBatchRevisions,
      compactionPauseMs: options.compactionPauseMs,
      applyCommitIntervalMs: options.backendBatchIntervalMs,
      checkpointEntries: options.snapshotEntries,
      catchupEntries: options.snapshotCatchupEntries,
      watchProgressIntervalMs: options.watchProgressNotifyIntervalMs,
      leaseCheckpoints: options.leaseCheckpoint,
      warningApplyMs: options.warningApplyMs,
      corruptCheckIntervalMs: options.corruptCheckIntervalMs,
      compactHashCheckIntervalMs: options.compactHashCheckIntervalMs,
    },
    {
      clock: systemClock,
      rng: systemRng,
      disk,
      peers,
      openDatabase: openStateDatabase,
      startDatabaseJobs,
    },
    {
      log: (level, message, fields) => log[level](message, fields),
      fatal: ends.fatal,
      removed: ends.removed,
      logObserver: logObserver(metrics),
      applyObserver: applyObserver(metrics),
    },
  );
}

async function openDoors(
  options: ServerOptions,
  log: Logger,
  fatal: (error: unknown) => void,
  lock: DirectoryLock,
  member: Member,
  metrics: Metrics,
  requests: Histogram,
  measures: Measures,
  /** Set when the member is not known to its cluster yet. */
  becomesReady: Promise<void> | undefined,
): Promise<Server> {
  const health = new HealthService();
  const kv = new KvService(member, {
    txnOpsMax: options.txnOpsMax,
    requestBytesMax: options.requestBytesMax,
  });
  const lease = new LeaseService(member);
  const watching = {
    hub: member.hub,
    monotonicMs: () => member.monotonicMs(),
    get stopping() {
      return member.stopping;
    },
    onStop: (listener: () => void) => member.onStop(listener),
  };
  const programs = {
    range: kv.range.bind(kv),
    deleteRange: kv.deleteRange.bind(kv),
    txn: kv.txn.bind(kv),
    leaseGrant: lease.leaseGrant.bind(lease),
  };
  const services = {
    kv,
    lease,
    watch: new WatchService(watching),
    cluster: new ClusterService(member),
    maintenance: new MaintenanceService(member),
    lock: new LockService(programs, watching),
  };
  const methods = bindMethods({
    ...services,
    election: new ElectionService(programs, watching),
    health,
    reflection: new ReflectionService(),
  });

  const view = { leaderKnown: () => member.leader !== 0n, isLearner: () => member.isLearner };
  const shared = {
    methods,
    member: view,
    electionTimeoutMs: options.electionTimeoutMs,
    requestBytesMax: options.requestBytesMax,
    observer: slowCallReporter(metrics.grpc, options.warningUnaryRequestMs, log, requests),
    onFatal: fatal,
  };
  const grpc = new GrpcServer({
    ...shared,
    maxConcurrentStreams: options.concurrentStreamsMax,
    keepaliveMinTimeMs: options.keepaliveMinimumIntervalMs,
    keepaliveIntervalMs: options.keepaliveIntervalMs,
    keepaliveTimeoutMs: options.keepaliveTimeoutMs,
    log: (level, message, fields) => log[level](message, fields),
  });
  const gateway = options.gatewayEnabled ? createGateway({ ...shared, log }) : undefined;
  const source = healthSource(member);
  const common = {
    health: source,
    metrics,
    log,
    cors: options.corsOrigins,
    hostWhitelist: options.hostWhitelist,
    ownNames: ownNames(options),
  };
  const snapshots = new Snapshots(member, () => systemClock.wallMs());
  const bootId = `${hexId(member.id)}-${Date.now().toString(36)}`;
  const wallMs = () => systemClock.wallMs();
  const restServices = {
    ...services,
    store: member.state,
    history: new HistoryService(member),
    browser: new KeyBrowser(member),
    overview: new Overview(member),
    snapshots,
    jobs: new Jobs(`${hexId(member.id).padStart(16, "0")}-${Date.now().toString(36)}`, wallMs),
  };
  const access = new AdminAccess(
    options.adminTokenFile === undefined ? undefined : tokenFrom(options.adminTokenFile),
  );
  const rate = new RateLimit({ requestsPerSecond: options.restRequestsPerSecond });
  const rest = new RestDoor(
    new RestApi({
      services: restServices,
      log,
      member: view,
      requestBytesMax: options.requestBytesMax,
      requestIdPrefix: bootId,
      onFatal: fatal,
      answered: (durationMs) => requests.observe(durationMs / 1_000),
    }),
    access,
    rate,
  );
  const pages = new Console({
    services: { ...restServices, status: new ClusterStatus(member, systemClock, measures, snapshots) },
    access,
    log,
    wallMs,
    bootId,
    onFatal: fatal,
  });
  const http = createHttpDoor({
    ...common,
    rest,
    keys: new KeyDoor(rest.api, access, rate),
    console: pages,
    ...(gateway === undefined ? {} : { gateway }),
  });
  const metricsHttp = createHttpDoor({ ...common, metricsOnly: true });
  const { cors, hostWhitelist } = common;
  const sockets = {
    cors,
    hostWhitelist,
    ownNames: common.ownNames,
    requestBytesMax: options.requestBytesMax,
  };
  const webSockets =
    gateway === undefined ? {} : { webSockets: createWebSocketDoor({ ...sockets, gateway }) };

  const listeners: Listener[] = [];
  const report = (message: string, fields: Readonly<Record<string, unknown>>) => log.warn(message, fields);
  const split = options.listenClientHttpEndpoints.length > 0;
  const client = await listen({
    urls: options.listenClientEndpoints.map((endpoint) => endpoint.url),
    grpc,
    ...(split ? {} : { http, ...webSockets }),
    log: report,
  });
  listeners.push(client);
  try {
    for (const [endpoints, door] of [
      [options.listenClientHttpEndpoints, http],
      [options.listenMetricsEndpoints, metricsHttp],
    ] as const) {
      if (endpoints.length === 0) continue;
      listeners.push(
        await listen({
          urls: endpoints.map((endpoint) => endpoint.url),
          http: door,
          ...(door === http ? webSockets : {}),
          log: report,
        }),
      );
    }
    if (options.listenClientEndpoints.some(({ port }) => port === 0)) {
      // The system chose a port, so what was advertised before cannot be right.
      const urls = options.advertiseClientUrls.map((url, position) => client.urls[position] ?? url);
      if (becomesReady === undefined) await member.publish(urls);
      else becomesReady = becomesReady.then(() => member.publish(urls));
    }
  } catch (error) {
    for (const listener of listeners) await listener.close();
    throw error;
  }
  becomesReady?.then(
    () => log.info("this member is known to its cluster now"),
    (error: unknown) => {
      if (!member.stopping)
        log.warn("this member could not publish its client URLs", { error: String(error) });
    },
  );
  metrics.onScrape(() => {
    const counts = grpc.counts();
    metrics.lease.renewed.value = lease.renewed;
    metrics.keelson.connections.of("grpc").set(counts.connections);
    metrics.keelson.responseBytesInFlight.set(
      counts.responseBytesInFlight + (gateway?.counts().answerBytes ?? 0),
    );
    metrics.keelson.requestBufferedBytes.set(
      counts.bufferedRequestBytes + (gateway?.counts().bufferedRequestBytes ?? 0),
    );
  });
  const stopIdleCollector = startIdleCollector();
  const stopBackgroundThreads = startBackgroundThreads();
  const stallMonitor = startStallMonitor({
    histogram: metrics.keelson.stall,
    longest: metrics.keelson.longestStall,
  });
  return {
    member,
    clientUrls: client.urls,
    rest: rest.api,
    async stop() {
      for (const listener of listeners) listener.stopAccepting();
      health.setServing(false);
      pages.stop();
      stallMonitor.stop();
      stopIdleCollector();
      stopBackgroundThreads();
      const grace = new Promise<void>((resolve) => void systemClock.after(stopGraceMs, resolve));
      await Promise.all([
        grpc.stop(stopGraceMs),
        Promise.race([Promise.all([gateway?.stop(), rest.api.stop()]), grace]),
      ]);
      await member.stop();
      await Promise.all(listeners.map((listener) => listener.close()));
      lock.release();
    },
  };
}

/** Counts calls, and tells the log of unary ones that took longer than the warning limit. */
function slowCallReporter(
  counts: Required<GrpcObserver>,
  warningMs: number,
  log: Logger,
  durations: Histogram,
): GrpcObserver {
  const seldom = new OncePerMinute();
  return {
    started: (method) => counts.started(method),
    received: (method, bytes) => counts.received(method, bytes),
    sent: (method, bytes) => counts.sent(method, bytes),
    clientRequest: (type, version) => counts.clientRequest(type, version),
    streamFailed: (method, direction) => counts.streamFailed(method, direction),
    handled(method, code, durationMs) {
      counts.handled(method, code, durationMs);
      if (method.kind === "unary") durations.observe(durationMs / 1_000);
      if (durationMs >= warningMs && method.kind === "unary") {
        seldom.run(method.path, (suppressed) =>
          log.warn("request took too long", {
            method: method.path,
            code,
            tookMs: Math.round(durationMs),
            suppressed,
          }),
        );
      }
    },
  };
}

/** Names by which clients may call this server over HTTP/1.1: those of its own URLs, and its machine's. */
function ownNames(options: ServerOptions): string[] {
  const endpoints = [...options.listenClientEndpoints, ...options.listenClientHttpEndpoints];
  return [
    hostname(),
    ...endpoints.map(({ host }) => host),
    ...options.advertiseClientUrls.map((url) => new URL(url).hostname),
  ];
}

/** Reads the admin token. Throws with the file's name when there is none in it. */
function tokenFrom(path: string): string {
  try {
    return tokenOf(readFileSync(path, "utf8"));
  } catch (error) {
    throw new Error(`--admin-token-file ${path}: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
}

/** What the health pages read. The reads are those of etcd: one key, found or not. */
function healthSource(member: Member): HealthSource {
  const readKey = () => {
    if (member.stopping) throw refuse("stopped");
    void member.state.revision;
  };
  return {
    alarms: () =>
      member.state.alarms().map(({ memberID, alarm }) => ({
        type: AlarmType[alarm] ?? String(alarm),
        memberId: memberID,
      })),
    hasLeader: () => member.leader !== 0n,
    isLearner: () => member.isLearner,
    serializableRead: async () => readKey(),
    async linearizableRead() {
      await member.linearizable();
      readKey();
    },
    versions: () => versionsOf(member),
  };
}

function versionsOf(member: Member): { etcdserver: string; etcdcluster: string; storage: string } {
  return {
    etcdserver: etcdLevel,
    etcdcluster: member.state.clusterVersion ?? "not_decided",
    storage: member.state.clusterVersion ?? "unknown",
  };
}

/** What the peer port shows over plain HTTP. */
function peerPages(member: Member): PeerPages {
  return {
    clusterId: member.clusterId,
    versions: () => versionsOf(member),
    clientUrls: () => member.state.members().find(({ ID }) => ID === member.id)?.clientURLs ?? [],
    // Founders are applied one after the other; behind an entry of a leader all of them are there.
    members: () =>
      member.state.appliedTerm <= foundingTerm
        ? undefined
        : member.state.members().map(({ ID, name, peerURLs, clientURLs, isLearner }) => ({
            id: ID,
            name,
            peerUrls: peerURLs,
            clientUrls: clientURLs,
            isLearner,
          })),
  };
}
