/** What JSX becomes: tags with checked attributes, components as plain functions. Nothing here runs in a browser. */
import { type Child, escapeText, Html, join } from "./html";

type Attribute = string | number | bigint | boolean | undefined;
type Attributes = { readonly children?: Child } & { readonly [name: string]: Attribute | Child };
type Component = (properties: never) => Html;

const voidTags = new Set(["br", "hr", "img", "input", "link", "meta", "source", "track", "wbr", "col"]);
const attributeName = /^[a-zA-Z][\w:.-]*$/;
/** Attributes that browsers follow as addresses. */
const addresses = new Set(["href", "src", "action", "formaction"]);
const safeAddress = /^(?:[/?#]|\.\/|https?:\/\/)/i;

/** One attribute with a space before it. Throws for what a strict policy would block, or what would run a script. */
function attribute(name: string, value: Attribute): string {
  if (value === undefined || value === false) return "";
  if (!attributeName.test(name) || /^on|^hx-on|^style$/i.test(name)) {
    throw new Error(`${name} is no attribute that a page of the console may have`);
  }
  if (value === true) return ` ${name}`;
  const text = String(value);
  if (addresses.has(name) && text !== "" && (!safeAddress.test(text) || /^\/[/\\]/.test(text))) {
    throw new Error(`${name} leads to ${text.slice(0, 40)}, which is no address of a page`);
  }
  return ` ${name}="${escapeText(text)}"`;
}

/** One element or component. */
export function jsx(tag: string | Component, properties: Attributes): Html {
  if (typeof tag === "function") return tag(properties as never);
  let open = `<${tag}`;
  for (const name in properties) {
    if (name !== "children") open += attribute(name, properties[name] as Attribute);
  }
  if (voidTags.has(tag)) return new Html(`${open}>`);
  const { text, cells } = join(properties.children);
  return new Html(`${open}>${text}</${tag}>`, cells);
}

export const jsxs = jsx;
export const jsxDEV = jsx;

/** Children without an element around them. */
export function Fragment({ children }: { readonly children?: Child }): Html {
  return join(children);
}

export declare namespace JSX {
  type Element = Html;
  interface ElementChildrenAttribute {
    children: unknown;
  }
  interface IntrinsicElements {
    [tag: string]: Attributes;
  }
}
