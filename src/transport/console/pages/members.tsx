/** @jsxImportSource #console */
/** All members: how each follows, and how to add one. */
import type { ClusterView, MemberView } from "../../../service/cluster-status";
import type { FollowerStatus } from "../../../service/member-status";
import { Section } from "../components/boxes";
import { LinkButton } from "../components/button";
import { Drawing } from "../components/drawing";
import { Live } from "../components/live";
import { State, Tag } from "../components/state";
import { type Column, Table } from "../components/table";
import { Amount, Commands, Meter } from "../components/values";
import type { Child, Html } from "../html";
import type { Page } from "../page";
import { bytesOf, countOf, millisecondsOf, plural } from "../text";
import { isFresh, joinCommand, lagOf, memberState, nameOf, roleOf, silence } from "../words";

const unknown = <span class="unknown">–</span>;

/** What the leader says of a member that follows; undefined of the leader itself, and while nobody leads. */
export function followerOf(view: ClusterView, id: string): FollowerStatus | undefined {
  const leader = view.members.find((member) => member.id === view.leader);
  return leader !== undefined && isFresh(leader)
    ? leader.status?.followers.find((follower) => follower.id === id)
    : undefined;
}

const followerWords = {
  probe: "probing for a common entry",
  replicate: "replicating",
  snapshot: "receiving a snapshot",
} as const;

/** How the leader feeds a member, with the bytes of a snapshot on its way. */
export function Feed({ follower }: { readonly follower: FollowerStatus | undefined }): Html {
  if (follower === undefined) return unknown;
  const { snapshot } = follower;
  if (follower.state !== "snapshot" || snapshot === undefined) return <>{followerWords[follower.state]}</>;
  const { doneBytes, totalBytes } = snapshot;
  const share = doneBytes / Math.max(1, totalBytes);
  return (
    <>
      {"snapshot, "}
      <Amount of={bytesOf(doneBytes)} /> <span class="muted">of</span> <Amount of={bytesOf(totalBytes)} />
      <Meter share={share} label={`${Math.floor(share * 100)} % of the snapshot sent`} />
    </>
  );
}

/** How a member is, and since when it says nothing. */
export function MemberStateWords({ member }: { readonly member: MemberView }): Html {
  const { tone, word } = memberState(member);
  return <State tone={tone}>{`${word}${silence(member)}`}</State>;
}

/** The round trip between the leader and a member. */
export function tripTo(view: ClusterView, member: MemberView): number | undefined {
  const leader = view.members.find(({ id }) => id === view.leader);
  if (leader === undefined || leader.id === member.id || !isFresh(member)) return undefined;
  return leader.status?.roundTripsMs[member.id] ?? member.status?.roundTripsMs[leader.id];
}

export const members: Page = {
  path: "/members",
  section: "members",
  live: true,
  render(request) {
    const view = request.services.status.view();
    return {
      title: "Members",
      actions: (
        <LinkButton href="/ui/members/add" kind="primary" icon="plus">
          Add member
        </LinkButton>
      ),
      body: (
        <>
          <div class="hero">
            <Live id="quorum" as="div" class="hero-verdict">
              <QuorumWords view={view} />
            </Live>
            <Live id="drawing" as="div" class="hero-drawing" still>
              <Drawing view={view} />
            </Live>
          </div>
          <Table
            caption="Members"
            class="members"
            columns={columnsOf(view)}
            rows={view.members}
            rowHref={({ id }) => `/ui/members/${id}`}
          />
          {view.members.length > 1 && <RoundTrips view={view} />}
          <Section
            title="Join by one command"
            lead="Run this on a further machine, with its own address. It adds itself without a vote, catches up, and gets its vote by itself."
          >
            <Commands
              title=""
              of={[{ tool: "shell", text: joinCommand(view, `n${view.members.length + 1}`, request.origin) }]}
            />
          </Section>
        </>
      ),
    };
  },
};

