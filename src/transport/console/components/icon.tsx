/** @jsxImportSource #console */
/** Lucide icons from the one sprite. */
import type { IconName } from "../../../../web/icons";
import { assetPaths } from "../assets";
import type { Html } from "../html";

/** An icon; decoration beside text, unless it has a label of its own. */
export function Icon({
  name,
  label,
  class: more,
}: {
  readonly name: IconName;
  readonly label?: string;
  readonly class?: string;
}): Html {
  const classes = more === undefined ? "icon" : `icon ${more}`;
  const use = <use href={`${assetPaths.icons}#${name}`} />;
  return label === undefined ? (
    <svg class={classes} aria-hidden="true">
      {use}
    </svg>
  ) : (
    <svg class={classes} role="img" aria-label={label}>
      {use}
    </svg>
  );
}
