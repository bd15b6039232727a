/** From a command line to what shall be done. */
import { readFileSync, statSync } from "node:fs";

import { quotaBytesDefault } from "../limits";
import { etcdLevel, keelsonVersion } from "../version";
import { isUnspecified, parseEndpoint } from "./endpoint";
import { BadValue } from "./flag-types";
import { autoCompaction, flagNames, flagOf, type FlagName, type FlagValues } from "./flags";
import { compatibilityListing, generalHelp, serverHelp } from "./help";
import { nearestName } from "./nearest";
import type { Endpoint, InitialMember, ParsedCommand, ServerOptions } from "./options";
import {
  BadUsage,
  mergeFlagsOverVariables,
  parseSetting,
  readArguments,
  readConfigFile,
  readVariables,
  type Setting,
  type Settings,
} from "./sources";

const configFileBytesMax = 1024 ** 2;
const commands = ["server", "bench", "snapshot", "health", "version", "help"] as const;

/** One line for a bad command line; control characters of what was typed are shown escaped. */
function refusal(message: string): ParsedCommand {
  // oxlint-disable-next-line no-control-regex
  const line = message.replace(/[\u0000-\u001f\u007f]/g, (character) =>
    JSON.stringify(character).slice(1, -1),
  );
  return { kind: "refused", line: `keelson: ${line}`, exitCode: 2 };
}

/**
 * Reads the command line (without the program's own name), the environment and, when one is named, the
 * configuration file. Starts and prints nothing; bad input gives a command of kind "refused".
 */
export function parseCommandLine(
  argv: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): ParsedCommand {
  try {
    const [command, ...rest] = argv;
    if (command === undefined || command.startsWith("-")) return parseServer(argv, environment);
    switch (command) {
      case "server":
        return parseServer(rest, environment);
      case "bench":
        return { kind: "bench", arguments: rest };
      case "snapshot":
        return { kind: "snapshot", arguments: rest };
      case "health":
        return parseHealth(rest);
      case "version":
        return rest.length === 0 ? printVersion() : refusal(`"${rest[0]}" is not expected behind version`);
      case "help":
        return parseHelp(rest);
      default: {
        const nearest = nearestName(command, commands);
        const hint = nearest === undefined ? `there are ${commands.join(", ")}` : `did you mean ${nearest}?`;
        return refusal(`"${command}" is not a command; ${hint}`);
      }
    }
  } catch (error) {
    if (error instanceof BadUsage) return refusal(error.message);
    throw error;
  }
}

function parseHealth([url = "http://127.0.0.1:2379", ...more]: readonly string[]): ParsedCommand {
  if (more.length > 0) return refusal(`"${more[0]}" is not expected behind health`);
  const endpoint = inPlace("health", () => parseEndpoint(url, "advertise-client"));
  return { kind: "health", url: endpoint.url };
}

function printVersion(): ParsedCommand {
  const lines = [
    `keelson Version: ${keelsonVersion}`,
    `etcd API Version: ${etcdLevel}`,
    `Bun Version: ${Bun.version}`,
    `OS/Arch: ${process.platform}/${process.arch}`,
  ];
  return { kind: "print", text: `${lines.join("\n")}\n` };
}

function parseHelp(topics: readonly string[]): ParsedCommand {
  const [topic] = topics;
  switch (topic) {
    case undefined:
      return { kind: "print", text: generalHelp() };
    case "server":
      return { kind: "print", text: serverHelp() };
    case "bench":
      return { kind: "bench", arguments: ["--help"] };
    case "snapshot":
      return { kind: "snapshot", arguments: ["--help"] };
    case "compatibility":
      return { kind: "print", text: compatibilityListing() };
    default: {
      const nearest = nearestName(topic, ["server", "bench", "snapshot", "compatibility"]);
      const hint =
        nearest === undefined
          ? "there are server, bench, snapshot, compatibility"
          : `did you mean ${nearest}?`;
      return refusal(`there is no help about "${topic}"; ${hint}`);
    }
  }
}

function parseServer(
  argv: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): ParsedCommand {
  const fromFlags = readArguments(argv);
  if (fromFlags.wants === "version") return printVersion();
  if (fromFlags.wants === "help") return { kind: "print", text: serverHelp() };
  // What is refused on the command line stays refused, even where a configuration file replaces it.
  refuseMissingFeatures(fromFlags);
  const fromVariables = readVariables(environment);
  const configFile = fromFlags.configFile ?? fromVariables.configFile;
  const settings =
    configFile === undefined || configFile.text === ""
      ? mergeFlagsOverVariables(fromFlags, fromVariables)
      : readOnlyConfigFile(configFile, fromFlags, fromVariables);
  const warnings = [...settings.warnings, ...refuseMissingFeatures(settings)];
  const options = buildOptions(settings, warnings);
  return { kind: "server", options, warnings };
}

