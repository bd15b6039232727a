/** What a page and an action are, and what they are given. README.md beside this file shows how to write one. */
import type { RestServices } from "../rest/services";
import type { Answer } from "../rest/answer";
import type { Html } from "./html";
import type { ClusterStatus } from "../../service/cluster-status";
import type { Form } from "./form";
import type { Query } from "./query";
import type { Notice } from "./notices";

/** The entries of the rail; a page lights one of them. */
export type Section = "overview" | "members" | "keys" | "snapshots" | "metrics" | "help" | "kit";

export type Theme = "light" | "dark" | "system";

/** What pages are made from. */
export interface ConsoleServices extends RestServices {
  readonly status: ClusterStatus;
}

export interface PageRequest {
  /** Parameters of the path, percent-decoded text. */
  readonly path: Readonly<Record<string, string>>;
  readonly query: Query;
  /** Path and query as they came, such as "/ui/keys?prefix=a". */
  readonly target: string;
  readonly services: ConsoleServices;
  /** What forms carry; see the Form component. */
  readonly formToken: string;
  readonly theme: Theme;
  /** Such as http://127.0.0.1:2379: what commands to copy begin with. */
  readonly origin: string;
  /** Milliseconds since 1970. */
  readonly nowMs: number;
  /** Asked by a script of the page that wants a part of it only. */
  readonly partial: boolean;
  readonly requestId: string;
  /** A request header by its lower-case name. */
  header(name: string): string | undefined;
}

export interface PostRequest extends PageRequest {
  readonly form: Form;
}

export interface PageContent {
  /** The h1, and the document's title. */
  readonly title: string;
  /** Beside the h1: the page's one primary action. */
  readonly actions?: Html;
  /** Above the h1: where one came from. */
  readonly trail?: readonly { readonly text: string; readonly href: string }[];
  readonly body: Html;
  /** Default 200. */
  readonly status?: number;
  /** As wide as the window. */
  readonly wide?: boolean;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface Page {
  /** Below /ui, such as "/members/:id"; "/" is the first page. */
  readonly path: string;
  readonly section: Section;
  /** Its live cells are brought up to date once a second while somebody looks. Default false. */
  readonly live?: boolean;
  /** Writes nothing, ever. Throws Problems and StoreErrors, which become pages that explain them. */
  render(request: PageRequest): PageContent | Answer | Promise<PageContent | Answer>;
}

/** What an action leads to. */
export type Outcome =
  /** It is done: the browser goes to a page below /ui that tells of it. */
  | {
      readonly kind: "done";
      readonly to: string;
      readonly notice?: Notice;
      readonly cookies?: readonly string[];
    }
  /** The form comes back with what is wrong, or there is something to show first. */
  | { readonly kind: "page"; readonly content: PageContent };

export interface Action {
  /** Below /ui; only ever reached by POST, from a form of the same session. */
  readonly path: string;
  readonly section: Section;
  /** Bytes that the form may have. Default 2 MiB. */
  readonly bodyBytesMax?: number;
  /** Throws Problems and StoreErrors, which become pages that explain them. */
  run(request: PostRequest): Outcome | Promise<Outcome>;
}
