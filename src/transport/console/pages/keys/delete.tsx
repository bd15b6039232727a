/** @jsxImportSource #console */
/** Deleting keys, prefixes, or what was chosen in a list: first what would go, then all of it or nothing. */
import { fromBinaryString, toBinaryString } from "../../../../bytes";
import { Problem } from "../../../rest/problem";
import { base64UrlDecode } from "../../../rest/target";
import { Empty, NoticeBox } from "../../components/boxes";
import { Button, LinkButton } from "../../components/button";
import { Field, Form, TextInput } from "../../components/form";
import { Amount, Bytes, Commands } from "../../components/values";
import type { Html } from "../../html";
import type { Action, Outcome, Page, PageContent, PageRequest } from "../../page";
import { bytesOf, countOf, plural } from "../../text";
import { plainLine } from "../../values/visible";
import { StaleNotice } from "./banners";
import { bytesParameter, commands, curl, curlKey, etcdctl } from "./commands";
import { base64Url, keyHref, keyOf, queryBytes } from "./place";
import {
  countKeys,
  deleteOp,
  getKey,
  guarded,
  kubernetesPart,
  oneKey,
  prefixRange,
  quietSince,
  type Range,
  unchanged,
} from "./store";

/** Keys that one deletion from here may take: it happens in one step, and others wait for it. */
const deletedKeysMax = 100_000;
const targetsMax = 100;
const shownKeys = 10;
/** Deleting more than this asks for the number to be typed. */
const typedAbove = 10;

/** What is to go: keys by themselves, and all keys with a prefix. */
interface Targets {
  readonly keys: readonly Uint8Array[];
  readonly prefixes: readonly Uint8Array[];
}

interface Plan {
  readonly targets: Targets;
  /** The revision that was looked at: what is written later keeps the deletion from happening. */
  readonly revision: number;
  readonly count: number;
  readonly first: readonly { readonly key: Uint8Array; readonly valueBytes: number }[];
  readonly fresh: boolean;
}

function rangesOf({ keys, prefixes }: Targets): Range[] {
  return [...keys.map(oneKey), ...prefixes.map(prefixRange)];
}

/** Without those that another prefix covers: a transaction deletes no key twice. */
function disjoint({ keys, prefixes }: Targets): Targets {
  const texts = [...new Set(prefixes.map(toBinaryString))];
  const kept = texts.filter((one) => !texts.some((other) => other !== one && one.startsWith(other)));
  const single = [...new Set(keys.map(toBinaryString))];
  return {
    keys: single.filter((key) => !kept.some((prefix) => key.startsWith(prefix))).map(fromBinaryString),
    prefixes: kept.map(fromBinaryString),
  };
}

async function planOf({ services }: PageRequest, targets: Targets): Promise<Plan> {
  const fresh = await services.browser.confirm();
  const { revision } = services.store;
  let count = 0;
  const first: { key: Uint8Array; valueBytes: number }[] = [];
  for (const key of targets.keys) {
    const { kv } = await getKey(services, key, revision);
    if (kv === undefined) continue;
    count++;
    first.push({ key, valueBytes: kv.value.length });
  }
  for (const prefix of targets.prefixes) {
    count += await countKeys(services, prefixRange(prefix), 0);
    if (first.length >= shownKeys) continue;
    const page = await services.browser.page({ prefix: toBinaryString(prefix), rowsMax: shownKeys }, 0);
    for (const row of page.rows) {
      if (row.kind === "key") first.push({ key: fromBinaryString(row.key), valueBytes: row.valueBytes });
    }
  }
  return { targets, revision, count, first: first.slice(0, shownKeys), fresh };
}

function backHref({ keys, prefixes }: Targets): string {
  return prefixes.length === 0 && keys.length === 1 ? keyHref(keys[0]!) : "/ui/keys";
}