/** With a configuration file nothing else counts, as etcd has it; what is left aside is named in warnings. */
function readOnlyConfigFile(configFile: Setting, fromFlags: Settings, fromVariables: Settings): Settings {
  const settings = readConfigFile(readSmallFile(configFile), configFile.text);
  const warnings = [...settings.warnings];
  for (const source of [fromFlags, fromVariables]) {
    for (const { shownAs } of source.byFlag.values()) {
      warnings.push(`${shownAs} is ignored, because the configuration file ${configFile.text} is given`);
    }
  }
  return { byFlag: settings.byFlag, warnings };
}

function readSmallFile({ text: path, shownAs }: Setting): string {
  try {
    const { size } = statSync(path);
    if (size > configFileBytesMax) {
      throw new BadUsage(`${shownAs}: "${path}" is larger than a configuration can be (${size} bytes)`);
    }
    return readFileSync(path, "utf8");
  } catch (error) {
    if (error instanceof BadUsage) throw error;
    const code = error instanceof Error && "code" in error ? String(error.code) : "unknown error";
    throw new BadUsage(`${shownAs}: cannot read "${path}" (${code})`);
  }
}

/** Warnings for flags without effect; throws for those that ask for what is not there. */
function refuseMissingFeatures(settings: Settings): string[] {
  const warnings: string[] = [];
  for (const [name, setting] of settings.byFlag) {
    const { status } = flagOf(name);
    if (status.kind === "implemented") continue;
    parseSetting(name, setting);
    if (status.kind === "ignored") warnings.push(`${setting.shownAs} has no effect: ${status.reason}`);
    else if (status.asks(setting.text)) throw new BadUsage(`${setting.shownAs}: ${status.reason}`);
  }
  return warnings;
}

/** Each flag's value in its own type: the setting that counts, or the default. */
function typedValues(settings: Settings): FlagValues {
  const values: Partial<Record<FlagName, unknown>> = {};
  for (const name of flagNames) {
    const setting = settings.byFlag.get(name);
    const { fallback, type } = flagOf(name);
    if (setting !== undefined) values[name] = parseSetting(name, setting);
    else if (fallback !== undefined) values[name] = type.parse(fallback);
  }
  return values as FlagValues;
}