function QuorumWords({ view }: { readonly view: ClusterView }): Html {
  const voters = view.members.filter(({ learner }) => !learner);
  const learners = view.members.length - voters.length;
  const answering = voters.filter(isFresh).length;
  const quorum = Math.floor(voters.length / 2) + 1;
  return (
    <>
      <p class="verdict-sentence">
        {plural(voters.length, "voter")}
        {learners > 0 && `, ${plural(learners, "learner")}`}
      </p>
      <p class="muted">{`${answering} of ${voters.length} ${voters.length === 1 ? "answers" : "answer"}, ${quorum} ${quorum === 1 ? "is" : "are"} needed to write.`}</p>
      {answering < voters.length && (
        <p>
          <State tone={answering < quorum ? "bad" : "warn"}>
            {answering < quorum
              ? "Writes wait for a quorum"
              : answering === quorum
                ? "The next failure stops writes"
                : `Can lose ${answering - quorum} more`}
          </State>
        </p>
      )}
    </>
  );
}

/** What each member measured to each other: links differ by direction and by pair. */
function RoundTrips({ view }: { readonly view: ClusterView }): Html {
  const columns: readonly Column<MemberView>[] = [
    { head: "From", names: true, cell: nameOf },
    ...view.members.map((to): Column<MemberView> => ({
      head: `to ${nameOf(to)}`,
      numeric: true,
      priority: 1,
      cell: (from) => {
        const trip = from.status?.roundTripsMs[to.id];
        return (
          <Live id={`trip-${from.id}-${to.id}`} still>
            {from.id === to.id ? (
              ""
            ) : trip === undefined || !isFresh(from) || !isFresh(to) ? (
              unknown
            ) : (
              <Amount of={millisecondsOf(trip)} />
            )}
          </Live>
        );
      },
    })),
  ];
  return (
    <Section title="Round trips">
      <Table
        caption="Round trips between the members"
        class="narrow-table trips"
        columns={columns}
        rows={view.members}
      />
    </Section>
  );
}

function columnsOf(view: ClusterView): readonly Column<MemberView>[] {
  const cell = (member: MemberView, name: string, content: Child): Html => (
    <Live id={`m-${member.id}-${name}`} still={name === "state" || name === "trip"}>
      {isFresh(member) || name === "state" ? content : <span class="old">{content}</span>}
    </Live>
  );
  return [
    {
      head: "Member",
      names: true,
      cell: (member) => (
        <a href={`/ui/members/${member.id}`} data-place={nameOf(member)} data-note="Member">
          {nameOf(member)}
        </a>
      ),
    },
    {
      head: "State",
      priority: 1,
      cell: (member) => cell(member, "state", <MemberStateWords member={member} />),
    },
    {
      head: "Role",
      bare: true,
      cell: (member) => cell(member, "role", <Tag>{roleOf(member, view)}</Tag>),
    },
    {
      head: "Fed by the leader",
      priority: 3,
      cell: (member) =>
        cell(
          member,
          "feed",
          member.id === view.leader ? (
            <span class="muted">leads</span>
          ) : (
            <Feed follower={followerOf(view, member.id)} />
          ),
        ),
    },
    { head: "Behind", numeric: true, cell: (member) => cell(member, "lag", lagOf(member)) },
    {
      head: "Round trip",
      numeric: true,
      cell: (member) => {
        const trip = tripTo(view, member);
        return cell(member, "trip", trip === undefined ? unknown : <Amount of={millisecondsOf(trip)} />);
      },
    },
    {
      head: "Applied",
      numeric: true,
      priority: 3,
      cell: (member) =>
        cell(member, "applied", member.status === undefined ? unknown : countOf(member.status.applied)),
    },
    {
      head: "Peer URL",
      priority: 3,
      cell: ({ peerUrls }) => (
        <span class="urls">
          {peerUrls.map((url) => (
            <code>{url}</code>
          ))}
        </span>
      ),
    },
    {
      head: "Actions",
      bare: true,
      headContent: <span class="unseen">Actions</span>,
      cell: ({ id, learner }) => (
        <span class="row-actions">
          {learner && <a href={`/ui/members/${id}/promote`}>Promote</a>}
          {view.members.length > 1 && <a href={`/ui/members/${id}/remove`}>Remove</a>}
        </span>
      ),
    },
  ];
}
