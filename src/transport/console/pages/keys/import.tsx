/** @jsxImportSource #console */
/** Import and copy: what would be written is compared first, shown, and then written in batches as a job. */
import type { Command } from "../../components/values";
import { Problem } from "../../../rest/problem";
import { Empty, NoticeBox } from "../../components/boxes";
import { Button, LinkButton } from "../../components/button";
import { Checkbox, Field, Form, TextInput } from "../../components/form";
import { Tag } from "../../components/state";
import { Amount, Bytes, Commands, Fact, Facts } from "../../components/values";
import type { Html } from "../../html";
import type { Action, Outcome, Page, PageContent, PageRequest } from "../../page";
import { address } from "../../query";
import { bytesOf, countOf, plural } from "../../text";
import { importKeysMax, readImport } from "../../values/import-file";
import { fieldText, plainLine } from "../../values/visible";
import { StaleNotice } from "./banners";
import { BatchWriter } from "./batch";
import { commands, curl, curlTxn, etcdctl } from "./commands";
import { base64Url, formBytes, parameter, queryBytes } from "./place";
import { planWrites, plansOf, type WritePlan } from "./plan";
import { countKeys, prefixRange } from "./store";
import { keysOf } from "./stream";

const fileBytesMax = 32 * 1024 * 1024;
const trail = [{ text: "Keys", href: "/ui/keys" }] as const;

export const importKeysPage: Page = {
  path: "/keys/import",
  section: "keys",
  async render(request): Promise<PageContent> {
    return importContent(request, await request.services.browser.confirm());
  },
};

function importContent(request: PageRequest, fresh: boolean, problem?: string): PageContent {
  return {
    title: "Import keys",
    trail,
    ...(problem === undefined ? {} : { status: 422 }),
    body: (
      <>
        {!fresh && <StaleNotice request={request} />}
        <Form request={request} action="/keys/import/preview" upload class="narrow">
          <Field
            label="File"
            for="file"
            problem={problem}
            help={`NDJSON or JSON as export writes it: "key" or "key64", "value" or "value64". At most 32 MiB and ${countOf(importKeysMax)} keys.`}
          >
            <input
              id="file"
              name="file"
              type="file"
              required
              accept=".json,.ndjson,.jsonl,application/json"
              aria-describedby={problem === undefined ? "file-help" : "file-problem"}
            />
          </Field>
          <Checkbox name="overwrite">Overwrite keys that exist with another value</Checkbox>
          <Button kind="primary">Compare with what is stored</Button>
          <p class="muted note">This writes nothing yet.</p>
        </Form>
        <div class="section">
          <Commands of={importCommands(request)} />
        </div>
      </>
    ),
  };
}

function importCommands({ origin }: PageRequest): Command[] {
  return [curl(origin, "/kv/{key}", "-X PUT --data-binary @value")];
}

async function* each<Item>(items: readonly Item[]): AsyncGenerator<Item, void> {
  yield* items;
}

export const previewImport: Action = {
  path: "/keys/import/preview",
  section: "keys",
  bodyBytesMax: fileBytesMax + 64 * 1024,
  async run(request): Promise<Outcome> {
    const { form, services } = request;
    const file = form.file("file");
    const fresh = await services.browser.confirm();
    if (file === undefined || file.bytes.length === 0) {
      return { kind: "page", content: importContent(request, fresh, "Choose a file that is not empty.") };
    }
    let read: Awaited<ReturnType<typeof readImport>>;
    try {
      read = await readImport(file.bytes);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      return { kind: "page", content: importContent(request, fresh, error.message) };
    }
    const plan = await planWrites(services, each(read.keys), form.text("overwrite") !== undefined);
    const content = planContent(request, plan, {
      title: `Import ${plural(plan.writes.length, "key")}?`,
      button: `Import ${plural(plan.writes.length, "key")}`,
      fresh,
      warning: read.whole
        ? undefined
        : "The file lacks the line that ends an export, so it may have been cut off.",
      facts: (
        <Fact label="File" help={`${plural(read.keys.length, "key")} in it`}>
          {plainLine(Buffer.from(file.name), 80)}
        </Fact>
      ),
    });
    return { kind: "page", content };
  },
};

