/** @jsxImportSource #console */
/** The document around every page: rail, strip, notices, palette. */
import type { IconName } from "../../../web/icons";
import type { ClusterView } from "../../service/cluster-status";
import { keelsonVersion } from "../../version";
import { type Problem, type ProblemKind, problemKinds } from "../rest/problem";
import { assetPaths, assetsVersion } from "./assets";
import { NoticeBox } from "./components/boxes";
import { Form } from "./components/form";
import { Icon } from "./components/icon";
import { Live } from "./components/live";
import { State, verdictTone } from "./components/state";
import { Fact, Facts, Time } from "./components/values";
import { Html } from "./html";
import type { Notice } from "./notices";
import type { PageContent, PageRequest, Section, Theme } from "./page";
import { address } from "./query";
import { countOf } from "./text";
import { nameOf } from "./words";

interface Entry {
  readonly section: Section;
  readonly text: string;
  readonly href: string;
  readonly icon: IconName;
  /** The letter after g. */
  readonly letter: string;
}

/** The rail, in its order; the palette knows the same. */
export const entries: readonly Entry[] = [
  { section: "overview", text: "Overview", href: "/ui/", icon: "layout-dashboard", letter: "o" },
  { section: "members", text: "Members", href: "/ui/members", icon: "server", letter: "m" },
  { section: "keys", text: "Keys", href: "/ui/keys", icon: "key-round", letter: "k" },
  { section: "snapshots", text: "Snapshots", href: "/ui/snapshots", icon: "archive", letter: "s" },
  { section: "metrics", text: "Metrics", href: "/ui/metrics", icon: "activity", letter: "t" },
  { section: "help", text: "Help", href: "/ui/help", icon: "circle-help", letter: "h" },
];

export interface ShellInput {
  readonly request: PageRequest;
  readonly content: PageContent;
  readonly section: Section | undefined;
  readonly live: boolean;
  readonly notice: Notice | undefined;
  readonly mayLogOut: boolean;
  /** Absent for those who may not see the cluster. */
  readonly view: ClusterView | undefined;
  readonly bootId: string;
  /** It answers a form: its address is no page that could be loaded anew. */
  readonly posted?: boolean;
}

/** Where somebody comes back to from this page: the page itself, or the one that forms of its section lead to. */
function homeOf({ request, section = "overview", posted }: ShellInput): string {
  if (posted !== true) return withoutNotice(request.target);
  return section === "overview" ? "/ui/" : `/ui/${section}`;
}

/** The strip alone is live on pages that are not. */
export const stripTarget = "/ui/strip";

const htmxConfig = JSON.stringify({
  history: false,
  includeIndicatorCSS: false,
  defaultTimeout: 20_000,
  sse: { reconnectDelay: 500, reconnectMaxDelay: 3_000, connectTimeout: 5_000 },
});

/** The whole document. */
export function document(input: ShellInput): Html {
  const { request, content, section, live, notice, view, bootId } = input;
  const liveTarget = live ? withoutNotice(request.target) : stripTarget;
  const markup = (
    <html lang="en" data-theme={request.theme} data-assets={assetsVersion} data-boot={bootId}>
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="color-scheme" content={request.theme === "system" ? "light dark" : request.theme} />
        <title>{titleOf(content, view)}</title>
        <link rel="icon" href={`${assetPaths.mark}`} type="image/svg+xml" />
        <link rel="preload" href={assetPaths.font} as="font" type="font/woff2" crossorigin="anonymous" />
        <link rel="preload" href={assetPaths.monoFont} as="font" type="font/woff2" crossorigin="anonymous" />
        <link rel="stylesheet" href={assetPaths.style} />
        <meta name="htmx-config" content={htmxConfig} />
        <script src={assetPaths.htmx} defer></script>
        <script src={assetPaths.script} type="module"></script>
      </head>
      <body>
        <a class="skip" href="#main">
          Skip to the page
        </a>
        <Strip view={view} nowMs={request.nowMs} target={input.posted === true ? undefined : homeOf(input)} />
        {view !== undefined && <Rail section={section} input={input} />}
        <main id="main" class={content.wide === true ? "wide" : undefined} tabindex="-1">
          <div id="stale" class="stale" role="alert" hidden>
            <Icon name="unplug" />
            <p>
              Stale since <time id="stale-since"></time>. The server does not answer; this page goes on by
              itself once it does.
            </p>
            <a href={homeOf(input)}>Load anew</a>
          </div>
          {notice !== undefined && (
            <NoticeBox tone={notice.tone} title={notice.text} role="status">
              {notice.body}
            </NoticeBox>
          )}
          <header class="page-head">
            <div>
              {content.trail !== undefined && (
                <nav class="trail" aria-label="Trail">
                  {content.trail.map(({ text, href }) => (
                    <a href={href}>{text}</a>
                  ))}
                </nav>
              )}
              <h1>{content.title}</h1>
            </div>
            {content.actions !== undefined && <div class="actions">{content.actions}</div>}
          </header>
          {content.body}
        </main>
        {view !== undefined && <Palette />}
        {view !== undefined && (
          <div id="live" hidden data-live-url={address("/ui/live", { page: liveTarget })}></div>
        )}
      </body>
    </html>
  );
  return new Html(`<!doctype html>${markup.text}`, markup.cells);
}

