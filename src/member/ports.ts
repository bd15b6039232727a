/**
 * The only doors through which a member, its storage and its leases reach the world. Production wires them to
 * the operating system (`src/storage/disk.ts`, `src/member/system.ts`), tests to fakes, the simulator to virtual
 * time, disk and network.
 */
import type { Database } from "bun:sqlite";
import type { ClusterId, MemberId } from "../ids";
import type { Rng } from "../rng";
import type { StateMachine } from "../state/state-machine";
import type { DatabaseJobs } from "../storage/jobs/jobs";
import type { PeerMessage } from "./peer-message";

export type { Rng };

/** Cancels a timer; harmless when it already fired. */
export type CancelTimer = () => void;

export interface Clock {
  /** Milliseconds from an arbitrary start; never jumps. For timeouts, leases and durations. */
  monotonicMs(): number;
  /** Milliseconds since 1970; may jump. For display and for time that enters the log as data. */
  wallMs(): number;
  /** Calls back once after about `delayMs`. */
  after(delayMs: number, callback: () => void): CancelTimer;
  /** Calls back once after pending I/O was served: how long work yields between its slices. */
  soon(callback: () => void): void;
}

/** An open file. Offsets and lengths are bytes. */
export interface DiskFile {
  /** Writes all of `bytes` at `offset` into the operating system's cache; durable only after `sync`. */
  write(offset: number, bytes: Uint8Array): void;
  /** Reads up to `length` bytes; fewer at the end of the file. */
  read(offset: number, length: number): Uint8Array;
  /** Makes everything written so far durable (fdatasync), off the event loop. A rejection is final. */
  sync(): Promise<void>;
  truncate(size: number): void;
  /** Reserves space so that later writes within it need no new blocks; contents read as zero. */
  allocate(size: number): void;
  size(): number;
  close(): void;
}

export interface Disk {
  /** "create" fails when the file exists, "open" when it does not. */
  open(path: string, mode: "create" | "open" | "read"): DiskFile;
  /** Names of files and directories in a directory, sorted; an absent directory has none. */
  list(directory: string): string[];
  makeDirectory(path: string): void;
  /** Removes an empty directory. */
  removeDirectory(path: string): void;
  rename(from: string, to: string): void;
  remove(path: string): void;
  /** As `remove`, off the event loop: taking a large file away can last tens of milliseconds. */
  removeLater(path: string): Promise<void>;
  /** Makes creations, renames and removals inside the directory durable. */
  syncDirectory(directory: string): void;
  /** As `syncDirectory`, off the event loop: while others wait for the disk it can last tens of milliseconds. */
  syncDirectoryLater(directory: string): Promise<void>;
  /** Bytes that this process may still write. */
  freeBytes(directory: string): number;
}

/** Where another member listens for its peers. */
export interface PeerAddress {
  readonly id: MemberId;
  readonly peerUrls: readonly string[];
}

/** What a member does for its peers; called by the transport. */
export interface PeerHandler {
  /** A message from a member of this cluster, addressed to this one; the transport has checked both. */
  receive(message: PeerMessage): void;
  /**
   * A piece of a file that this member offers, at most `bytesMax` from `offset`; empty at its end. May wait, to
   * keep to a rate. Empty, too, when there is no such file (any more).
   */
  readPiece(from: MemberId, name: string, offset: number, bytesMax: number): Promise<Uint8Array>;
  /** Whether the id was removed from the cluster: it is turned away for good and told so. */
  isRemoved(id: MemberId): boolean;
  /** A peer says that this member was removed from the cluster. */
  removed(by: MemberId): void;
  /** Whether the cluster knows that a member has had data of its own: without any it is turned away and told so. */
  hasLived?(id: MemberId): boolean;
  /** A peer says that this member, which introduced itself as one without data, has lived. */
  lostData?(by: MemberId): void;
  /**
   * Somebody of this cluster was turned away as unknown. It may have joined after what this member has applied, and
   * may even lead: taken among the members of {@link Peers.setMembers} it gets in at its next attempt.
   */
  stranger?(address: PeerAddress): void;
}

/** Who this member is to its peers: part of each handshake. */
export interface PeerIdentity {
  readonly clusterId: ClusterId;
  readonly memberId: MemberId;
  /** Differs in each life of the process. */
  readonly incarnation: bigint;
  /** Where this member can be reached, for those who do not know it yet. */
  readonly peerUrls?: () => readonly string[];
  /** It has no data yet but what every member begins with. */
  readonly isFresh?: () => boolean;
}

/** Other members. Sending never blocks and may lose messages; a full queue drops. */
export interface Peers {
  /** Begins to receive and to connect. Called once, before anything is sent. */
  start(identity: PeerIdentity, handler: PeerHandler): void;
  /** The other members from now on, whoever is not among them is disconnected. Called again at every change. */
  setMembers(members: readonly PeerAddress[]): void;
  /**
   * Messages to one member keep their order while its connection lasts. False: at least one certainly never leaves,
   * because there is no connection or no room; true promises nothing.
   */
  send(messages: readonly PeerMessage[]): boolean;
  /** What was sent so far need not wait for more: called before work that would hold it up. */
  flush?(): void;
  /**
   * A piece of a file that `from` offers, at most `bytesMax` from `offset`; empty at its end. Travels apart from
   * messages, which never wait behind it. Rejects when `from` cannot be reached or refuses.
   */
  fetchPiece(from: MemberId, name: string, offset: number, bytesMax: number): Promise<Uint8Array>;
  /** Since when messages of this member have been arriving (monotonic milliseconds); undefined: they are not. */
  activeSinceMs(id: MemberId): number | undefined;
  close(): Promise<void>;
}

export interface Ports {
  readonly clock: Clock;
  readonly rng: Rng;
  readonly disk: Disk;
  readonly peers: Peers;
  /** Opens the state database of a directory, creating it when it is new. */
  openDatabase(path: string): Database;
  /** Starts what checkpoints and copies that database off the event loop. */
  startDatabaseJobs(path: string, state: StateMachine): DatabaseJobs;
}
