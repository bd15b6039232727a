/** @jsxImportSource #console */
/** Parts of a page that move: brought up to date once a second on pages that are `live`. */
import { type Child, Html, join } from "../html";
import { jsx } from "../jsx-runtime";

/** `id` is unique on the page. What is inside must be the same for every reader: no forms, no tokens. */
export function Live({
  id,
  as = "span",
  class: more,
  still,
  children,
}: {
  readonly id: string;
  readonly as?: "span" | "div" | "tbody" | "ul" | "ol" | "p" | "g";
  readonly class?: string;
  /** It changes all the time, such as an age: changes are not tinted. */
  readonly still?: boolean;
  readonly children?: Child;
}): Html {
  const inside = new Html(join(children).text);
  const element = jsx(as, {
    id: `live-${id}`,
    class: more,
    "data-live": true,
    "data-still": still,
    children: inside,
  });
  return new Html(element.text, [{ id: `live-${id}`, text: inside.text }]);
}
