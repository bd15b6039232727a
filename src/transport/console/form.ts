/** The fields of a posted form, as bytes: what a browser sends need not be UTF-8. */
import { Problem } from "../rest/problem";
import { queryParameters } from "../rest/target";

const utf8 = new TextDecoder("utf-8", { fatal: false });

export interface UploadedFile {
  readonly name: string;
  readonly bytes: Uint8Array;
}

export class Form {
  readonly #fields: ReadonlyMap<string, readonly Uint8Array[]>;
  readonly #files: ReadonlyMap<string, UploadedFile>;

  private constructor(
    fields: ReadonlyMap<string, readonly Uint8Array[]>,
    files: ReadonlyMap<string, UploadedFile>,
  ) {
    this.#fields = fields;
    this.#files = files;
  }

  /** Reads both encodings that HTML forms have. Throws a Problem for others. */
  static async read(contentType: string | undefined, body: Uint8Array): Promise<Form> {
    if (/^application\/x-www-form-urlencoded\s*(?:;|$)/i.test(contentType ?? "")) {
      return new Form(queryParameters(Buffer.from(body).toString("latin1")), new Map());
    }
    if (/^multipart\/form-data\s*;/i.test(contentType ?? "")) return Form.#multipart(contentType!, body);
    throw new Problem("unsupported-media-type", `A form was expected, not ${contentType ?? "nothing"}.`);
  }

  static async #multipart(contentType: string, body: Uint8Array): Promise<Form> {
    const fields = new Map<string, Uint8Array[]>();
    const files = new Map<string, UploadedFile>();
    let data: Awaited<ReturnType<Response["formData"]>>;
    try {
      data = await new Response(Buffer.from(body), { headers: { "content-type": contentType } }).formData();
    } catch {
      throw new Problem("bad-body", "The form's parts cannot be told apart.");
    }
    for (const [name, value] of data.entries()) {
      if (typeof value === "string") fields.set(name, [...(fields.get(name) ?? []), Buffer.from(value)]);
      else files.set(name, { name: value.name, bytes: new Uint8Array(await value.arrayBuffer()) });
    }
    return new Form(fields, files);
  }

  /** A field as it was sent; text areas send line ends as CR LF. */
  bytes(name: string): Uint8Array | undefined {
    return this.#fields.get(name)?.[0];
  }

  text(name: string): string | undefined {
    const bytes = this.bytes(name);
    return bytes === undefined ? undefined : utf8.decode(bytes);
  }

  /** All fields of one name, such as ticked boxes. */
  all(name: string): readonly string[] {
    return (this.#fields.get(name) ?? []).map((bytes) => utf8.decode(bytes));
  }

  allBytes(name: string): readonly Uint8Array[] {
    return this.#fields.get(name) ?? [];
  }

  file(name: string): UploadedFile | undefined {
    return this.#files.get(name);
  }
}
