/** @jsxImportSource #console */
/** Sections, notices, empty places and places that still load. */
import type { IconName } from "../../../../web/icons";
import type { Child, Html } from "../html";
import { Icon } from "./icon";
import type { Tone } from "./state";

/** A part of a page under an h2. */
export function Section({
  title,
  id,
  actions,
  lead,
  children,
}: {
  readonly title: string;
  readonly id?: string;
  readonly actions?: Child;
  readonly lead?: Child;
  readonly children?: Child;
}): Html {
  return (
    <section class="section" id={id}>
      <header>
        <h2>{title}</h2>
        {actions !== undefined && <div class="actions">{actions}</div>}
      </header>
      {lead !== undefined && <p class="lead">{lead}</p>}
      {children}
    </section>
  );
}

/** Something on a surface of its own. Never inside another. */
export function Panel({
  class: more,
  children,
}: {
  readonly class?: string;
  readonly children?: Child;
}): Html {
  return <div class={more === undefined ? "panel" : `panel ${more}`}>{children}</div>;
}

const icons: Readonly<Record<Tone, IconName>> = {
  ok: "circle-check",
  warn: "triangle-alert",
  bad: "circle-alert",
  muted: "circle-help",
};

/** What happened, or what is wrong: what, since when, what is safe, what next. */
export function NoticeBox({
  tone,
  title,
  role,
  children,
}: {
  readonly tone: Tone;
  readonly title: Child;
  /** "alert" is read out at once, "status" when there is a pause. */
  readonly role?: "status" | "alert";
  readonly children?: Child;
}): Html {
  return (
    <div class={`notice ${tone}`} role={role}>
      <Icon name={icons[tone]} />
      <div>
        <p class="notice-title">{title}</p>
        {children}
      </div>
    </div>
  );
}

/** An empty place: a sentence, an action, a command. */
export function Empty({ title, children }: { readonly title: string; readonly children?: Child }): Html {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children}
    </div>
  );
}

/** Lines of the size that something will have. Seen only when it takes longer than 300 ms. */
export function Skeleton({ lines = 3 }: { readonly lines?: number }): Html {
  return (
    <div class="skeleton" role="status" aria-label="Loading">
      {Array.from({ length: lines }, () => (
        <span />
      ))}
    </div>
  );
}

/** Something that is shown when asked for. */
export function Disclosure({
  summary,
  open,
  children,
}: {
  readonly summary: Child;
  readonly open?: boolean;
  readonly children?: Child;
}): Html {
  return (
    <details class="disclosure" open={open}>
      <summary>
        <Icon name="chevron-right" />
        {summary}
      </summary>
      <div>{children}</div>
    </details>
  );
}
