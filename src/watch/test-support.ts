/** A store in memory, a reader that decodes, and builders, for the tests of the hub. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { assert } from "../assert";
import { concatBytes, fromBinaryString } from "../bytes";
import { refuse } from "../errors";
import type { Revision } from "../ids";
import { KeyValueSchema } from "../proto/gen/etcd/kv_pb";
import type { WatchCreateRequest, WatchResponse } from "../proto/gen/etcd/rpc_pb";
import {
  ResponseHeaderSchema,
  WatchCreateRequestSchema,
  WatchResponseSchema,
} from "../proto/gen/etcd/rpc_pb";
import type { Change, History, RevisionChanges } from "../state/types";
import type { EncodedMessage } from "../transport/call";
import type { WatchSink } from "./types";

/** The encoded header that test hubs answer with. */
export function testHeader(revision: Revision): Uint8Array {
  return toBinary(
    ResponseHeaderSchema,
    create(ResponseHeaderSchema, {
      clusterId: 0xf00df00df00df00dn,
      memberId: 0x8000000000000001n,
      revision: BigInt(revision),
      raftTerm: 3n,
    }),
  );
}

/** One write of a test transaction: a value, or null to delete. */
export type Write = readonly [key: string, value: string | null];

interface Version {
  readonly revision: Revision;
  readonly record: Uint8Array | undefined;
  readonly createRevision: Revision;
  readonly version: number;
}

/**
 * Multi-version model: keeps the whole log for the checks, and serves as {@link History} only what a compacted
 * store still has.
 */
export class ModelStore implements History {
  revision: Revision = 1;
  compactedRevision: Revision = 0;
  /** Everything that ever happened. */
  readonly log: RevisionChanges[] = [];
  readonly #versions = new Map<string, Version[]>();
  /** How often the hub read history. */
  scans = 0;

  /** Applies a transaction; undefined when it changed nothing. */
  write(...writes: readonly Write[]): RevisionChanges | undefined {
    const revision = this.revision + 1;
    const changes: Change[] = [];
    for (const [key, value] of writes) {
      const versions = this.#versions.get(key) ?? [];
      this.#versions.set(key, versions);
      const last = versions[versions.length - 1];
      const lives = last?.record !== undefined;
      if (value === null && !lives) continue;
      const createRevision = lives ? last.createRevision : revision;
      const version = lives ? last.version + 1 : 1;
      const message = create(KeyValueSchema, {
        key: fromBinaryString(key),
        modRevision: BigInt(revision),
        ...(value === null
          ? {}
          : {
              value: Buffer.from(value),
              createRevision: BigInt(createRevision),
              version: BigInt(version),
            }),
      });
      const record = toBinary(KeyValueSchema, message);
      versions.push({ revision, record: value === null ? undefined : record, createRevision, version });
      changes.push({
        type: value === null ? "delete" : "put",
        key,
        revision,
        sub: changes.length,
        created: value !== null && !lives,
        record,
      });
    }
    if (changes.length === 0) return undefined;
    this.revision = revision;
    const entry = { revision, changes };
    this.log.push(entry);
    return entry;
  }

  /** Below this even the rows are gone; until then reading there works, and may show holes. */
  sweptRevision: Revision = 0;

  /** Compacts; the rows go at once or later, as the real store takes its time. */
  compact(revision: Revision, sweep = true): void {
    if (sweep) this.sweptRevision = revision;
    assert(revision > this.compactedRevision && revision <= this.revision, "compaction out of range");
    this.compactedRevision = revision;
  }

  changes(from: Revision, to: Revision, revisionsMax: number, bytesMax: number) {
    this.scans++;
    if (from < this.sweptRevision) throw refuse("compacted");
    const revisions: RevisionChanges[] = [];
    let bytes = 0;
    let next = to + 1;
    for (const entry of this.log) {
      if (entry.revision < from || entry.revision > to) continue;
      if (revisions.length >= revisionsMax || bytes > bytesMax) {
        next = entry.revision;
        break;
      }
      for (const change of entry.changes) bytes += change.record.length;
      // What a half-done sweep leaves: every second of the compacted revisions.
      if (entry.revision < this.compactedRevision && entry.revision % 2 === 0) continue;
      revisions.push(entry);
    }
    return { revisions, next };
  }

  /** The record just before a revision, whatever was compacted. */
  recordBefore(key: string, revision: Revision): Uint8Array | undefined {
    let found: Uint8Array | undefined;
    for (const version of this.#versions.get(key) ?? []) {
      if (version.revision >= revision) break;
      found = version.record;
    }
    return found;
  }

  before(key: string, revision: Revision): Uint8Array | undefined {
    return revision - 1 < this.compactedRevision ? undefined : this.recordBefore(key, revision);
  }
}

/** A reader: takes `capacity` messages, then refuses until {@link take} makes room. */
export class Reader implements WatchSink {
  readonly encoded: EncodedMessage[] = [];
  readonly messages: WatchResponse[] = [];
  #room: number;

  constructor(
    readonly capacity = Infinity,
    readonly onMessage: (message: WatchResponse) => void = () => {},
  ) {
    this.#room = capacity;
  }

  send(message: EncodedMessage): boolean {
    assert(this.#room > 0, "the hub sent to a sink that had refused");
    this.#room--;
    this.encoded.push(message);
    const decoded = fromBinary(WatchResponseSchema, concatBytes(message.chunks));
    this.messages.push(decoded);
    this.onMessage(decoded);
    return this.#room > 0;
  }

  /** The client read everything: there is room again. */
  makeRoom(): void {
    this.#room = this.capacity;
  }

  /** What came since the last call. */
  take(): WatchResponse[] {
    return this.messages.splice(0);
  }
}

export interface CreateOptions {
  readonly end?: string;
  readonly start?: number;
  readonly watchId?: number;
  readonly progressNotify?: boolean;
  readonly prevKv?: boolean;
  readonly fragment?: boolean;
  readonly filters?: WatchCreateRequest["filters"];
}

export function createRequest(key: string, options: CreateOptions = {}): WatchCreateRequest {
  return create(WatchCreateRequestSchema, {
    key: fromBinaryString(key),
    rangeEnd: fromBinaryString(options.end ?? ""),
    startRevision: BigInt(options.start ?? 0),
    watchId: BigInt(options.watchId ?? 0),
    progressNotify: options.progressNotify ?? false,
    prevKv: options.prevKv ?? false,
    fragment: options.fragment ?? false,
    filters: options.filters ?? [],
  });
}

/** A short form of a response for comparisons: only what is set. */
export function brief(message: WatchResponse): string {
  const parts = [`#${message.watchId}`, `rev ${message.header?.revision}`];
  if (message.created) parts.push("created");
  if (message.canceled) parts.push("canceled");
  if (message.compactRevision !== 0n) parts.push(`compacted ${message.compactRevision}`);
  if (message.cancelReason !== "") parts.push(`"${message.cancelReason}"`);
  if (message.fragment) parts.push("fragment");
  for (const event of message.events) {
    const key = Buffer.from(event.kv!.key).toString("latin1");
    const value = event.type === 0 ? `=${Buffer.from(event.kv!.value).toString("latin1")}` : " gone";
    const previous =
      event.prevKv === undefined ? "" : ` was ${Buffer.from(event.prevKv.value).toString("latin1")}`;
    parts.push(`${key}${value}@${event.kv!.modRevision}${previous}`);
  }
  return parts.join(" ");
}
