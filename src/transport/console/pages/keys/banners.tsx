/** @jsxImportSource #console */
/** What pages of keys say above their figures: that they show the past, or what may be old. */
import { NoticeBox } from "../../components/boxes";
import { Icon } from "../../components/icon";
import { Time } from "../../components/values";
import type { Html } from "../../html";
import type { PageRequest } from "../../page";
import { address } from "../../query";
import { countOf } from "../../text";

const writesOff = "This shows the past. Return to now to write.";

/** Why nothing can be written on a page; undefined: it can. */
export function refusalOf(revision: number | undefined, fresh: boolean): string | undefined {
  if (revision !== undefined) return writesOff;
  return fresh ? undefined : "No leader answers, so nothing can be written now.";
}

const steps = [
  { text: "1 min", ms: 60_000 },
  { text: "10 min", ms: 600_000 },
  { text: "1 h", ms: 3_600_000 },
  { text: "1 d", ms: 86_400_000 },
] as const;

/** Fixed above a page that shows a revision of the past. `href` is the same page at another moment. */
export function PastBanner({
  request,
  revision,
  now,
  href,
}: {
  readonly request: PageRequest;
  readonly revision: number;
  /** The newest revision. */
  readonly now: number;
  readonly href: (at: { readonly rev?: number; readonly time?: string }) => string;
}): Html {
  const { services, nowMs } = request;
  const timeMs = services.history.timeOf(BigInt(revision));
  const compacted = services.store.compactedRevision;
  const oldestMs = services.history.timeOf(BigInt(Math.max(1, compacted)));
  const earlier =
    timeMs === undefined ? [] : steps.filter(({ ms }) => oldestMs !== undefined && timeMs - ms >= oldestMs);
  return (
    <div class="past" role="status">
      <Icon name="history" />
      <p>
        <strong>Revision {countOf(revision)}</strong>
        {timeMs !== undefined && (
          <>
            {", "}
            <Time atMs={timeMs} nowMs={nowMs} />
          </>
        )}
        . Now it is {countOf(now)}. Writes are off.
      </p>
      <nav aria-label="Other moments">
        {earlier.map(({ text, ms }) => (
          <a href={href({ time: new Date(timeMs! - ms).toISOString() })}>{`${text} earlier`}</a>
        ))}
        {revision - 1 >= Math.max(1, compacted) && <a href={href({ rev: revision - 1 })}>Revision before</a>}
        {revision < now && <a href={href({ rev: revision + 1 })}>Revision after</a>}
        <a class="button secondary" href={href({})}>
          Return to now
        </a>
      </nav>
    </div>
  );
}

/** Above pages that nobody could confirm. */
export function StaleNotice({ request }: { readonly request: PageRequest }): Html {
  const timeMs = request.services.history.timeOf(BigInt(request.services.store.revision));
  return (
    <NoticeBox tone="warn" title="No leader answers: this is what this member holds" role="status">
      <p>
        Its last write {timeMs === undefined ? "has no known time" : "came "}
        {timeMs !== undefined && <Time atMs={timeMs} nowMs={request.nowMs} />}. Others may have written since.
        Reading goes on, writing waits for a leader.
      </p>
      <p>
        <a href={request.target}>Load anew</a> · <a href={address("/ui/")}>How the cluster is</a>
      </p>
    </NoticeBox>
  );
}
