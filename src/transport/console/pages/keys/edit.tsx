/** @jsxImportSource #console */
/** Putting a value: a form, the difference that it would make, and a write that happens only if nobody was faster. */
import type { KeyValue } from "../../../../proto/gen/etcd/kv_pb";
import { hex16 } from "../../../rest/key-json";
import { Problem } from "../../../rest/problem";
import { base64UrlDecode } from "../../../rest/target";
import { Disclosure, NoticeBox } from "../../components/boxes";
import { Button, LinkButton } from "../../components/button";
import { DiffView } from "../../components/content";
import { Checkbox, Field, Form, TextArea, TextInput } from "../../components/form";
import { Bytes, Commands } from "../../components/values";
import type { Html } from "../../html";
import type { Action, Outcome, Page, PageContent, PageRequest, PostRequest } from "../../page";
import { address } from "../../query";
import { countOf, plural } from "../../text";
import { editableText, lineEndsOf, valueOfText } from "../../values/edited-text";
import { diffOf } from "../../values/line-diff";
import { fieldText, plainLine } from "../../values/visible";
import { StaleNotice } from "./banners";
import { commands, curlKey, etcdctl } from "./commands";
import { titleOf, trailOf } from "./key";
import { base64Url, formBytes, keyHref, keyOf, parameter, queryBytes } from "./place";
import { getKey, guarded, kubernetesPart, putOp, unchanged } from "./store";

/** A form may hold a value of 1 MiB in base64, or as text with every byte escaped. */
const formBytesMax = 8 * 1024 * 1024;
const valueInFile = "The same by command, with the value in a file named value";
const uploadLabel = "Upload a file instead";

/** What a form puts, and onto what. */
interface Draft {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
  /** The mod revision that was seen; 0: the key did not exist. */
  readonly base: bigint;
  readonly keepLease: boolean;
}

function Registry({ keyBytes }: { readonly keyBytes: Uint8Array }): Html {
  if (kubernetesPart(keyBytes) === undefined) return <></>;
  return (
    <NoticeBox tone="warn" title="Kubernetes keeps its own data here">
      <p>
        Its API server checks, converts and caches what it writes below /registry/. A value changed behind its
        back can break objects or the whole cluster. Use kubectl, unless you repair by hand.
      </p>
    </NoticeBox>
  );
}

export const editKey: Page = {
  path: "/key/edit",
  section: "keys",
  async render(request): Promise<PageContent> {
    const { services, query } = request;
    const key = keyOf(query);
    const fresh = await services.browser.confirm();
    const { kv } = await getKey(services, key);
    if (kubernetesPart(key) === "secret" && kv !== undefined && !query.has("show")) {
      return {
        title: `Edit ${titleOf(key)}`,
        trail: trailOf(key),
        body: (
          <NoticeBox tone="warn" title="This is a Kubernetes secret: editing shows its value">
            <div class="actions">
              <LinkButton href={keyHref(key, "/edit", { show: true })}>Show and edit the secret</LinkButton>
              <LinkButton href={keyHref(key)} kind="quiet">
                Back to the key
              </LinkButton>
            </div>
          </NoticeBox>
        ),
      };
    }
    return editContent(request, key, kv, fresh);
  },
};

/** The form for a key as it is now, or with a value that was written already. */
function editContent(
  request: PageRequest,
  key: Uint8Array,
  kv: KeyValue | undefined,
  fresh: boolean,
  draft?: Draft,
): PageContent {
  const shown = editableText(draft?.value ?? kv?.value ?? new Uint8Array(0));
  // A draft goes on from the state that it was begun with, so that a change since then is still a conflict.
  const base = draft?.base ?? kv?.modRevision ?? 0n;
  const exists = kv !== undefined;
  return {
    title: exists ? `Edit ${titleOf(key)}` : `Put ${titleOf(key)}`,
    trail: trailOf(key),
    body: (
      <>
        {!fresh && <StaleNotice request={request} />}
        <Registry keyBytes={key} />
        <p class="whole-key">
          <Bytes of={key} bytesMax={4_096} />
        </p>
        {shown.editable ? (
          <Form request={request} action="/key/preview" class="editor">
            <Target keyBytes={key} base={base} />
            <input type="hidden" name="line-ends" value={shown.lineEnds} />
            <Field label="Value" for="value" help={lineEndsHelp(shown.lineEnds)}>
              <TextArea id="value" name="value" value={shown.text} rows={rowsFor(shown.text)} />
            </Field>
            <KeepLease kv={kv} />
            <div class="actions">
              <Button kind="primary">Review the change</Button>
              <LinkButton href={keyHref(key)} kind="quiet">
                Cancel
              </LinkButton>
            </div>
          </Form>
        ) : (
          <NoticeBox tone="warn" title="This value cannot be edited as text">
            <p>{`${shown.reason} Download it, change it with a tool that keeps its bytes, and upload it.`}</p>
            <div class="actions">
              <LinkButton href={keyHref(key, "/value")} icon="download" download>
                Download
              </LinkButton>
            </div>
          </NoticeBox>
        )}
        <Upload request={request} keyBytes={key} kv={kv} base={base} open={!shown.editable} />
      </>
    ),
  };
}

