/** Members that consist of a transport alone, for tests and measurements. */
import { CapturingLogger } from "../../log";
import type { PeerMessage } from "../../member/peer-message";
import type { Clock, PeerAddress, PeerHandler, Rng } from "../../member/ports";
import type { Metrics } from "../../metrics/metrics";
import { SeededRng } from "../../rng";
import type { PeerPages, PeerTransport } from "./options";
import { createPeers } from "./peers";

export const clusterId = 0xec78_35e4_33d9_e2c0n;

export const realClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  after(delayMs, callback) {
    const timer = setTimeout(callback, delayMs);
    return () => clearTimeout(timer);
  },
  soon: (callback) => void setImmediate(callback),
};

export interface TestMemberOptions {
  readonly listenUrl?: string;
  readonly incarnation?: bigint;
  readonly clusterId?: bigint;
  readonly electionTimeoutMs?: number;
  readonly helloTimeoutMs?: number;
  readonly metrics?: Metrics["network"];
  readonly handler?: Partial<PeerHandler>;
  readonly pages?: PeerPages;
  readonly rng?: Rng;
}

export class TestMember implements PeerHandler {
  readonly received: PeerMessage[] = [];
  readonly log = new CapturingLogger();
  readonly failures: unknown[] = [];
  readonly removedBy: bigint[] = [];
  readonly strangers: PeerAddress[] = [];
  readonly transport: PeerTransport;
  readonly removedIds = new Set<bigint>();
  /** Those that are known to have had data. */
  readonly livedIds = new Set<bigint>();
  readonly lostDataBy: bigint[] = [];
  isFresh = false;
  url = "";

  constructor(
    readonly id: bigint,
    readonly options: TestMemberOptions = {},
  ) {
    this.transport = createPeers({
      listenUrls: [options.listenUrl ?? "http://127.0.0.1:0"],
      clock: realClock,
      rng: options.rng ?? new SeededRng(Number(id)),
      log: this.log,
      electionTimeoutMs: options.electionTimeoutMs ?? 1000,
      ...(options.helloTimeoutMs === undefined ? {} : { helloTimeoutMs: options.helloTimeoutMs }),
      pages: () => options.pages,
      ...(options.metrics === undefined ? {} : { metrics: options.metrics }),
      fatal: (error) => this.failures.push(error),
    });
  }

  static async open(id: bigint, options: TestMemberOptions = {}): Promise<TestMember> {
    const member = new TestMember(id, options);
    member.url = (await member.transport.listen())[0]!;
    return member;
  }

  get address(): PeerAddress {
    return { id: this.id, peerUrls: [this.url] };
  }

  start(...others: (TestMember | PeerAddress)[]): void {
    this.transport.start(
      {
        clusterId: this.options.clusterId ?? clusterId,
        memberId: this.id,
        incarnation: this.options.incarnation ?? 1n,
        peerUrls: () => [this.url],
        isFresh: () => this.isFresh,
      },
      this,
    );
    this.knows(...others);
  }

  knows(...others: (TestMember | PeerAddress)[]): void {
    this.transport.setMembers(others.map((one) => (one instanceof TestMember ? one.address : one)));
  }

  receive(message: PeerMessage): void {
    if (this.options.handler?.receive === undefined) this.received.push(message);
    else this.options.handler.receive(message);
  }

  readPiece(from: bigint, name: string, offset: number, bytesMax: number): Promise<Uint8Array> {
    const { handler } = this.options;
    if (handler?.readPiece === undefined) return Promise.reject(new Error(`there is no file ${name}`));
    return handler.readPiece(from, name, offset, bytesMax);
  }

  isRemoved(id: bigint): boolean {
    return this.removedIds.has(id);
  }

  removed(by: bigint): void {
    this.removedBy.push(by);
  }

  hasLived(id: bigint): boolean {
    return this.livedIds.has(id);
  }

  lostData(by: bigint): void {
    this.lostDataBy.push(by);
  }

  stranger(address: PeerAddress): void {
    this.strangers.push(address);
  }

  heartbeat(to: TestMember, readRound: number): PeerMessage {
    return { kind: "heartbeat", from: this.id, to: to.id, term: 1, commit: 0, readRound };
  }

  append(to: TestMember, index: number, bytes: number): PeerMessage {
    return {
      kind: "append",
      from: this.id,
      to: to.id,
      term: 1,
      previousIndex: index - 1,
      previousTerm: 1,
      commit: 0,
      entries: [{ term: 1, index, kind: "command", data: Buffer.alloc(bytes, index) }],
    };
  }

  /** The read rounds of the heartbeats that came, in order. */
  get rounds(): number[] {
    return this.received.flatMap((one) => (one.kind === "heartbeat" ? [one.readRound] : []));
  }

  connected(to: TestMember): boolean {
    return (
      this.transport.roundTripMs(to.id) !== undefined && this.transport.activeSinceMs(to.id) !== undefined
    );
  }

  logged(message: string, reason?: string): number {
    return this.log.lines.filter(
      (line) =>
        line.message === message && (reason === undefined || String(line.fields["reason"]).includes(reason)),
    ).length;
  }
}

/** Waits until `condition` holds; fails the test with `what` after `timeoutMs`. */
export async function until(what: string, condition: () => boolean, timeoutMs = 3000): Promise<void> {
  const endMs = performance.now() + timeoutMs;
  while (!condition()) {
    if (performance.now() > endMs) throw new Error(`not in time: ${what}`);
    await Bun.sleep(2);
  }
}