export const copyKeysPage: Page = {
  path: "/keys/copy",
  section: "keys",
  async render(request): Promise<PageContent> {
    const prefix = queryBytes(request.query, "prefix") ?? new Uint8Array(0);
    return copyContent(request, prefix, await request.services.browser.confirm());
  },
};

async function copyContent(
  request: PageRequest,
  prefix: Uint8Array,
  fresh: boolean,
  wrong?: { readonly problem: string; readonly to: string },
): Promise<PageContent> {
  const { services } = request;
  const count = await countKeys(services, prefixRange(prefix));
  const start = fieldText(prefix);
  return {
    title: `Copy ${plural(count, "key")}`,
    trail: [{ text: "Keys", href: address("/ui/keys", parameter("prefix", prefix)) }],
    ...(wrong === undefined ? {} : { status: 422 }),
    body: (
      <>
        {!fresh && <StaleNotice request={request} />}
        {count === 0 ? (
          <Empty title="There is nothing to copy">
            <LinkButton href="/ui/keys">Back to the keys</LinkButton>
          </Empty>
        ) : (
          <Form request={request} action="/keys/copy/preview" class="narrow">
            <input type="hidden" name="prefix64" value={base64Url(prefix)} />
            <Facts>
              <Fact label="Every key that begins with">
                {prefix.length === 0 ? "anything" : <Bytes of={prefix} />}
              </Fact>
            </Facts>
            <Field
              label="is written again, beginning with"
              for="to"
              help="Values only: leases and histories stay with the originals."
              problem={wrong?.problem}
            >
              <TextInput
                id="to"
                name="to"
                mono
                width={40}
                value={wrong?.to ?? `copy-of-${start ?? ""}`}
                required
                invalid={wrong !== undefined}
              />
            </Field>
            <Checkbox name="overwrite">Overwrite keys that exist with another value</Checkbox>
            <Button kind="primary">Compare with what is stored</Button>
            <p class="muted note">This writes nothing yet.</p>
          </Form>
        )}
      </>
    ),
  };
}

const copiedKeysMax = importKeysMax;

export const previewCopy: Action = {
  path: "/keys/copy/preview",
  section: "keys",
  async run(request): Promise<Outcome> {
    const { form, services } = request;
    const prefix = formBytes(form, "prefix") ?? new Uint8Array(0);
    const to = form.bytes("to") ?? new Uint8Array(0);
    const fresh = await services.browser.confirm();
    const refuse = async (problem: string): Promise<Outcome> => ({
      kind: "page",
      content: await copyContent(request, prefix, fresh, { problem, to: form.text("to") ?? "" }),
    });
    if (Buffer.from(to).equals(prefix)) return refuse("This is where they are.");
    const { revision } = services.store;
    const count = await countKeys(services, prefixRange(prefix));
    if (count > copiedKeysMax) {
      throw new Problem("unprocessable", `One copy takes at most ${countOf(copiedKeysMax)} keys.`, {
        fix: "Copy level by level.",
      });
    }
    const plan = await planWrites(
      services,
      copied(keysOf(services, prefixRange(prefix), revision), prefix.length, to),
      form.text("overwrite") !== undefined,
    );
    const content = planContent(request, plan, {
      title: `Copy ${plural(plan.writes.length, "key")}?`,
      button: `Copy ${plural(plan.writes.length, "key")}`,
      fresh,
      facts: (
        <>
          <Fact label="From" help={`as of revision ${countOf(revision)}`}>
            <Bytes of={prefix} />
          </Fact>
          <Fact label="To">
            <Bytes of={to} />
          </Fact>
        </>
      ),
    });
    return { kind: "page", content };
  },
};

