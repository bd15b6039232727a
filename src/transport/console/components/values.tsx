/** @jsxImportSource #console */
/** Figures, times, ids, keys and commands. */
import type { Child, Html } from "../html";
import { type Measured, piecesOf, shortened, spanOf, written } from "../text";
import { Button } from "./button";

/** A figure with its unit, muted. */
export function Amount({ of }: { readonly of: Measured | undefined }): Html {
  if (of === undefined) return <span class="unknown">not known</span>;
  return (
    <span class="amount">
      {of.value}
      {of.unit !== "" && <span class="unit"> {of.unit}</span>}
    </span>
  );
}

/** Facts in two columns. */
export function Facts({
  class: more,
  children,
}: {
  readonly class?: string;
  readonly children?: Child;
}): Html {
  return <dl class={more === undefined ? "facts" : `facts ${more}`}>{children}</dl>;
}

export function Fact({
  label,
  help,
  children,
}: {
  readonly label: string;
  readonly help?: Child;
  readonly children?: Child;
}): Html {
  return (
    <div>
      <dt>{label}</dt>
      <dd>
        {children}
        {help !== undefined && <span class="fact-help">{help}</span>}
      </dd>
    </div>
  );
}

/**
 * When something was: how long ago, and on focus the moment itself. With `since` it reads as a span. Live pages render
 * it anew each second, so `coarse` counts no seconds.
 */
export function Time({
  atMs,
  nowMs,
  since,
  coarse,
}: {
  readonly atMs: number;
  readonly nowMs: number;
  readonly since?: boolean;
  readonly coarse?: boolean;
}): Html {
  const iso = new Date(atMs).toISOString();
  const ago = nowMs - atMs;
  const span = written(spanOf(Math.abs(ago)));
  const text =
    since === true
      ? span
      : ago < -1_500
        ? `in ${span}`
        : ago < 1_500 || (coarse === true && ago < 60_000)
          ? "just now"
          : `${span} ago`;
  return (
    <time datetime={iso} tabindex="0" data-tip={`${iso.slice(0, 10)} ${iso.slice(11, 19)} UTC`}>
      {text}
    </time>
  );
}

/** An id, key or address in mono, shortened in the middle, copied whole. */
export function Mono({
  text,
  charactersMax = 40,
  copy,
}: {
  readonly text: string;
  readonly charactersMax?: number;
  readonly copy?: boolean;
}): Html {
  const shown = shortened(text, charactersMax);
  return (
    <span class="mono-line">
      <code title={shown === text ? undefined : text}>{shown}</code>
      {copy === true && <CopyButton text={text} what={shown} />}
    </span>
  );
}

/** Bytes of a key or value, in which nothing hides. Shortened in the middle when they are many. */
export function Bytes({
  of,
  bytesMax = 120,
  lines,
}: {
  readonly of: Uint8Array;
  readonly bytesMax?: number;
  readonly lines?: boolean;
}): Html {
  if (of.length === 0) return <span class="unknown">empty</span>;
  const half = Math.ceil(bytesMax / 2);
  const parts =
    of.length <= bytesMax ? [of] : [of.subarray(0, half), of.subarray(of.length - (bytesMax - half))];
  return (
    <bdi class="bytes">
      {parts.map((part, at) => [
        at === 1 && <span class="cut">…</span>,
        piecesOf(part, lines).map(({ text, named }) => (named ? <span class="named">{text}</span> : text)),
      ])}
    </bdi>
  );
}

/** Copies text; hidden where there is no script. */
export function CopyButton({ text, what }: { readonly text: string; readonly what: string }): Html {
  return (
    <span class="copy" data-copy={text}>
      <Button kind="quiet" icon="copy" type="button" label={`Copy ${what}`} />
    </span>
  );
}

export interface Command {
  /** Such as "curl" or "etcdctl". */
  readonly tool: string;
  readonly text: string;
}

/** The same thing by other means, ready to copy. */
export function Commands({
  title = "The same by command",
  of,
}: {
  readonly title?: string;
  readonly of: readonly Command[];
}): Html {
  return (
    <div class="commands">
      {title !== "" && <p class="label">{title}</p>}
      {of.map(({ tool, text }) => (
        <div class="command">
          <span class="tool">{tool}</span>
          <pre tabindex="0">
            <code>{text}</code>
          </pre>
          <CopyButton text={text} what={`the ${tool} command`} />
        </div>
      ))}
    </div>
  );
}

/** An argument for a POSIX shell. */
export function shellQuoted(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** How much of something is used; `share` is 0 to 1. */
export function Meter({
  share,
  label,
  tone,
}: {
  readonly share: number;
  readonly label: string;
  readonly tone?: "warn" | "bad";
}): Html {
  const width = Math.round(Math.min(1, Math.max(0, share)) * 1_000) / 10;
  return (
    <svg
      class={tone === undefined ? "meter" : `meter ${tone}`}
      role="img"
      aria-label={label}
      width="100%"
      height="4"
    >
      <rect class="track" width="100%" height="4" rx="2" />
      <rect class="fill" width={`${width}%`} height="4" rx="2" />
    </svg>
  );
}
