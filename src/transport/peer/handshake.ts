/**
 * Who is at the two ends of a connection, said in the headers of each request and its answer, and every way to be
 * turned away.
 */
import { type ClusterId, hexId, type MemberId } from "../../ids";
import type { PeerIdentity } from "../../member/ports";
import { keelsonVersion } from "../../version";
import type { SentHeaders } from "../http2/client-stream";

/** Versions of the protocol that this build speaks; the newest that both ends know is used. */
export const protocolOldest = 1;
export const protocolNewest = 1;

export const messagePaths = {
  urgent: "/keelson/peer/messages/urgent",
  bulk: "/keelson/peer/messages/bulk",
} as const;
export const filePath = "/keelson/peer/file";
export type LaneName = keyof typeof messagePaths;

/** How a member introduces itself. */
export interface Hello {
  readonly protocolOldest: number;
  readonly protocolNewest: number;
  /** Of the program, for log lines. */
  readonly version: string;
  readonly clusterId: ClusterId;
  readonly from: MemberId;
  readonly to: MemberId;
  readonly incarnation: bigint;
  /** Where the one who introduces itself can be reached; empty when it does not say. */
  readonly peerUrls: readonly string[];
  /** It has no data yet. */
  readonly isFresh: boolean;
}

/** Peer URLs of an introduction are given up beyond this many bytes. */
const peerUrlBytesMax = 2_048;

/** Why somebody is turned away: a status, whether trying again may help, and what to do about it. */
export const refusals = {
  "malformed-hello": { status: 400, retry: false, text: "this is no member's introduction" },
  "incompatible-protocol": {
    status: 412,
    retry: false,
    text: "the two programs have no version of the peer protocol in common; upgrade one release at a time",
  },
  "wrong-cluster": {
    status: 412,
    retry: false,
    text: "this member belongs to another cluster; check the peer URLs and the data directories",
  },
  "wrong-member": {
    status: 421,
    retry: false,
    text: "another member answers at this peer URL; check the peer URLs",
  },
  myself: { status: 409, retry: false, text: "this member was reached by itself; check the peer URLs" },
  removed: { status: 410, retry: false, text: "the member was removed from the cluster" },
  "lost-data": {
    status: 410,
    retry: false,
    text: "the member has lived in this cluster, and comes without its data; remove it and add it anew",
  },
  superseded: {
    status: 409,
    retry: true,
    text: "a later process of this member is connected; two processes must not run as one member",
  },
  "unknown-member": {
    status: 503,
    retry: true,
    text: "the member is not (yet) part of the cluster as this member knows it",
  },
  "not-ready": { status: 503, retry: true, text: "this member is starting" },
} as const;
export type RefusalReason = keyof typeof refusals;

const freshHeader = "keelson-fresh";

function freshHeaders({ isFresh }: PeerIdentity): SentHeaders {
  return isFresh?.() === true ? [[freshHeader, "1"]] : [];
}

/** Whether headers are those of a member without data. */
export function saysFresh(get: (name: string) => string | undefined): boolean {
  return get(freshHeader) === "1";
}

/** The headers by which this member introduces itself to another. */
export function helloHeaders(identity: PeerIdentity, to: MemberId): SentHeaders {
  const peerUrls = (identity.peerUrls?.() ?? []).join(",");
  return [
    ...(peerUrls === "" || peerUrls.length > peerUrlBytesMax
      ? []
      : [["keelson-peer-urls", peerUrls] as const]),
    ["keelson-protocol", `${protocolOldest}-${protocolNewest}`],
    ["keelson-version", keelsonVersion],
    ["keelson-cluster", hexId(identity.clusterId)],
    ["keelson-from", hexId(identity.memberId)],
    ["keelson-to", hexId(to)],
    ["keelson-incarnation", hexId(identity.incarnation)],
    ...freshHeaders(identity),
  ];
}

/** Reads such headers; undefined when they are not complete or not well formed. */
export function readHello(get: (name: string) => string | undefined): Hello | undefined {
  const versions = /^(\d{1,6})-(\d{1,6})$/.exec(get("keelson-protocol") ?? "");
  const clusterId = readId(get("keelson-cluster"));
  const from = readId(get("keelson-from"));
  const to = readId(get("keelson-to"));
  const incarnation = readId(get("keelson-incarnation"));
  const version = get("keelson-version");
  if (versions === null || version === undefined || !/^[\w.+-]{1,64}$/.test(version)) return undefined;
  if (clusterId === undefined || from === undefined || to === undefined || incarnation === undefined) {
    return undefined;
  }
  const [oldest, newest] = [Number(versions[1]), Number(versions[2])];
  if (oldest > newest || from === 0n || to === 0n) return undefined;
  return {
    protocolOldest: oldest,
    protocolNewest: newest,
    version,
    clusterId,
    from,
    to,
    incarnation,
    peerUrls: readPeerUrls(get("keelson-peer-urls") ?? ""),
    isFresh: saysFresh(get),
  };
}

/** URLs that can be dialed; none when any of them cannot. */
function readPeerUrls(text: string): readonly string[] {
  if (text === "" || text.length > peerUrlBytesMax) return [];
  const urls = text.split(",");
  return urls.every((url) => /^https?:\/\/[\x21-\x7e]+$/.test(url) && URL.canParse(url)) ? urls : [];
}

/** The version that both ends speak; undefined when there is none. */
export function commonProtocol(hello: Hello): number | undefined {
  const newest = Math.min(hello.protocolNewest, protocolNewest);
  return newest >= Math.max(hello.protocolOldest, protocolOldest) ? newest : undefined;
}

/** How the answer says who answers, whether it accepts or refuses. */
export function answerHeaders(identity: PeerIdentity): SentHeaders {
  return [
    ["keelson-version", keelsonVersion],
    ["keelson-cluster", hexId(identity.clusterId)],
    ["keelson-from", hexId(identity.memberId)],
    ...freshHeaders(identity),
  ];
}

/** The body of a refusal. */
export function refusalBody(reason: RefusalReason): Buffer {
  const { text, retry } = refusals[reason];
  return Buffer.from(JSON.stringify({ reason, message: text, retry }));
}

/** How much of a refusal's text is shown. */
const shownTextMax = 200;

/** What a refusal says; a body that says nothing gives the status. */
export function readRefusal(
  status: number,
  body: string,
): { readonly reason: string; readonly message: string; readonly retry: boolean } {
  try {
    const parsed = JSON.parse(body) as { reason?: unknown; message?: unknown; retry?: unknown };
    if (typeof parsed.reason === "string" && typeof parsed.message === "string") {
      const [reason, message] = [parsed.reason, parsed.message].map((text) => text.slice(0, shownTextMax));
      return { reason: reason!, message: message!, retry: parsed.retry === true };
    }
  } catch {
    // Whoever answered is no member.
  }
  return { reason: "not-a-member", message: `HTTP status ${status}`, retry: false };
}

/** Reads an id as {@link hexId} writes it. */
export function readId(text: string | undefined): bigint | undefined {
  return text !== undefined && /^[0-9a-f]{1,16}$/.test(text) ? BigInt(`0x${text}`) : undefined;
}
