/** @jsxImportSource #console */
/** The manual, the shortcuts, and the way to the API explorer. */
import firstClusterText from "../../../../web/docs/first-cluster.md" with { type: "text" };
import guaranteesText from "../../../../web/docs/guarantees.md" with { type: "text" };
import installText from "../../../../web/docs/install.md" with { type: "text" };
import limitsText from "../../../../web/docs/limits.md" with { type: "text" };
import restText from "../../../../web/docs/rest.md" with { type: "text" };
import snapshotsText from "../../../../web/docs/snapshots.md" with { type: "text" };
import { Problem } from "../../rest/problem";
import { LinkButton } from "../components/button";
import { markdown, type MarkdownText, slugOf } from "../components/markdown";
import type { Html } from "../html";
import type { Page, PageContent } from "../page";

/** In the order in which somebody new reads them. */
const topics: ReadonlyMap<string, { readonly text: MarkdownText; readonly about: string }> = new Map([
  ["install", { text: markdown(installText), about: "Build it, run it, and who may use it." }],
  ["first-cluster", { text: markdown(firstClusterText), about: "From one member to three, and back." }],
  ["rest", { text: markdown(restText), about: "Keys, conditions, history and watches with curl." }],
  ["snapshots", { text: markdown(snapshotsText), about: "Take them, check them, start anew from one." }],
  [
    "guarantees",
    { text: markdown(guaranteesText), about: "What is promised, what an error means, what is not promised." },
  ],
  [
    "limits",
    { text: markdown(limitsText), about: "Sizes and counts, and what to do when the database is full." },
  ],
]);

const shortcuts: readonly { readonly keys: readonly string[]; readonly does: string }[] = [
  { keys: ["Ctrl", "K"], does: "Go to a page, a member, or a key that you type" },
  { keys: ["/"], does: "Search on this page" },
  { keys: ["g", "o"], does: "Overview" },
  { keys: ["g", "m"], does: "Members" },
  { keys: ["g", "k"], does: "Keys" },
  { keys: ["g", "s"], does: "Snapshots" },
  { keys: ["g", "t"], does: "Metrics" },
  { keys: ["g", "h"], does: "Help" },
  { keys: ["j"], does: "Next row" },
  { keys: ["k"], does: "Row before" },
  { keys: ["Enter"], does: "Open the row" },
  { keys: ["e"], does: "Edit the value" },
  { keys: ["Esc"], does: "Leave a field, close what floats" },
  { keys: ["?"], does: "This list" },
];

const help: Page = {
  path: "/help",
  section: "help",
  render(): PageContent {
    return {
      title: "Help",
      actions: (
        <LinkButton href="/docs" icon="terminal">
          API explorer
        </LinkButton>
      ),
      body: (
        <>
          <ul class="topics">
            {[...topics].map(([name, { text, about }]) => (
              <li>
                <a href={`/ui/help/${name}`}>{text.title}</a>
                <p>{about}</p>
              </li>
            ))}
          </ul>
          <section class="section" id="shortcuts">
            <header>
              <h2>Shortcuts</h2>
            </header>
            <dl class="shortcuts">
              {shortcuts.map(({ keys, does }) => (
                <div>
                  <dt>
                    {keys.map((key) => (
                      <kbd>{key}</kbd>
                    ))}
                  </dt>
                  <dd>{does}</dd>
                </div>
              ))}
            </dl>
            <p class="muted note">None of them counts while you type in a field.</p>
          </section>
        </>
      ),
    };
  },
};

const helpTopic: Page = {
  path: "/help/:topic",
  section: "help",
  render({ path }): PageContent {
    const name = path["topic"] ?? "";
    const topic = topics.get(name);
    if (topic === undefined) {
      throw new Problem("not-found", "The manual has no such page.", { fix: "Choose one under Help." });
    }
    const { title, headings, body } = topic.text;
    return {
      title,
      trail: [{ text: "Help", href: "/ui/help" }],
      body: (
        <div class="manual">
          <article class="prose">{body}</article>
          <Contents name={name} headings={headings} />
        </div>
      ),
    };
  },
};

function Contents({ name, headings }: { readonly name: string; readonly headings: readonly string[] }): Html {
  return (
    <aside class="contents">
      {headings.length > 1 && (
        <nav aria-label="On this page">
          <p class="label">On this page</p>
          <ul>
            {headings.map((heading) => (
              <li>
                <a href={`#${slugOf(heading)}`}>{heading}</a>
              </li>
            ))}
          </ul>
        </nav>
      )}
      <nav aria-label="The manual">
        <p class="label">The manual</p>
        <ul>
          {[...topics].map(([other, { text }]) => (
            <li>
              <a href={`/ui/help/${other}`} aria-current={other === name ? "page" : undefined}>
                {text.title}
              </a>
            </li>
          ))}
        </ul>
      </nav>
    </aside>
  );
}

export const helpPages: readonly Page[] = [help, helpTopic];
