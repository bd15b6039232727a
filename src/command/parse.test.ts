import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { flagNames, flagOf, oldNames } from "./flags";
import { compatibilityListing, serverHelp } from "./help";
import { parseCommandLine, type ServerOptions } from "./options";

const directory = mkdtempSync(join(tmpdir(), "keelson-command-"));
afterAll(() => rmSync(directory, { recursive: true }));

/** Splits at blanks; no test needs quoting. */
const words = (line: string): string[] => (line === "" ? [] : line.split(" "));

function serve(line: string, environment: Record<string, string> = {}) {
  const parsed = parseCommandLine(words(line), environment);
  if (parsed.kind !== "server") throw new Error(`not served: ${JSON.stringify(parsed)}`);
  return parsed;
}

function refusedLine(line: string, environment: Record<string, string> = {}): string {
  const parsed = parseCommandLine(words(line), environment);
  if (parsed.kind !== "refused") throw new Error(`not refused: ${JSON.stringify(parsed)}`);
  expect(parsed.exitCode).toBe(2);
  expect(parsed.line).not.toContain("\n");
  return parsed.line;
}

let configFiles = 0;
function configFile(content: string): string {
  const path = join(directory, `config-${configFiles++}.yaml`);
  writeFileSync(path, content);
  return path;
}

test("without anything said, a member serves etcd's ports with etcd's defaults from <name>.keelson", () => {
  const { options, warnings } = serve("");
  expect(warnings).toEqual([]);
  const { effectiveFlags, settingOrigins, ...rest } = options;
  expect(settingOrigins).toEqual({});
  expect(effectiveFlags["listen-client-urls"]).toBe("http://localhost:2379");
  expect(rest).toEqual({
    name: "default",
    nameGiven: false,
    dataDirectory: "default.keelson",
    walDirectory: undefined,
    listenClientEndpoints: [{ url: "http://localhost:2379", scheme: "http", host: "localhost", port: 2379 }],
    listenClientHttpEndpoints: [],
    listenMetricsEndpoints: [],
    listenPeerEndpoints: [{ url: "http://localhost:2380", scheme: "http", host: "localhost", port: 2380 }],
    advertiseClientUrls: ["http://localhost:2379"],
    initialAdvertisePeerUrls: ["http://localhost:2380"],
    initialCluster: [{ name: "default", peerUrls: ["http://localhost:2380"] }],
    initialClusterToken: "etcd-cluster",
    initialClusterState: "new",
    joinEndpoints: [],
    joinAsLearner: false,
    forceNewCluster: false,
    clusterReadyTimeoutMs: 5000,
    strictReconfigurationCheck: true,
    preVote: true,
    learnersMax: 1,
    heartbeatIntervalMs: 100,
    electionTimeoutMs: 1000,
    snapshotEntries: 10_000,
    snapshotCatchupEntries: 5000,
    quotaBytes: 2 * 1024 ** 3,
    txnOpsMax: 128,
    requestBytesMax: 1_572_864,
    backendBatchIntervalMs: 20,
    unsafeNoFsync: false,
    autoCompaction: undefined,
    compactionBatchRevisions: 1000,
    compactionPauseMs: 10,
    concurrentStreamsMax: 4_294_967_295,
    keepaliveMinimumIntervalMs: 5000,
    keepaliveIntervalMs: 7_200_000,
    keepaliveTimeoutMs: 20_000,
    gatewayEnabled: true,
    corsOrigins: undefined,
    hostWhitelist: undefined,
    adminTokenFile: undefined,
    restRequestsPerSecond: undefined,
    watchProgressNotifyIntervalMs: 600_000,
    leaseCheckpoint: true,
    initialCorruptCheck: true,
    corruptCheckIntervalMs: 0,
    compactHashCheckIntervalMs: 60_000,
    warningApplyMs: 100,
    warningUnaryRequestMs: 300,
    logLevel: "info",
    logFormat: "auto",
    logOutputs: ["default"],
    metrics: "basic",
  } satisfies Omit<ServerOptions, "effectiveFlags" | "settingOrigins">);
});

test("where each setting was said is kept, as it was written", () => {
  const { options } = serve("--name one -heartbeat-interval 50");
  expect(options.settingOrigins).toEqual({ name: "--name", "heartbeat-interval": "--heartbeat-interval" });
});

