/** The past of one key: every retained revision of it, with its time. */
import { Type } from "@sinclair/typebox";
import type { KeyValue } from "../../../proto/gen/etcd/kv_pb";
import { type Answer, json } from "../answer";
import { byteField } from "../byte-fields";
import { keyValueJson, metadataJson } from "../key-json";
import { operation, type Operation, type Read, type RestRequest, type TailParameter } from "../operation";
import { decimal, flag, integer } from "../parameters";
import { bytesProperties, Decimal, exactlyOne, HexId, strict } from "../schemas";
import type { RestServices } from "../services";
import { timeText } from "../times";
import { codedKey, plainKey } from "./kv";

const versionsDefault = 100;

const query = {
  before: decimal("Only revisions below this one: the next page.", 1n),
  limit: integer("Versions in the answer; 100 unless given.", 1, 1_000),
  keysOnly: flag("Leave values out."),
  serializable: flag("Answer from this member's own state, which may be a little behind."),
} as const;

const VersionShape = strict(
  {
    type: Type.Union([Type.Literal("put"), Type.Literal("delete")]),
    ...bytesProperties("key", "The key"),
    ...bytesProperties("value", "The value, of a put"),
    createRevision: Type.Optional(Decimal),
    modRevision: Decimal,
    version: Type.Optional(Decimal),
    lease: Type.Optional(HexId),
    time: Type.Optional(Type.String({ format: "date-time", description: "When, to a second." })),
  },
  exactlyOne("key"),
);
const HistoryShape = strict({
  revision: Decimal,
  versions: Type.Array(VersionShape, { description: "Newest first." }),
  more: Type.Boolean({ description: "Older versions are retained: ask again with before." }),
  before: Type.Optional(Decimal),
});

function versionJson(kv: KeyValue, keysOnly: boolean, services: RestServices): Record<string, unknown> {
  const time = timeText(kv.modRevision, services);
  const when = time === undefined ? {} : { time };
  if (kv.version === 0n)
    return { type: "delete", ...byteField("key", kv.key), modRevision: kv.modRevision, ...when };
  return { type: "put", ...(keysOnly ? metadataJson(kv) : keyValueJson(kv)), ...when };
}

async function history(
  request: RestRequest<unknown, Read<typeof query>, unknown>,
  services: RestServices,
): Promise<Answer> {
  const { before, limit = versionsDefault, keysOnly = false, serializable = false } = request.query;
  const below = before === undefined || before > BigInt(Number.MAX_SAFE_INTEGER) ? Infinity : Number(before);
  const found = await services.history.history(request.tail, below, limit, serializable);
  const last = found.versions.at(-1);
  return json(
    200,
    {
      revision: String(found.revision),
      versions: found.versions.map((kv) => versionJson(kv, keysOnly, services)),
      more: found.more,
      ...(found.more && last !== undefined ? { before: last.modRevision } : {}),
    },
    { "keelson-revision": String(found.revision) },
  );
}

function at(path: string, tail: TailParameter, suffix: string, example: string): Operation {
  return operation({
    id: `getHistory${suffix}`,
    method: "GET",
    path,
    tag: "lists",
    summary: "All retained revisions of a key",
    description: "Puts and deletions, newest first, back to what compaction left.",
    permission: "read",
    learner: "serializable",
    write: "no",
    tail,
    query,
    answers: {
      200: {
        description: "The versions; none for a key that never was.",
        headers: { "Keelson-Revision": { description: "The revision of the store when it answered." } },
        content: [{ kind: "json", schema: HistoryShape }],
      },
    },
    problems: ["bad-parameter", "bad-base64"],
    examples: [
      {
        summary: "The past of a key",
        target: `${path.slice(0, path.indexOf("{"))}${example}`,
        status: 200,
        after: ["putKey"],
      },
    ],
    handle: history,
  });
}

export const historyOperations: readonly Operation[] = [
  at(
    "/history/{key}",
    { ...plainKey, description: "Everything behind /history/, as behind /kv/." },
    "",
    "greeting",
  ),
  at("/history64/{key}", codedKey, "64", "Z3JlZXRpbmc"),
];
