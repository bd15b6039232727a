/** @jsxImportSource #console */
/** Buttons and links that look like them: verb and object, such as "Remove n2". */
import type { IconName } from "../../../../web/icons";
import type { Child, Html } from "../html";
import { Icon } from "./icon";

/** Danger is red, and only ever in a confirmation. */
export type ButtonKind = "primary" | "secondary" | "quiet" | "danger";

export function Button({
  kind = "secondary",
  icon,
  label,
  type = "submit",
  name,
  value,
  id,
  form,
  formaction,
  reason,
  class: more,
  children,
}: {
  readonly kind?: ButtonKind;
  readonly icon?: IconName;
  /** The name of a button that shows an icon only. */
  readonly label?: string;
  readonly type?: "submit" | "button" | "reset";
  readonly name?: string;
  readonly value?: string;
  readonly id?: string;
  readonly form?: string;
  readonly formaction?: string;
  /** Why it cannot be pressed now; absent: it can. */
  readonly reason?: string | undefined;
  readonly class?: string;
  readonly children?: Child;
}): Html {
  return (
    <button
      class={classesOf(kind, children === undefined, more)}
      type={type}
      name={name}
      value={value}
      id={id}
      form={form}
      formaction={formaction}
      aria-label={label}
      title={reason ?? label}
      disabled={reason !== undefined}
    >
      {icon !== undefined && <Icon name={icon} />}
      {children}
    </button>
  );
}

export function LinkButton({
  href,
  kind = "secondary",
  icon,
  label,
  reason,
  download,
  children,
}: {
  readonly href: string;
  readonly kind?: ButtonKind;
  readonly icon?: IconName;
  readonly label?: string;
  /** Why it leads nowhere now; absent: it does. */
  readonly reason?: string | undefined;
  readonly download?: boolean;
  readonly children?: Child;
}): Html {
  const classes = classesOf(kind, children === undefined);
  const content = (
    <>
      {icon !== undefined && <Icon name={icon} />}
      {children}
    </>
  );
  return reason === undefined ? (
    <a class={classes} href={href} aria-label={label} title={label} download={download}>
      {content}
    </a>
  ) : (
    <span class={`${classes} disabled`} role="link" aria-disabled="true" aria-label={label} title={reason}>
      {content}
    </span>
  );
}

function classesOf(kind: ButtonKind, iconOnly: boolean, more?: string): string {
  return `button ${kind}${iconOnly ? " icon-only" : ""}${more === undefined ? "" : ` ${more}`}`;
}
