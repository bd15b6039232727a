/** @jsxImportSource #console */
/** What a change of membership means for the quorum: now, and after it. */
import type { ClusterView } from "../../../service/cluster-status";
import type { Preview, QuorumView } from "../../../service/overview";
import type { Html } from "../html";
import { nameOfId } from "../words";
import { NoticeBox } from "./boxes";
import { type Column, Table } from "./table";

interface Row {
  readonly what: string;
  readonly of: (quorum: QuorumView) => string;
}

const rows: readonly Row[] = [
  { what: "Voters", of: ({ voters }) => String(voters.length) },
  { what: "Needed to write", of: ({ quorum }) => String(quorum) },
  { what: "Answering now", of: ({ reachable }) => String(reachable.length) },
  {
    what: "Can lose",
    of: ({ spare, voters }) => (spare < 0 ? "writes stop" : `${spare} of ${voters.length}`),
  },
];

export function QuorumChange({
  preview,
  view,
}: {
  readonly preview: Preview;
  readonly view: ClusterView;
}): Html {
  const { before, after, needed, problems, refusal } = preview;
  const columns: readonly Column<Row>[] = [
    { head: "Quorum", names: true, cell: ({ what }) => what },
    { head: "Now", numeric: true, priority: 1, cell: (row) => row.of(before) },
    {
      head: "After",
      numeric: true,
      priority: 1,
      cell: (row) => (row.of(before) === row.of(after) ? row.of(after) : <strong>{row.of(after)}</strong>),
    },
  ];
  const names = needed.map((id) => (id === "new" ? "the new member" : nameOfId(view, id)));
  return (
    <div class="quorum stack">
      <Table caption="The quorum before and after" columns={columns} rows={rows} class="narrow-table" />
      {refusal !== undefined && (
        <NoticeBox tone="bad" title={`The leader would refuse this now: ${refusal.error}`}>
          <p>{refusal.instead}</p>
        </NoticeBox>
      )}
      {problems.length > 0 && (
        <NoticeBox tone={after.spare < 0 || after.voters.length === 0 ? "bad" : "warn"} title={problems[0]!}>
          {problems.slice(1).map((problem) => (
            <p>{problem}</p>
          ))}
        </NoticeBox>
      )}
      {names.length > 0 && after.voters.length > 1 && (
        <p class="muted">{`Afterwards all of these have to answer for writes to go on: ${names.join(", ")}.`}</p>
      )}
    </div>
  );
}