describe("a flag is understood", () => {
  const cases: [line: string, expected: Partial<ServerOptions>][] = [
    ["--name one", { name: "one", dataDirectory: "one.keelson" }],
    ["server --name=one", { name: "one" }],
    ["-name one", { name: "one" }],
    ["-name=one", { name: "one" }],
    ["--name one --name two", { name: "two" }],
    ["--data-dir /d --wal-dir /w", { dataDirectory: "/d", walDirectory: "/w" }],
    ["--pre-vote=false", { preVote: false }],
    ["--pre-vote --name one", { preVote: true, name: "one" }],
    ["--strict-reconfig-check=F", { strictReconfigurationCheck: false }],
    ["--unsafe-no-fsync=1", { unsafeNoFsync: true }],
    ["--heartbeat-interval 50 --election-timeout 250", { heartbeatIntervalMs: 50, electionTimeoutMs: 250 }],
    ["--election-timeout 50000", { electionTimeoutMs: 50_000 }],
    ["--quota-backend-bytes -1", { quotaBytes: undefined }],
    ["--quota-backend-bytes=8589934592", { quotaBytes: 8 * 1024 ** 3 }],
    ["--auto-compaction-retention 1", { autoCompaction: { mode: "periodic", periodMs: 3_600_000 } }],
    ["--auto-compaction-retention 1h30m", { autoCompaction: { mode: "periodic", periodMs: 5_400_000 } }],
    [
      "--auto-compaction-mode revision --auto-compaction-retention 1000",
      { autoCompaction: { mode: "revision", retainedRevisions: 1000 } },
    ],
    ["--auto-compaction-mode=revision --auto-compaction-retention=0", { autoCompaction: undefined }],
    ["--grpc-keepalive-interval 0", { keepaliveIntervalMs: 0 }],
    ["--grpc-keepalive-min-time 1.5s", { keepaliveMinimumIntervalMs: 1500 }],
    ["--watch-progress-notify-interval 100ms", { watchProgressNotifyIntervalMs: 100 }],
    ["--compaction-sleep-interval 0", { compactionPauseMs: 0 }],
    ["--cors https://a,https://b", { corsOrigins: ["https://a", "https://b"] }],
    [
      "--cors HTTPS://Console.example:443/,http://h:80,app://x,*",
      { corsOrigins: ["https://console.example", "http://h", "app://x", "*"] },
    ],
    ["--host-whitelist Store.example,::1,[::2]", { hostWhitelist: ["store.example", "::1", "::2"] }],
    ["--log-outputs stdout,/var/log/k.log", { logOutputs: ["stdout", "/var/log/k.log"] }],
    ["--log-level=panic", { logLevel: "fatal" }],
    ["--log-format console --metrics extensive", { logFormat: "console", metrics: "extensive" }],
    ["--feature-gates LeaseCheckpoint=false", { leaseCheckpoint: false }],
    ["--enable-grpc-gateway=false", { gatewayEnabled: false }],
    ["--max-txn-ops=1024 --max-request-bytes=33554432", { txnOpsMax: 1024, requestBytesMax: 33_554_432 }],
    [
      "--listen-client-urls http://127.0.0.1:0",
      {
        listenClientEndpoints: [{ url: "http://127.0.0.1:0", scheme: "http", host: "127.0.0.1", port: 0 }],
        advertiseClientUrls: ["http://127.0.0.1:0"],
      },
    ],
    [
      "--listen-client-urls http://[::1]:1,http://127.0.0.1:2,http://127.0.0.1:2/",
      {
        listenClientEndpoints: [
          { url: "http://[::1]:1", scheme: "http", host: "::1", port: 1 },
          { url: "http://127.0.0.1:2", scheme: "http", host: "127.0.0.1", port: 2 },
        ],
      },
    ],
    [
      "--listen-client-urls http://0.0.0.0:2379 --advertise-client-urls https://store.example:443",
      { advertiseClientUrls: ["https://store.example:443"] },
    ],
    [
      "--name m --initial-advertise-peer-urls http://m.example:1 --initial-cluster m=http://m.example:1",
      { initialCluster: [{ name: "m", peerUrls: ["http://m.example:1"] }] },
    ],
    [
      "--initial-advertise-peer-urls http://h:7",
      { initialCluster: [{ name: "default", peerUrls: ["http://h:7"] }] },
    ],
    ["--initial-cluster-state existing", { initialClusterState: "existing" }],
    [
      "--name b --initial-advertise-peer-urls http://h:2 --initial-cluster a=http://h:1,b=http://h:2,c=http://h:3",
      {
        nameGiven: true,
        initialCluster: [
          { name: "a", peerUrls: ["http://h:1"] },
          { name: "b", peerUrls: ["http://h:2"] },
          { name: "c", peerUrls: ["http://h:3"] },
        ],
      },
    ],
    ["--listen-peer-urls http://127.0.0.1:7", { initialAdvertisePeerUrls: ["http://127.0.0.1:7"] }],
    ["--listen-peer-urls http://0.0.0.0:7", { initialAdvertisePeerUrls: ["http://localhost:2380"] }],
    [
      "--join http://a:2379,http://b:2379 --join-as-learner",
      {
        joinEndpoints: [
          { url: "http://a:2379", scheme: "http", host: "a", port: 2379 },
          { url: "http://b:2379", scheme: "http", host: "b", port: 2379 },
        ],
        joinAsLearner: true,
      },
    ],
    ["--force-new-cluster", { forceNewCluster: true }],
    ["--wait-cluster-ready-timeout 1s", { clusterReadyTimeoutMs: 1000 }],
    ["--feature-gates InitialCorruptCheck=false", { initialCorruptCheck: false }],
    ["--experimental-compact-hash-check-enabled=false", { compactHashCheckIntervalMs: 0 }],
    ["--corrupt-check-time 1h", { corruptCheckIntervalMs: 3_600_000 }],
    ["--auth-token simple --cert-file= --client-cert-auth=false --tls-min-version TLS1.2", {}],
  ];
  test.each(cases)("%s", (line, expected) => {
    expect(serve(line).options).toMatchObject(expected);
  });
});