function withoutNotice(target: string): string {
  return target.replace(/([?&])done=[^&]*&?/, "$1").replace(/[?&]$/, "");
}

function titleOf({ title }: PageContent, view: ClusterView | undefined): string {
  const self = view?.members.find(({ id }) => id === view.self);
  return self === undefined ? `${title} · Keelson` : `${title} · ${nameOf(self)} · Keelson`;
}

/** Which cluster, which member, how it is, how far, and whether this page still hears it. */
export function Strip({
  view,
  nowMs,
  target,
}: {
  readonly view: ClusterView | undefined;
  readonly nowMs: number;
  /** The page's own address, for those whose browser cannot hear what changes. */
  readonly target?: string | undefined;
}): Html {
  const self = view?.members.find(({ id }) => id === view.self);
  return (
    <header class="strip">
      <a class="brand" href="/ui/" aria-label="Keelson, overview">
        <svg class="mark" aria-hidden="true">
          <use href={`${assetPaths.mark}#mark`} />
        </svg>
        <span>Keelson</span>
      </a>
      {view !== undefined && (
        <>
          <dl class="strip-facts">
            <div class="strip-cluster">
              <dt>Cluster</dt>
              <dd>
                <code title={view.clusterId}>{view.clusterId.slice(0, 8)}</code>
              </dd>
            </div>
            <div class="strip-member">
              <dt>Member</dt>
              <dd>{self === undefined ? "not known" : nameOf(self)}</dd>
            </div>
            <div class="strip-verdict">
              <dt class="unseen">State</dt>
              <dd>
                <Live id="strip-verdict">
                  <State tone={verdictTone(view.verdict.kind)}>{view.verdict.word}</State>
                </Live>
              </dd>
            </div>
            <div class="strip-revision">
              <dt>Revision</dt>
              <dd class="figure">
                <Live id="strip-revision">{countOf(view.revision)}</Live>
              </dd>
            </div>
          </dl>
          <div class="connection" id="connection" data-state="page">
            <Icon name="circle" />
            <span id="connection-text">
              As of <Clock atMs={nowMs} />
              {target !== undefined && (
                <>
                  {", "}
                  <a href={target}>refresh</a>
                </>
              )}
            </span>
          </div>
          <button class="button quiet search-button" type="button" id="open-palette" hidden>
            <Icon name="search" />
            <span>Go to</span>
            <kbd>Ctrl K</kbd>
          </button>
          <a class="button quiet icon-only menu-button" href="#rail" aria-label="Menu">
            <Icon name="menu" />
          </a>
        </>
      )}
    </header>
  );
}

function Clock({ atMs }: { readonly atMs: number }): Html {
  const iso = new Date(atMs).toISOString();
  return <time datetime={iso}>{`${iso.slice(11, 19)} UTC`}</time>;
}

