/** @jsxImportSource #console */
/** Changes of membership: each shows what it means for the quorum before it happens. */
import { create } from "@bufbuild/protobuf";
import {
  MemberAddRequestSchema,
  MemberPromoteRequestSchema,
  MemberRemoveRequestSchema,
} from "../../../proto/gen/etcd/rpc_pb";
import type { ClusterView, MemberView } from "../../../service/cluster-status";
import { hex16 } from "../../rest/key-json";
import { Problem } from "../../rest/problem";
import { NoticeBox, Panel, Section } from "../components/boxes";
import { Button, LinkButton } from "../components/button";
import { Field, Form, QueryForm, TextInput } from "../components/form";
import { QuorumChange } from "../components/quorum";
import { type Command, Commands } from "../components/values";
import type { Child, Html } from "../html";
import type { Action, Page, PageContent, PageRequest, PostRequest } from "../page";
import { address } from "../query";
import { countOf, plural } from "../text";
import { clientUrlOf, isFresh, joinCommand, nameOf } from "../words";
import { memberOf } from "./member";

const trail = [{ text: "Members", href: "/ui/members" }];
/** What a change waits for before it gives up is the member's own; this is for reading it. */
const readyEntriesMax = 5_000;

function idOf({ id }: Pick<MemberView, "id">): bigint {
  return BigInt(`0x${id}`);
}

function Confirmed({
  request,
  action,
  effect,
  danger,
  refused,
  verb,
  back,
  commands,
  children,
}: {
  readonly request: PageRequest;
  readonly action: string;
  readonly effect: Child;
  readonly danger?: boolean;
  /** The leader would say no: the button is there, and does not ask to be pressed. */
  readonly refused?: boolean;
  readonly verb: string;
  readonly back: string;
  readonly commands: readonly Command[];
  readonly children?: Child;
}): Html {
  return (
    <div class="stack narrow-page">
      {effect}
      <Form request={request} action={action}>
        {children}
        <div class="actions">
          <Button kind={refused === true ? "secondary" : danger === true ? "danger" : "primary"}>
            {verb}
          </Button>
          <LinkButton kind="quiet" href={back}>
            Leave it as it is
          </LinkButton>
        </div>
      </Form>
      <Commands of={commands} />
    </div>
  );
}

/** The URLs in a text, one in a line or behind a comma; with what is wrong with them. */
function peerUrlsOf(text: string): {
  readonly urls: readonly string[];
  readonly problem: string | undefined;
} {
  const urls = text.split(/[\s,]+/).filter((url) => url !== "");
  if (urls.length === 0) return { urls, problem: "Give the URL at which the other members will reach it." };
  for (const url of urls) {
    const parsed = URL.canParse(url) ? new URL(url) : undefined;
    if (
      parsed === undefined ||
      !/^https?:$/.test(parsed.protocol) ||
      parsed.port === "" ||
      parsed.pathname !== "/"
    ) {
      return { urls, problem: `${url} is not of the form http://ADDRESS:PORT.` };
    }
  }
  return { urls, problem: undefined };
}

/** What the new member is to be called, and where clients will find it, as far as the form says. */
interface Place {
  readonly name: string;
  readonly clientUrl: string;
}

const namePattern = /^[\w.-]{1,64}$/;

/** A name that no member has, and the peer URL's host at etcd's port: what the command needs if nothing else is said. */
function placeOf(view: ClusterView, urls: readonly string[], name?: string, clientUrl?: string): Place {
  const taken = new Set(view.members.map((member) => member.name));
  let number = view.members.length + 1;
  while (taken.has(`n${number}`)) number++;
  const [peerUrl] = urls;
  const { protocol, hostname } =
    peerUrl !== undefined && URL.canParse(peerUrl)
      ? new URL(peerUrl)
      : { protocol: "http:", hostname: "ADDRESS" };
  return {
    name: name !== undefined && name !== "" ? name : `n${number}`,
    clientUrl: clientUrl !== undefined && clientUrl !== "" ? clientUrl : `${protocol}//${hostname}:2379`,
  };
}

/** What is wrong with a name or a client URL that was given; they may be left empty. */
function placeProblems(
  view: ClusterView,
  name: string,
  clientUrl: string,
): {
  readonly name: string | undefined;
  readonly clientUrl: string | undefined;
} {
  return {
    name:
      name === ""
        ? undefined
        : !namePattern.test(name)
          ? "Letters, digits, dots, dashes and underscores, at most 64."
          : view.members.some((member) => member.name === name)
            ? `A member is called ${name} already.`
            : undefined,
    clientUrl: clientUrl === "" ? undefined : peerUrlsOf(clientUrl).problem,
  };
}