describe("bad input gets one line that names the field and the problem", () => {
  const cases: [line: string, expected: string][] = [
    ["--elction-timeout 5", "keelson: --elction-timeout is not a flag; did you mean --election-timeout?"],
    [
      "--listen_client_urls x",
      "keelson: --listen_client_urls is not a flag; did you mean --listen-client-urls?",
    ],
    ["--qqqqqqqqqqqq", `keelson: --qqqqqqqqqqqq is not a flag; "keelson help" lists all flags`],
    ["serve", `keelson: "serve" is not a command; did you mean server?`],
    ["server now", `keelson: "now" is not expected here`],
    ["--pre-vote false", `keelson: "false" is not expected here; write --pre-vote=false`],
    ["--name", "keelson: --name needs a value"],
    ["--name=", "keelson: --name: the name is empty"],
    ["--pre-vote=maybe", `keelson: --pre-vote: "maybe" is not true or false`],
    ["--snapshot-count ten", `keelson: --snapshot-count: "ten" is not a whole number`],
    ["--snapshot-count 1.5", `keelson: --snapshot-count: "1.5" is not a whole number`],
    ["--snapshot-count 0", "keelson: --snapshot-count: 0 is too small, at least 1 is needed"],
    ["--snapshot-count x --snapshot-count 5", `keelson: --snapshot-count: "x" is not a whole number`],
    [
      "--election-timeout 50001",
      "keelson: --election-timeout: 50001 is too large, at most 50000 is possible",
    ],
    [
      "--election-timeout 499",
      "keelson: --election-timeout: an election timeout of 499 ms is less than five heartbeats of 100 ms",
    ],
    [
      "--heartbeat-interval 201",
      "keelson: --heartbeat-interval: an election timeout of 1000 ms is less than five heartbeats of 201 ms",
    ],
    [
      "--warning-apply-duration 5",
      `is not a duration such as 100ms or 1h30m; a unit is missing, for instance 5s`,
    ],
    [
      "--grpc-keepalive-timeout -1s",
      "keelson: --grpc-keepalive-timeout: -1s is too short, at least 1ms is needed",
    ],
    ["--auto-compaction-retention -1", `"-1" is neither a number nor a duration`],
    ["--auto-compaction-mode revision --auto-compaction-retention 1h", `"1h" is not a number of revisions`],
    [
      "--auto-compaction-mode never",
      `keelson: --auto-compaction-mode: "never" is not one of periodic, revision`,
    ],
    ["--log-level loud", `keelson: --log-level: "loud" is not one of debug, info, warn, error, fatal`],
    ["--log-outputs default,stdout", `keelson: --log-outputs: "default" stands alone`],
    ["--feature-gates Lease=true", `there is no feature gate "Lease"`],
    ["--feature-gates LeaseCheckpoint", `"LeaseCheckpoint" is not of the form Gate=true`],
    ["--listen-client-urls http://example.com:2379", "binds to an IP address or localhost, not to a name"],
    ["--listen-client-urls 127.0.0.1:2379", `"127.0.0.1:2379" is not a URL such as http://127.0.0.1:2379`],
    ["--listen-client-urls http://127.0.0.1", "the address must have the form host:port"],
    ["--listen-client-urls http://127.0.0.1:99999", "port 99999 is above 65535"],
    ["--listen-client-urls http://127.0.0.1:1/path", "the URL must not have a path"],
    ["--listen-client-urls ftp://127.0.0.1:1", "the scheme must be http, not ftp"],
    ["--listen-client-urls https://127.0.0.1:1", "TLS is not part of this release"],
    ["--listen-client-urls unix://127.0.0.1:1", "unix sockets are not part of this release"],
    ["--listen-client-urls http://:2379", "the host is empty"],
    ["--listen-client-urls=", "keelson: --listen-client-urls: needs at least one URL"],
    ["--listen-client-urls http://[zz]:1", `brackets hold an IPv6 address, "zz" is none`],
    ["--listen-client-urls http://0.0.0.0:2379", "keelson: --advertise-client-urls: is needed"],
    ["--listen-client-urls http://[::]:2379", "keelson: --advertise-client-urls: is needed"],
    ["--listen-metrics-urls http://localhost:2379", "is already the address of a client listener"],
    ["--initial-cluster a=http://h:1", `this member's name, "default", is not in the list`],
    ["--initial-cluster default", `"default" is not of the form name=url`],
    [
      "--initial-cluster default=http://localhost:2380,b=http://localhost:2380",
      `"default" and "b" both have http://localhost:2380; each member needs URLs of its own`,
    ],
    [
      "--initial-cluster default=http://localhost:2380,b=http://h:1,b=http://h:1",
      "the URL http://h:1 is there twice",
    ],
    [
      "--listen-peer-urls http://0.0.0.0:2380 --initial-cluster default=http://h:1,b=http://h:2",
      "keelson: --initial-advertise-peer-urls: is needed, because members cannot dial http://0.0.0.0:2380",
    ],
    ["--listen-peer-urls http://localhost:2379", "is already the address of another listener"],
    [
      "--join http://h:2379 --listen-peer-urls http://[::]:2380",
      "keelson: --initial-advertise-peer-urls: is needed",
    ],
    ["--join h:2379", `"h:2379" is not a URL`],
    ["--join https://h:2379", "keelson: --join: https://h:2379: TLS is not part of this release"],
    [
      "--join http://h:2379 --initial-cluster default=http://localhost:2380",
      "keelson: --join: asks the running cluster who its members are; take --initial-cluster away",
    ],
    ["--join http://h:2379 --force-new-cluster", "contradicts --force-new-cluster"],
    ["--join-as-learner", "keelson: --join-as-learner: goes together with --join"],
    [
      "--initial-cluster default=http://h:1",
      "differ from --initial-advertise-peer-urls in http://h:1, http://localhost:2380",
    ],
    ["--cert-file c.pem --key-file k.pem", "keelson: --cert-file: TLS is not part of this release"],
    ["--client-cert-auth", "keelson: --client-cert-auth: TLS is not part of this release"],
    ["--auto-tls=true", "keelson: --auto-tls: TLS is not part of this release"],
    ["--tls-min-version TLS1.3", "keelson: --tls-min-version: TLS is not part"],
    ["--peer-trusted-ca-file ca", "keelson: --peer-trusted-ca-file: TLS between members is not part"],
    ["--auth-token jwt,sign-method=RS256", "keelson: --auth-token: users and passwords are not part"],
    ["--discovery-srv example.com", "keelson: --discovery-srv: discovery is not part of this release"],
    ["--logger log4j", `keelson: --logger: "log4j" is not one of zap`],
    ["--max-learners 1 --experimental-max-learners 2", "say the same twice; give only max-learners"],
    ["--config-file /does/not/exist", `keelson: --config-file: cannot read "/does/not/exist" (ENOENT)`],
    ["help flgs", `there is no help about "flgs"`],
    ["--cors console.example", `--cors: "console.example" is not an origin such as https://`],
    ["--cors https://a/ui", "is not an origin"],
    ["--host-whitelist http://a", "is not a host name; name it alone, without scheme and port"],
    ["--host-whitelist a:2379", "without scheme and port"],
    ["--name a\nb=c", String.raw`must not hold "," or "="`],
  ];
  test.each(cases)("%j", (line, expected) => {
    expect(refusedLine(line)).toContain(expected);
  });
});

