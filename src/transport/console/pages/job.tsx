/** @jsxImportSource #console */
/** Work that takes a while: how far it is, how it ended, and a way to give it up. */
import type { JobView } from "../../../service/jobs";
import { Problem } from "../../rest/problem";
import { NoticeBox } from "../components/boxes";
import { Button, LinkButton } from "../components/button";
import { Form } from "../components/form";
import { Live } from "../components/live";
import { State, type Tone } from "../components/state";
import { Commands, Fact, Facts, Meter } from "../components/values";
import type { Html } from "../html";
import type { Action, Outcome, Page, PageContent, PageRequest } from "../page";
import { countOf } from "../text";
import { curl } from "./keys/commands";

const titles: Readonly<Record<string, string>> = {
  "write keys": "Writing keys",
  snapshot: "Taking a snapshot",
  verify: "Checking a snapshot",
  compact: "Forgetting history",
  defragment: "Giving space back",
  hashes: "Comparing members",
};

const tones: Readonly<Record<JobView["state"], Tone>> = {
  running: "muted",
  done: "ok",
  failed: "bad",
  canceled: "warn",
};
const words: Readonly<Record<JobView["state"], string>> = {
  running: "Under way",
  done: "Done",
  failed: "Failed",
  canceled: "Given up",
};

/** What a job does, as a title. */
export function titleOfJob({ kind }: JobView): string {
  return titles[kind] ?? kind;
}

function jobOf({ path, services }: PageRequest): JobView {
  const job = services.jobs.get(path["id"] ?? "");
  if (job === undefined) {
    throw new Problem("not-found", "There is no such job on this member.", {
      fix: "Jobs are known to the member that began them, while its process lives.",
    });
  }
  return job;
}

/** Where a job's pages lead back to. */
function homeOf({ kind }: JobView): { readonly text: string; readonly href: string } {
  return kind === "write keys"
    ? { text: "Keys", href: "/ui/keys" }
    : { text: "Snapshots", href: "/ui/snapshots" };
}

export const jobPage: Page = {
  path: "/jobs/:id",
  section: "keys",
  live: true,
  render(request): PageContent {
    const job = jobOf(request);
    return {
      title: titleOfJob(job),
      trail: [homeOf(job)],
      body: (
        <>
          <Live id="job" as="div">
            <JobFacts job={job} />
            {job.state !== "running" && (
              <p class="after-job">
                <LinkButton href={homeOf(job).href} icon="arrow-right">
                  {`Show the ${homeOf(job).text.toLowerCase()}`}
                </LinkButton>
              </p>
            )}
          </Live>
          {job.state === "running" && (
            <div class="actions while-running">
              <LinkButton href={`/ui/jobs/${job.id}`} icon="refresh-cw">
                Look again
              </LinkButton>
              <Form request={request} action={`/jobs/${job.id}/cancel`} class="bare">
                <Button>Give it up</Button>
              </Form>
            </div>
          )}
          <div class="section">
            <Commands title="How it goes, by command" of={[curl(request.origin, `/jobs/${job.id}`)]} />
          </div>
        </>
      ),
    };
  },
};

/** How far a job is; the same for every reader. */
export function JobFacts({ job }: { readonly job: JobView }): Html {
  const { kind, state, done, total, error } = job;
  // What is done in bytes is told as a share: a copy's bytes are looked at several times.
  const inBytes = kind === "snapshot" || kind === "verify";
  const percent = `${Math.floor((100 * done) / Math.max(1, total))} %`;
  return (
    <div class="job stack" data-state={state}>
      {total > 0 && (
        <Meter
          share={state === "done" ? 1 : done / total}
          label={inBytes ? `${percent} done` : `${done} of ${total}`}
          {...(state === "failed" ? { tone: "bad" as const } : {})}
        />
      )}
      <Facts>
        <Fact label="State">
          <State tone={tones[state]} {...(state === "running" ? { icon: "loader-circle" as const } : {})}>
            {words[state]}
          </State>
        </Fact>
        {total > 0 && (
          <Fact label="Progress">{inBytes ? percent : `${countOf(done)} of ${countOf(total)}`}</Fact>
        )}
        <Fact label="Began">
          <Clock atMs={job.startedAtMs} />
        </Fact>
        {job.endedAtMs !== undefined && (
          <Fact label="Took">{`${((job.endedAtMs - job.startedAtMs) / 1_000).toFixed(1)} s`}</Fact>
        )}
        {resultFacts(job.result)}
      </Facts>
      {error !== undefined && (
        <NoticeBox tone="bad" title="It ended with a failure" role="alert">
          <p>{error}</p>
          <p>What it wrote until then stays; doing it again writes only what is missing.</p>
        </NoticeBox>
      )}
      {conflictsOf(job.result)}
    </div>
  );
}

/** The moment itself: how long ago it was would change every second, and nothing else. */
function Clock({ atMs }: { readonly atMs: number }): Html {
  const iso = new Date(atMs).toISOString();
  return <time datetime={iso}>{`${iso.slice(11, 19)} UTC`}</time>;
}

function field(result: unknown, name: string): unknown {
  return typeof result === "object" && result !== null
    ? (result as Readonly<Record<string, unknown>>)[name]
    : undefined;
}

function resultFacts(result: unknown): Html {
  const [written, revision, sound, problem] = ["written", "revision", "sound", "problem"].map((name) =>
    field(result, name),
  );
  return (
    <>
      {typeof written === "number" && <Fact label="Keys written">{countOf(written)}</Fact>}
      {typeof revision === "string" && <Fact label="At revision">{countOf(Number(revision))}</Fact>}
      {typeof sound === "boolean" && (
        <Fact label="Verdict">
          <State tone={sound ? "ok" : "bad"}>{sound ? "Sound" : "Damaged"}</State>
        </Fact>
      )}
      {typeof problem === "string" && <Fact label="What is wrong">{problem}</Fact>}
    </>
  );
}

function conflictsOf(result: unknown): Html {
  const count = field(result, "conflicts");
  const first = field(result, "firstConflicts");
  if (typeof count !== "number" || count === 0 || !Array.isArray(first)) return <></>;
  return (
    <NoticeBox tone="warn" title={`${countOf(count)} ${count === 1 ? "key was" : "keys were"} left alone`}>
      <p>Somebody else wrote them in between:</p>
      <ul>
        {(first as unknown[]).map((key) => (
          <li>
            <code>{String(key)}</code>
          </li>
        ))}
      </ul>
    </NoticeBox>
  );
}

export const cancelJob: Action = {
  path: "/jobs/:id/cancel",
  section: "keys",
  run(request): Outcome {
    const { id } = jobOf(request);
    request.services.jobs.cancel(id);
    return {
      kind: "done",
      to: `/ui/jobs/${id}`,
      notice: { tone: "warn", text: "It stops at its next step; what it did so far stays" },
    };
  },
};
