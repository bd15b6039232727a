/**
 * The WebSocket forms of the gateway's streams, as etcd's proxy makes them: each text message of the client is one
 * JSON message of the request's body, each line of the answer one text message back.
 */
import { createHash } from "node:crypto";
import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from "node:http";
import { type Duplex, PassThrough, Writable } from "node:stream";
import { requestBytesMaxDefault } from "../../limits";
import { BrowserAccess, type BrowserAccessOptions } from "../http/access";
import { splitTarget } from "../http/door";
import type { Gateway } from "./gateway";
import { encodeFrame, FrameError, FrameReader, Opcode } from "./web-socket-frames";

const acceptSuffix = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/** From the connection to the end of the handshake's head. */
const handshakeTimeoutMs = 10_000;
/** How long a client may take to close its side once this side is closed. */
const closingMs = 1_000;
const newline = Buffer.from("\n");
/** JSON is larger than what it encodes; as for bodies. */
const jsonExpansionMax = 4;

export interface WebSocketDoorOptions extends BrowserAccessOptions {
  readonly gateway: Gateway;
  readonly requestBytesMax?: number;
}

/** Whether the head of a connection's first request asks for a WebSocket below /v3. */
export function asksForWebSocket(head: Uint8Array): boolean {
  const text = Buffer.from(head.subarray(0, 16 * 1024)).toString("latin1");
  return /^GET \S*\/v3(?:beta)?\/[^\r\n]*\r\n/.test(text) && /\r\nupgrade: *websocket *\r\n/i.test(text);
}

/** Creates the server to which the listener hands connections that ask for a WebSocket. It does not listen itself. */
export function createWebSocketDoor(options: WebSocketDoorOptions): Server {
  const access = new BrowserAccess(options);
  const server = createServer((_request, response) => {
    response.writeHead(426, { upgrade: "websocket", connection: "close" });
    response.end();
  });
  const handshakes = new WeakMap<Duplex, ReturnType<typeof setTimeout>>();
  server.on("connection", (socket: Duplex) => {
    handshakes.set(
      socket,
      setTimeout(() => socket.destroy(), handshakeTimeoutMs),
    );
    socket.on("close", () => clearTimeout(handshakes.get(socket)));
  });
  server.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    clearTimeout(handshakes.get(socket));
    socket.on("error", () => socket.destroy());
    const path = splitTarget(request.url ?? "")?.path;
    const key = request.headers["sec-websocket-key"];
    const denial = access.denial("GET", request.headers, false);
    if (denial !== undefined) return decline(socket, denial.status, denial.text);
    if (path === undefined || key === undefined || request.headers["sec-websocket-version"] !== "13") {
      return decline(socket, 400, "This is no WebSocket handshake of version 13.");
    }
    const [protocol, token] = (request.headers["sec-websocket-protocol"] ?? "")
      .split(",")
      .map((part) => part.trim());
    const accept = createHash("sha1")
      .update(key + acceptSuffix)
      .digest("base64");
    socket.write(
      [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        `Sec-WebSocket-Accept: ${accept}`,
        ...(protocol === "Bearer" ? ["Sec-WebSocket-Protocol: Bearer"] : []),
        "\r\n",
      ].join("\r\n"),
    );
    const headers = { ...request.headers };
    // A browser cannot set headers on a WebSocket, so etcd takes the token from the sub-protocol.
    if (protocol === "Bearer" && token !== undefined) headers.authorization = `Bearer ${token}`;
    serve(options, path, headers, socket, head);
  });
  return server;
}

function decline(socket: Duplex, status: number, text: string): void {
  setTimeout(() => socket.destroy(), closingMs).unref();
  socket.end(
    `HTTP/1.1 ${status} Declined\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n${text}\n`,
  );
}

/** The messages of a client, as the body of the one request that the gateway sees. */
class MessageBody extends PassThrough {
  readonly method = "POST";

  constructor(readonly headers: IncomingHttpHeaders) {
    super();
  }
}

/** The gateway's answer, each line a message. */
class LineMessages extends Writable {
  statusCode = 200;
  headersSent = false;
  #held = "";

  constructor(readonly socket: Duplex) {
    super({ decodeStrings: false });
  }

  setHeader(): this {
    return this;
  }
  writeHead(): this {
    this.headersSent = true;
    return this;
  }

  override _write(chunk: string | Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.#held += typeof chunk === "string" ? chunk : chunk.toString("utf8");
    const end = this.#held.lastIndexOf("\n");
    const lines = end === -1 ? [] : this.#held.slice(0, end).split("\n");
    this.#held = this.#held.slice(end + 1);
    let takesMore = true;
    for (const line of lines) takesMore = this.socket.write(encodeFrame(Opcode.text, Buffer.from(line)));
    if (takesMore || this.socket.destroyed) done();
    else this.socket.once("drain", done);
  }

  override _final(done: () => void): void {
    if (this.#held !== "") this.socket.write(encodeFrame(Opcode.text, Buffer.from(this.#held)));
    close(this.socket, 1000);
    done();
  }
}

function close(socket: Duplex, code: number): void {
  if (socket.destroyed || socket.writableEnded) return;
  const payload = Buffer.alloc(2);
  payload.writeUInt16BE(code);
  // Counted from when everything has left: a slow client still gets all of a large answer.
  socket.end(encodeFrame(Opcode.close, payload), () => {
    setTimeout(() => socket.destroy(), closingMs).unref();
  });
}

function serve(
  { gateway, requestBytesMax = requestBytesMaxDefault }: WebSocketDoorOptions,
  path: string,
  headers: IncomingHttpHeaders,
  socket: Duplex,
  head: Buffer,
): void {
  const body = new MessageBody(headers);
  const answer = new LineMessages(socket);
  const reader = new FrameReader(requestBytesMax * jsonExpansionMax);
  const full = new Set<Duplex>();
  /** The client is not read before this has been drained. */
  const waitFor = (receiver: Duplex): void => {
    if (full.has(receiver)) return;
    full.add(receiver);
    socket.pause();
    receiver.once("drain", () => {
      full.delete(receiver);
      if (full.size === 0) socket.resume();
    });
  };
  /** Nothing that is still sent counts, and nobody waits for its end. */
  const hangUp = (code: number): void => {
    close(socket, code);
    socket.removeListener("data", receive);
    socket.resume();
  };
  const receive = (chunk: Buffer): void => {
    try {
      for (const { opcode, final, payload } of reader.push(chunk)) {
        if (opcode === Opcode.close) {
          hangUp(1000);
          return;
        }
        if (opcode === Opcode.ping) {
          if (!socket.write(encodeFrame(Opcode.pong, payload))) waitFor(socket);
        } else if (opcode !== Opcode.pong) {
          if (!body.write(final ? Buffer.concat([payload, newline]) : payload)) waitFor(body);
        }
      }
    } catch (error) {
      hangUp(error instanceof FrameError ? error.closeCode : 1011);
    }
  };
  socket.on("data", receive);
  socket.on("end", () => socket.end());
  socket.on("close", () => {
    body.destroy();
    answer.destroy();
  });
  answer.on("error", () => socket.destroy());
  body.on("error", () => {});
  if (head.length > 0) receive(head);
  // The gateway uses of both what these have: headers, events of streams, and where an answer's head goes.
  gateway.handle(body as unknown as IncomingMessage, answer as unknown as ServerResponse, path);
}
