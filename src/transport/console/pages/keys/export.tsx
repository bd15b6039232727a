/** @jsxImportSource #console */
/** Keys with their values as a file, in the form that import and REST have. */
import { jsonText } from "../../../rest/answer";
import { keyValueJson } from "../../../rest/key-json";
import { Problem } from "../../../rest/problem";
import type { Answer } from "../../../rest/answer";
import { NoticeBox } from "../../components/boxes";
import { LinkButton } from "../../components/button";
import { Bytes, Commands, Fact, Facts } from "../../components/values";
import type { Page, PageContent, PageRequest } from "../../page";
import { address } from "../../query";
import { countOf, plural } from "../../text";
import { StaleNotice } from "./banners";
import { bytesParameter, commands, curl, etcdctl } from "./commands";
import { keysHref, parameter, placeOf, queryBytes } from "./place";
import { countKeys, kubernetesPart, prefixRange } from "./store";
import { keysOf } from "./stream";

const pieceCharacters = 64 * 1024;

export const exportKeys: Page = {
  path: "/keys/export",
  section: "keys",
  async render(request): Promise<PageContent | Answer> {
    const { query, services } = request;
    const prefix = queryBytes(query, "prefix") ?? new Uint8Array(0);
    const asked = query.number("rev");
    const revision = asked ?? services.store.revision;
    const format = query.text("format");
    if (format === "json" || format === "ndjson") return download(request, prefix, revision, format);
    if (format !== undefined) throw new Problem("bad-parameter", "The format is json or ndjson.");
    const fresh = await services.browser.confirm();
    // Keys of the past would have to be walked over to be counted.
    const count = asked === undefined ? await countKeys(services, prefixRange(prefix)) : undefined;
    const href = (name: string): string =>
      address("/ui/keys/export", { ...parameter("prefix", prefix), rev: revision, format: name });
    const secrets = kubernetesPart(prefix) === "secret" || coversSecrets(prefix);
    return {
      title: count === undefined ? "Export keys" : `Export ${plural(count, "key")}`,
      trail: [{ text: "Keys", href: keysHref(placeOf(query, undefined)) }],
      body: (
        <>
          {!fresh && <StaleNotice request={request} />}
          {secrets && (
            <NoticeBox tone="warn" title="The file may hold Kubernetes secrets in the clear">
              <p>Whoever has it can read everything below /registry/secrets/.</p>
            </NoticeBox>
          )}
          <Facts>
            <Fact label="Prefix">{prefix.length === 0 ? "all keys" : <Bytes of={prefix} />}</Fact>
            <Fact label="At revision" help="later writes are not in the file">
              {countOf(revision)}
            </Fact>
            <Fact label="Left out">leases, which belong to running clients</Fact>
          </Facts>
          <div class="actions decide">
            <LinkButton href={href("ndjson")} kind="primary" icon="download" download>
              Download NDJSON
            </LinkButton>
            <LinkButton href={href("json")} icon="download" download>
              Download JSON
            </LinkButton>
          </div>
          <p class="muted note">
            A line per key, and a last line that says the file is whole. Import takes both forms.
          </p>
          <div class="section">
            <Commands
              of={commands(
                curl(
                  request.origin,
                  `/keys?${bytesParameter("prefix", prefix)}&revision=${revision}`,
                  "-H 'Accept: application/x-ndjson' -o keys.ndjson",
                ),
                etcdctl(request.origin, `get --prefix --rev=${revision} -w json`, prefix),
              )}
            />
          </div>
        </>
      ),
    };
  },
};

function coversSecrets(prefix: Uint8Array): boolean {
  return "/registry/secrets/".startsWith(Buffer.from(prefix).toString("latin1"));
}

/** The file; a connection that breaks leaves one without its end. */
async function download(
  { services }: PageRequest,
  prefix: Uint8Array,
  revision: number,
  format: "json" | "ndjson",
): Promise<Answer> {
  const lines = format === "ndjson";
  const keys = keysOf(services, prefixRange(prefix), revision);
  // A refusal must still find its status, so the first key is read before anything is answered.
  const first = await keys.next();
  return {
    status: 200,
    headers: {
      "content-type": lines ? "application/x-ndjson" : "application/json",
      "content-disposition": `attachment; filename="keys-r${revision}.${format}"`,
      "cache-control": "no-store",
    },
    body: async (writer) => {
      let count = 0;
      let text = lines ? "" : `{"revision":"${revision}","keys":[`;
      try {
        for (let next = first; !next.done; next = await keys.next()) {
          const key = jsonText(keyValueJson(next.value));
          text += lines ? `${key}\n` : `${count === 0 ? "" : ",\n"}${key}`;
          count++;
          if (text.length < pieceCharacters) continue;
          const piece = text;
          text = "";
          if (!writer.write(piece)) await writer.drained();
          if (writer.over) return;
        }
      } finally {
        await keys.return();
      }
      const end = `"revision":"${revision}","count":"${count}","more":false`;
      writer.write(`${text}${lines ? `{"end":true,${end}}\n` : `],${end.slice(end.indexOf(",") + 1)}}\n`}`);
    },
  };
}
