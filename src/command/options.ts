/**
 * What a member is told when it starts, after flags, variables and the configuration file were read and checked.
 * Names are etcd's flag names in full words with their units last.
 */

/** Where a listener binds, or what a member advertises, taken apart once so that nobody parses it again. */
export interface Endpoint {
  /** The URL as it is shown to clients, for instance "http://127.0.0.1:2379". */
  readonly url: string;
  readonly scheme: "http" | "https";
  /** Host name or IP address without brackets. */
  readonly host: string;
  /** 0 asks for any free port. */
  readonly port: number;
}

/** One entry of --initial-cluster. */
export interface InitialMember {
  readonly name: string;
  readonly peerUrls: readonly string[];
}

export type LogLevel = "debug" | "info" | "warn" | "error" | "fatal";

/** Automatic compaction; absent in {@link ServerOptions} when it is off. */
export type AutoCompaction =
  | { readonly mode: "periodic"; readonly periodMs: number }
  | { readonly mode: "revision"; readonly retainedRevisions: number };

/** Everything `keelson server` can be told. Complete: defaults are filled in. */
export interface ServerOptions {
  readonly name: string;
  /** False when nobody said a name: a member with data then keeps its own. */
  readonly nameGiven: boolean;
  /** Defaults to `<name>.keelson` in the working directory. */
  readonly dataDirectory: string;
  /** A separate directory for the log; undefined keeps it inside the data directory. */
  readonly walDirectory: string | undefined;

  readonly listenClientEndpoints: readonly Endpoint[];
  /** HTTP/1.1 only; when there are any, the client endpoints serve gRPC alone. */
  readonly listenClientHttpEndpoints: readonly Endpoint[];
  readonly listenMetricsEndpoints: readonly Endpoint[];
  readonly listenPeerEndpoints: readonly Endpoint[];
  readonly advertiseClientUrls: readonly string[];
  readonly initialAdvertisePeerUrls: readonly string[];

  readonly initialCluster: readonly InitialMember[];
  readonly initialClusterToken: string;
  readonly initialClusterState: "new" | "existing";
  /** Client URLs of a cluster that a member without data adds itself to; none: it founds or was added otherwise. */
  readonly joinEndpoints: readonly Endpoint[];
  /** With {@link joinEndpoints}: stay a learner. */
  readonly joinAsLearner: boolean;
  readonly forceNewCluster: boolean;
  /** How long clients wait at the door for a first leader. */
  readonly clusterReadyTimeoutMs: number;
  readonly strictReconfigurationCheck: boolean;
  readonly preVote: boolean;
  readonly learnersMax: number;

  readonly heartbeatIntervalMs: number;
  readonly electionTimeoutMs: number;
  /** Applied entries between cuts of the log. */
  readonly snapshotEntries: number;
  /** Entries kept behind a cut for slow followers. */
  readonly snapshotCatchupEntries: number;

  /** Bytes of the database at which NOSPACE is raised; undefined when --quota-backend-bytes is negative: no quota. */
  readonly quotaBytes: number | undefined;
  readonly txnOpsMax: number;
  readonly requestBytesMax: number;
  /** How long applied rows may stay in an open transaction of the database. */
  readonly backendBatchIntervalMs: number;
  /** Never sync the log: for tests only, an acknowledged write may be lost. */
  readonly unsafeNoFsync: boolean;

  readonly autoCompaction: AutoCompaction | undefined;
  /** Revisions removed in one step of a compaction. */
  readonly compactionBatchRevisions: number;
  /** The pause between two steps. */
  readonly compactionPauseMs: number;

  readonly concurrentStreamsMax: number;
  /** The shortest time between two pings that a client may send without being cut off. */
  readonly keepaliveMinimumIntervalMs: number;
  /** Idle time after which the server pings; 0 never does. */
  readonly keepaliveIntervalMs: number;
  /** How long the server waits for the answer to its ping. */
  readonly keepaliveTimeoutMs: number;
  readonly gatewayEnabled: boolean;
  /** Origins that browsers may call from; "*" is any; undefined when not given: the server's own. */
  readonly corsOrigins: readonly string[] | undefined;
  /** Host headers that plain HTTP accepts; "*" is any; undefined when not given: addresses and private names. */
  readonly hostWhitelist: readonly string[] | undefined;
  /** Whoever holds the token in it may use the REST API; undefined: only callers on this machine may. */
  readonly adminTokenFile: string | undefined;
  /** Requests a second that one address may make over REST; 0: any; undefined: the default, not for this machine's own. */
  readonly restRequestsPerSecond: number | undefined;

  readonly watchProgressNotifyIntervalMs: number;
  /** Replicate what is left of long leases, so that a new leader does not start them over. */
  readonly leaseCheckpoint: boolean;

  /** Compare the own data with other members' before serving. */
  readonly initialCorruptCheck: boolean;
  /** How often the leader compares all members' data; 0 is never. */
  readonly corruptCheckIntervalMs: number;
  /** How often hashes of compactions are compared; 0 is never. */
  readonly compactHashCheckIntervalMs: number;

  readonly warningApplyMs: number;
  readonly warningUnaryRequestMs: number;
  readonly logLevel: LogLevel;
  /** "auto" is text on a terminal and JSON otherwise. */
  readonly logFormat: "json" | "console" | "auto";
  /** "default" and "stderr" are standard error, "stdout" standard output, anything else a file's path. */
  readonly logOutputs: readonly string[];
  readonly metrics: "basic" | "extensive";

  /** The flags as they took effect, by etcd's name, for the log line at the start. */
  readonly effectiveFlags: Readonly<Record<string, string>>;
  /** By etcd's name, how the flag, variable or line of the configuration file was written that said it. */
  readonly settingOrigins: Readonly<Record<string, string>>;
}

/** What the command line asks for. Parsing starts nothing, prints nothing and never throws for bad input. */
export type ParsedCommand =
  | {
      readonly kind: "server";
      readonly options: ServerOptions;
      /** One line each, to be logged before the start. */
      readonly warnings: readonly string[];
    }
  | { readonly kind: "bench"; readonly arguments: readonly string[] }
  | { readonly kind: "snapshot"; readonly arguments: readonly string[] }
  /** Ask the member at this URL whether it is healthy, and exit accordingly. */
  | { readonly kind: "health"; readonly url: string }
  /** Print to standard output and exit with code 0. */
  | { readonly kind: "print"; readonly text: string }
  /** Print one line to standard error and exit with this code. */
  | { readonly kind: "refused"; readonly line: string; readonly exitCode: 2 };
export { parseCommandLine } from "./parse";
