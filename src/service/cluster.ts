/** The Cluster service. So far it lists members; changing them comes with clusters of several members. */
import { create } from "@bufbuild/protobuf";
import type { Member } from "../member/member";
import {
  type MemberListRequest,
  type MemberListResponse,
  MemberListResponseSchema,
} from "../proto/gen/etcd/rpc_pb";

export class ClusterService {
  readonly #member: Member;

  constructor(member: Member) {
    this.#member = member;
  }

  /** Members sorted by id. The header has no revision, as etcd answers it (reference etcd-wire 8.1). */
  async memberList(request: MemberListRequest): Promise<MemberListResponse> {
    if (request.linearizable) await this.#member.linearizable();
    return create(MemberListResponseSchema, {
      header: this.#member.headers.message(0),
      members: this.#member.state.members(),
    });
  }
}