async function addContent(request: PageRequest): Promise<PageContent> {
  const { services, query } = request;
  const view = services.status.view();
  const text = query.text("url");
  const voter = query.text("kind") === "voter";
  const [name = "", clientUrl = ""] = [query.text("name")?.trim(), query.text("client")?.trim()];
  const checked = text === undefined ? undefined : peerUrlsOf(text);
  const wrong = checked?.problem;
  const wrongPlace = placeProblems(view, name, clientUrl);
  const fits = wrong === undefined && wrongPlace.name === undefined && wrongPlace.clientUrl === undefined;
  const ready = checked !== undefined && fits;
  const urls = checked?.urls ?? [];
  const preview = ready
    ? await services.overview.preview({ kind: "add", learner: !voter, peerUrls: urls })
    : undefined;
  const url = urls.join(",");
  const place = placeOf(view, urls, name, clientUrl);
  return {
    title: "Add member",
    trail,
    status: fits ? 200 : 422,
    body: (
      <>
        <div class="narrow-page">
          <QueryForm action="/members/add">
            <Field
              label="Peer URL"
              for="url"
              problem={wrong}
              help="Where the other members will reach it. Several, with commas between."
            >
              <TextInput
                id="url"
                name="url"
                mono
                width={36}
                value={text}
                placeholder="http://10.0.0.4:2380"
                required
                invalid={wrong !== undefined}
              />
            </Field>
            <Field
              label="Name"
              for="name"
              problem={wrongPlace.name}
              help={`For the command that starts it. Left empty: ${placeOf(view, []).name}.`}
            >
              <TextInput
                id="name"
                name="name"
                mono
                width={16}
                value={name}
                autocomplete="off"
                invalid={wrongPlace.name !== undefined}
              />
            </Field>
            <Field
              label="Client URL"
              for="client"
              problem={wrongPlace.clientUrl}
              help="Where clients will reach it. Left empty: the host of the peer URL, port 2379."
            >
              <TextInput
                id="client"
                name="client"
                mono
                width={36}
                value={clientUrl}
                autocomplete="off"
                invalid={wrongPlace.clientUrl !== undefined}
              />
            </Field>
            <fieldset class="choices">
              <legend>Begin as</legend>
              <label class="checkbox">
                <input type="radio" name="kind" value="learner" checked={!voter} />
                <span>
                  Learner, without a vote <span class="muted">– costs nothing while it catches up</span>
                </span>
              </label>
              <label class="checkbox">
                <input type="radio" name="kind" value="voter" checked={voter} />
                <span>
                  Voter <span class="muted">– counts at once, before it holds data</span>
                </span>
              </label>
            </fieldset>
            <Button kind={ready ? "secondary" : "primary"}>Show effect</Button>
          </QueryForm>
        </div>
        {preview !== undefined && (
          <Section title="Effect">
            <Confirmed
              request={request}
              action="/members/add"
              verb={voter ? "Add voter" : "Add learner"}
              back="/ui/members"
              refused={preview.refusal !== undefined}
              effect={<QuorumChange preview={preview} view={view} />}
              commands={[
                {
                  tool: "curl",
                  text: `curl ${request.origin}/api/v1/members --json '${JSON.stringify({ peerUrls: checked?.urls, learner: !voter })}'`,
                },
                {
                  tool: "etcdctl",
                  text: `etcdctl --endpoints ${clientUrlOf(view, request.origin)} member add ${place.name} --peer-urls ${url}${voter ? "" : " --learner"}`,
                },
              ]}
            >
              <input type="hidden" name="url" value={url} />
              <input type="hidden" name="kind" value={voter ? "voter" : "learner"} />
              <input type="hidden" name="name" value={place.name} />
              <input type="hidden" name="client" value={place.clientUrl} />
            </Confirmed>
          </Section>
        )}
        <Section
          title="Or let it join by itself"
          lead="One command on its machine does all of this: it adds itself as a learner, catches up, and becomes a voter."
        >
          <Commands
            title=""
            of={[
              {
                tool: "shell",
                text: joinCommand(
                  view,
                  place.name,
                  request.origin,
                  ready ? { clientUrl: place.clientUrl, peerUrl: url } : undefined,
                ),
              },
            ]}
          />
        </Section>
      </>
    ),
  };
}

