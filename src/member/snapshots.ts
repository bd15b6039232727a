/** Snapshots between members, both ways, and the moment in which one becomes this member's state. */
import { dirname } from "node:path";
import { assert } from "../assert";
import type { Raft } from "../consensus/raft";
import type { SnapshotPosition } from "../consensus/types";
import type { LogIndex, MemberId } from "../ids";
import { retiredStateMs } from "../limits";
import type { RetiredState } from "../state/generation";
import type { DurableLog } from "../storage/wal/types";
import type { Applier } from "./applier";
import { generationOf, removeOpenGeneration } from "./generations";
import type { ConsensusLoop } from "./loop";
import type { Member } from "./member";
import type { PeerMessage } from "./peer-message";
import type { CancelTimer, Ports } from "./ports";
import type { Proposals } from "./proposals";
import type { Reads } from "./reads";
import { type ReceivedState, type ReceivingStatus, SnapshotReceiver } from "./snapshot-receiver";
import { type SendingStatus, SnapshotSender } from "./snapshot-sender";

export interface SnapshotsParts {
  readonly member: Member;
  readonly ports: Ports;
  readonly raft: Raft;
  readonly loop: ConsensusLoop;
  readonly log: DurableLog;
  readonly applier: Applier;
  readonly proposals: Proposals;
  readonly reads: Reads;
  readonly databasePath: string;
  /** The configuration is another than before. */
  readonly configurationChanged: () => void;
  readonly report: (level: "info" | "warn", message: string, fields?: Record<string, unknown>) => void;
  readonly fatal: (error: unknown) => void;
}

/** How often readers of a replaced state are looked for. */
const retiredPollMs = 100;

export class Snapshots {
  readonly sender: SnapshotSender;
  readonly receiver: SnapshotReceiver;
  readonly #parts: SnapshotsParts;
  #databasePath: string;
  /** The state before the last install, while somebody reads it. */
  #retired: { readonly state: RetiredState; readonly cancel: CancelTimer } | undefined;
  #stopped = false;

  constructor(parts: SnapshotsParts) {
    const { member, ports, raft, loop, log, report } = parts;
    const { clock, disk, peers } = ports;
    const { dataDirectory } = member.options;
    this.#parts = parts;
    this.#databasePath = parts.databasePath;
    this.sender = new SnapshotSender({
      raft,
      clock,
      disk,
      dataDirectory,
      scratchPath: () => member.scratchPath(),
      copy: (path) => member.housekeeping.takeSnapshotFile(path),
      // Files are cut whole, so the log on disk may begin before what consensus still knows.
      firstIndex: () => Math.max(log.firstIndex, raft.status().startIndex + 1),
      wake: () => loop.wake(),
      report,
    });
    this.receiver = new SnapshotReceiver({
      clock,
      disk,
      peers,
      dataDirectory,
      openDatabase: (path) => ports.openDatabase(path),
      examine: (path) => member.housekeeping.examineSnapshotFile(path),
      leader: () => raft.status().leader,
      generation: () => generationOf(this.#databasePath),
      commit: (snapshot) => loop.appendSnapshot(snapshot),
      become: (received) => this.#become(received),
      failed: (position) => {
        raft.snapshotInstallFailed(position);
        loop.wake();
      },
      report,
      fatal: parts.fatal,
    });
  }

  start(): void {
    this.sender.start();
  }

  /** Sees each message before consensus does. */
  receive(message: PeerMessage): void {
    if (message.kind === "snapshot") this.receiver.announced(message.from, message.position);
    if (message.kind === "snapshot-status" && !message.ok) this.sender.refusedBy(message.from);
  }

  install(position: SnapshotPosition): void {
    this.receiver.install(position);
  }

  wanted(): void {
    this.sender.wanted();
  }

  readPiece(from: MemberId, name: string, offset: number, bytesMax: number): Promise<Uint8Array> {
    return this.sender.readPiece(from, name, offset, bytesMax);
  }

  /** Entries behind this one must stay in the log. */
  get keepFrom(): LogIndex | undefined {
    return this.sender.keepFrom;
  }

  get status(): {
    readonly sending: readonly SendingStatus[];
    readonly receiving: ReceivingStatus | undefined;
  } {
    return { sending: this.sender.status, receiving: this.receiver.status };
  }

  /** The record is on disk: everything that knew the former state goes over to this one, in one turn. */
  async #become({ position, loaded, path }: ReceivedState): Promise<void> {
    const { member, ports, raft, loop, applier, proposals, reads, configurationChanged } = this.#parts;
    const { state, hub, housekeeping } = member;
    await housekeeping.releaseJobs("a snapshot takes the place of the state");
    if (this.#stopped) return loaded.generation.database.close();
    this.#closeRetired();
    loop.dropQueue();
    applier.drop();
    hub.flush();
    const formerPath = this.#databasePath;
    const retired = state.replace(loaded);
    assert(
      state.appliedIndex === position.index,
      `the snapshot of ${position.index} holds the state of ${state.appliedIndex}`,
    );
    this.#databasePath = path;
    hub.reset(state.history);
    raft.snapshotInstalled(position);
    proposals.skipped(position.term);
    reads.applied(position.index);
    housekeeping.useJobs(ports.startDatabaseJobs(path, state));
    member.leases.demote();
    member.space.measureDatabase();
    configurationChanged();
    this.#retire(retired, formerPath);
    loop.wake();
  }

  /** Lets readers of the former state finish, up to a deadline; then its folder goes. */
  #retire(state: RetiredState, path: string): void {
    const { clock } = this.#parts.ports;
    const deadlineMs = clock.monotonicMs() + retiredStateMs;
    const look = (): void => {
      const cancel = clock.after(retiredPollMs, () => {
        if (this.#stopped) return;
        if (state.readers > 0 && clock.monotonicMs() < deadlineMs) return look();
        this.#retired = undefined;
        void this.#remove(state, path);
      });
      this.#retired = { state, cancel };
    };
    look();
  }

  async #remove(state: RetiredState, path: string): Promise<void> {
    const { member, ports, report } = this.#parts;
    const { disk } = ports;
    try {
      await removeOpenGeneration(
        dirname(dirname(path)),
        generationOf(path),
        disk,
        () => member.soon(),
        () => state.close(),
      );
    } catch (error) {
      if (this.#stopped) return;
      report("warn", "could not remove the state that a snapshot replaced; the next start does", {
        path,
        error: String(error),
      });
    }
  }

  #closeRetired(): void {
    const retired = this.#retired;
    if (retired === undefined) return;
    this.#retired = undefined;
    retired.cancel();
    retired.state.close();
  }

  /** Gives up what is under way; the next start removes what it leaves. */
  stop(): void {
    this.#stopped = true;
    this.receiver.stop();
    this.sender.stop();
    this.#closeRetired();
  }
}
