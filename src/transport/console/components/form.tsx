/** @jsxImportSource #console */
/** Forms: label above, help below, the error at its field. They are sent as they are, without scripts. */
import type { Child, Html } from "../html";
import type { PageRequest } from "../page";

/** A form that does something: it carries the session's token. `action` is a path below /ui. */
export function Form({
  request,
  action,
  upload,
  id,
  class: more,
  children,
}: {
  readonly request: Pick<PageRequest, "formToken">;
  readonly action: string;
  /** It has files. */
  readonly upload?: boolean;
  readonly id?: string;
  readonly class?: string;
  readonly children?: Child;
}): Html {
  return (
    <form
      method="post"
      action={`/ui${action}`}
      enctype={upload === true ? "multipart/form-data" : undefined}
      id={id}
      class={more === undefined ? "form" : `form ${more}`}
    >
      <input type="hidden" name="form-token" value={request.formToken} />
      {children}
    </form>
  );
}

/** A form that only leads to another address: a search, a filter, a preview. */
export function QueryForm({
  action,
  class: more,
  role,
  children,
}: {
  readonly action: string;
  readonly class?: string;
  readonly role?: "search";
  readonly children?: Child;
}): Html {
  return (
    <form
      method="get"
      action={`/ui${action}`}
      class={more === undefined ? "form" : `form ${more}`}
      role={role}
    >
      {children}
    </form>
  );
}

/** One labelled control. Give the control the id `for`. */
export function Field({
  label,
  for: id,
  help,
  problem,
  children,
}: {
  readonly label: string;
  readonly for: string;
  readonly help?: Child;
  readonly problem?: string | undefined;
  readonly children?: Child;
}): Html {
  return (
    <div class="field">
      <label for={id}>{label}</label>
      {children}
      {problem !== undefined && (
        <p class="problem" id={`${id}-problem`}>
          {problem}
        </p>
      )}
      {help !== undefined && (
        <p class="help" id={`${id}-help`}>
          {help}
        </p>
      )}
    </div>
  );
}

export function TextInput({
  id,
  name,
  type = "text",
  value,
  mono,
  width,
  invalid,
  ...rest
}: {
  readonly id: string;
  readonly name: string;
  readonly type?: "text" | "password" | "number" | "search" | "url" | "datetime-local";
  readonly value?: string | number | undefined;
  readonly mono?: boolean;
  /** Characters that usually stand in it. */
  readonly width?: number;
  readonly invalid?: boolean;
  readonly placeholder?: string;
  readonly autocomplete?: string;
  readonly pattern?: string;
  readonly required?: boolean;
  readonly autofocus?: boolean;
  readonly list?: string;
}): Html {
  return (
    <input
      id={id}
      name={name}
      type={type}
      value={value}
      size={width}
      class={mono === true ? "input mono" : "input"}
      spellcheck="false"
      aria-invalid={invalid === true ? "true" : undefined}
      aria-describedby={invalid === true ? `${id}-problem` : `${id}-help`}
      {...rest}
    />
  );
}

export function TextArea({
  id,
  name,
  value,
  rows = 6,
  invalid,
  readonly,
}: {
  readonly id: string;
  readonly name: string;
  readonly value: string;
  readonly rows?: number;
  readonly invalid?: boolean;
  readonly readonly?: boolean;
}): Html {
  return (
    <textarea
      id={id}
      name={name}
      rows={rows}
      class="input mono"
      spellcheck="false"
      wrap="off"
      readonly={readonly}
      aria-invalid={invalid === true ? "true" : undefined}
      aria-describedby={invalid === true ? `${id}-problem` : `${id}-help`}
    >
      {/* HTML drops one line end right behind the tag. */}
      {`\n${value}`}
    </textarea>
  );
}

export function Select({
  id,
  name,
  value,
  options,
}: {
  readonly id: string;
  readonly name: string;
  readonly value?: string | undefined;
  readonly options: readonly { readonly value: string; readonly text: string }[];
}): Html {
  return (
    <select id={id} name={name} class="input">
      {options.map((option) => (
        <option value={option.value} selected={option.value === value}>
          {option.text}
        </option>
      ))}
    </select>
  );
}

export function Checkbox({
  name,
  value = "on",
  checked,
  required,
  children,
}: {
  readonly name: string;
  readonly value?: string;
  readonly checked?: boolean;
  readonly required?: boolean;
  readonly children?: Child;
}): Html {
  return (
    <label class="checkbox">
      <input type="checkbox" name={name} value={value} checked={checked} required={required} />
      <span>{children}</span>
    </label>
  );
}