async function* copied(
  keys: AsyncGenerator<{ readonly key: Uint8Array; readonly value: Uint8Array }, void>,
  prefixBytes: number,
  to: Uint8Array,
): AsyncGenerator<{ readonly key: Uint8Array; readonly value: Uint8Array }, void> {
  for await (const { key, value } of keys) {
    yield { key: Buffer.concat([to, key.subarray(prefixBytes)]), value: new Uint8Array(value) };
  }
}

const words = { new: "new", changed: "changed", same: "same" } as const;

function planContent(
  request: PageRequest,
  plan: WritePlan,
  about: {
    readonly title: string;
    readonly button: string;
    readonly fresh: boolean;
    readonly warning?: string | undefined;
    readonly facts: Html;
  },
): PageContent {
  const { created, changed, same, skipped, first, writes, bytes, revision } = plan;
  return {
    title: about.title,
    trail,
    body: (
      <>
        {!about.fresh && <StaleNotice request={request} />}
        {about.warning !== undefined && <NoticeBox tone="warn" title={about.warning} />}
        <Facts class="key-facts">
          {about.facts}
          <Fact label="New keys">{countOf(created)}</Fact>
          <Fact
            label="Keys with another value"
            help={changed === 0 ? undefined : skipped > 0 ? "left alone" : "overwritten"}
          >
            {countOf(changed)}
          </Fact>
          <Fact label="The same already" help="not written">
            {countOf(same)}
          </Fact>
          <Fact label="To be written">
            <Amount of={bytesOf(bytes)} />
          </Fact>
        </Facts>
        {first.length > 0 && (
          <ul class="first-keys" aria-label="The first keys">
            {first.map(({ key, kind, bytes: valueBytes }) => (
              <li>
                <Bytes of={key} />
                <Tag>{words[kind]}</Tag>
                <Amount of={bytesOf(valueBytes)} />
              </li>
            ))}
            {created + changed > first.length && (
              <li class="muted">{`and ${plural(created + changed - first.length, "more key")}`}</li>
            )}
          </ul>
        )}
        {writes.length === 0 ? (
          <NoticeBox tone="ok" title="There is nothing to write">
            <LinkButton href="/ui/keys">Back to the keys</LinkButton>
          </NoticeBox>
        ) : (
          <>
            <p class="lead">
              {`Compared at revision ${countOf(revision)}. Written in batches of up to 64 keys, each in one step; a key that somebody else writes in between is left alone and counted.`}
            </p>
            <Form request={request} action="/keys/write" class="decide">
              <input type="hidden" name="plan" value={plansOf(request.services).keep(plan, request.nowMs)} />
              <div class="actions">
                <Button kind="primary" reason={about.fresh ? undefined : "No leader answers."}>
                  {about.button}
                </Button>
                <LinkButton href="/ui/keys" kind="quiet">
                  Cancel
                </LinkButton>
              </div>
            </Form>
            <div class="section">
              <Commands
                title="The first key by command; a batch is one transaction of many"
                of={commands(
                  curlTxn(request.origin, writes[0]!),
                  writes[0]!.value.length <= 400
                    ? etcdctl(request.origin, "put --", writes[0]!.key, writes[0]!.value)
                    : undefined,
                )}
              />
            </div>
          </>
        )}
      </>
    ),
  };
}

export const writeKeys: Action = {
  path: "/keys/write",
  section: "keys",
  run(request): Outcome {
    const { form, services, nowMs } = request;
    const { writes } = plansOf(services).take(form.text("plan"), nowMs);
    const job = services.jobs.start("write keys", async (context) => {
      const writer = new BatchWriter(services);
      for (const write of writes) {
        if (context.canceled) break;
        await writer.add(write);
        context.progress(writer.written, writes.length);
      }
      const { written, conflicts } = await writer.finish();
      context.progress(written, writes.length);
      return {
        written,
        conflicts: conflicts.length,
        firstConflicts: conflicts.slice(0, 20).map((key) => plainLine(key)),
        revision: String(services.store.revision),
      };
    });
    return { kind: "done", to: `/ui/jobs/${job.id}` };
  },
};
