/** The past of one key, and the times of revisions. */
import { fromBinary } from "@bufbuild/protobuf";
import { toBinaryString } from "../bytes";
import { refuse } from "../errors";
import type { Revision } from "../ids";
import type { Member } from "../member/member";
import { type KeyValue, KeyValueSchema } from "../proto/gen/etcd/kv_pb";

/** Bytes of versions in one answer; the one that passes it is still in it. */
const answerBytesMax = 4 * 1024 ** 2;

export interface KeyHistory {
  /** The store's revision when it answered. */
  readonly revision: Revision;
  /** Newest first; a deletion has version 0. */
  readonly versions: readonly KeyValue[];
  readonly more: boolean;
}

export class HistoryService {
  readonly #member: Member;

  constructor(member: Member) {
    this.#member = member;
  }

  /** Retained versions of a key below a revision. */
  async history(
    key: Uint8Array,
    before: Revision,
    versionsMax: number,
    serializable: boolean,
  ): Promise<KeyHistory> {
    if (!serializable) await this.#member.linearizable();
    this.#refuseWhenDamaged();
    const { state } = this.#member;
    const { records, more } = state.versions(toBinaryString(key), before, versionsMax, answerBytesMax);
    return {
      revision: state.revision,
      versions: records.map((record) => fromBinary(KeyValueSchema, record)),
      more,
    };
  }

  /** When a revision was written, to a second; undefined when nobody knows any more. */
  timeOf(revision: bigint): number | undefined {
    return this.#member.state.timeOf(Number(revision));
  }

  /** The newest revision written by a time, to a second; undefined for times before all that is known. */
  async revisionAt(timeMs: number, serializable: boolean): Promise<Revision | undefined> {
    if (!serializable) await this.#member.linearizable();
    this.#refuseWhenDamaged();
    return this.#member.state.revisionAt(timeMs);
  }

  /** As reads do: data that is known to differ from the others' is not shown. */
  #refuseWhenDamaged(): void {
    if (this.#member.consistency.damaged) throw refuse("corrupt");
  }
}
