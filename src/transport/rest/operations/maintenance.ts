/** Compaction, space, hashes, snapshots: long work runs as jobs. */
import { create } from "@bufbuild/protobuf";
import { Type } from "@sinclair/typebox";
import { CompactionRequestSchema } from "../../../proto/gen/etcd/rpc_pb";
import type { JobView } from "../../../service/jobs";
import type { SnapshotInfo } from "../../../service/snapshots";
import { type Answer, json, jsonHeaders, jsonText } from "../answer";
import { operation, type Operation, type RestRequest } from "../operation";
import { decimal, word } from "../parameters";
import { Problem } from "../problem";
import { basePath } from "../paths";
import { Decimal, HexId, HexIdIn, strict } from "../schemas";
import type { RestServices } from "../services";
import { snapshotFile } from "../snapshot-file";

const JobShape = strict({
  id: Type.String(),
  kind: Type.String(),
  state: Type.Union(["running", "done", "failed", "canceled"].map((state) => Type.Literal(state))),
  startedAt: Type.String({ format: "date-time" }),
  endedAt: Type.Optional(Type.String({ format: "date-time" })),
  progress: strict({ done: Type.Number(), total: Type.Number({ description: "0 when nobody knows it." }) }),
  result: Type.Optional(Type.Unknown({ description: "What the work came to." })),
  error: Type.Optional(Type.String()),
});
const SnapshotShape = strict({
  name: Type.String(),
  member: HexId,
  revision: Decimal,
  appliedIndex: Decimal,
  bytes: Decimal,
  sha256: Type.String(),
  takenAt: Type.String({ format: "date-time" }),
});

function jobJson(job: JobView): Record<string, unknown> {
  return {
    id: job.id,
    kind: job.kind,
    state: job.state,
    startedAt: new Date(job.startedAtMs).toISOString(),
    ...(job.endedAtMs === undefined ? {} : { endedAt: new Date(job.endedAtMs).toISOString() }),
    progress: { done: job.done, total: job.total },
    ...(job.result === undefined ? {} : { result: job.result }),
    ...(job.error === undefined ? {} : { error: job.error }),
  };
}

function snapshotJson(info: SnapshotInfo): Record<string, unknown> {
  return {
    name: info.name,
    member: info.member,
    revision: String(info.revision),
    appliedIndex: String(info.appliedIndex),
    bytes: String(info.bytes),
    sha256: info.sha256,
    takenAt: new Date(info.takenAtMs).toISOString(),
  };
}

function accepted(job: JobView): Answer {
  return {
    status: 202,
    headers: { ...jsonHeaders, location: `${basePath}/jobs/${job.id}` },
    body: jsonText(jobJson(job)),
  };
}

const acceptedAnswer = {
  description: "The work has begun.",
  headers: { Location: { description: "Where its progress is told." } },
  content: [{ kind: "json" as const, schema: JobShape }],
};

const jobId = word("The job.", "^[0-9a-z-]{1,64}$", "bac7efc361f1457e-1");
const newestSnapshot = {
  after: ["takeSnapshot"],
  given: { name: { operation: "listSnapshots", at: ["snapshots", 0, "name"] } },
} as const;
const startedJob = { given: { id: { operation: "giveSpaceBack", at: ["id"] } } } as const;
const snapshotName = word(
  "The snapshot.",
  "^[0-9a-f]{16}-[0-9]{8}T[0-9]{6}Z-r[0-9]{1,16}(-[0-9]{1,4})?$",
  "bac7efc361f1457e-20260102T030405Z-r42",
);

function noJob(): Problem {
  return new Problem("not-found", "There is no such job on this member.", {
    fix: "Jobs are asked for on the member that began them, while its process lives.",
  });
}

async function snapshotOf({ snapshots }: RestServices, name: string): Promise<SnapshotInfo> {
  const info = await snapshots.info(name);
  if (info === undefined) throw new Problem("not-found", "There is no such snapshot.");
  return info;
}

async function download(
  request: RestRequest<{ name: string }, unknown, unknown>,
  services: RestServices,
): Promise<Answer> {
  const info = await snapshotOf(services, request.path.name);
  return snapshotFile(services, info, (name) => request.header(name));
}

