/**
 * The one table of server flags. The parser, the environment, the configuration file, help and the listing of
 * compatibility derive from it; nothing else knows a flag's name. Names and defaults are those of etcd 3.6.
 */
import { isIP } from "node:net";
import { parseDurationMs } from "./duration";
import { parseEndpoints, type UrlUse } from "./endpoint";
import { BadValue, boolean, custom, duration, type FlagType, integer, list, oneOf, text } from "./flag-types";
import type { AutoCompaction, Endpoint, InitialMember, LogLevel } from "./options";

export const flagGroups = {
  member: "Member",
  clustering: "Clustering",
  security: "Security",
  monitoring: "Monitoring and logging",
} as const;
export type FlagGroup = keyof typeof flagGroups;

export type FlagStatus =
  | { readonly kind: "implemented" }
  /** Taken with a warning that gives the reason. */
  | { readonly kind: "ignored"; readonly reason: string }
  /** Refused when the value asks for the feature: whoever asks for it must not be told that it is there. */
  | { readonly kind: "refused"; readonly reason: string; asks(value: string): boolean };

export interface Flag<Value> {
  readonly group: FlagGroup;
  readonly type: FlagType<Value>;
  /** The default as text; undefined where it depends on other flags (the description says how). */
  readonly fallback: string | undefined;
  readonly description: string;
  readonly status: FlagStatus;
}

const yes: FlagStatus = { kind: "implemented" };

function implemented(group: FlagGroup) {
  return <Value>(type: FlagType<Value>, fallback: string | undefined, description: string): Flag<Value> => ({
    group,
    type,
    fallback,
    description,
    status: yes,
  });
}

function ignored(group: FlagGroup) {
  return <Value>(
    type: FlagType<Value>,
    fallback: string,
    description: string,
    reason: string,
  ): Flag<Value> => ({
    group,
    type,
    fallback,
    description,
    status: { kind: "ignored", reason },
  });
}

function refused(group: FlagGroup) {
  return <Value>(
    type: FlagType<Value>,
    fallback: string,
    description: string,
    reason: string,
    asks: (value: string) => boolean = (value) => asksForMore(type, fallback, value),
  ): Flag<Value> => ({ group, type, fallback, description, status: { kind: "refused", reason, asks } });
}

/** A value asks for the feature unless it is empty or what the flag is without being given. */
function asksForMore<Value>(type: FlagType<Value>, fallback: string, value: string): boolean {
  if (value === "" || value === fallback) return false;
  return fallback === "" || type.parse(value) !== type.parse(fallback);
}

const endpoints = (use: UrlUse, emptyAllowed: boolean): FlagType<readonly Endpoint[]> =>
  custom("urls", (value) => parseEndpoints(value, use, emptyAllowed));

const memberName = custom("text", (value) => {
  if (value === "") throw new BadValue("the name is empty");
  if (/[,=]/.test(value)) {
    throw new BadValue(`"${value}" must not hold "," or "=", which separate members in --initial-cluster`);
  }
  return value;
});

const directory = custom("directory", (value) => {
  if (value.includes("\0")) throw new BadValue("a path cannot hold a zero byte");
  return value;
});

export const initialCluster = custom<readonly InitialMember[]>("name=url,...", (value) => {
  const urlsByName = new Map<string, string[]>();
  for (const part of value.split(",")) {
    const equals = part.indexOf("=");
    const name = part.slice(0, equals).trim();
    if (equals <= 0 || name === "") {
      throw new BadValue(`"${part.trim()}" is not of the form name=url`);
    }
    const urls = urlsByName.get(name) ?? [];
    for (const endpoint of parseEndpoints(part.slice(equals + 1), "advertise-peer", false)) {
      urls.push(endpoint.url);
    }
    urlsByName.set(name, urls);
  }
  return [...urlsByName].map(([name, peerUrls]) => ({ name, peerUrls }));
});

