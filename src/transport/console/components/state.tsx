/** @jsxImportSource #console */
/** States: a shape and a word, coloured. */
import type { IconName } from "../../../../web/icons";
import type { VerdictKind } from "../../../service/verdict";
import type { Child, Html } from "../html";
import { Icon } from "./icon";

export type Tone = "ok" | "warn" | "bad" | "muted";

const shapes: Readonly<Record<Tone, IconName>> = {
  ok: "circle-check",
  warn: "triangle-alert",
  bad: "circle-x",
  muted: "circle",
};

export function State({
  tone,
  icon,
  children,
}: {
  readonly tone: Tone;
  readonly icon?: IconName;
  readonly children?: Child;
}): Html {
  return (
    <span class={`state ${tone}`}>
      <Icon name={icon ?? shapes[tone]} />
      {children}
    </span>
  );
}

/** A word about a thing that is no state: a role, a type. */
export function Tag({ children }: { readonly children?: Child }): Html {
  return <span class="tag">{children}</span>;
}

const toneOfVerdict: Readonly<Record<VerdictKind, Tone>> = {
  healthy: "ok",
  "at-risk": "warn",
  degraded: "warn",
  "read-only": "warn",
  "no-quorum": "bad",
  isolated: "bad",
  corrupt: "bad",
  unknown: "muted",
};

export function verdictTone(kind: VerdictKind): Tone {
  return toneOfVerdict[kind];
}
