/** The peer transport: HTTP/2 streams between members (README.md). */
import { hexId, type MemberId } from "../../ids";
import { OncePerMinute } from "../../log";
import type { PeerMessage } from "../../member/peer-message";
import type { CancelTimer, PeerAddress, PeerHandler, PeerIdentity } from "../../member/ports";
import { OutputBudget } from "../http2/output";
import { type Listener, listen } from "../listener";
import { boundsOf, type PeerContext, warnSeldom } from "./context";
import { FileClient } from "./file-client";
import { Lane, type LaneEvents } from "./lane";
import { answerBytesInFlightMax, connectionsMax, helloTimeoutMs, urgentMessageBytesMax } from "./limits";
import type { PeerTransport, PeerTransportOptions } from "./options";
import { PeerPageServer } from "./pages";
import { PeerPort, type PortHost } from "./port";
import { Presence } from "./presence";

/** Creates the transport of one member; nothing is opened before `listen` and `start`. */
export function createPeers(options: PeerTransportOptions): PeerTransport {
  return new HttpPeers(options);
}

/** Another member, and the ways to it. */
interface Peer {
  readonly urgent: Lane;
  readonly bulk: Lane;
  readonly files: FileClient;
  readonly received: { inc(by?: number): void } | undefined;
  readonly receiveFailures: { inc(by?: number): void } | undefined;
  readonly queued: { set(bytes: number): void } | undefined;
  roundTripMs: number | undefined;
}

class HttpPeers implements PeerTransport, PortHost {
  readonly presence: Presence;
  readonly pages: PeerPageServer;
  readonly #options: PeerTransportOptions;
  readonly #seldom: OncePerMinute;
  readonly #port: PeerPort;
  readonly #peers = new Map<MemberId, Peer>();
  #members: readonly PeerAddress[] = [];
  #listener: Listener | undefined;
  #context: PeerContext | undefined;
  #cancelLook: CancelTimer | undefined;
  #closed = false;

  constructor(options: PeerTransportOptions) {
    const { clock } = options;
    this.#options = options;
    this.#seldom = new OncePerMinute(() => clock.monotonicMs());
    this.presence = new Presence(() => clock.monotonicMs(), {
      activeChanged: (id, active) => this.#activeChanged(id, active),
    });
    this.pages = new PeerPageServer(options.pages, (what, address) =>
      this.#port.warnRefused(what, undefined, address),
    );
    this.#port = new PeerPort(this, { options, seldom: this.#seldom });
  }

