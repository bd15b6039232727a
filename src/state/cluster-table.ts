/** What the cluster agreed on besides keys and leases: its members, alarms and version. Cold, so drizzle's. */
import { clone, create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { eq } from "drizzle-orm";
import { type BunSQLiteDatabase, drizzle } from "drizzle-orm/bun-sqlite";
import { changed } from "../consensus/configuration";
import type { Configuration, ConfigurationChange } from "../consensus/types";
import type { MemberId } from "../ids";
import {
  type AlarmMember,
  AlarmMemberSchema,
  AlarmRequest_AlarmAction as AlarmAction,
  type AlarmRequest,
  AlarmType,
  type Member,
  MemberSchema,
} from "../proto/gen/etcd/rpc_pb";
import type { RefusalName } from "../errors";
import type { PublishMember, UpdateMember } from "../proto/gen/keelson/command_pb";
import { DamagedStateError } from "./damage";
import type { Journal } from "./position";
import { type RowSum, rowChecksum } from "./row-sum";
import { alarms, members, settings } from "./schema";

const clusterVersionName = "cluster_version";

interface MemberRow {
  readonly member: Member;
  /** Kept for ever, because an id is never used again. */
  readonly removed: boolean;
}

export class ClusterTable {
  readonly #members = new Map<MemberId, MemberRow>();
  #alarms: AlarmMember[] = [];
  #version: string | undefined = undefined;
  readonly #tables: BunSQLiteDatabase;

  constructor(readonly journal: Journal) {
    this.#tables = drizzle({ client: journal.database });
  }

  /** Reads the stored rows, checking and counting them. */
  load(sum: RowSum): void {
    for (const row of this.#tables.select().from(members).all()) {
      check("a member", row.checksum, memberChecksum(row.member, row.removed), sum);
      const member = fromBinary(MemberSchema, row.member);
      this.#members.set(member.ID, { member, removed: row.removed !== 0 });
    }
    for (const row of this.#tables.select().from(alarms).all()) {
      check("an alarm", row.checksum, rowChecksum(row.alarm, 0), sum);
      this.#alarms.push(fromBinary(AlarmMemberSchema, row.alarm));
    }
    this.#sortAlarms();
    for (const row of this.#tables.select().from(settings).all()) {
      check(`the setting ${row.name}`, row.checksum, settingChecksum(row.name, row.value), sum);
      if (row.name === clusterVersionName) this.#version = row.value;
    }
  }

  /** Present members, by id. */
  members(): Member[] {
    const present: Member[] = [];
    for (const { member, removed } of this.#members.values()) if (!removed) present.push(member);
    return present.sort((a, b) => compareIds(a.ID, b.ID));
  }

  /** Who votes and who only listens, as far as configuration entries were applied. */
  configuration(): Configuration {
    const present = this.members();
    return {
      voters: present.filter(({ isLearner }) => !isLearner).map(({ ID }) => ID),
      learners: present.filter(({ isLearner }) => isLearner).map(({ ID }) => ID),
    };
  }

  isRemoved(id: MemberId): boolean {
    return this.#members.get(id)?.removed ?? false;
  }

  /**
   * Makes a change of membership, or says why not: whoever proposed it may not have known of what came before it in
   * the log. What is refused here must not reach consensus either, and nothing passes that consensus would ignore.
   */
  change(change: ConfigurationChange): RefusalName | undefined {
    const { type, memberId, context } = change;
    const given = context.length > 0 ? fromBinary(MemberSchema, context) : create(MemberSchema);
    const refusal = this.#changeRefusal(change, given);
    if (refusal !== undefined) return refusal;
    const member = this.#copyOf(memberId);
    if (type === "remove") {
      this.#save(member, true);
      return undefined;
    }
    // Addresses come with the change; what the member itself made known stays unless replaced.
    if (given.name !== "") member.name = given.name;
    if (given.clientURLs.length > 0) member.clientURLs = given.clientURLs;
    if (given.peerURLs.length > 0) member.peerURLs = given.peerURLs;
    member.isLearner = type === "add-learner";
    this.#save(member, false);
    return undefined;
  }

  #changeRefusal(change: ConfigurationChange, given: Member): RefusalName | undefined {
    const { type, memberId } = change;
    const known = this.#members.get(memberId);
    if (known?.removed === true) return "memberNotFound";
    if (changed(this.configuration(), change) === undefined) {
      if (type !== "remove") return "memberExist";
      return known === undefined ? "memberNotFound" : "memberNotEnoughStarted";
    }
    return type !== "remove" && this.#isTaken(given.peerURLs, memberId) ? "peerURLExist" : undefined;
  }

  /** True when a member other than `id` has one of the URLs. */
  #isTaken(peerUrls: readonly string[], id: MemberId): boolean {
    return this.members().some(
      ({ ID, peerURLs }) => ID !== id && peerURLs.some((url) => peerUrls.includes(url)),
    );
  }

  publish({ memberId, name, clientUrls }: PublishMember): void {
    if (this.isRemoved(memberId)) return;
    const member = this.#copyOf(memberId);
    member.name = name;
    member.clientURLs = clientUrls;
    this.#save(member, false);
  }

  /** Changes peer URLs and nothing else (etcd bug #21736), or says why not. */
  update({ memberId, peerUrls }: UpdateMember): RefusalName | undefined {
    const known = this.#members.get(memberId);
    if (known === undefined || known.removed) return "memberNotFound";
    if (this.#isTaken(peerUrls, memberId)) return "peerURLExist";
    const member = this.#copyOf(memberId);
    member.peerURLs = peerUrls;
    this.#save(member, false);
    return undefined;
  }

  /** What is known of a member, to be changed and saved. */
  #copyOf(id: MemberId): Member {
    const known = this.#members.get(id);
    return known === undefined ? create(MemberSchema, { ID: id }) : clone(MemberSchema, known.member);
  }

  #save(member: Member, removed: boolean): void {
    const before = this.#members.get(member.ID);
    if (before !== undefined) {
      const bytes = toBinary(MemberSchema, before.member);
      this.journal.position.rows.subtract(memberChecksum(bytes, before.removed ? 1 : 0));
    }
    const row = {
      id: idBytes(member.ID),
      removed: removed ? 1 : 0,
      member: Buffer.from(toBinary(MemberSchema, member)),
      checksum: 0,
    };
    row.checksum = this.journal.added(row.member, row.removed);
    this.journal.write(row.member.length + 32);
    this.#tables.insert(members).values(row).onConflictDoUpdate({ target: members.id, set: row }).run();
    this.#members.set(member.ID, { member, removed });
  }

  alarms(): AlarmMember[] {
    return [...this.#alarms];
  }

  isRaised(alarm: AlarmType): boolean {
    return this.#alarms.some((raised) => raised.alarm === alarm);
  }

  /** Answers with the alarms that were asked for, raised or lowered (etcd-wire 8.9). */
  alarm({ action, memberID, alarm }: AlarmRequest): AlarmMember[] {
    if (action === AlarmAction.GET) {
      return this.#alarms.filter((raised) => alarm === AlarmType.NONE || raised.alarm === alarm);
    }
    if (alarm === AlarmType.NONE) return [];
    const raised = this.#alarms.find((other) => other.alarm === alarm && other.memberID === memberID);
    if (action === AlarmAction.ACTIVATE) {
      if (raised !== undefined) return [raised];
      const added = create(AlarmMemberSchema, { memberID, alarm });
      const bytes = Buffer.from(toBinary(AlarmMemberSchema, added));
      this.journal.write(bytes.length + 16);
      this.#tables
        .insert(alarms)
        .values({ alarm: bytes, checksum: this.journal.added(bytes) })
        .run();
      this.#alarms.push(added);
      this.#sortAlarms();
      return [added];
    }
    if (action !== AlarmAction.DEACTIVATE || raised === undefined) return [];
    const bytes = Buffer.from(toBinary(AlarmMemberSchema, raised));
    this.journal.write(bytes.length);
    this.#tables.delete(alarms).where(eq(alarms.alarm, bytes)).run();
    this.journal.position.rows.subtract(rowChecksum(bytes, 0));
    this.#alarms = this.#alarms.filter((other) => other !== raised);
    return [raised];
  }

  #sortAlarms(): void {
    this.#alarms.sort((a, b) => a.alarm - b.alarm || compareIds(a.memberID, b.memberID));
  }

  get version(): string | undefined {
    return this.#version;
  }

  setVersion(version: string): void {
    const name = clusterVersionName;
    if (this.#version !== undefined)
      this.journal.position.rows.subtract(settingChecksum(name, this.#version));
    const checksum = settingChecksum(name, version);
    this.journal.position.rows.add(checksum);
    this.journal.write(version.length + 32);
    const row = { name, value: version, checksum };
    this.#tables.insert(settings).values(row).onConflictDoUpdate({ target: settings.name, set: row }).run();
    this.#version = version;
  }
}

function check(what: string, stored: number, computed: number, sum: RowSum): void {
  if (stored !== computed) throw new DamagedStateError(`the row of ${what} does not match its checksum`);
  sum.add(stored);
}

function compareIds(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function idBytes(id: MemberId): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt.asUintN(64, id));
  return bytes;
}

function memberChecksum(member: Uint8Array, removed: number): number {
  return rowChecksum(member, removed);
}

function settingChecksum(name: string, value: string): number {
  return rowChecksum(Buffer.from(`${name}\0${value}`), 0);
}