const addMember: Page = {
  path: "/members/add",
  section: "members",
  render: (request) => addContent(request),
};

const doAddMember: Action = {
  path: "/members/add",
  section: "members",
  async run(request) {
    const { form, services } = request;
    const { urls, problem } = peerUrlsOf(form.text("url") ?? "");
    const learner = form.text("kind") !== "voter";
    const [name = "", clientUrl = ""] = [form.text("name"), form.text("client")];
    const wrongPlace = placeProblems(services.status.view(), name, clientUrl);
    const wrong = problem ?? wrongPlace.name ?? wrongPlace.clientUrl;
    if (wrong !== undefined) throw new Problem("bad-parameter", wrong);
    const { member } = await services.cluster.memberAdd(
      create(MemberAddRequestSchema, { peerURLs: [...urls], isLearner: learner }),
    );
    const id = hex16(member!.ID);
    // The page shows the command for as long as the member has not started; the address carries what it needs.
    const place = placeOf(services.status.view(), urls, name, clientUrl);
    return {
      kind: "done",
      to: address(`/ui/members/${id}`, { name: place.name, client: place.clientUrl }),
      notice: {
        tone: "ok",
        text: `${learner ? "A learner" : "A voter"} was added: ${id}`,
        body: <p>Start it now, with empty data. It catches up, and this page shows how far it is.</p>,
      },
    };
  },
};

const promoteMember: Page = {
  path: "/members/:id/promote",
  section: "members",
  async render(request) {
    const view = request.services.status.view();
    const shown = memberOf(view, request.path["id"]);
    const name = nameOf(shown);
    const lag = shown.lagEntries;
    const preview = await request.services.overview.preview({ kind: "promote", id: idOf(shown) });
    return {
      title: `Promote ${name}`,
      trail: [...trail, { text: name, href: `/ui/members/${shown.id}` }],
      body: (
        <Confirmed
          request={request}
          action={`/members/${shown.id}/promote`}
          verb={`Promote ${name}`}
          refused={preview.refusal !== undefined}
          back={`/ui/members/${shown.id}`}
          commands={[
            { tool: "curl", text: `curl -X POST ${request.origin}/api/v1/members/${shown.id}/promote` },
            {
              tool: "etcdctl",
              text: `etcdctl --endpoints ${clientUrlOf(view, request.origin)} member promote ${shown.id}`,
            },
          ]}
          effect={
            <>
              <p>{`${name} gets a vote. It counts for every write from then on.`}</p>
              {shown.learner && lag !== undefined && lag > readyEntriesMax && (
                <NoticeBox tone="warn" title={`${name} is ${countOf(lag)} entries behind`}>
                  <p>The leader refuses the promotion until it is in step, and nothing changes then.</p>
                </NoticeBox>
              )}
              <QuorumChange preview={preview} view={view} />
            </>
          }
        />
      ),
    };
  },
};

const doPromoteMember: Action = {
  path: "/members/:id/promote",
  section: "members",
  async run({ services, path }) {
    const shown = memberOf(services.status.view(), path["id"]);
    const request = create(MemberPromoteRequestSchema, { ID: idOf(shown) });
    const { members } = await services.cluster.memberPromote(request);
    return {
      kind: "done",
      to: `/ui/members/${shown.id}`,
      notice: { tone: "ok", text: `${nameOf(shown)} votes now. ${votersNow(members)}` },
    };
  },
};

async function removeContent(request: PageRequest, problem?: string): Promise<PageContent> {
  const view = request.services.status.view();
  const shown = memberOf(view, request.path["id"]);
  const name = nameOf(shown);
  const preview = await request.services.overview.preview({ kind: "remove", id: idOf(shown) });
  return {
    title: `Remove ${name}`,
    trail: [...trail, { text: name, href: `/ui/members/${shown.id}` }],
    status: problem === undefined ? 200 : 422,
    body: (
      <Confirmed
        request={request}
        action={`/members/${shown.id}/remove`}
        verb={`Remove ${name}`}
        danger
        refused={preview.refusal !== undefined}
        back={`/ui/members/${shown.id}`}
        commands={[
          { tool: "curl", text: `curl -X DELETE ${request.origin}/api/v1/members/${shown.id}` },
          {
            tool: "etcdctl",
            text: `etcdctl --endpoints ${clientUrlOf(view, request.origin)} member remove ${shown.id}`,
          },
        ]}
        effect={
          <>
            <p>
              {`${name} leaves for good: its id is never used again, its process ends, and its data is of no further use.`}
            </p>
            {shown.id === view.leader && (
              <p>{`${name} leads: it hands over first, and there is an election.`}</p>
            )}
            {shown.id === view.self && <p>This page comes from it: go on at another member afterwards.</p>}
            <QuorumChange preview={preview} view={view} />
          </>
        }
      >
        <Field label={`Type ${name} to confirm`} for="confirm" problem={problem}>
          <TextInput
            id="confirm"
            name="confirm"
            mono
            width={20}
            required
            autocomplete="off"
            invalid={problem !== undefined}
          />
        </Field>
      </Confirmed>
    ),
  };
}