describe("what means nothing here is accepted, and the warning says so", () => {
  const cases: [line: string, expected: string][] = [
    ["--backend-bbolt-freelist-type map", "has no effect: the database is SQLite"],
    ["--max-snapshots 3", "--max-snapshots has no effect"],
    ["--logger=zap", "--logger has no effect"],
    ["--v2-deprecation write-only", "--v2-deprecation has no effect: there is no v2 store"],
    ["--socket-reuse-port", "--socket-reuse-port has no effect"],
    ["--experimental-max-learners 1", "--experimental-max-learners is an old name; use max-learners"],
    [
      "--experimental-initial-corrupt-check=true",
      "is an old name; use feature-gates with InitialCorruptCheck",
    ],
    ["--feature-gates PriorityRequest=true", "feature gate PriorityRequest has no effect"],
    ["--snapshot", "--snapshot has had no effect in etcd for years"],
    ["--unsafe-no-fsync", "acknowledged writes can be lost"],
    ["--raft-read-timeout 5s", "--raft-read-timeout has no effect"],
  ];
  test.each(cases)("%s", (line, expected) => {
    const { warnings } = serve(line);
    expect(warnings.join("\n")).toContain(expected);
  });

  test("an old name still takes effect", () => {
    expect(
      serve("--experimental-watch-progress-notify-interval 5s").options.watchProgressNotifyIntervalMs,
    ).toBe(5000);
    expect(serve("--experimental-enable-lease-checkpoint=false").options.leaseCheckpoint).toBe(false);
  });
});

