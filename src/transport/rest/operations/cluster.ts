/** Members, status and alarms. */
import { create } from "@bufbuild/protobuf";
import { Type } from "@sinclair/typebox";
import { afterEffect, refuse } from "../../../errors";
import {
  AlarmRequest_AlarmAction as Action,
  AlarmRequestSchema,
  AlarmType,
  type Member,
  MemberAddRequestSchema,
  MemberListRequestSchema,
  MemberPromoteRequestSchema,
  MemberRemoveRequestSchema,
  MemberUpdateRequestSchema,
} from "../../../proto/gen/etcd/rpc_pb";
import type { PlannedChange } from "../../../service/overview";
import { keelsonVersion } from "../../../version";
import { type Answer, json } from "../answer";
import { hex16 } from "../key-json";
import { operation, type Operation } from "../operation";
import { choice, flag, hexId } from "../parameters";
import { Decimal, HexId, strict } from "../schemas";
import type { RestServices } from "../services";

const MemberShape = strict({
  id: HexId,
  name: Type.String({ description: "Empty until the member has started." }),
  peerUrls: Type.Array(Type.String()),
  clientUrls: Type.Array(Type.String()),
  learner: Type.Boolean(),
  leader: Type.Boolean(),
});
const MembersShape = strict({ members: Type.Array(MemberShape) });
const QuorumShape = strict({
  voters: Type.Array(Type.String()),
  quorum: Type.Integer(),
  reachable: Type.Array(Type.String()),
  spare: Type.Integer({ description: "Voters that may fail before writes stop." }),
});
const PreviewShape = strict({
  dryRun: Type.Literal(true),
  before: QuorumShape,
  after: QuorumShape,
  needed: Type.Array(Type.String(), { description: "Who would have to answer, because nobody is spare." }),
  problems: Type.Array(Type.String(), { description: "What would break, as far as this member knows." }),
  refusal: Type.Optional(
    strict(
      {
        error: Type.String(),
        instead: Type.String({ description: "What to do first, or in its place." }),
      },
      { description: "Why the leader would not do it now; absent when it would." },
    ),
  ),
});
const AlarmShape = strict({ type: Type.String(), member: HexId });
const alarmNames = { nospace: AlarmType.NOSPACE, corrupt: AlarmType.CORRUPT } as const;

const id = hexId("The member.", 64);
const dryRun = flag(
  "Change nothing: show the quorum before and after, who would be needed, and what would break.",
);
const PeerUrls = Type.Array(Type.String({ minLength: 1, maxLength: 2_048 }), { minItems: 1, maxItems: 16 });

const previewAnswer = {
  description: "The members after the change; with dryRun what it would mean.",
  content: [{ kind: "json" as const, schema: Type.Union([MembersShape, PreviewShape]) }],
};

function memberJson({ ID, name, peerURLs, clientURLs, isLearner }: Member, leader: bigint): object {
  return {
    id: hex16(ID),
    name,
    peerUrls: peerURLs,
    clientUrls: clientURLs,
    learner: isLearner,
    leader: ID === leader,
  };
}

async function membersAnswer({ maintenance }: RestServices, members: readonly Member[]): Promise<Answer> {
  const { leader } = await maintenance.status();
  return json(200, { members: members.map((member) => memberJson(member, leader)) });
}

async function previewed({ overview }: RestServices, change: PlannedChange): Promise<Answer> {
  return json(200, { dryRun: true, ...(await overview.preview(change)) });
}

const firstMember = { given: { id: { operation: "listMembers", at: ["members", 0, "id"] } } } as const;
const membershipProblems = ["bad-parameter", "member-not-found", "conflict"] as const;