function Rail({
  section,
  input,
}: {
  readonly section: Section | undefined;
  readonly input: ShellInput;
}): Html {
  const { request, mayLogOut } = input;
  return (
    <nav class="rail" id="rail" aria-label="Pages">
      <ul>
        {entries.map((entry) => (
          <li>
            <a
              href={entry.href}
              aria-current={entry.section === section ? "page" : undefined}
              data-letter={entry.letter}
            >
              <Icon name={entry.icon} />
              {entry.text}
            </a>
          </li>
        ))}
      </ul>
      <ul class="rail-foot">
        <li>
          <a href="/docs">
            <Icon name="terminal" />
            API explorer
          </a>
        </li>
        {mayLogOut && (
          <li>
            <Form request={request} action="/logout" class="bare">
              <button class="rail-button">
                <Icon name="log-out" />
                Sign out
              </button>
            </Form>
          </li>
        )}
        <li>
          <ThemeChoice input={input} />
        </li>
        <li class="rail-version">Keelson {keelsonVersion}</li>
      </ul>
    </nav>
  );
}

const themes: readonly { readonly theme: Theme; readonly icon: IconName; readonly text: string }[] = [
  { theme: "system", icon: "monitor", text: "As the system" },
  { theme: "light", icon: "sun", text: "Light" },
  { theme: "dark", icon: "moon", text: "Dark" },
];

function ThemeChoice({ input }: { readonly input: ShellInput }): Html {
  const { request } = input;
  return (
    <Form request={request} action="/theme" class="bare theme-choice">
      <input type="hidden" name="to" value={homeOf(input)} />
      <span role="group" aria-label="Theme">
        {themes.map(({ theme, icon, text }) => (
          <button
            name="theme"
            value={theme}
            aria-label={text}
            title={text}
            aria-pressed={request.theme === theme ? "true" : "false"}
          >
            <Icon name={icon} />
          </button>
        ))}
      </span>
    </Form>
  );
}

/** Filled by the script: pages, the members, and where a typed key leads. */
function Palette(): Html {
  return (
    <dialog id="palette" class="palette" aria-label="Go to">
      <div class="palette-field">
        <Icon name="search" />
        <input
          id="palette-input"
          type="text"
          role="combobox"
          aria-expanded="true"
          aria-controls="palette-list"
          aria-label="Go to a page, or type a key"
          placeholder="Go to a page, or type a key"
          autocomplete="off"
          spellcheck="false"
        />
        <kbd>Esc</kbd>
      </div>
      <ul id="palette-list" role="listbox" aria-label="Places"></ul>
    </dialog>
  );
}

/** Where what helps in a browser is not what helps with curl. */
const fixesHere: Partial<Record<ProblemKind, string>> = {
  "no-space":
    "The overview has the cure step by step: delete or compact, give the space back, disarm the alarm.",
  corrupt: "The overview names the member that differs, and the cure step by step.",
};

/** A page about a request that failed: what, since when, what is safe, what next. */
export function errorPage(problem: Problem, requestId: string, unsure: boolean, nowMs: number): PageContent {
  const { title, fix } = problemKinds[problem.kind];
  return {
    title,
    status: problem.status,
    body: (
      <>
        <NoticeBox tone={problem.status >= 500 ? "bad" : "warn"} title={problem.message} role="alert">
          <p>
            {unsure
              ? "It is not known whether the change happened: look at its effect before you repeat it."
              : "Nothing was changed."}
          </p>
          <p>{problem.details.fix ?? fixesHere[problem.kind] ?? fix}</p>
        </NoticeBox>
        <Facts class="list narrow-page">
          <Fact label="When">
            <Time atMs={nowMs} nowMs={nowMs} />
          </Fact>
          <Fact label="Request">
            <code>{requestId}</code>
          </Fact>
          {problem.details.cause !== undefined && (
            <Fact label="etcd's words">
              <code>{problem.details.cause.message}</code>
            </Fact>
          )}
        </Facts>
        {problem.kind !== "forbidden" && (
          <p class="decide">
            <a class="button secondary" href="/ui/">
              Go to the overview
            </a>
          </p>
        )}
      </>
    ),
  };
}
