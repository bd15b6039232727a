/** The peer port: connections of members, of joiners that ask for the member list, and of whoever comes by mistake. */
import type { Duplex } from "node:stream";
import { hexId, type MemberId } from "../../ids";
import { OutputBudget } from "../http2/output";
import { type PeerContext, warnSeldom, withoutNumbers } from "./context";
import { answerHeaders, commonProtocol, type Hello, type RefusalReason } from "./handshake";
import { IncomingConnection } from "./incoming";
import { answerBytesInFlightMax, helloTimeoutMs } from "./limits";
import type { PeerPageServer } from "./pages";
import type { Presence } from "./presence";

export interface PortHost {
  /** Absent before the member has started. */
  readonly context: PeerContext | undefined;
  readonly presence: Presence;
  readonly pages: PeerPageServer;
  isMember(id: MemberId): boolean;
  /** A member introduced itself, so that it can be reached as well. */
  greeted(id: MemberId): void;
  received(id: MemberId, bytes: number): void;
  receiveFailed(id: MemberId): void;
}

export class PeerPort {
  readonly #connections = new Set<IncomingConnection>();
  readonly budget = new OutputBudget(answerBytesInFlightMax);

  constructor(
    readonly host: PortHost,
    readonly logging: Parameters<typeof warnSeldom>[0],
  ) {}

  /** Takes a connection over that begins like HTTP/2. */
  accept(socket: Duplex): void {
    const connection = new IncomingConnection(this, socket, () => this.#connections.delete(connection));
    this.#connections.add(connection);
    connection.start();
  }

  get helloTimeoutMs(): number {
    return this.logging.options.helloTimeoutMs ?? helloTimeoutMs;
  }

  nowMs(): number {
    return this.logging.options.clock.monotonicMs();
  }

  get connections(): number {
    return this.#connections.size;
  }

  /** Looks after every connection, `lateMs` later than planned. */
  look(nowMs: number, lateMs: number): void {
    for (const connection of this.#connections) connection.look(nowMs, lateMs);
  }

  close(): void {
    for (const connection of this.#connections) connection.cut();
  }

  /** Why whoever says this is turned away; undefined: it is a member. */
  judge(hello: Hello | undefined): RefusalReason | undefined {
    const { context, presence } = this.host;
    if (hello === undefined) return "malformed-hello";
    if (commonProtocol(hello) === undefined) return "incompatible-protocol";
    if (context === undefined) return "not-ready";
    const { identity, handler } = context;
    if (hello.clusterId !== identity.clusterId) return "wrong-cluster";
    if (hello.from === identity.memberId) return "myself";
    if (hello.to !== identity.memberId) return "wrong-member";
    if (handler.isRemoved(hello.from)) return "removed";
    if (!this.host.isMember(hello.from)) {
      const { from: id, peerUrls } = hello;
      if (peerUrls.length > 0) handler.stranger?.({ id, peerUrls });
      return "unknown-member";
    }
    if (hello.isFresh && handler.hasLived?.(hello.from) === true) return "lost-data";
    if (presence.isSuperseded(hello.from, hello.incarnation)) return "superseded";
    return undefined;
  }

  /** The headers by which this member says who it is; none before it has started. */
  ownHeaders(): readonly (readonly [string, string])[] {
    const { context } = this.host;
    return context === undefined ? [] : answerHeaders(context.identity);
  }

  /** One line per cause and minute about somebody who was turned away. */
  warnRefused(reason: string, hello: Hello | undefined, address: string): void {
    // Whoever comes while this member starts is told to come again, as at every start of a cluster.
    if (reason === "not-ready") return;
    // A stranger chooses its id, so its address says who it is.
    const known = hello !== undefined && this.host.isMember(hello.from);
    const who = known ? hexId(hello.from) : address.replace(/:\d+$/, "");
    warnSeldom(this.logging, `${reason}:${who}`, "the peer port refused a connection", {
      reason,
      remoteAddress: address,
      ...(hello === undefined
        ? {}
        : {
            from: hexId(hello.from),
            to: hexId(hello.to),
            cluster: hexId(hello.clusterId),
            version: hello.version,
          }),
    });
  }

  /** One line per cause and minute about a connection that was ended. */
  warnEnded(reason: string, from: MemberId | undefined, address: string): void {
    const who = from === undefined ? address.replace(/:\d+$/, "") : hexId(from);
    warnSeldom(this.logging, `${withoutNumbers(reason)}:${who}`, "the peer port ended a connection", {
      reason,
      remoteAddress: address,
      ...(from === undefined ? {} : { from: hexId(from) }),
    });
  }
}