export const clusterOperations: readonly Operation[] = [
  operation({
    id: "getStatus",
    method: "GET",
    path: "/status",
    tag: "cluster",
    summary: "How this member is",
    permission: "user",
    learner: "serve",
    write: "no",
    answers: {
      200: {
        description: "Its own view; no quorum is needed for it.",
        content: [
          {
            kind: "json",
            schema: strict({
              clusterId: HexId,
              memberId: HexId,
              leader: Type.Union([HexId, Type.Null()]),
              version: Type.String(),
              etcdVersion: Type.String(),
              term: Decimal,
              revision: Decimal,
              compactedRevision: Type.Union([Decimal, Type.Null()]),
              raftIndex: Decimal,
              appliedIndex: Decimal,
              learner: Type.Boolean(),
              databaseBytes: Decimal,
              databaseBytesInUse: Decimal,
              quotaBytes: Type.Union([Decimal, Type.Null()]),
              errors: Type.Array(Type.String()),
            }),
          },
        ],
      },
    },
    problems: [],
    examples: [{ summary: "Status", target: "/status", status: 200 }],
    async handle(_request, { maintenance, store }) {
      const status = await maintenance.status();
      const { clusterId, memberId, raftTerm, revision } = status.header!;
      return json(200, {
        clusterId: hex16(clusterId),
        memberId: hex16(memberId),
        leader: status.leader === 0n ? null : hex16(status.leader),
        version: keelsonVersion,
        etcdVersion: status.version,
        term: raftTerm,
        revision,
        compactedRevision: store.compactedRevision < 0 ? null : String(store.compactedRevision),
        raftIndex: status.raftIndex,
        appliedIndex: status.raftAppliedIndex,
        learner: status.isLearner,
        databaseBytes: status.dbSize,
        databaseBytesInUse: status.dbSizeInUse,
        quotaBytes: status.dbSizeQuota < 0n ? null : status.dbSizeQuota,
        errors: status.errors.map((text) => text.trim()),
      });
    },
  }),
  operation({
    id: "listMembers",
    method: "GET",
    path: "/members",
    tag: "cluster",
    summary: "List members",
    permission: "user",
    write: "no",
    query: { serializable: flag("Answer from this member's own state, which may be a little behind.") },
    learner: "serializable",
    answers: { 200: { description: "The members.", content: [{ kind: "json", schema: MembersShape }] } },
    problems: ["bad-parameter"],
    examples: [{ summary: "Members", target: "/members", status: 200 }],
    async handle(request, services) {
      const linearizable = request.query.serializable !== true;
      const { members } = await services.cluster.memberList(
        create(MemberListRequestSchema, { linearizable }),
      );
      return membersAnswer(services, members);
    },
  }),
  operation({
    id: "addMember",
    method: "POST",
    path: "/members",
    tag: "cluster",
    summary: "Add a member",
    description:
      "As a learner, unless learner is false: a learner has no vote, and so costs nothing until it is promoted.",
    permission: "root",
    write: "local",
    query: { dryRun },
    body: { kind: "json", schema: strict({ peerUrls: PeerUrls, learner: Type.Optional(Type.Boolean()) }) },
    answers: {
      200: {
        description: "With dryRun: what it would mean.",
        content: [{ kind: "json", schema: PreviewShape }],
      },
      201: {
        description: "It is a member; start it now.",
        content: [{ kind: "json", schema: strict({ id: HexId, members: Type.Array(MemberShape) }) }],
      },
    },
    problems: membershipProblems,
    examples: [
      {
        summary: "What would another member mean",
        target: "/members?dryRun=true",
        body: { peerUrls: ["http://127.0.0.1:12380"], learner: true },
        status: 200,
      },
    ],
    async handle(request, services) {
      const { peerUrls, learner = true } = request.body;
      if (request.query.dryRun === true) return previewed(services, { kind: "add", learner, peerUrls });
      const added = await services.cluster.memberAdd(
        create(MemberAddRequestSchema, { peerURLs: peerUrls, isLearner: learner }),
      );
      const { leader } = await services.maintenance.status();
      return json(201, {
        id: hex16(added.member!.ID),
        members: added.members.map((member) => memberJson(member, leader)),
      });
    },
  }),
  operation({
    id: "updateMember",
    method: "PUT",
    path: "/members/{id}",
    tag: "cluster",
    summary: "Change a member's peer URLs",
    permission: "root",
    write: "local",
    pathParameters: { id },
    query: { dryRun },
    body: { kind: "json", schema: strict({ peerUrls: PeerUrls }) },
    answers: { 200: previewAnswer },
    problems: membershipProblems,
    examples: [
      {
        summary: "What would another address mean",
        target: "/members/{id}?dryRun=true",
        body: { peerUrls: ["http://127.0.0.1:12380"] },
        status: 200,
        ...firstMember,
      },
      {
        summary: "It is to be reached elsewhere",
        target: "/members/{id}",
        body: { peerUrls: ["http://127.0.0.1:12380"] },
        status: 200,
        ...firstMember,
      },
    ],
    async handle(request, services) {
      const { id: ID } = request.path;
      const { peerUrls } = request.body;
      if (request.query.dryRun === true) return previewed(services, { kind: "update", id: ID, peerUrls });
      const updated = await services.cluster.memberUpdate(
        create(MemberUpdateRequestSchema, { ID, peerURLs: peerUrls }),
      );
      return membersAnswer(services, updated.members);
    },
  }),
  operation({
    id: "removeMember",
    method: "DELETE",
    path: "/members/{id}",
    tag: "cluster",
    summary: "Remove a member",
    description: "For good: its id is never used again.",
    permission: "root",
    write: "local",
    pathParameters: { id },
    query: { dryRun },
    answers: { 200: previewAnswer },
    problems: membershipProblems,
    examples: [
      {
        summary: "What would the removal mean",
        target: "/members/0000000000000001?dryRun=true",
        status: 200,
      },
    ],
    async handle(request, services) {
      const ID = request.path.id;
      if (request.query.dryRun === true) return previewed(services, { kind: "remove", id: ID });
      const removed = await services.cluster.memberRemove(create(MemberRemoveRequestSchema, { ID }));
      return membersAnswer(services, removed.members);
    },
  }),
  operation({
    id: "promoteMember",
    method: "POST",
    path: "/members/{id}/promote",
    tag: "cluster",
    summary: "Give a learner a vote",
    permission: "root",
    write: "local",
    pathParameters: { id },
    query: { dryRun },
    answers: { 200: previewAnswer },
    problems: membershipProblems,
    examples: [
      {
        summary: "What would the vote mean",
        target: "/members/0000000000000001/promote?dryRun=true",
        status: 200,
      },
    ],
    async handle(request, services) {
      const ID = request.path.id;
      if (request.query.dryRun === true) return previewed(services, { kind: "promote", id: ID });
      const promoted = await services.cluster.memberPromote(create(MemberPromoteRequestSchema, { ID }));
      return membersAnswer(services, promoted.members);
    },
  }),
  operation({
    id: "moveLeader",
    method: "POST",
    path: "/members/{id}/lead",
    tag: "cluster",
    summary: "Let this member lead",
    description: "The present leader hands over, whichever member is asked.",
    permission: "root",
    write: "local",
    pathParameters: { id },
    query: { dryRun },
    answers: {
      200: {
        description: "It leads; with dryRun what speaks against it.",
        content: [{ kind: "json", schema: Type.Union([strict({ leader: HexId }), PreviewShape]) }],
      },
    },
    problems: membershipProblems,
    examples: [
      { summary: "May it lead", target: "/members/{id}/lead?dryRun=true", status: 200, ...firstMember },
      { summary: "Let it lead", target: "/members/{id}/lead", status: 200, ...firstMember },
    ],
    async handle(request, services) {
      const { id: ID } = request.path;
      if (request.query.dryRun === true) return previewed(services, { kind: "lead", id: ID });
      const { members } = await services.cluster.memberList(
        create(MemberListRequestSchema, { linearizable: false }),
      );
      if (!members.some((member) => member.ID === ID)) throw refuse("memberNotFound");
      await services.overview.moveLeader(ID);
      return json(200, { leader: hex16(ID) });
    },
  }),
  operation({
    id: "listAlarms",
    method: "GET",
    path: "/alarms",
    tag: "cluster",
    summary: "List raised alarms",
    permission: "alarm",
    write: "no",
    answers: {
      200: {
        description: "The alarms.",
        content: [{ kind: "json", schema: strict({ alarms: Type.Array(AlarmShape) }) }],
      },
    },
    problems: [],
    examples: [{ summary: "Alarms", target: "/alarms", status: 200 }],
    handle: (_request, services) => alarms(services, Action.GET, AlarmType.NONE, 0n),
  }),
  operation({
    id: "disarmAlarm",
    method: "DELETE",
    path: "/alarms/{type}",
    tag: "cluster",
    summary: "Disarm an alarm",
    description: "Of one member, or of all. It comes back if its cause is still there.",
    permission: "alarm",
    write: "local",
    pathParameters: { type: choice(["nospace", "corrupt"], "The alarm.") },
    query: { member: hexId("Only for this member.", 64) },
    answers: {
      200: {
        description: "The alarms that were disarmed.",
        content: [{ kind: "json", schema: strict({ alarms: Type.Array(AlarmShape) }) }],
      },
    },
    problems: ["bad-parameter"],
    examples: [{ summary: "There is room again", target: "/alarms/nospace", status: 200 }],
    handle: (request, services) =>
      alarms(services, Action.DEACTIVATE, alarmNames[request.path.type], request.query.member ?? 0n),
  }),
];

async function alarms(
  { maintenance }: RestServices,
  action: Action,
  alarm: AlarmType,
  memberID: bigint,
): Promise<Answer> {
  const raised = await maintenance.alarm(create(AlarmRequestSchema, { action: Action.GET }));
  const chosen = raised.alarms.filter(
    (one) =>
      (alarm === AlarmType.NONE || one.alarm === alarm) && (memberID === 0n || one.memberID === memberID),
  );
  if (action === Action.DEACTIVATE) {
    for (const [at, one] of chosen.entries()) {
      try {
        await maintenance.alarm(
          create(AlarmRequestSchema, { action, alarm: one.alarm, memberID: one.memberID }),
        );
      } catch (error) {
        throw at > 0 ? afterEffect(error) : error;
      }
    }
  }
  return json(200, {
    alarms: chosen.map((one) => ({
      type: (AlarmType[one.alarm] ?? String(one.alarm)).toLowerCase(),
      member: hex16(one.memberID),
    })),
  });
}