describe("variables", () => {
  test("a flag counts more than a variable, KEELSON_ more than ETCD_, and each loser is named", () => {
    const environment = { ETCD_NAME: "etcd", KEELSON_NAME: "keelson", ETCD_MAX_TXN_OPS: "7" };
    const first = serve("", environment);
    expect(first.options).toMatchObject({ name: "keelson", txnOpsMax: 7 });
    expect(first.warnings).toEqual(["ETCD_NAME is overruled by KEELSON_NAME"]);
    const second = serve("--name flag", environment);
    expect(second.options.name).toBe("flag");
    expect(second.warnings).toContain("KEELSON_NAME is overruled by --name");
  });

  test("an unknown variable warns with the nearest name and changes nothing; foreign and empty ones are silent", () => {
    const { warnings, options } = serve("", {
      ETCD_LISTEN_CLIENT_URL: "http://127.0.0.1:1",
      ETCD_NAME: "",
      ETCDCTL_API: "3",
      PATH: "/bin",
    });
    expect(warnings).toEqual([
      "ETCD_LISTEN_CLIENT_URL is not a variable that is known here; did you mean ETCD_LISTEN_CLIENT_URLS?",
    ]);
    expect(options.listenClientEndpoints[0]?.url).toBe("http://localhost:2379");
  });

  test("a bad value names the variable", () => {
    expect(refusedLine("", { ETCD_MAX_TXN_OPS: "many" })).toBe(
      `keelson: ETCD_MAX_TXN_OPS: "many" is not a whole number`,
    );
    expect(refusedLine("", { KEELSON_CERT_FILE: "c.pem" })).toContain("KEELSON_CERT_FILE: TLS is not part");
  });

  test.each([...flagNames])("ETCD_ and KEELSON_ variables exist for %s", (name) => {
    const variable = `ETCD_${name.toUpperCase().replaceAll("-", "_")}`;
    const parsed = parseCommandLine([], { [variable]: flagOf(name).fallback ?? "" });
    const said = parsed.kind === "server" ? parsed.warnings.join() : JSON.stringify(parsed);
    expect(said).not.toContain("not a variable");
  });
});