export const maintenanceOperations: readonly Operation[] = [
  operation({
    id: "compact",
    method: "POST",
    path: "/maintenance/compact",
    tag: "maintenance",
    summary: "Forget history",
    description:
      "Everything before a revision, by default before the newest. The job ends when its rows are gone; whoever gives it " +
      "up ends only the waiting, because the members have agreed on it already.",
    permission: "root",
    write: "local",
    body: {
      kind: "json",
      optional: true,
      schema: strict({ revision: Type.Optional(Type.String({ pattern: "^[1-9][0-9]{0,18}$" })) }),
    },
    answers: { 202: acceptedAnswer },
    problems: ["bad-parameter", "compacted", "corrupt"],
    examples: [
      { summary: "Forget all history", target: "/maintenance/compact", status: 202, after: ["putKey"] },
    ],
    async handle(request, { kv, jobs, store }) {
      const revision = BigInt(request.body.revision ?? store.revision);
      if (revision >= 1n << 63n) throw new Problem("bad-body", "The revision does not fit into 63 bits.");
      // Whether there may be another job comes first: later it could not be refused without an effect. Whether the
      // compaction is allowed is told at once; the rows go in the background.
      const agreed = Promise.withResolvers<void>();
      const job = jobs.start("compact", async (context) => {
        const written = kv.compact(create(CompactionRequestSchema, { revision }));
        written.then(() => agreed.resolve(), agreed.reject);
        await written;
        await kv.compactionFinished(context);
        return { revision: String(revision) };
      });
      await agreed.promise;
      return accepted(jobs.get(job.id) ?? job);
    },
  }),
  operation({
    id: "giveSpaceBack",
    method: "POST",
    path: "/maintenance/defragment",
    tag: "maintenance",
    summary: "Give space back",
    description: "Returns free pages of this member's database to the file system, while it goes on serving.",
    permission: "root",
    write: "local",
    answers: { 202: acceptedAnswer },
    problems: [],
    examples: [{ summary: "Give space back", target: "/maintenance/defragment", status: 202 }],
    handle: (_request, { maintenance, jobs }) =>
      accepted(
        jobs.start("defragment", async (context) => {
          await maintenance.defragment(undefined, undefined, context);
          return {};
        }),
      ),
  }),
  operation({
    id: "compareHashes",
    method: "POST",
    path: "/maintenance/hashes",
    tag: "maintenance",
    summary: "Compare what members hold",
    description:
      "Each member hashes its data at one revision. Equal data gives equal hashes at one compacted revision.",
    permission: "root",
    write: "local",
    query: { revision: decimal("At this revision, by default the newest.", 1n) },
    answers: { 202: acceptedAnswer },
    problems: ["bad-parameter"],
    examples: [{ summary: "Compare", target: "/maintenance/hashes", status: 202 }],
    handle(request, { overview, jobs, store }) {
      const revision = Number(request.query.revision ?? store.revision);
      if (revision > store.revision) throw new Problem("bad-parameter", "The revision lies in the future.");
      const job = jobs.start("hashes", async (context) => {
        const hashes = await overview.hashes(revision, context);
        const known = hashes.filter(({ hash }) => hash !== undefined);
        const equal =
          new Set(known.map(({ hash, compactRevision }) => `${hash} ${compactRevision}`)).size <= 1;
        return {
          revision: String(revision),
          equal: equal && known.length === hashes.length,
          members: hashes,
        };
      });
      return accepted(job);
    },
  }),
  operation({
    id: "listJobs",
    method: "GET",
    path: "/jobs",
    tag: "maintenance",
    summary: "List this member's jobs",
    permission: "root",
    learner: "serve",
    write: "no",
    answers: {
      200: {
        description: "Newest first.",
        content: [{ kind: "json", schema: strict({ jobs: Type.Array(JobShape) }) }],
      },
    },
    problems: [],
    examples: [{ summary: "Jobs", target: "/jobs", status: 200 }],
    handle: (_request, { jobs }) => json(200, { jobs: jobs.list().map(jobJson) }),
  }),
  operation({
    id: "getJob",
    method: "GET",
    path: "/jobs/{id}",
    tag: "maintenance",
    summary: "How a job goes",
    permission: "root",
    learner: "serve",
    write: "no",
    pathParameters: { id: jobId },
    answers: { 200: { description: "The job.", content: [{ kind: "json", schema: JobShape }] } },
    problems: ["bad-parameter", "not-found"],
    examples: [{ summary: "How it goes", target: "/jobs/{id}", status: 200, ...startedJob }],
    handle(request, { jobs }) {
      const job = jobs.get(request.path.id);
      if (job === undefined) throw noJob();
      return json(200, jobJson(job));
    },
  }),
  operation({
    id: "cancelJob",
    method: "DELETE",
    path: "/jobs/{id}",
    tag: "maintenance",
    summary: "Give a job up",
    description:
      "It stops at its next step; what it did so far stays. A job that was past its last step ends as done.",
    permission: "root",
    learner: "serve",
    write: "local",
    pathParameters: { id: jobId },
    answers: { 200: { description: "The job.", content: [{ kind: "json", schema: JobShape }] } },
    problems: ["bad-parameter", "not-found"],
    examples: [{ summary: "Give it up", target: "/jobs/{id}", status: 200, ...startedJob }],
    handle(request, { jobs }) {
      const job = jobs.cancel(request.path.id);
      if (job === undefined) throw noJob();
      return json(200, jobJson(job));
    },
  }),
  operation({
    id: "takeSnapshot",
    method: "POST",
    path: "/snapshots",
    tag: "maintenance",
    summary: "Take a snapshot",
    description:
      "On the named member, by default this one, into its data directory; the disk's reserve is left free. The job's " +
      "result is the snapshot.",
    permission: "root",
    learner: "serve",
    write: "local",
    body: { kind: "json", optional: true, schema: strict({ member: Type.Optional(HexIdIn) }) },
    answers: { 202: acceptedAnswer },
    problems: ["member-not-found", "no-space"],
    examples: [{ summary: "Take one here", target: "/snapshots", status: 202 }],
    async handle(request, { snapshots, jobs, maintenance, cluster }) {
      const own = (await maintenance.status()).header!.memberId;
      const member = request.body.member === undefined ? own : BigInt(`0x${request.body.member}`);
      const { members } = await cluster.memberList({
        $typeName: "etcdserverpb.MemberListRequest",
        linearizable: false,
      });
      if (!members.some(({ ID }) => ID === member))
        throw new Problem("member-not-found", "There is no member with this id.");
      return accepted(
        jobs.start("snapshot", async (context) => snapshotJson(await snapshots.take(member, context))),
      );
    },
  }),
  operation({
    id: "listSnapshots",
    method: "GET",
    path: "/snapshots",
    tag: "maintenance",
    summary: "List snapshots of all members",
    permission: "root",
    learner: "serve",
    write: "no",
    answers: {
      200: {
        description: "Newest first, and the members that did not answer.",
        content: [
          {
            kind: "json",
            schema: strict({ snapshots: Type.Array(SnapshotShape), silent: Type.Array(HexId) }),
          },
        ],
      },
    },
    problems: [],
    examples: [{ summary: "Snapshots", target: "/snapshots", status: 200 }],
    async handle(_request, services) {
      const { snapshots, silent } = await services.snapshots.list();
      return json(200, { snapshots: snapshots.map(snapshotJson), silent });
    },
  }),
  operation({
    id: "getSnapshot",
    method: "GET",
    path: "/snapshots/{name}",
    tag: "maintenance",
    summary: "What a snapshot is",
    permission: "root",
    learner: "serve",
    write: "no",
    pathParameters: { name: snapshotName },
    answers: { 200: { description: "The snapshot.", content: [{ kind: "json", schema: SnapshotShape }] } },
    problems: ["bad-parameter", "not-found", "member-not-found"],
    examples: [{ summary: "The newest", target: "/snapshots/{name}", status: 200, ...newestSnapshot }],
    async handle(request, services) {
      return json(200, snapshotJson(await snapshotOf(services, request.path.name)));
    },
  }),
  operation({
    id: "downloadSnapshot",
    method: "GET",
    path: "/snapshots/{name}/content",
    tag: "maintenance",
    summary: "Download a snapshot",
    description:
      "From any member. Ends with the SHA-256 of what is before; `keelson snapshot status` checks it.",
    permission: "root",
    learner: "serve",
    write: "no",
    pathParameters: { name: snapshotName },
    headers: {
      Range: {
        description: "One range of bytes, to go on where a download broke off.",
        example: "bytes=0-99",
      },
      "If-Range": { description: "Give the range only if the file still has this ETag." },
    },
    answers: {
      200: {
        description: "The file.",
        content: [{ kind: "raw", mediaType: "application/octet-stream", description: "The file." }],
      },
      206: {
        description: "A part of the file.",
        headers: { "Content-Range": { description: "Which part." } },
        content: [{ kind: "raw", mediaType: "application/octet-stream", description: "The part." }],
      },
    },
    problems: ["bad-parameter", "not-found", "member-not-found", "range-not-satisfiable"],
    examples: [
      { summary: "All of it", target: "/snapshots/{name}/content", status: 200, ...newestSnapshot },
      {
        summary: "Go on where a download broke off",
        target: "/snapshots/{name}/content",
        headers: { Range: "bytes=4096-" },
        status: 206,
        ...newestSnapshot,
      },
    ],
    handle: download,
  }),
  operation({
    id: "verifySnapshot",
    method: "POST",
    path: "/snapshots/{name}/verify",
    tag: "maintenance",
    summary: "Check a snapshot",
    description: "Reads all of it where it lies, and compares it with what was written.",
    permission: "root",
    learner: "serve",
    write: "local",
    pathParameters: { name: snapshotName },
    answers: { 202: acceptedAnswer },
    problems: ["bad-parameter", "not-found", "member-not-found"],
    examples: [
      { summary: "Is it sound", target: "/snapshots/{name}/verify", status: 202, ...newestSnapshot },
    ],
    async handle(request, services) {
      const { name } = await snapshotOf(services, request.path.name);
      return accepted(services.jobs.start("verify", (context) => services.snapshots.verify(name, context)));
    },
  }),
  operation({
    id: "deleteSnapshot",
    method: "DELETE",
    path: "/snapshots/{name}",
    tag: "maintenance",
    summary: "Delete a snapshot",
    permission: "root",
    learner: "serve",
    write: "local",
    pathParameters: { name: snapshotName },
    answers: {
      200: {
        description: "It is gone.",
        content: [{ kind: "json", schema: strict({ deleted: Type.Boolean() }) }],
      },
    },
    problems: ["bad-parameter", "not-found", "member-not-found"],
    examples: [{ summary: "Delete the newest", target: "/snapshots/{name}", status: 200, ...newestSnapshot }],
    async handle(request, services) {
      await snapshotOf(services, request.path.name);
      return json(200, { deleted: await services.snapshots.remove(request.path.name) });
    },
  }),
];
