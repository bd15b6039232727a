/** @jsxImportSource #console */
/** Markdown as our own components: the library only takes text apart, so nothing in it can become markup. */
import { marked, type Token, type Tokens } from "marked";
import type { Child, Html } from "../html";
import { CopyButton } from "./values";

/** A place in the text that a link may name. */
export function slugOf(heading: string): string {
  return heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, "-")
    .replace(/^-|-$/g, "");
}

export interface MarkdownText {
  /** The first heading. */
  readonly title: string;
  /** Headings of the second level. */
  readonly headings: readonly string[];
  readonly body: Html;
}

/** Reads a text; its first heading becomes the title and not a part of the body. */
export function markdown(text: string): MarkdownText {
  const tokens = marked.lexer(text);
  const first = tokens.find((token): token is Tokens.Heading => token.type === "heading");
  const headings = tokens.filter(
    (token): token is Tokens.Heading => token.type === "heading" && (token as Tokens.Heading).depth === 2,
  );
  return {
    title: first?.text ?? "",
    headings: headings.map((heading) => heading.text),
    body: <>{tokens.filter((token) => token !== first).map(block)}</>,
  };
}

function block(token: Token): Child {
  switch (token.type) {
    case "heading": {
      const { depth, text, tokens } = token as Tokens.Heading;
      return depth <= 2 ? (
        <h2 id={slugOf(text)}>{inline(tokens)}</h2>
      ) : (
        <h3 id={slugOf(text)}>{inline(tokens)}</h3>
      );
    }
    case "paragraph":
      return <p>{inline((token as Tokens.Paragraph).tokens)}</p>;
    case "code":
      return <CodeBlock text={(token as Tokens.Code).text} />;
    case "list":
      return list(token as Tokens.List);
    case "table":
      return table(token as Tokens.Table);
    case "blockquote":
      return <blockquote>{(token as Tokens.Blockquote).tokens.map(block)}</blockquote>;
    case "text": {
      const { tokens, text } = token as Tokens.Text;
      return tokens === undefined ? text : inline(tokens);
    }
    case "hr":
      return <hr />;
    case "space":
      return undefined;
    default:
      return token.raw;
  }
}

function CodeBlock({ text }: { readonly text: string }): Html {
  return (
    <div class="code-block">
      <pre tabindex="0">
        <code>{text}</code>
      </pre>
      <CopyButton text={text} what="these lines" />
    </div>
  );
}

function list({ ordered, items }: Tokens.List): Html {
  const children = items.map(({ tokens }) => <li>{tokens.map(block)}</li>);
  return ordered ? <ol>{children}</ol> : <ul>{children}</ul>;
}

function table({ header, rows }: Tokens.Table): Html {
  return (
    <div
      class="table-frame"
      role="region"
      aria-label={header.map(({ text }) => text).join(", ")}
      tabindex="0"
    >
      <table>
        <thead>
          <tr>
            {header.map(({ tokens }) => (
              <th scope="col">{inline(tokens)}</th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map(([name, ...cells]) => (
            <tr>
              <th scope="row">{inline(name?.tokens)}</th>
              {cells.map(({ tokens }) => (
                <td>{inline(tokens)}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

const entities: Readonly<Record<string, string>> = {
  "&lt;": "<",
  "&gt;": ">",
  "&quot;": '"',
  "&#39;": "'",
  "&amp;": "&",
};

/** The library escapes some texts for markup of its own; ours is escaped when it is put in. */
function plain(text: string): string {
  return text.replace(/&(?:lt|gt|quot|#39|amp);/g, (entity) => entities[entity]!);
}

function inline(tokens: readonly Token[] | undefined): Child {
  return (tokens ?? []).map((token): Child => {
    switch (token.type) {
      case "strong":
        return <strong>{inline((token as Tokens.Strong).tokens)}</strong>;
      case "em":
        return <em>{inline((token as Tokens.Em).tokens)}</em>;
      case "codespan":
        return <code>{plain((token as Tokens.Codespan).text)}</code>;
      case "br":
        return <br />;
      case "link": {
        const { href, tokens: content } = token as Tokens.Link;
        return /^(?:#|\/(?!\/)|https:\/\/)/.test(href) ? (
          <a href={href}>{inline(content)}</a>
        ) : (
          inline(content)
        );
      }
      case "escape":
      case "text":
        return plain((token as Tokens.Text).text);
      default:
        return token.raw;
    }
  });
}