  async listen(): Promise<readonly string[]> {
    this.#listener = await listen({
      urls: this.#options.listenUrls,
      grpc: this.#port,
      http: this.pages.http1(),
      firstByteTimeoutMs: this.#options.helloTimeoutMs ?? helloTimeoutMs,
      connectionsMax,
      log: (message, fields) => this.#options.log.warn(message, { ...fields, port: "peer" }),
    });
    return this.#listener.urls;
  }

  // Peers.

  start(identity: PeerIdentity, handler: PeerHandler): void {
    const context: PeerContext = {
      options: this.#options,
      seldom: this.#seldom,
      identity,
      handler,
      budget: new OutputBudget(answerBytesInFlightMax),
      ...boundsOf(this.#options),
    };
    this.#context = context;
    this.setMembers(this.#members);
    this.#lookAgain(context.lookMs);
  }

  setMembers(members: readonly PeerAddress[]): void {
    const context = this.#context;
    this.#members = members;
    if (context === undefined || this.#closed) return;
    const { identity } = context;
    const present = new Set(members.map(({ id }) => id));
    for (const [id, peer] of this.#peers) if (!present.has(id)) void this.#forget(id, peer);
    this.presence.retain((id) => present.has(id));
    for (const { id, peerUrls } of members) {
      if (id === identity.memberId) continue;
      const known = this.#peers.get(id);
      if (known === undefined) this.#peers.set(id, this.#connect(context, id, peerUrls));
      else for (const way of [known.urgent, known.bulk, known.files]) way.setUrls(peerUrls);
    }
  }

  send(messages: readonly PeerMessage[]): boolean {
    let all = true;
    for (const message of messages) {
      const peer = this.#peers.get(message.to);
      if (peer === undefined || !(isBulk(message) ? peer.bulk : peer.urgent).send(message)) all = false;
    }
    return all;
  }

  flush(): void {
    for (const { urgent, bulk } of this.#peers.values()) {
      urgent.flush();
      bulk.flush();
    }
  }

  fetchPiece(from: MemberId, name: string, offset: number, bytesMax: number): Promise<Uint8Array> {
    const peer = this.#peers.get(from);
    if (peer === undefined) return Promise.reject(new Error(`${hexId(from)} is no member`));
    return peer.files.fetch({ name, offset, bytesMax });
  }

  activeSinceMs(id: MemberId): number | undefined {
    return this.presence.activeSinceMs(id);
  }

  roundTripMs(id: MemberId): number | undefined {
    const peer = this.#peers.get(id);
    return peer?.urgent.open === true ? peer.roundTripMs : undefined;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#cancelLook?.();
    this.#listener?.stopAccepting();
    // Nothing is delivered to a member that stops.
    this.#port.close();
    const gone = [...this.#peers].map(([id, peer]) => this.#forget(id, peer));
    // The last messages, such as the one that hands leadership over, should still arrive.
    await Promise.all(gone);
    await this.#listener?.close();
  }

  // What the port asks for.

  get context(): PeerContext | undefined {
    return this.#closed ? undefined : this.#context;
  }

  isMember(id: MemberId): boolean {
    return this.#peers.has(id);
  }

  greeted(id: MemberId): void {
    const peer = this.#peers.get(id);
    peer?.urgent.kick();
    peer?.bulk.kick();
  }

  received(id: MemberId, bytes: number): void {
    this.#peers.get(id)?.received?.inc(bytes);
  }

  receiveFailed(id: MemberId): void {
    this.#peers.get(id)?.receiveFailures?.inc();
  }

  // The ways to one member.

  #connect(context: PeerContext, id: MemberId, urls: readonly string[]): Peer {
    const to = hexId(id);
    const { metrics } = this.#options;
    const sent = metrics?.peerSentBytes.of(to);
    const failures = metrics?.peerSendFailures.of(to);
    const roundTrips = metrics?.peerRoundTrip.of(to);
    const local = hexId(context.identity.memberId);
    metrics?.knownPeers.of(local, to).set(1);
    metrics?.activePeers.of(local, to).set(0);
    const events = (measures: boolean): LaneEvents => ({
      sent: (bytes) => sent?.inc(bytes),
      dropped: (messages) => failures?.inc(messages),
      roundTrip: (ms) => {
        if (!measures) return;
        roundTrips?.observe(ms / 1000);
        const peer = this.#peers.get(id);
        if (peer !== undefined) peer.roundTripMs = ms;
      },
    });
    return {
      urgent: new Lane(context, id, "urgent", urls, events(true)),
      bulk: new Lane(context, id, "bulk", urls, events(false)),
      files: new FileClient(context, id, urls),
      received: metrics?.peerReceivedBytes.of(to),
      receiveFailures: metrics?.peerReceiveFailures.of(to),
      queued: metrics?.peerQueuedBytes.of(to),
      roundTripMs: undefined,
    };
  }

  #forget(id: MemberId, { urgent, bulk, files }: Peer): Promise<unknown> {
    this.#peers.delete(id);
    files.close();
    const gone = Promise.all([urgent.close(), bulk.close()]);
    const { metrics } = this.#options;
    const local = hexId(this.#context?.identity.memberId ?? 0n);
    metrics?.knownPeers.drop(local, hexId(id));
    metrics?.activePeers.drop(local, hexId(id));
    metrics?.peerQueuedBytes.drop(hexId(id));
    return gone;
  }

  #activeChanged(id: MemberId, active: boolean): void {
    const { metrics, log } = this.#options;
    const [local, remote] = [hexId(this.#context?.identity.memberId ?? 0n), hexId(id)];
    if (this.#peers.has(id)) metrics?.activePeers.of(local, remote).set(active ? 1 : 0);
    if (!active) metrics?.disconnectedPeers.of(local, remote).inc();
    if (active) log.info("a member is connected", { member: remote });
    else if (!this.#closed) {
      warnSeldom({ options: this.#options, seldom: this.#seldom }, remote, "a member is disconnected", {
        member: remote,
      });
    }
  }

  /** Looks at every connection; a look that comes late says that this process stood still, not its peers. */
  #lookAgain(lookMs: number): void {
    const { clock } = this.#options;
    const dueMs = clock.monotonicMs() + lookMs;
    this.#cancelLook = clock.after(lookMs, () => {
      const nowMs = clock.monotonicMs();
      const lateMs = Math.max(0, nowMs - dueMs);
      for (const { urgent, bulk, files, queued } of this.#peers.values()) {
        queued?.set(urgent.queuedBytes + bulk.queuedBytes);
        urgent.look(nowMs, lateMs);
        bulk.look(nowMs, lateMs);
        files.look(nowMs, lateMs);
      }
      this.#port.look(nowMs, lateMs);
      this.#lookAgain(lookMs);
    });
  }
}

/** What must keep its order among itself and may be long; everything else is urgent unless it is long. */
function isBulk(message: PeerMessage): boolean {
  switch (message.kind) {
    case "append":
    case "propose":
      return true;
    case "call":
    case "call-answer":
      return message.body.length > urgentMessageBytesMax;
    default:
      return false;
  }
}