function lineEndsHelp(lineEnds: string): string {
  return lineEnds === "crlf"
    ? "Its lines end with CR LF, and will again. Saved exactly as it stands here, blank lines at both ends included."
    : "Lines end with LF. Saved exactly as it stands here, blank lines at both ends included.";
}

function rowsFor(text: string): number {
  return Math.min(28, Math.max(8, text.split("\n").length + 1));
}

/** What every form of a key says: which one, and which state of it was seen. */
function Target({ keyBytes, base }: { readonly keyBytes: Uint8Array; readonly base: bigint }): Html {
  return (
    <>
      <input type="hidden" name="k64" value={base64Url(keyBytes)} />
      <input type="hidden" name="base" value={base} />
    </>
  );
}

function KeepLease({ kv }: { readonly kv: KeyValue | undefined }): Html {
  if (kv === undefined || kv.lease === 0n) return <></>;
  return (
    <Checkbox name="keep-lease" checked>
      Keep it attached to lease <code>{hex16(kv.lease)}</code>; otherwise it stays when that lease ends
    </Checkbox>
  );
}

function Upload({
  request,
  keyBytes,
  kv,
  base,
  open,
}: {
  readonly request: PageRequest;
  readonly keyBytes: Uint8Array;
  readonly kv: KeyValue | undefined;
  readonly base: bigint;
  readonly open: boolean;
}): Html {
  return (
    <div class="section">
      <Disclosure summary={uploadLabel} open={open}>
        <Form request={request} action="/key/preview" upload>
          <Target keyBytes={keyBytes} base={base} />
          <Field label="File" for="file" help="Its bytes become the value, as they are.">
            <input id="file" name="file" type="file" required aria-describedby="file-help" />
          </Field>
          <KeepLease kv={kv} />
          <Button>Review the upload</Button>
        </Form>
      </Disclosure>
    </div>
  );
}

export const newKey: Page = {
  path: "/key/new",
  section: "keys",
  render: (request) => newContent(request, queryBytes(request.query, "prefix") ?? new Uint8Array(0)),
};

function newContent(
  request: PageRequest,
  prefix: Uint8Array,
  wrong?: { readonly problem: string; readonly key: string; readonly value: string },
): PageContent {
  const start = fieldText(prefix);
  return {
    title: "New key",
    trail: [{ text: "Keys", href: address("/ui/keys", parameter("prefix", prefix)) }],
    ...(wrong === undefined ? {} : { status: 422 }),
    body: (
      <>
        {start === undefined && (
          <NoticeBox tone="warn" title="This prefix has bytes that no text field can hold">
            <p>
              Put such keys by REST, at <code>/api/v1/kv64/</code>.
            </p>
          </NoticeBox>
        )}
        <Form request={request} action="/key/preview" class="editor">
          <input type="hidden" name="new" value="1" />
          <input type="hidden" name="line-ends" value="lf" />
          <Field
            label="Key"
            for="key"
            help="Begins with the prefix that you came from. Slashes make levels."
            problem={wrong?.problem}
          >
            <TextInput
              id="key"
              name="key"
              mono
              width={60}
              value={wrong?.key ?? start ?? ""}
              required
              autofocus
              invalid={wrong !== undefined}
            />
          </Field>
          <Field label="Value" for="value" help="Saved exactly as it stands here. Lines end with LF.">
            <TextArea id="value" name="value" value={wrong?.value ?? ""} rows={8} />
          </Field>
          <div class="actions">
            <Button kind="primary">Review the new key</Button>
          </div>
        </Form>
      </>
    ),
  };
}

/** Reads what a form puts. Throws Problems. */
function draftOf({ form }: PostRequest): Draft {
  const key = formBytes(form, "k") ?? form.bytes("key");
  if (key === undefined || key.length === 0) throw new Problem("empty-key", "The form names no key.");
  const base = form.text("base") ?? "0";
  if (!/^\d{1,18}$/.test(base)) throw new Problem("bad-body", "The form names no revision.");
  const coded = form.text("value64");
  const file = form.file("file");
  const text = form.bytes("value");
  const value =
    coded !== undefined
      ? base64UrlDecode(coded)
      : file !== undefined
        ? file.bytes
        : text === undefined
          ? undefined
          : valueOfText(text, lineEndsOf(form.text("line-ends")));
  if (value === undefined) throw new Problem("bad-body", "The form has no value.");
  return { key, value, base: BigInt(base), keepLease: form.text("keep-lease") !== undefined };
}