function buildOptions(settings: Settings, warnings: string[]): ServerOptions {
  const values = typedValues(settings);
  const shown = (name: FlagName): string => settings.byFlag.get(name)?.shownAs ?? `--${name}`;
  const refuse = (name: FlagName, problem: string): never => {
    throw new BadUsage(`${shown(name)}: ${problem}`);
  };

  const heartbeatIntervalMs = values["heartbeat-interval"];
  const electionTimeoutMs = values["election-timeout"];
  if (electionTimeoutMs < 5 * heartbeatIntervalMs) {
    const name = settings.byFlag.has("election-timeout") ? "election-timeout" : "heartbeat-interval";
    refuse(
      name,
      `an election timeout of ${electionTimeoutMs} ms is less than five heartbeats of ${heartbeatIntervalMs} ms`,
    );
  }

  const listenClient = withoutRepetition(values["listen-client-urls"]);
  const listenHttp = withoutRepetition(values["listen-client-http-urls"]);
  const listenMetrics = withoutRepetition(values["listen-metrics-urls"]);
  refuseSharedPorts(listenHttp, listenClient, shown("listen-client-http-urls"), shown("listen-client-urls"));
  refuseSharedPorts(
    listenMetrics,
    [...listenClient, ...listenHttp],
    shown("listen-metrics-urls"),
    "a client listener",
  );

  const listenPeer = withoutRepetition(values["listen-peer-urls"]);
  refuseSharedPorts(
    listenPeer,
    [...listenClient, ...listenHttp, ...listenMetrics],
    shown("listen-peer-urls"),
    "another listener",
  );
  const advertisePeer = advertisedPeerUrls(settings, values, listenPeer, refuse);
  const initialCluster = ownCluster(settings, values, advertisePeer, refuse);
  const joinEndpoints = withoutRepetition(values.join);
  refuseJoinOfFounder(settings, values, refuse);

  const retentionSetting = settings.byFlag.get("auto-compaction-retention");
  const featureGates = values["feature-gates"];
  warnings.push(...featureGates.warnings);
  if (values["unsafe-no-fsync"]) {
    warnings.push(`${shown("unsafe-no-fsync")}: the log is not synced; acknowledged writes can be lost`);
  }

  return {
    name: values.name,
    nameGiven: settings.byFlag.has("name"),
    dataDirectory: values["data-dir"] || `${values.name}.keelson`,
    walDirectory: values["wal-dir"] || undefined,
    listenClientEndpoints: listenClient,
    listenClientHttpEndpoints: listenHttp,
    listenMetricsEndpoints: listenMetrics,
    listenPeerEndpoints: listenPeer,
    advertiseClientUrls: advertisedClientUrls(settings, values, listenClient, refuse),
    initialAdvertisePeerUrls: advertisePeer,
    initialCluster,
    initialClusterToken: values["initial-cluster-token"],
    initialClusterState: values["initial-cluster-state"],
    joinEndpoints,
    joinAsLearner: values["join-as-learner"],
    forceNewCluster: values["force-new-cluster"],
    clusterReadyTimeoutMs: values["wait-cluster-ready-timeout"],
    strictReconfigurationCheck: values["strict-reconfig-check"],
    preVote: values["pre-vote"],
    learnersMax: values["max-learners"],
    heartbeatIntervalMs,
    electionTimeoutMs,
    snapshotEntries: values["snapshot-count"],
    snapshotCatchupEntries: values["snapshot-catchup-entries"],
    quotaBytes: quota(values["quota-backend-bytes"]),
    txnOpsMax: values["max-txn-ops"],
    requestBytesMax: values["max-request-bytes"],
    backendBatchIntervalMs: values["backend-batch-interval"],
    unsafeNoFsync: values["unsafe-no-fsync"],
    autoCompaction: inPlace(retentionSetting?.shownAs ?? "--auto-compaction-retention", () =>
      autoCompaction(values["auto-compaction-mode"], values["auto-compaction-retention"]),
    ),
    compactionBatchRevisions: values["compaction-batch-limit"],
    compactionPauseMs: values["compaction-sleep-interval"],
    concurrentStreamsMax: values["max-concurrent-streams"],
    keepaliveMinimumIntervalMs: values["grpc-keepalive-min-time"],
    keepaliveIntervalMs: values["grpc-keepalive-interval"],
    keepaliveTimeoutMs: values["grpc-keepalive-timeout"],
    gatewayEnabled: values["enable-grpc-gateway"],
    corsOrigins: settings.byFlag.has("cors") ? anyWhenEmpty(values.cors) : undefined,
    hostWhitelist: settings.byFlag.has("host-whitelist") ? anyWhenEmpty(values["host-whitelist"]) : undefined,
    adminTokenFile: values["admin-token-file"] === "" ? undefined : values["admin-token-file"],
    restRequestsPerSecond: settings.byFlag.has("rest-requests-per-second")
      ? values["rest-requests-per-second"]
      : undefined,
    watchProgressNotifyIntervalMs: values["watch-progress-notify-interval"],
    leaseCheckpoint: featureGates.leaseCheckpoint,
    initialCorruptCheck: featureGates.initialCorruptCheck,
    corruptCheckIntervalMs: values["corrupt-check-time"],
    compactHashCheckIntervalMs: featureGates.compactHashCheck ? values["compact-hash-check-time"] : 0,
    warningApplyMs: values["warning-apply-duration"],
    warningUnaryRequestMs: values["warning-unary-request-duration"],
    logLevel: values["log-level"],
    logFormat: values["log-format"],
    logOutputs: values["log-outputs"],
    metrics: values.metrics,
    effectiveFlags: effectiveFlags(settings),
    settingOrigins: settingOrigins(settings),
  };
}

type Refuse = (name: FlagName, problem: string) => never;

const defaultPeerUrl = "http://localhost:2380";

/** Runs a check whose {@link BadValue} shall name this place. */
function inPlace<Value>(shownAs: string, read: () => Value): Value {
  try {
    return read();
  } catch (error) {
    if (error instanceof BadValue) throw new BadUsage(`${shownAs}: ${error.message}`);
    throw error;
  }
}

function withoutRepetition(endpoints: readonly Endpoint[]): Endpoint[] {
  return [...new Map(endpoints.map((endpoint) => [endpoint.url, endpoint])).values()];
}

function refuseSharedPorts(
  some: readonly Endpoint[],
  others: readonly Endpoint[],
  shownAs: string,
  othersShownAs: string,
): void {
  for (const { url, port } of some) {
    if (port !== 0 && others.some((other) => other.url === url)) {
      throw new BadUsage(`${shownAs}: ${url} is already the address of ${othersShownAs}`);
    }
  }
}

