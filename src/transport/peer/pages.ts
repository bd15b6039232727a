/** What the peer port answers over plain HTTP: etcd's `GET /members` and `/version`, and a hint to lost clients. */
import type { Server } from "node:http";
import { hexId } from "../../ids";
import { createHttpServer } from "../http/http-server";
import type { MemberPage, PeerPages } from "./options";

export interface PageAnswer {
  readonly status: number;
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly body: Uint8Array;
}

const timeouts = { headersMs: 5_000, idleMs: 60_000, bodyMs: 10_000 };
const headerBytesMax = 16 * 1024;

export class PeerPageServer {
  constructor(
    private readonly pages: () => PeerPages | undefined,
    private readonly mistaken: (what: string, address: string) => void,
  ) {}

  /** Text for somebody who wanted the client port. */
  mistakenText(): string {
    const urls = this.pages()?.clientUrls() ?? [];
    const where = urls.length > 0 ? `; clients are served at ${urls.join(", ")}` : "";
    return `this is the peer port of an etcd-compatible member${where}`;
  }

  /** The answer to a request for a page, whatever the HTTP version. */
  answer(method: string, path: string): PageAnswer {
    if (path !== "/members" && path !== "/version") {
      if (path.startsWith("/v3")) return text(404, `404 page not found: ${this.mistakenText()}`);
      if (isEtcdPath(path)) return text(404, "404 page not found: members of etcd and of Keelson cannot mix");
      return text(404, "404 page not found");
    }
    if (method !== "GET") return text(405, "Method Not Allowed", [["allow", "GET"]]);
    const pages = this.pages();
    if (path === "/version" && pages !== undefined) return jsonAnswer(JSON.stringify(pages.versions()), []);
    const members = pages?.members();
    if (pages === undefined || members === undefined) return text(503, "the member is starting");
    return jsonAnswer(membersJson(members), [["x-etcd-cluster-id", hexId(pages.clusterId)]]);
  }

  /** The HTTP/1.1 server; it does not listen itself. */
  http1(): Server {
    const server = createHttpServer({ headerBytesMax, timeouts }, (request, response) => {
      request.on("error", () => {});
      response.on("error", () => {});
      request.resume();
      const path = (request.url ?? "").split("?", 1)[0]!;
      const { status, headers, body } = this.answer(request.method ?? "", path);
      const address = request.socket.remoteAddress ?? "unknown";
      if (path.startsWith("/v3")) this.mistaken("a JSON client came to the peer port", address);
      else if (isEtcdPath(path)) this.mistaken("a member of etcd came; it and Keelson cannot mix", address);
      response.writeHead(status, { ...Object.fromEntries(headers), "content-length": body.length });
      response.end(body);
    });
    server.on("clientError", (_error, socket) => {
      this.mistaken("neither HTTP/2 nor HTTP/1.1", "unknown");
      if (socket.writable) {
        socket.end("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
      } else socket.destroy();
    });
    return server;
  }
}

/** Where etcd's members talk to each other. */
function isEtcdPath(path: string): boolean {
  return path === "/raft" || path.startsWith("/raft/");
}

/** etcd's form: ids are numbers of 64 bits, which JSON.stringify cannot write; empty fields are left out. */
function membersJson(members: readonly MemberPage[]): string {
  const shown = members.map(({ id, peerUrls, isLearner, name, clientUrls }) => {
    const fields = [`"id":${id}`, `"peerURLs":${JSON.stringify(peerUrls)}`];
    if (isLearner) fields.push(`"isLearner":true`);
    if (name !== "") fields.push(`"name":${JSON.stringify(name)}`);
    if (clientUrls.length > 0) fields.push(`"clientURLs":${JSON.stringify(clientUrls)}`);
    return `{${fields.join(",")}}`;
  });
  return `[${shown.join(",")}]\n`;
}

function text(status: number, line: string, more: PageAnswer["headers"] = []): PageAnswer {
  return {
    status,
    headers: [["content-type", "text/plain; charset=utf-8"], ["x-content-type-options", "nosniff"], ...more],
    body: Buffer.from(`${line}\n`),
  };
}

function jsonAnswer(body: string, more: PageAnswer["headers"]): PageAnswer {
  return { status: 200, headers: [["content-type", "application/json"], ...more], body: Buffer.from(body) };
}