/** Origins as browsers send them, or *: anything else would never match, and nobody would learn why. */
const origins = custom<readonly string[]>("list", (value) =>
  list.parse(value).map((one) => {
    if (one === "*") return one;
    const form = /^([a-z][a-z0-9+.-]*):\/\/[^/?#@\s]+\/?$/i.exec(one);
    if (form === null || !URL.canParse(one))
      throw new BadValue(`"${one}" is not an origin such as https://console.example`);
    // Browsers leave the port out where the scheme says it, and write names in small letters.
    return /^https?$/i.test(form[1]!) ? new URL(one).origin : one.replace(/\/$/, "");
  }),
);

/** Names as they stand in a Host header, without a port, or *. */
const hostNames = custom<readonly string[]>("list", (value) =>
  list.parse(value).map((one) => {
    const bare = one.replace(/^\[|\]$/g, "");
    if (one !== "*" && isIP(bare) === 0 && !/^[\w.-]+$/.test(one))
      throw new BadValue(`"${one}" is not a host name; name it alone, without scheme and port`);
    return bare.toLowerCase();
  }),
);

/** The retention alone; its meaning depends on --auto-compaction-mode, see {@link autoCompaction}. */
const retention = custom("number|duration", (value) => {
  const durationMs = parseDurationMs(value);
  if (!/^\d+$/.test(value) && (durationMs === undefined || durationMs < 0)) {
    throw new BadValue(`"${value}" is neither a number nor a duration such as 30m`);
  }
  return value;
});

/** Reads --auto-compaction-retention in the light of the mode: bare numbers are hours or revisions. */
export function autoCompaction(mode: "periodic" | "revision", value: string): AutoCompaction | undefined {
  const bare = /^\d+$/.test(value) ? Number(value) : undefined;
  if (mode === "revision") {
    if (bare === undefined) {
      throw new BadValue(
        `"${value}" is not a number of revisions, which --auto-compaction-mode=revision needs`,
      );
    }
    if (!Number.isSafeInteger(bare)) throw new BadValue(`${value} is too large`);
    return bare === 0 ? undefined : { mode, retainedRevisions: bare };
  }
  const periodMs = bare === undefined ? parseDurationMs(value)! : bare * 3_600_000;
  if (periodMs > 2 ** 63 / 1e6) throw new BadValue(`${value} hours is too long`);
  return periodMs === 0 ? undefined : { mode, periodMs };
}

const logLevel = custom<LogLevel>("debug|info|warn|error|panic|fatal", (value) => {
  const word = value.toLowerCase();
  if (word === "panic" || word === "dpanic") return "fatal";
  return oneOf("debug", "info", "warn", "error", "fatal").parse(word);
});

const logOutputs = custom<readonly string[]>("list", (value) => {
  const outputs = list.parse(value);
  if (outputs.length === 0) throw new BadValue("needs default, stderr, stdout or a file");
  if (outputs.length > 1 && outputs.includes("default")) {
    throw new BadValue(`"default" stands alone; name stderr, stdout or files`);
  }
  return outputs;
});

const quotaBytes = custom("bytes", (value) => integer(-Number.MAX_SAFE_INTEGER).parse(value));

/** etcd's gates: what each does here. The value is the reason why switching it changes nothing, if it does not. */
const featureGateEffects: ReadonlyMap<string, string | undefined> = new Map([
  ["LeaseCheckpoint", undefined],
  ["LeaseCheckpointPersist", "checkpointed lease times are always kept"],
  ["AllAlpha", "LeaseCheckpoint, InitialCorruptCheck and CompactHashCheck are switched by their own names"],
  ["AllBeta", "no beta gate of etcd can be switched here"],
  ["StopGRPCServiceOnDefrag", "defragmentation does not stop the store"],
  ["InitialCorruptCheck", undefined],
  ["CompactHashCheck", undefined],
  ["TxnModeWriteWithSharedBuffer", "it tunes a buffer that does not exist here"],
  ["SetMemberLocalAddr", "connections to other members leave from the address that the system picks"],
  ["FastLeaseKeepAlive", "keep-alives never wait for apply"],
  ["PriorityRequest", "requests have no priorities here"],
]);

export interface FeatureGates {
  readonly leaseCheckpoint: boolean;
  readonly initialCorruptCheck: boolean;
  readonly compactHashCheck: boolean;
  readonly warnings: readonly string[];
}

const featureGates = custom<FeatureGates>("Gate=true,...", (value) => {
  const switched = { LeaseCheckpoint: true, InitialCorruptCheck: true, CompactHashCheck: true };
  const warnings: string[] = [];
  for (const part of list.parse(value)) {
    const [name = "", state, ...more] = part.split("=");
    if (!featureGateEffects.has(name)) {
      const known = [...featureGateEffects.keys()].join(", ");
      throw new BadValue(`there is no feature gate "${name}"; known are ${known}`);
    }
    if (state === undefined || more.length > 0) throw new BadValue(`"${part}" is not of the form Gate=true`);
    const on = boolean.parse(state);
    const noEffect = featureGateEffects.get(name);
    if (Object.hasOwn(switched, name)) switched[name as keyof typeof switched] = on;
    else warnings.push(`feature gate ${name} has no effect: ${noEffect}`);
  }
  return {
    leaseCheckpoint: switched.LeaseCheckpoint,
    initialCorruptCheck: switched.InitialCorruptCheck,
    compactHashCheck: switched.CompactHashCheck,
    warnings,
  };
});

const durationFromZero = duration(0);
const url = "http://localhost";
const noTls = "TLS is not part of this release, and the connection would be plain text";
const noPeerTls = "TLS between members is not part of this release, and connections would be plain text";
const noDiscovery =
  "discovery is not part of this release; name the members in --initial-cluster, or use --join";
const noTracing = "traces are not exported in this release";
const noPeerTimeouts = "a connection between members ends when nothing comes for an election timeout";
const noAuth = "users and passwords are not part of this release";
const noRotation = "log files are not rotated in this release; leave that to logrotate or the journal";

const member = implemented("member");
const memberIgnored = ignored("member");
const clustering = implemented("clustering");
const clusteringIgnored = ignored("clustering");
const clusteringRefused = refused("clustering");
const security = implemented("security");
const securityIgnored = ignored("security");
const securityRefused = refused("security");
const monitoring = implemented("monitoring");
const monitoringIgnored = ignored("monitoring");

export const flags = {
  name: member(memberName, "default", "name of this member"),
  "data-dir": member(
    directory,
    undefined,
    "data directory; <name>.keelson in the working directory by default",
  ),
  "wal-dir": member(directory, "", "separate directory for the log"),
  "listen-client-urls": member(
    endpoints("listen", false),
    `${url}:2379`,
    "where clients are served: gRPC, JSON gateway, health and metrics",
  ),
  "listen-client-http-urls": member(
    endpoints("listen", true),
    "",
    "a separate HTTP listener, which leaves the client listener to gRPC",
  ),
  "listen-peer-urls": member(endpoints("listen", false), `${url}:2380`, "where other members are served"),
  "snapshot-count": member(
    integer(1),
    "10000",
    "applied entries after which the log is cut, at most every 30 s",
  ),
  "snapshot-catchup-entries": member(integer(0), "5000", "entries kept behind a cut for slow followers"),
  "heartbeat-interval": member(integer(1, 10_000), "100", "milliseconds between heartbeats"),
  "election-timeout": member(
    integer(1, 50_000),
    "1000",
    "milliseconds without a leader before an election; at least five heartbeats",
  ),
  "quota-backend-bytes": member(
    quotaBytes,
    "0",
    "size of the database at which writes stop; 0 is 2 GiB, -1 no quota",
  ),
  "backend-batch-interval": member(
    durationFromZero,
    "20ms",
    "longest time before applied rows are committed",
  ),
  "max-txn-ops": member(integer(1, 2 ** 32 - 1), "128", "operations in one list of a transaction"),
  "max-request-bytes": member(integer(1, 2 ** 30), "1572864", "size of the largest request"),
  "max-concurrent-streams": member(integer(1, 2 ** 32 - 1), "4294967295", "open calls on one connection"),
  "grpc-keepalive-min-time": member(durationFromZero, "5s", "shortest time between pings of a client"),
  "grpc-keepalive-interval": member(durationFromZero, "2h", "idle time before the server pings; 0 is never"),
  "grpc-keepalive-timeout": member(
    duration(1),
    "20s",
    "how long the server waits for the answer to its ping",
  ),
  "enable-grpc-gateway": member(boolean, "true", "serve the JSON gateway under /v3/"),
  "watch-progress-notify-interval": member(
    duration(1),
    "10m",
    "pause between progress messages of idle watches",
  ),
  "compaction-batch-limit": member(integer(1), "1000", "revisions removed in one step of a compaction"),
  "compaction-sleep-interval": member(durationFromZero, "10ms", "pause between two steps of a compaction"),
  "max-learners": member(integer(1, 1000), "1", "learners that the cluster may have"),
  "feature-gates": member(featureGates, "", "switches, as Gate=true,Other=false"),
  "unsafe-no-fsync": member(
    boolean,
    "false",
    "never sync the log; loses acknowledged writes, for tests only",
  ),

  "raft-read-timeout": memberIgnored(duration(0), "5s", "read timeout between members", noPeerTimeouts),
  "raft-write-timeout": memberIgnored(duration(0), "5s", "write timeout between members", noPeerTimeouts),
  "initial-election-tick-advance": memberIgnored(
    boolean,
    "true",
    "shorten the first election",
    "a single voter campaigns at once, and others wait for each other's heartbeat for one election timeout",
  ),
  "max-snapshots": memberIgnored(
    integer(0),
    "5",
    "snapshot files kept",
    "the log is cut without snapshot files",
  ),
  "max-wals": memberIgnored(integer(0), "5", "log files kept", "log files go when nothing needs them"),
  "memory-mlock": memberIgnored(boolean, "false", "pin memory", "the runtime cannot pin its heap"),
  "backend-batch-limit": memberIgnored(
    integer(0),
    "0",
    "operations before a commit",
    "rows are committed by time and by bytes",
  ),
  "backend-bbolt-freelist-type": memberIgnored(
    oneOf("map", "array"),
    "map",
    "free list of bbolt",
    "the database is SQLite, which has none",
  ),
  "bootstrap-defrag-threshold-megabytes": memberIgnored(
    integer(0),
    "0",
    "defragment at the start",
    "free pages are given back while running",
  ),
  "downgrade-check-time": memberIgnored(
    durationFromZero,
    "5s",
    "how often a downgrade is checked",
    "downgrades are not part of this release",
  ),
  "socket-reuse-port": memberIgnored(
    boolean,
    "false",
    "SO_REUSEPORT on listeners",
    "two processes on one port would answer for each other",
  ),
  "socket-reuse-address": memberIgnored(
    boolean,
    "false",
    "SO_REUSEADDR on listeners",
    "the runtime sets it on its own",
  ),
  "force-new-cluster": member(
    boolean,
    "false",
    "after a disaster: go on with this member's data as the only member; done once, then ignored",
  ),
  "corrupt-check-time": member(
    durationFromZero,
    "0s",
    "how often the leader compares all members' data; 0 is never",
  ),
  "compact-hash-check-time": member(
    duration(1),
    "1m",
    "how often hashes of compactions are compared, with feature gate CompactHashCheck",
  ),

  "initial-advertise-peer-urls": clustering(
    endpoints("advertise-peer", false),
    undefined,
    "this member's URLs for other members; those it listens on by default",
  ),
  "advertise-client-urls": clustering(
    endpoints("advertise-client", false),
    undefined,
    "this member's URLs for clients, shown by MemberList; those it listens on by default",
  ),
  "initial-cluster": clustering(
    initialCluster,
    undefined,
    "members at the first start; this member alone by default",
  ),
  "initial-cluster-state": clustering(
    oneOf("new", "existing"),
    "new",
    "whether the first start makes a cluster or joins one",
  ),
  "initial-cluster-token": clustering(text, "etcd-cluster", "goes into the ids of cluster and members"),
  "strict-reconfig-check": clustering(boolean, "true", "refuse membership changes that endanger the quorum"),
  join: clustering(
    endpoints("advertise-client", true),
    "",
    "client URLs of a running cluster: a member without data adds itself there and catches up; with data, no effect",
  ),
  "join-as-learner": clustering(
    boolean,
    "false",
    "with --join: stay a learner instead of becoming a voter once in sync",
  ),
  "wait-cluster-ready-timeout": clustering(
    durationFromZero,
    "5s",
    "clients are served after this long even if no leader was found yet",
  ),
  "pre-vote": clustering(
    boolean,
    "true",
    "ask before an election, so that a returning member does not disturb",
  ),
  "auto-compaction-mode": clustering(oneOf("periodic", "revision"), "periodic", "meaning of the retention"),
  "auto-compaction-retention": clustering(
    retention,
    "0",
    "history kept: hours or a duration, or a number of revisions; 0 keeps all",
  ),
  "v2-deprecation": clusteringIgnored(
    oneOf("write-only", "not-yet", "write-only-drop-data", "gone"),
    "write-only",
    "state of the v2 store",
    "there is no v2 store",
  ),
  "discovery-srv": clusteringRefused(text, "", "DNS domain that lists the members", noDiscovery),
  "discovery-srv-name": clusteringRefused(text, "", "suffix of the DNS service", noDiscovery),
  "discovery-token": clusteringRefused(text, "", "token of discovery", noDiscovery),
  "discovery-endpoints": clusteringRefused(text, "", "endpoints of discovery", noDiscovery),
  discovery: clusteringRefused(text, "", "URL of discovery by etcd 2", noDiscovery),
  "discovery-proxy": clusteringRefused(text, "", "proxy of discovery by etcd 2", noDiscovery),
  "discovery-cert": clusteringRefused(text, "", "certificate for discovery", noDiscovery),
  "discovery-key": clusteringRefused(text, "", "key for discovery", noDiscovery),
  "discovery-cacert": clusteringRefused(text, "", "authority for discovery", noDiscovery),
  "discovery-user": clusteringRefused(text, "", "user for discovery", noDiscovery),
  "discovery-password": clusteringRefused(text, "", "password for discovery", noDiscovery),
  "discovery-insecure-skip-tls-verify": clusteringRefused(boolean, "false", "TLS for discovery", noDiscovery),
  "discovery-insecure-transport": clusteringIgnored(boolean, "true", "TLS for discovery", noDiscovery),
  "discovery-fallback": clusteringIgnored(oneOf("exit", "proxy"), "exit", "if discovery fails", noDiscovery),
  "discovery-dial-timeout": clusteringIgnored(durationFromZero, "2s", "timeout of discovery", noDiscovery),
  "discovery-request-timeout": clusteringIgnored(durationFromZero, "5s", "timeout of discovery", noDiscovery),
  "discovery-keepalive-time": clusteringIgnored(durationFromZero, "2s", "pings of discovery", noDiscovery),
  "discovery-keepalive-timeout": clusteringIgnored(durationFromZero, "6s", "pings of discovery", noDiscovery),

  cors: security(
    origins,
    "",
    "origins that browsers may call from, or *; unless given, pages of this server alone",
  ),
  "host-whitelist": security(
    hostNames,
    "",
    "Host names that plain HTTP accepts, or *; unless given, addresses, private names and this server's own",
  ),
  "admin-token-file": security(
    text,
    "",
    "file with the token that opens the REST API; without it only callers on this machine are answered",
  ),
  "rest-requests-per-second": security(
    integer(0, 10_000_000),
    "10000",
    "REST requests of one address; 0 is any number; callers on this machine count only if this is given",
  ),
  "cert-file": securityRefused(text, "", "certificate of the client listener", noTls),
  "key-file": securityRefused(text, "", "key of the client listener", noTls),
  "client-cert-auth": securityRefused(boolean, "false", "clients need a certificate", noTls),
  "trusted-ca-file": securityRefused(text, "", "authority of client certificates", noTls),
  "client-cert-file": securityRefused(text, "", "certificate for calls to itself", noTls),
  "client-key-file": securityRefused(text, "", "key for calls to itself", noTls),
  "client-crl-file": securityRefused(text, "", "revoked client certificates", noTls),
  "client-cert-allowed-hostname": securityRefused(text, "", "names that client certificates may have", noTls),
  "auto-tls": securityRefused(boolean, "false", "a self-signed client listener", noTls),
  "peer-cert-file": securityRefused(text, "", "certificate of the peer listener", noPeerTls),
  "peer-key-file": securityRefused(text, "", "key of the peer listener", noPeerTls),
  "peer-client-cert-auth": securityRefused(boolean, "false", "members need a certificate", noPeerTls),
  "peer-trusted-ca-file": securityRefused(text, "", "authority of the members' certificates", noPeerTls),
  "peer-client-cert-file": securityRefused(text, "", "certificate for calls to members", noPeerTls),
  "peer-client-key-file": securityRefused(text, "", "key for calls to members", noPeerTls),
  "peer-cert-allowed-cn": securityRefused(text, "", "common names of members", noPeerTls),
  "peer-cert-allowed-hostname": securityRefused(text, "", "host names of members", noPeerTls),
  "peer-auto-tls": securityRefused(boolean, "false", "a self-signed peer listener", noPeerTls),
  "peer-crl-file": securityRefused(text, "", "revoked certificates of members", noPeerTls),
  "peer-skip-client-san-verification": securityRefused(
    boolean,
    "false",
    "names of members unchecked",
    noPeerTls,
  ),
  "self-signed-cert-validity": securityIgnored(
    integer(1),
    "1",
    "years a self-signed certificate holds",
    noTls,
  ),
  "cipher-suites": securityRefused(text, "", "cipher suites of TLS 1.2", noTls),
  "tls-min-version": securityRefused(oneOf("TLS1.2", "TLS1.3"), "TLS1.2", "oldest version of TLS", noTls),
  "tls-max-version": securityRefused(oneOf("", "TLS1.2", "TLS1.3"), "", "newest version of TLS", noTls),
  "auth-token": securityRefused(
    text,
    "simple",
    "kind of tokens: simple or jwt,...",
    noAuth,
    (value) => value !== "" && value !== "simple",
  ),
  "auth-token-ttl": securityIgnored(integer(1), "300", "seconds that a simple token lives", noAuth),
  "bcrypt-cost": securityIgnored(integer(4, 31), "10", "cost of a password's hash", noAuth),

  metrics: monitoring(oneOf("basic", "extensive"), "basic", "extensive adds the latency of each method"),
  "listen-metrics-urls": monitoring(
    endpoints("listen", true),
    "",
    "a separate listener for metrics and health",
  ),
  "log-level": monitoring(logLevel, "info", "least important level that is logged"),
  "log-format": monitoring(
    oneOf("auto", "json", "console"),
    "auto",
    "json or console; auto is console on a terminal and json otherwise",
  ),
  "log-outputs": monitoring(logOutputs, "default", "default (standard error), stderr, stdout or files"),
  "warning-apply-duration": monitoring(durationFromZero, "100ms", "an apply that takes longer is logged"),
  "warning-unary-request-duration": monitoring(
    durationFromZero,
    "300ms",
    "a call that takes longer is logged",
  ),
  logger: monitoringIgnored(oneOf("zap"), "zap", "logging library", "there is only one, and it is not zap"),
  "enable-pprof": monitoringIgnored(
    boolean,
    "false",
    "profiles over HTTP",
    "they are those of the Go runtime",
  ),
  "enable-log-rotation": monitoringIgnored(boolean, "false", "rotate log files", noRotation),
  "log-rotation-config-json": monitoringIgnored(text, "", "settings of the rotation", noRotation),
  "enable-distributed-tracing": monitoringIgnored(boolean, "false", "export traces", noTracing),
  "distributed-tracing-address": monitoringIgnored(text, "localhost:4317", "collector of traces", noTracing),
  "distributed-tracing-service-name": monitoringIgnored(text, "etcd", "service name in traces", noTracing),
  "distributed-tracing-instance-id": monitoringIgnored(text, "", "instance in traces", noTracing),
  "distributed-tracing-sampling-rate": monitoringIgnored(
    integer(0, 1_000_000),
    "0",
    "traces per million calls",
    noTracing,
  ),
} satisfies Record<string, Flag<unknown>>;

export type FlagName = keyof typeof flags;
/** The value of each flag in its own type. */
export type FlagValues = {
  readonly [Name in FlagName]: (typeof flags)[Name] extends Flag<infer Value> ? Value : never;
};

export const flagNames = Object.keys(flags) as readonly FlagName[];

/** A flag by its name, for code that does not care about the type of its value. */
export function flagOf(name: FlagName): Flag<unknown> {
  return flags[name];
}

/** What an old name stands for: a flag of today, or a feature gate with its state taken from the value. */
export type OldName = { readonly flag: FlagName } | { readonly gate: string };

/** The names with "experimental-" that etcd 3.6 still takes. */
export const oldNames: ReadonlyMap<string, OldName> = new Map<string, OldName>([
  ...(
    [
      "bootstrap-defrag-threshold-megabytes",
      "compact-hash-check-time",
      "compaction-batch-limit",
      "compaction-sleep-interval",
      "corrupt-check-time",
      "distributed-tracing-address",
      "distributed-tracing-instance-id",
      "distributed-tracing-sampling-rate",
      "distributed-tracing-service-name",
      "downgrade-check-time",
      "enable-distributed-tracing",
      "max-learners",
      "memory-mlock",
      "peer-skip-client-san-verification",
      "snapshot-catchup-entries",
      "warning-apply-duration",
      "warning-unary-request-duration",
      "watch-progress-notify-interval",
      "backend-bbolt-freelist-type",
    ] as const
  ).map((flag): [string, OldName] => [`experimental-${flag}`, { flag }]),
  ["experimental-compact-hash-check-enabled", { gate: "CompactHashCheck" }],
  ["experimental-enable-lease-checkpoint", { gate: "LeaseCheckpoint" }],
  ["experimental-enable-lease-checkpoint-persist", { gate: "LeaseCheckpointPersist" }],
  ["experimental-initial-corrupt-check", { gate: "InitialCorruptCheck" }],
  ["experimental-stop-grpc-service-on-defrag", { gate: "StopGRPCServiceOnDefrag" }],
  ["experimental-txn-mode-write-with-shared-buffer", { gate: "TxnModeWriteWithSharedBuffer" }],
]);

/** Names from long ago that etcd takes and ignores. */
export const forgottenNames: ReadonlySet<string> = new Set([
  "cluster-active-size",
  "cluster-remove-delay",
  "cluster-sync-interval",
  "config",
  "force",
  "max-result-buffer",
  "max-retry-attempts",
  "peer-heartbeat-interval",
  "peer-election-timeout",
  "retry-interval",
  "snapshot",
  "v",
  "vv",
  "test.coverprofile",
  "test.outputdir",
]);