/** What other members are told to dial. etcd's default where nothing is said, so that ids are those of etcd. */
function advertisedPeerUrls(
  settings: Settings,
  values: FlagValues,
  listenPeer: readonly Endpoint[],
  refuse: Refuse,
): readonly string[] {
  const flag = "initial-advertise-peer-urls";
  if (settings.byFlag.has(flag)) return withoutRepetition(values[flag]).map(({ url }) => url);
  if (!settings.byFlag.has("listen-peer-urls")) return listenPeer.map(({ url }) => url);
  const undialable = listenPeer.find((endpoint) => isUnspecified(endpoint) || endpoint.port === 0);
  if (undialable === undefined) return listenPeer.map(({ url }) => url);
  const several = values.join.length > 0 || (values["initial-cluster"]?.length ?? 1) > 1;
  if (several) {
    refuse(flag, `is needed, because members cannot dial ${undialable.url}, on which this member listens`);
  }
  // A member that is alone, and can be given another URL by MemberUpdate before others come.
  return [defaultPeerUrl];
}

/** The member list at the first start, in which this member must stand with its own URLs. */
function ownCluster(
  settings: Settings,
  values: FlagValues,
  advertisePeer: readonly string[],
  refuse: Refuse,
): readonly InitialMember[] {
  const setting = settings.byFlag.get("initial-cluster");
  if (setting === undefined || setting.text === "") return [{ name: values.name, peerUrls: advertisePeer }];
  const members = values["initial-cluster"];
  const own = members.find(({ name }) => name === values.name);
  if (own === undefined) {
    refuse(
      "initial-cluster",
      `this member's name, "${values.name}", is not in the list; add it, or give --name one of ` +
        members.map(({ name }) => name).join(", "),
    );
  }
  const ownerByUrl = new Map<string, string>();
  for (const { name, peerUrls } of members) {
    for (const url of peerUrls) {
      const owner = ownerByUrl.get(url);
      if (owner !== undefined) {
        refuse(
          "initial-cluster",
          owner === name
            ? `the URL ${url} is there twice`
            : `"${owner}" and "${name}" both have ${url}; each member needs URLs of its own`,
        );
      }
      ownerByUrl.set(url, name);
    }
  }
  const listed = new Set(own!.peerUrls);
  const advertised = new Set(advertisePeer);
  const differing = [...listed.symmetricDifference(advertised)];
  if (differing.length > 0) {
    refuse(
      "initial-cluster",
      `the URLs of "${values.name}" differ from --initial-advertise-peer-urls in ${differing.join(", ")}; give both the same`,
    );
  }
  return members;
}

/** A member joins a running cluster or founds one; who asks for both meant one of them. */
function refuseJoinOfFounder(settings: Settings, values: FlagValues, refuse: Refuse): void {
  if (values.join.length === 0) {
    if (values["join-as-learner"]) refuse("join-as-learner", "goes together with --join");
    return;
  }
  const secure = values.join.find(({ scheme }) => scheme === "https");
  if (secure !== undefined) refuse("join", `${secure.url}: TLS is not part of this release`);
  if (settings.byFlag.has("initial-cluster")) {
    refuse("join", "asks the running cluster who its members are; take --initial-cluster away");
  }
  if (values["force-new-cluster"]) refuse("join", "contradicts --force-new-cluster");
}

/** What clients are told to dial; derived from the listeners where those can be dialled. */
function advertisedClientUrls(
  settings: Settings,
  values: FlagValues,
  listenClient: readonly Endpoint[],
  refuse: Refuse,
): readonly string[] {
  if (settings.byFlag.has("advertise-client-urls")) {
    return withoutRepetition(values["advertise-client-urls"]).map(({ url }) => url);
  }
  const unspecified = listenClient.find(isUnspecified);
  if (unspecified !== undefined) {
    refuse(
      "advertise-client-urls",
      `is needed, because clients cannot dial ${unspecified.url}, on which this member listens`,
    );
  }
  return listenClient.map(({ url }) => url);
}

function quota(bytes: number): number | undefined {
  if (bytes < 0) return undefined;
  return bytes === 0 ? quotaBytesDefault : bytes;
}

/** An empty list means the same as "*" for etcd. */
function anyWhenEmpty(words: readonly string[]): readonly string[] {
  return words.length === 0 ? ["*"] : words;
}

function effectiveFlags(settings: Settings): Record<string, string> {
  const effective: Record<string, string> = {};
  for (const name of flagNames) {
    const { fallback, status } = flagOf(name);
    if (status.kind !== "implemented") continue;
    const text = settings.byFlag.get(name)?.text ?? fallback;
    if (text !== undefined && text !== "") effective[name] = text;
  }
  return effective;
}

/** Where each setting was said that was said at all. */
function settingOrigins(settings: Settings): Record<string, string> {
  const origins: Record<string, string> = {};
  for (const [name, { shownAs }] of settings.byFlag) origins[name] = shownAs;
  return origins;
}