/** What is shown before anything goes; with a problem when it came back. */
function planContent(
  request: PageRequest,
  plan: Plan,
  problem?: { text: string; moved: boolean },
): PageContent {
  const { targets, count, revision, first, fresh } = plan;
  const all = targets.prefixes.some((prefix) => prefix.length === 0);
  const what =
    targets.prefixes.length === 0 && targets.keys.length === 1
      ? plainLine(targets.keys[0]!, 80)
      : all
        ? "all keys"
        : plural(count, "key");
  const registry = [...targets.keys, ...targets.prefixes].some((one) => kubernetesPart(one) !== undefined);
  const tooMany = count > deletedKeysMax;
  return {
    title: `Delete ${what}?`,
    trail: [{ text: "Keys", href: "/ui/keys" }],
    ...(problem === undefined ? {} : { status: problem.moved ? 409 : 422 }),
    body: (
      <>
        {!fresh && <StaleNotice request={request} />}
        {problem?.moved === true && (
          <NoticeBox tone="warn" title="Nothing was deleted: something was written in between" role="alert">
            <p>{problem.text}</p>
          </NoticeBox>
        )}
        {registry && (
          <NoticeBox tone="warn" title="Kubernetes keeps its own data below /registry/">
            <p>
              Its API server does not expect keys to vanish behind its back. Use kubectl, unless you repair by
              hand.
            </p>
          </NoticeBox>
        )}
        {count === 0 ? (
          <Empty title="There is nothing to delete">
            <LinkButton href={backHref(targets)}>Back</LinkButton>
          </Empty>
        ) : (
          <>
            {tooMany ? (
              <NoticeBox
                tone="warn"
                title={`One deletion from here takes at most ${countOf(deletedKeysMax)} keys`}
              >
                <p>
                  It happens in one step, and other writes wait for it. Go level by level, or use the command
                  below.
                </p>
              </NoticeBox>
            ) : (
              <p class="lead">
                {`${plural(count, "key")} ${count === 1 ? "goes" : "go"}, in one step, as of revision ${countOf(revision)}. If any of them is written before that, nothing is deleted. History keeps the values until it is compacted.`}
              </p>
            )}
            {targets.prefixes.length > 0 && !all && (
              <p>
                Everything below{" "}
                {targets.prefixes.slice(0, 10).map((prefix, at) => (
                  <>
                    {at > 0 && ", "}
                    <Bytes of={prefix} />
                  </>
                ))}
                {targets.prefixes.length > 10 &&
                  ` and ${plural(targets.prefixes.length - 10, "other prefix", "other prefixes")}`}
              </p>
            )}
            <ul class="first-keys" aria-label="The first keys that go">
              {first.map(({ key, valueBytes }) => (
                <li>
                  <Bytes of={key} />
                  <Amount of={bytesOf(valueBytes)} />
                </li>
              ))}
              {count > first.length && (
                <li class="muted">{`and ${plural(count - first.length, "more key")}`}</li>
              )}
            </ul>
            {!tooMany && (
              <Confirm
                request={request}
                plan={plan}
                problem={problem?.moved === false ? problem.text : undefined}
              />
            )}
            <div class="section">
              <Commands of={deleteCommands(request, targets)} />
            </div>
          </>
        )}
      </>
    ),
  };
}

function Confirm({
  request,
  plan,
  problem,
}: {
  readonly request: PageRequest;
  readonly plan: Plan;
  readonly problem: string | undefined;
}): Html {
  const { targets, revision, count, fresh } = plan;
  return (
    <Form request={request} action="/keys/delete" class="decide">
      {targets.keys.map((key) => (
        <input type="hidden" name="k64" value={base64Url(key)} />
      ))}
      {targets.prefixes.map((prefix) => (
        <input type="hidden" name="prefix64" value={base64Url(prefix)} />
      ))}
      <input type="hidden" name="revision" value={revision} />
      <input type="hidden" name="count" value={count} />
      {count > typedAbove && (
        <Field
          label="How many keys go?"
          for="typed"
          help={`Type ${count} to show that you mean it.`}
          problem={problem}
        >
          <TextInput
            id="typed"
            name="typed"
            width={12}
            required
            autocomplete="off"
            invalid={problem !== undefined}
          />
        </Field>
      )}
      <div class="actions">
        <Button kind="danger" icon="trash-2" reason={fresh ? undefined : "No leader answers."}>
          {`Delete ${plural(count, "key")}`}
        </Button>
        <LinkButton href={backHref(targets)} kind="quiet">
          {count === 1 ? "Keep it" : "Keep them"}
        </LinkButton>
      </div>
    </Form>
  );
}

