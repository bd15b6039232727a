/** A browser without scripts: keeps cookies, follows redirects, and sends forms as HTML says, line ends included. */

export interface SentFile {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** A form of a page, with what its fields hold. */
export interface FoundForm {
  readonly action: string;
  readonly method: string;
  readonly multipart: boolean;
  readonly fields: readonly (readonly [name: string, value: string])[];
}

const named: Readonly<Record<string, string>> = { lt: "<", gt: ">", amp: "&", quot: '"', "#39": "'" };

export function unescaped(text: string): string {
  return text.replace(/&(lt|gt|amp|quot|#39);/g, (_whole, name: string) => named[name]!);
}

function attribute(tag: string, name: string): string | undefined {
  const found = new RegExp(`\\s${name}(?:="([^"]*)")?(?=[\\s>])`).exec(tag);
  return found === null ? undefined : unescaped(found[1] ?? "");
}

/** The forms of a page. Boxes and radio buttons count when they are ticked, buttons when they are pressed. */
function formsOf(html: string): FoundForm[] {
  return [...html.matchAll(/<form\b[^>]*>[\s\S]*?<\/form>/g)].map(([text]) => {
    const open = /^<form\b[^>]*>/.exec(text)![0];
    const fields: [string, string][] = [];
    for (const [control, area] of text.matchAll(
      /<input\b[^>]*>|<textarea\b[^>]*>([\s\S]*?)<\/textarea>|<select\b[\s\S]*?<\/select>/g,
    )) {
      const name = attribute(control, "name");
      if (name === undefined) continue;
      if (control.startsWith("<textarea")) {
        fields.push([name, unescaped(area!.replace(/\r\n?/g, "\n").replace(/^\n/, ""))]);
      } else if (control.startsWith("<select")) {
        const options = [...control.matchAll(/<option\b[^>]*>/g)].map(([option]) => option);
        const chosen = options.find((option) => attribute(option, "selected") !== undefined) ?? options[0];
        fields.push([name, attribute(chosen ?? "", "value") ?? ""]);
      } else {
        const type = attribute(control, "type");
        const ticked = attribute(control, "checked") !== undefined;
        if (type === "file" || ((type === "checkbox" || type === "radio") && !ticked)) continue;
        fields.push([name, attribute(control, "value") ?? (type === "checkbox" ? "on" : "")]);
      }
    }
    return {
      action: attribute(open, "action") ?? "",
      method: attribute(open, "method") ?? "get",
      multipart: attribute(open, "enctype") === "multipart/form-data",
      fields,
    };
  });
}

/** What came back. */
export class Visited {
  constructor(
    readonly url: string,
    readonly status: number,
    readonly headers: Headers,
    readonly bytes: Uint8Array,
  ) {}

  get html(): string {
    return Buffer.from(this.bytes).toString();
  }
  get title(): string {
    return unescaped(/<h1[^>]*>([\s\S]*?)<\/h1>/.exec(this.html)?.[1] ?? "").replace(/<[^>]*>/g, "");
  }
  /** The page's own part as text, without markup. */
  get text(): string {
    const main = /<main\b[\s\S]*<\/main>/.exec(this.html)?.[0] ?? this.html;
    return unescaped(main.replace(/<[^>]*>/g, " ").replace(/\s+/g, " "));
  }
  get links(): string[] {
    return [...this.html.matchAll(/<a\b[^>]*?\shref="([^"]*)"/g)].map(([, href]) => unescaped(href!));
  }
  get forms(): FoundForm[] {
    return formsOf(this.html);
  }

  /** The one form that is sent to this path. */
  form(action: string): FoundForm {
    const found = this.forms.find((form) => form.action === action);
    if (found === undefined)
      throw new Error(`no form for ${action} among ${this.forms.map((one) => one.action).join(", ")}`);
    return found;
  }
}

export class Visitor {
  readonly #cookies = new Map<string, string>();

  constructor(readonly base: string) {}

  get(path: string): Promise<Visited> {
    return this.#send(path, { method: "GET" });
  }

  /** Sends a form as it is, with some fields changed, removed (undefined) or added. */
  submit(
    form: FoundForm,
    changes: Readonly<Record<string, string | undefined | SentFile>> = {},
    action = form.action,
  ): Promise<Visited> {
    const fields: [string, string | SentFile][] = [];
    for (const [name, value] of form.fields) {
      if (!(name in changes)) fields.push([name, value]);
      else if (changes[name] !== undefined) fields.push([name, changes[name]]);
    }
    for (const [name, value] of Object.entries(changes)) {
      if (value !== undefined && !form.fields.some(([known]) => known === name)) fields.push([name, value]);
    }
    const line = (text: string): string => text.replace(/\r\n?|\n/g, "\r\n");
    if (form.multipart) {
      const data = new FormData();
      for (const [name, value] of fields) {
        if (typeof value === "string") data.append(name, line(value));
        else data.append(name, new File([Buffer.from(value.bytes)], value.name));
      }
      return this.#send(action, { method: "POST", body: data });
    }
    const data = new URLSearchParams();
    for (const [name, value] of fields) if (typeof value === "string") data.append(name, line(value));
    if (form.method === "get") return this.#send(`${action}?${data}`, { method: "GET" });
    return this.#send(action, { method: "POST", body: data });
  }

  async #send(path: string, init: { method: string; body?: FormData | URLSearchParams }): Promise<Visited> {
    const headers: Record<string, string> = { accept: "text/html", "sec-fetch-site": "same-origin" };
    if (init.method === "POST") headers["origin"] = this.base;
    const cookies = [...this.#cookies].map(([name, value]) => `${name}=${value}`).join("; ");
    if (cookies !== "") headers["cookie"] = cookies;
    const response = await fetch(new URL(path, this.base), { ...init, headers, redirect: "manual" });
    for (const cookie of response.headers.getSetCookie()) {
      const [pair = ""] = cookie.split(";");
      const equals = pair.indexOf("=");
      this.#cookies.set(pair.slice(0, equals), pair.slice(equals + 1));
    }
    const location = response.headers.get("location");
    if (location !== null && response.status >= 300 && response.status < 400) {
      await response.arrayBuffer();
      return this.get(location);
    }
    return new Visited(path, response.status, response.headers, new Uint8Array(await response.arrayBuffer()));
  }
}
