/**
 * The only doors through which a member, its storage and its leases reach the world. Production wires them to
 * the operating system (`src/storage/disk.ts`, `src/member/system.ts`), tests to fakes, the simulator to virtual
 * time, disk and network.
 */
import type { Database } from "bun:sqlite";
import type { Message } from "../consensus/types";
import type { Rng } from "../rng";
import type { StateMachine } from "../state/state-machine";
import type { DatabaseJobs } from "../storage/jobs/jobs";

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
  /** Names in a directory, sorted; an absent directory has none. */
  list(directory: string): string[];
  makeDirectory(path: string): void;
  rename(from: string, to: string): void;
  remove(path: string): void;
  /** As `remove`, off the event loop: taking a large file away can last tens of milliseconds. */
  removeLater(path: string): Promise<void>;
  /** Makes creations, renames and removals inside the directory durable. */
  syncDirectory(directory: string): void;
  /** Bytes that this process may still write. */
  freeBytes(directory: string): number;
}

/** Other members. Sending never blocks and may lose messages; a full queue drops. */
export interface Peers {
  send(messages: readonly Message[]): void;
  onMessage(listener: (message: Message) => void): void;
  close(): void;
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
