/**
 * The Cluster service: who the members are, and changing that (reference etcd-wire 8.10). Headers have no revision,
 * as etcd answers them (8.1).
 */
import { create } from "@bufbuild/protobuf";
import { refuse } from "../errors";
import type { Member } from "../member/member";
import {
  type MemberAddRequest,
  type MemberAddResponse,
  MemberAddResponseSchema,
  type MemberListRequest,
  type MemberListResponse,
  MemberListResponseSchema,
  type MemberPromoteRequest,
  type MemberPromoteResponse,
  MemberPromoteResponseSchema,
  type MemberRemoveRequest,
  type MemberRemoveResponse,
  MemberRemoveResponseSchema,
  type MemberUpdateRequest,
  type MemberUpdateResponse,
  MemberUpdateResponseSchema,
} from "../proto/gen/etcd/rpc_pb";
import { checkedPeerUrls } from "./peer-urls";

export class ClusterService {
  readonly #member: Member;

  constructor(member: Member) {
    this.#member = member;
  }

  #header() {
    return this.#member.headers.message(0);
  }

  /** Members sorted by id. */
  async memberList(request: MemberListRequest): Promise<MemberListResponse> {
    if (request.linearizable) await this.#member.linearizable();
    return create(MemberListResponseSchema, {
      header: this.#header(),
      members: this.#member.state.members(),
    });
  }

  /** The new member's name and client URLs are empty until it has started. */
  async memberAdd({ peerURLs, isLearner }: MemberAddRequest): Promise<MemberAddResponse> {
    const peerUrls = checkedPeerUrls(peerURLs);
    const { id, members } = await this.#member.addMember({ peerUrls, isLearner });
    return create(MemberAddResponseSchema, {
      header: this.#header(),
      member: { ID: id, peerURLs: peerUrls, isLearner },
      members: [...members],
    });
  }

  async memberPromote({ ID }: MemberPromoteRequest): Promise<MemberPromoteResponse> {
    const members = await this.#member.promoteMember(ID);
    return create(MemberPromoteResponseSchema, { header: this.#header(), members: [...members] });
  }

  async memberRemove({ ID }: MemberRemoveRequest): Promise<MemberRemoveResponse> {
    const members = await this.#member.removeMember(ID);
    return create(MemberRemoveResponseSchema, { header: this.#header(), members: [...members] });
  }

  /** Only peer URLs; unlike etcd, which takes any text and fails on it afterwards, bad ones are refused. */
  async memberUpdate({ ID, peerURLs }: MemberUpdateRequest): Promise<MemberUpdateResponse> {
    const members = await this.#member.updateMember(ID, this.#urlsFor(ID, peerURLs));
    return create(MemberUpdateResponseSchema, { header: this.#header(), members: [...members] });
  }

  /** As with etcd, whoever names no member hears of that first, whatever the URLs are. */
  #urlsFor(ID: bigint, peerURLs: readonly string[]): string[] {
    try {
      return checkedPeerUrls(peerURLs);
    } catch (error) {
      throw this.#member.state.members().some((member) => member.ID === ID)
        ? error
        : refuse("memberNotFound");
    }
  }
}