describe("the configuration file", () => {
  test("replaces all flags and variables, which are named in warnings", () => {
    const path = configFile(`
name: from-file
listen-client-urls: http://127.0.0.1:23
log-outputs: [stderr]
auto-compaction-retention: 2
pre-vote: false
max-txn-ops: 256
client-transport-security:
  cert-file: ''
  client-cert-auth: false
`);
    const { options, warnings } = serve(`--config-file ${path} --name flag`, { ETCD_MAX_REQUEST_BYTES: "5" });
    expect(options).toMatchObject({
      name: "from-file",
      dataDirectory: "from-file.keelson",
      logOutputs: ["stderr"],
      autoCompaction: { mode: "periodic", periodMs: 7_200_000 },
      preVote: false,
      txnOpsMax: 256,
      requestBytesMax: 1_572_864,
    });
    expect(warnings).toEqual([
      `--name is ignored, because the configuration file ${path} is given`,
      `ETCD_MAX_REQUEST_BYTES is ignored, because the configuration file ${path} is given`,
    ]);
  });

  test("may be JSON, may come from a variable, and reads bare durations as nanoseconds like etcd", () => {
    const path = configFile(
      JSON.stringify({ "grpc-keepalive-min-time": 1_500_000_000, "compaction-sleep-interval": "20ms" }),
    );
    expect(serve("", { ETCD_CONFIG_FILE: path }).options).toMatchObject({
      keepaliveMinimumIntervalMs: 1500,
      compactionPauseMs: 20,
    });
  });

  const cases: [title: string, content: string, expected: string][] = [
    ["an unknown key", "listen-client-url: http://127.0.0.1:1", "did you mean listen-client-urls?"],
    ["a bad value", "max-txn-ops: lots", `"lots" is not a whole number`],
    ["a block for a value", "name: {a: b}", "must be a single value"],
    [
      "a feature that is missing",
      "peer-transport-security: {auto-tls: true}",
      "TLS between members is not part",
    ],
    ["an unknown key in a block", "client-transport-security: {cert-fil: x}", "did you mean cert-file?"],
    ["broken YAML", "name: [", "config-"],
    ["a list at the top", "- name", "must hold names with values"],
    ["one name twice", "name: a\nname: b", "Map keys must be unique"],
  ];
  test.each(cases)("refuses %s", (_, content, expected) => {
    const path = configFile(content);
    const line = refusedLine(`--config-file ${path}`);
    expect(line).toContain(expected);
    expect(line).toContain(path);
  });

  test("does not make a refused flag acceptable", () => {
    expect(refusedLine(`--config-file ${configFile("name: x")} --client-cert-auth`)).toContain(
      "TLS is not part",
    );
  });
});