function deleteCommands(request: PageRequest, { keys, prefixes }: Targets): ReturnType<typeof commands> {
  const [key] = keys;
  const [prefix] = prefixes;
  if (prefix !== undefined) {
    const query = prefix.length === 0 ? "all=true" : bytesParameter("prefix", prefix);
    return commands(
      curl(request.origin, `/keys?${query}`, "-X DELETE"),
      etcdctl(request.origin, "del --prefix", prefix),
    );
  }
  return key === undefined
    ? []
    : commands(curlKey(request.origin, key, "-X DELETE"), etcdctl(request.origin, "del", key));
}

function decoded(all: readonly (Uint8Array | string)[]): Uint8Array[] {
  if (all.length > targetsMax)
    throw new Problem("unprocessable", `At most ${targetsMax} can be chosen at once.`);
  return all.map((coded) => {
    const bytes = base64UrlDecode(typeof coded === "string" ? coded : Buffer.from(coded).toString("latin1"));
    if (bytes === undefined) throw new Problem("bad-base64", "A key or prefix is not base64url.");
    return bytes;
  });
}

export const deleteKeysPage: Page = {
  path: "/keys/delete",
  section: "keys",
  async render(request): Promise<PageContent> {
    const { query } = request;
    const keys = decoded(query.allBytes("k64"));
    const plain = query.has("prefix64") ? undefined : queryBytes(query, "prefix");
    const prefixes = plain === undefined ? decoded(query.allBytes("prefix64")) : [plain];
    if (keys.length + prefixes.length === 0) {
      return {
        title: "Delete keys",
        trail: [{ text: "Keys", href: "/ui/keys" }],
        body: (
          <Empty title="Nothing was chosen">
            <p>Tick keys or prefixes in the list first.</p>
            <LinkButton href="/ui/keys">Back to the keys</LinkButton>
          </Empty>
        ),
      };
    }
    return planContent(request, await planOf(request, disjoint({ keys, prefixes })));
  },
};

export const deleteKeyPage: Page = {
  path: "/key/delete",
  section: "keys",
  async render(request): Promise<PageContent> {
    return planContent(request, await planOf(request, { keys: [keyOf(request.query)], prefixes: [] }));
  },
};

export const deleteKeys: Action = {
  path: "/keys/delete",
  section: "keys",
  async run(request): Promise<Outcome> {
    const { form, services } = request;
    const targets = disjoint({ keys: decoded(form.all("k64")), prefixes: decoded(form.all("prefix64")) });
    const revision = form.text("revision") ?? "";
    const count = Number(form.text("count"));
    if (!/^\d{1,15}$/.test(revision) || !Number.isSafeInteger(count)) {
      throw new Problem("bad-body", "The form does not say what was seen.");
    }
    const typed = (form.text("typed") ?? "").replace(/\s/g, "");
    if (count > typedAbove && typed !== String(count)) {
      const text = `This is not ${count}: nothing was deleted.`;
      return {
        kind: "page",
        content: planContent(request, await planOf(request, targets), { text, moved: false }),
      };
    }
    const moved = async (): Promise<Outcome> => {
      const text = "Look again at what would go, and decide anew.";
      return {
        kind: "page",
        content: planContent(request, await planOf(request, targets), { text, moved: true }),
      };
    };
    const plan = await planOf(request, targets);
    if (plan.count > deletedKeysMax)
      throw new Problem("unprocessable", "These are too many keys for one step.");
    if (plan.count > count) return moved();
    const ranges = rangesOf(targets);
    const compares = [
      ...(await Promise.all(
        targets.keys.map(async (key) => {
          const { kv } = await getKey(services, key);
          return kv !== undefined && Number(kv.modRevision) > Number(revision)
            ? undefined
            : unchanged(key, kv?.modRevision ?? 0n);
        }),
      )),
      ...targets.prefixes.map((prefix) => quietSince(prefixRange(prefix), BigInt(revision))),
    ];
    if (compares.includes(undefined)) return moved();
    const answer = await guarded(
      services,
      compares.filter((compare) => compare !== undefined),
      ranges.map(deleteOp),
    );
    if (!answer.succeeded) return moved();
    let deleted = 0n;
    for (const { response } of answer.responses) {
      if (response.case === "responseDeleteRange") deleted += response.value.deleted;
    }
    return {
      kind: "done",
      to: "/ui/keys",
      notice: {
        tone: "ok",
        text: `${plural(Number(deleted), "key")} deleted at revision ${countOf(answer.header?.revision ?? 0n)}`,
        body: <Commands of={deleteCommands(request, targets)} />,
      },
    };
  },
};
