/** @jsxImportSource #console */
/** Values and differences between them, in which nothing hides. */
import type { Html } from "../html";
import { countOf, plural } from "../text";
import type { Diff, DiffLine } from "../values/line-diff";
import { visible } from "../values/visible";

/** Bytes of a value that a page shows; the rest is downloaded. */
const shownBytesMax = 64 * 1024;

/** The first part of a value or of what a decoder made of it. */
export function Content({
  of,
  label,
  wrap = true,
}: {
  readonly of: Uint8Array;
  readonly label: string;
  readonly wrap?: boolean;
}): Html {
  if (of.length === 0) return <p class="content-empty">The value is empty: 0 bytes.</p>;
  const { pieces, bytes } = visible(of, shownBytesMax);
  return (
    <>
      <pre class={wrap ? "content wrap" : "content"} tabindex="0" role="region" aria-label={label}>
        <code class="bytes">
          {pieces.map(({ text, named }) => (named ? <span class="named">{text}</span> : text))}
        </code>
      </pre>
      {bytes < of.length && (
        <p class="muted">
          {`The first ${countOf(bytes)} of ${countOf(of.length)} bytes; download the value to see all of it.`}
        </p>
      )}
    </>
  );
}

const marks: Readonly<Record<DiffLine["kind"], string>> = {
  same: " ",
  removed: "−",
  added: "+",
  skipped: "",
};
const words: Readonly<Record<DiffLine["kind"], string>> = {
  same: "",
  removed: "removed: ",
  added: "added: ",
  skipped: "",
};
const lineBytesMax = 2_000;

/** What changed between two values. */
export function DiffView({ of, label }: { readonly of: Diff; readonly label: string }): Html {
  const { removed, added, hex, coarse, cut, lines } = of;
  const sum =
    removed + added === 0
      ? "No difference"
      : `${plural(removed, hex ? "row" : "line")} removed, ${plural(added, hex ? "row" : "line")} added`;
  return (
    <div class={hex ? "diff hex" : "diff"}>
      <p class="diff-sum">
        {sum}
        {hex && <span class="muted">. Compared as bytes, in rows of a hex dump</span>}
        {coarse && <span class="muted">. Too different to be matched line by line</span>}
      </p>
      {removed + added > 0 && (
        <div class="diff-frame" role="region" aria-label={label} tabindex="0">
          <table class="diff-lines">
            <caption class="unseen">{label}</caption>
            <tbody>
              {lines.map((line) => (
                <Line of={line} />
              ))}
            </tbody>
          </table>
        </div>
      )}
      {cut > 0 && <p class="muted">{`${plural(cut, "more line")} not shown.`}</p>}
    </div>
  );
}

function Line({ of }: { readonly of: DiffLine }): Html {
  const { kind, before, after, bytes, count = 0 } = of;
  if (kind === "skipped") {
    return (
      <tr class="skipped">
        <td colspan="4">{plural(count, "equal line")}</td>
      </tr>
    );
  }
  return (
    <tr class={kind}>
      <td class="at">{before}</td>
      <td class="at">{after}</td>
      <td class="mark">
        <span aria-hidden="true">{marks[kind]}</span>
        {words[kind] !== "" && <span class="unseen">{words[kind]}</span>}
      </td>
      <td class="text">
        <LineText of={bytes} changed={kind !== "same"} />
      </td>
    </tr>
  );
}

/** A line with its end shown where that may be what changed. */
function LineText({ of, changed }: { readonly of: Uint8Array; readonly changed: boolean }): Html {
  const ended = of.at(-1) === 0x0a;
  const crlf = ended && of.at(-2) === 0x0d;
  const body = of.subarray(0, of.length - (crlf ? 2 : ended ? 1 : 0));
  const { pieces, bytes } = visible(body, lineBytesMax);
  return (
    <code class="bytes">
      {pieces.map(({ text, named }) => (named ? <span class="named">{text}</span> : text))}
      {bytes < body.length && <span class="cut">…</span>}
      {changed && crlf && <span class="named">CR LF</span>}
      {changed && !ended && <span class="named">no line end</span>}
    </code>
  );
}