/** The flags that `etcd --help` of 3.6 and its source name, those for help, version and the file aside. */
const etcdFlags = `
    advertise-client-urls auth-token auth-token-ttl auto-compaction-mode auto-compaction-retention
    auto-tls backend-batch-interval backend-batch-limit backend-bbolt-freelist-type bcrypt-cost
    bootstrap-defrag-threshold-megabytes cert-file cipher-suites client-cert-allowed-hostname
    client-cert-auth client-cert-file client-crl-file client-key-file compact-hash-check-time
    compaction-batch-limit compaction-sleep-interval corrupt-check-time cors data-dir discovery
    discovery-cacert discovery-cert discovery-dial-timeout discovery-endpoints discovery-fallback
    discovery-insecure-skip-tls-verify discovery-insecure-transport discovery-keepalive-time
    discovery-keepalive-timeout discovery-key discovery-password discovery-proxy
    discovery-request-timeout discovery-srv discovery-srv-name discovery-token discovery-user
    distributed-tracing-address distributed-tracing-instance-id distributed-tracing-sampling-rate
    distributed-tracing-service-name downgrade-check-time election-timeout enable-distributed-tracing
    enable-grpc-gateway enable-log-rotation enable-pprof
    experimental-bootstrap-defrag-threshold-megabytes experimental-compact-hash-check-enabled
    experimental-compact-hash-check-time experimental-compaction-batch-limit
    experimental-compaction-sleep-interval experimental-corrupt-check-time
    experimental-distributed-tracing-address experimental-distributed-tracing-instance-id
    experimental-distributed-tracing-sampling-rate experimental-distributed-tracing-service-name
    experimental-downgrade-check-time experimental-enable-distributed-tracing
    experimental-enable-lease-checkpoint experimental-enable-lease-checkpoint-persist
    experimental-initial-corrupt-check experimental-memory-mlock
    experimental-peer-skip-client-san-verification experimental-snapshot-catchup-entries
    experimental-stop-grpc-service-on-defrag experimental-txn-mode-write-with-shared-buffer
    experimental-warning-apply-duration experimental-warning-unary-request-duration
    experimental-watch-progress-notify-interval feature-gates force-new-cluster grpc-keepalive-interval
    grpc-keepalive-min-time grpc-keepalive-timeout heartbeat-interval host-whitelist
    initial-advertise-peer-urls initial-cluster initial-cluster-state initial-cluster-token
    initial-election-tick-advance key-file listen-client-http-urls listen-client-urls
    listen-metrics-urls listen-peer-urls log-format log-level log-outputs log-rotation-config-json
    logger max-concurrent-streams max-learners max-request-bytes max-snapshots max-txn-ops max-wals
    memory-mlock metrics name peer-auto-tls peer-cert-allowed-cn peer-cert-allowed-hostname
    peer-cert-file peer-client-cert-auth peer-client-cert-file peer-client-key-file peer-crl-file
    peer-key-file peer-skip-client-san-verification peer-trusted-ca-file pre-vote quota-backend-bytes
    raft-read-timeout raft-write-timeout self-signed-cert-validity snapshot-catchup-entries
    snapshot-count socket-reuse-address socket-reuse-port strict-reconfig-check tls-max-version
    tls-min-version trusted-ca-file unsafe-no-fsync v2-deprecation wal-dir warning-apply-duration
    warning-unary-request-duration watch-progress-notify-interval
`;

describe("the table of flags", () => {
  test("holds every flag of etcd 3.6, under its present or an old name", () => {
    const names = new Set<string>([...flagNames, ...oldNames.keys()]);
    for (const name of words(etcdFlags.trim().replaceAll(/\s+/g, " "))) expect(names).toContain(name);
  });

  test.each([...flagNames])("the default of %s is a value that it takes", (name) => {
    const { fallback, type } = flagOf(name);
    if (fallback !== undefined) type.parse(fallback);
    const given = parseCommandLine([`--${name}=${fallback ?? "http://localhost:2379"}`], {});
    if (name !== "initial-cluster") expect(given.kind).toBe("server");
  });

  test("is what help and the listing of compatibility are made from", () => {
    const help = serverHelp();
    const listing = compatibilityListing();
    for (const name of flagNames) {
      expect(listing).toContain(`| ${name} |`);
      expect(help.includes(`  --${name}`)).toBe(flagOf(name).status.kind === "implemented");
    }
    for (const line of help.split("\n")) expect(line.length).toBeLessThanOrEqual(110);
  });
});

test("the other commands are recognised", () => {
  expect(parseCommandLine(["health"], {})).toEqual({ kind: "health", url: "http://127.0.0.1:2379" });
  expect(parseCommandLine(["health", "http://h:1"], {})).toEqual({ kind: "health", url: "http://h:1" });
  expect(refusedLine("health h:1")).toContain("is not a URL");
  expect(parseCommandLine(["bench", "put", "--total", "5"], {})).toEqual({
    kind: "bench",
    arguments: ["put", "--total", "5"],
  });
  for (const argv of [["version"], ["--version"], ["server", "-version"]]) {
    expect(parseCommandLine(argv, {})).toMatchObject({ kind: "print" });
  }
  for (const argv of [["help"], ["--help"], ["-h"], ["help", "server"], ["help", "compatibility"]]) {
    expect(parseCommandLine(argv, {})).toMatchObject({ kind: "print" });
  }
});
