/** Raw HTTP/2 client and server set-up for the tests of this folder. */
import { connect } from "node:http2";
import type { ClientHttp2Session, OutgoingHttpHeaders } from "node:http2";
import type { Socket } from "node:net";
import { createConnection } from "node:net";
import { frame } from "./frames";
import type { GrpcServerOptions } from "./options";
import { GrpcServer } from "./server";
import type { Listener } from "../listener";
import { listen } from "../listener";

export interface Running {
  readonly server: GrpcServer;
  readonly listener: Listener;
  readonly url: string;
  readonly port: number;
  close(): Promise<void>;
}

export async function start(options: GrpcServerOptions): Promise<Running> {
  const server = new GrpcServer(options);
  const listener = await listen({ urls: ["http://127.0.0.1:0"], grpc: server });
  const url = listener.urls[0]!;
  return {
    server,
    listener,
    url,
    port: Number(new URL(url).port),
    close: async () => {
      await listener.close();
      await server.stop(0);
    },
  };
}

export interface RawAnswer {
  readonly headers: Record<string, string>;
  readonly trailers: Record<string, string>;
  readonly body: Buffer;
  /** grpc-status and grpc-message wherever they were. */
  readonly status: number | undefined;
  readonly message: string | undefined;
  readonly rstCode: number | undefined;
}

export function grpcHeaders(path: string, more: OutgoingHttpHeaders = {}): OutgoingHttpHeaders {
  return {
    ":method": "POST",
    ":path": path,
    ":scheme": "http",
    "content-type": "application/grpc",
    te: "trailers",
    ...more,
  };
}

export function message(bytes: Uint8Array): Buffer {
  return frame([bytes], bytes.length);
}

export function session(url: string): ClientHttp2Session {
  // MiB; the default makes the client refuse its own large requests.
  const client = connect(url, { maxSessionMemory: 1_024 });
  client.on("error", () => {});
  return client;
}

/** Sends the pieces as separate writes and collects what comes back until the stream closes. */
export function raw(
  client: ClientHttp2Session,
  headers: OutgoingHttpHeaders,
  pieces: readonly Uint8Array[],
  halfClose = true,
): Promise<RawAnswer> {
  return new Promise((resolve) => {
    const stream = client.request(headers, { endStream: false });
    let head: Record<string, string> = {};
    let tail: Record<string, string> = {};
    const body: Buffer[] = [];
    stream.on("response", (received) => (head = { ...received } as Record<string, string>));
    stream.on("trailers", (received) => (tail = { ...received } as Record<string, string>));
    stream.on("data", (chunk: Buffer) => body.push(chunk));
    stream.on("error", () => {});
    stream.on("close", () => {
      const status = tail["grpc-status"] ?? head["grpc-status"];
      resolve({
        headers: head,
        trailers: tail,
        body: Buffer.concat(body),
        status: status === undefined ? undefined : Number(status),
        message: tail["grpc-message"] ?? head["grpc-message"],
        rstCode: stream.rstCode,
      });
    });
    for (const piece of pieces) stream.write(piece);
    if (halfClose) stream.end();
  });
}

export function tcp(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = createConnection({ port, host: "127.0.0.1" }, () => resolve(socket));
    socket.once("error", reject);
    socket.on("error", () => {});
  });
}

/** Waits until `condition` holds; fails the test with `what` after two seconds. */
export async function eventually(what: string, condition: () => boolean): Promise<void> {
  const until = performance.now() + 2_000;
  while (!condition()) {
    if (performance.now() > until) throw new Error(`not in time: ${what}`);
    await Bun.sleep(5);
  }
}

export interface WireFrame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Buffer;
}

/** Cuts what a raw socket received into HTTP/2 frames. */
export function wireFrames(bytes: Buffer): WireFrame[] {
  const frames: WireFrame[] = [];
  for (let at = 0; at + 9 <= bytes.length;) {
    const length = bytes.readUIntBE(at, 3);
    frames.push({
      type: bytes[at + 3]!,
      flags: bytes[at + 4]!,
      stream: bytes.readUInt32BE(at + 5),
      payload: bytes.subarray(at + 9, at + 9 + length),
    });
    at += 9 + length;
  }
  return frames;
}