export const previewValue: Action = {
  path: "/key/preview",
  section: "keys",
  bodyBytesMax: formBytesMax,
  async run(request): Promise<Outcome> {
    const { form, services } = request;
    if (form.text("new") !== undefined && (form.bytes("key")?.length ?? 0) === 0) {
      const value = form.text("value")?.replaceAll("\r\n", "\n") ?? "";
      const wrong = { problem: "A key has at least one byte.", key: "", value };
      return { kind: "page", content: newContent(request, new Uint8Array(0), wrong) };
    }
    const draft = draftOf(request);
    await services.browser.confirm();
    const { kv } = await getKey(services, draft.key);
    if ((kv?.modRevision ?? 0n) !== draft.base) {
      // Somebody was faster while the form was open.
      return { kind: "page", content: await conflictContent(request, draft, kv) };
    }
    return { kind: "page", content: previewContent(request, draft, kv) };
  },
};

function keepsLease(draft: Draft, kv: KeyValue | undefined): boolean {
  return kv !== undefined && kv.lease !== 0n && draft.keepLease;
}

/** Nothing would be different after the write. */
function isSame(draft: Draft, kv: KeyValue | undefined): boolean {
  if (kv === undefined || !Buffer.from(kv.value).equals(draft.value)) return false;
  return kv.lease === 0n || draft.keepLease;
}

/** The fields that carry a draft on. */
function DraftFields({ draft, base }: { readonly draft: Draft; readonly base: bigint }): Html {
  return (
    <>
      <input type="hidden" name="k64" value={base64Url(draft.key)} />
      <input type="hidden" name="value64" value={base64Url(draft.value)} />
      <input type="hidden" name="base" value={base} />
      {draft.keepLease && <input type="hidden" name="keep-lease" value="on" />}
    </>
  );
}

function previewContent(request: PageRequest, draft: Draft, kv: KeyValue | undefined): PageContent {
  const name = titleOf(draft.key);
  const trail = [...trailOf(draft.key), { text: name, href: keyHref(draft.key) }];
  if (isSame(draft, kv)) {
    return {
      title: "Nothing to save",
      trail,
      body: (
        <NoticeBox tone="ok" title="The value is the same, byte for byte" role="status">
          <p>Nothing was written; the key stays at revision {countOf(kv!.modRevision)}.</p>
          <div class="actions">
            <LinkButton href={keyHref(draft.key)}>Back to the key</LinkButton>
          </div>
        </NoticeBox>
      ),
    };
  }
  const created = kv === undefined;
  return {
    title: created ? `Create ${name}?` : `Save ${name}?`,
    trail,
    body: (
      <>
        <Registry keyBytes={draft.key} />
        <p class="whole-key">
          <Bytes of={draft.key} bytesMax={4_096} />
        </p>
        <p class="lead">
          {created
            ? `A new key of ${plural(draft.value.length, "byte")}. It is written only if nobody creates it first.`
            : `Version ${countOf(kv.version)} becomes version ${countOf(kv.version + 1n)}, ${plural(kv.value.length, "byte")} become ${plural(draft.value.length, "byte")}. It is written only if the key is still at revision ${countOf(kv.modRevision)}.`}
          {kv !== undefined &&
            kv.lease !== 0n &&
            (draft.keepLease ? " It stays attached to its lease." : " It is detached from its lease.")}
        </p>
        <DiffView
          of={diffOf(kv?.value ?? new Uint8Array(0), draft.value)}
          label="What the write would change"
        />
        <Form request={request} action="/key/save" class="decide">
          <DraftFields draft={draft} base={draft.base} />
          <div class="actions">
            <Button kind="primary">{created ? "Create the key" : "Save the change"}</Button>
            <Button formaction="/ui/key/revise" kind="secondary">
              Edit further
            </Button>
            <LinkButton href={keyHref(draft.key)} kind="quiet">
              Discard
            </LinkButton>
          </div>
        </Form>
        <div class="section">
          <Commands title={valueInFile} of={putCommands(request, draft, kv)} />
        </div>
      </>
    ),
  };
}

function putCommands(
  request: PageRequest,
  draft: Draft,
  kv: KeyValue | undefined,
): ReturnType<typeof commands> {
  const condition = kv === undefined ? `-H 'If-None-Match: *'` : `-H 'If-Match: "${kv.modRevision}"'`;
  const lease = keepsLease(draft, kv);
  const small = draft.value.length <= 200 && fieldText(draft.value) !== undefined && draft.value.length > 0;
  const flag = lease ? " --ignore-lease" : "";
  const put = small
    ? etcdctl(request.origin, `put${flag} --`, draft.key, draft.value)
    : etcdctl(request.origin, `put${flag} --`, draft.key);
  return commands(
    curlKey(
      request.origin,
      draft.key,
      `-X PUT ${condition} --data-binary @value`,
      lease ? "?ignoreLease=true" : "",
    ),
    put === undefined ? undefined : small ? put : { ...put, text: `${put.text} < value` },
  );
}