const removeMember: Page = {
  path: "/members/:id/remove",
  section: "members",
  render: (request) => removeContent(request),
};

const doRemoveMember: Action = {
  path: "/members/:id/remove",
  section: "members",
  async run(request: PostRequest) {
    const { services, form, path } = request;
    const shown = memberOf(services.status.view(), path["id"]);
    const name = nameOf(shown);
    if (form.text("confirm")?.trim() !== name) {
      return {
        kind: "page",
        content: await removeContent(request, `This is not ${name}. Nothing was removed.`),
      };
    }
    const removal = create(MemberRemoveRequestSchema, { ID: idOf(shown) });
    const { members } = await services.cluster.memberRemove(removal);
    return {
      kind: "done",
      to: "/ui/members",
      notice: { tone: "ok", text: `${name} was removed. ${votersNow(members)}` },
    };
  },
};

const moveLeader: Page = {
  path: "/members/:id/lead",
  section: "members",
  render(request) {
    const view = request.services.status.view();
    const shown = memberOf(view, request.path["id"]);
    const name = nameOf(shown);
    const leader = view.members.find(({ id }) => id === view.leader);
    const leaderUrl = leader?.clientUrls[0] ?? request.origin;
    const lag = shown.lagEntries ?? 0;
    return {
      title: `Let ${name} lead`,
      trail: [...trail, { text: name, href: `/ui/members/${shown.id}` }],
      body: (
        <Confirmed
          request={request}
          action={`/members/${shown.id}/lead`}
          verb={`Let ${name} lead`}
          back={`/ui/members/${shown.id}`}
          commands={[
            { tool: "curl", text: `curl -X POST ${leaderUrl}/api/v1/members/${shown.id}/lead` },
            { tool: "etcdctl", text: `etcdctl --endpoints ${leaderUrl} move-leader ${shown.id}` },
          ]}
          effect={
            <>
              <Panel>
                <p>
                  {leader === undefined
                    ? "There is no leader that could hand over."
                    : `${nameOf(leader)} hands over to ${name} and follows it. The quorum stays as it is.`}
                </p>
                <p class="muted">
                  Writes wait for a moment, usually less than 0.1 s. None that was acknowledged is lost.
                </p>
              </Panel>
              {!isFresh(shown) && (
                <NoticeBox tone="warn" title={`${name} does not answer`}>
                  <p>The leader will refuse, and go on leading.</p>
                </NoticeBox>
              )}
              {shown.learner && (
                <NoticeBox tone="warn" title={`${name} is a learner`}>
                  <p>Only voters can lead: promote it first.</p>
                </NoticeBox>
              )}
              {lag > readyEntriesMax && (
                <NoticeBox tone="warn" title={`${name} is ${countOf(lag)} entries behind`}>
                  <p>It has to catch up first; if that takes too long, the leader goes on leading.</p>
                </NoticeBox>
              )}
            </>
          }
        />
      ),
    };
  },
};

const doMoveLeader: Action = {
  path: "/members/:id/lead",
  section: "members",
  async run({ services, path }) {
    const shown = memberOf(services.status.view(), path["id"]);
    await services.overview.moveLeader(idOf(shown));
    return {
      kind: "done",
      to: `/ui/members/${shown.id}`,
      notice: { tone: "ok", text: `${nameOf(shown)} leads` },
    };
  },
};

/** Who votes from now on, by the answer: the own state may be a moment behind. */
function votersNow(members: readonly { readonly isLearner: boolean }[]): string {
  const voters = members.filter(({ isLearner }) => !isLearner).length;
  return `${plural(voters, "voter")}, ${Math.floor(voters / 2) + 1} needed to write.`;
}

export const membershipPages: readonly Page[] = [addMember, promoteMember, removeMember, moveLeader];
export const membershipActions: readonly Action[] = [
  doAddMember,
  doPromoteMember,
  doRemoveMember,
  doMoveLeader,
];