/** Back to the form with what was written. */
export const reviseValue: Action = {
  path: "/key/revise",
  section: "keys",
  bodyBytesMax: formBytesMax,
  async run(request): Promise<Outcome> {
    const draft = draftOf(request);
    const fresh = await request.services.browser.confirm();
    const { kv } = await getKey(request.services, draft.key);
    return { kind: "page", content: editContent(request, draft.key, kv, fresh, draft) };
  },
};

export const saveValue: Action = {
  path: "/key/save",
  section: "keys",
  bodyBytesMax: formBytesMax,
  async run(request): Promise<Outcome> {
    const draft = draftOf(request);
    const { services } = request;
    await services.browser.confirm();
    const before = await getKey(services, draft.key);
    if ((before.kv?.modRevision ?? 0n) === draft.base && isSame(draft, before.kv)) {
      return { kind: "page", content: previewContent(request, draft, before.kv) };
    }
    const ignoreLease = draft.base !== 0n && keepsLease(draft, before.kv);
    const answer = await guarded(
      services,
      [unchanged(draft.key, draft.base)],
      [putOp(draft.key, draft.value, ignoreLease)],
    );
    if (!answer.succeeded) {
      const { kv } = await getKey(services, draft.key);
      return { kind: "page", content: await conflictContent(request, draft, kv) };
    }
    const revision = answer.header?.revision ?? 0n;
    return {
      kind: "done",
      to: keyHref(draft.key),
      notice: {
        tone: "ok",
        text: `${draft.base === 0n ? "Created" : "Saved"} at revision ${countOf(revision)}`,
        body: <Commands title={valueInFile} of={putCommands(request, draft, before.kv)} />,
      },
    };
  },
};

/** Somebody wrote the key in between: both changes side by side, and nothing is lost. */
async function conflictContent(
  request: PageRequest,
  draft: Draft,
  kv: KeyValue | undefined,
): Promise<PageContent> {
  const { services } = request;
  const base =
    draft.base === 0n
      ? { known: true, value: new Uint8Array(0) }
      : await getKey(services, draft.key, Number(draft.base)).then(
          (found) => ({ known: found.kv !== undefined, value: found.kv?.value ?? new Uint8Array(0) }),
          () => ({ known: false, value: new Uint8Array(0) }),
        );
  const theirs = kv?.value ?? new Uint8Array(0);
  const now =
    kv === undefined
      ? "It does not exist any more."
      : draft.base === 0n
        ? `It was created at revision ${countOf(kv.modRevision)}.`
        : `It was at revision ${countOf(draft.base)} when you began, and is at ${countOf(kv.modRevision)} now.`;
  return {
    title: "Somebody else was faster",
    status: 409,
    trail: [...trailOf(draft.key), { text: titleOf(draft.key), href: keyHref(draft.key) }],
    body: (
      <>
        <NoticeBox
          tone="warn"
          title={`${plainLine(draft.key, 80)} changed while you were editing`}
          role="alert"
        >
          <p>{now} Nothing was written: both sides are below.</p>
        </NoticeBox>
        {base.known ? (
          <div class="columns sides">
            <section>
              <h2>Theirs, which is stored</h2>
              {kv === undefined ? (
                <p class="muted">Deleted.</p>
              ) : (
                <DiffView of={diffOf(base.value, theirs)} label="What they changed" />
              )}
            </section>
            <section>
              <h2>Yours, which is not</h2>
              <DiffView of={diffOf(base.value, draft.value)} label="What you changed" />
            </section>
          </div>
        ) : (
          <p class="muted">
            The state that you began with was compacted; only the two results can be compared.
          </p>
        )}
        <section class="section">
          <header>
            <h2>From theirs to yours</h2>
          </header>
          <DiffView of={diffOf(theirs, draft.value)} label="From theirs to yours" />
        </section>
        <Form request={request} action="/key/preview" class="decide">
          <DraftFields draft={draft} base={kv?.modRevision ?? 0n} />
          <div class="actions">
            <Button kind="secondary">Review saving yours over theirs</Button>
            <Button formaction="/ui/key/revise">Edit yours further</Button>
            <LinkButton href={keyHref(draft.key)} kind="quiet">
              Keep theirs
            </LinkButton>
          </div>
        </Form>
      </>
    ),
  };
}
