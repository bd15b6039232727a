/** Clients of WebSockets that do not keep to what they should do. */
import { expect, test } from "bun:test";
import type { IncomingMessage } from "node:http";
import { Duplex } from "node:stream";
import type { Gateway } from "./gateway";
import { createWebSocketDoor } from "./web-socket";

/** A client's socket: takes what is written, or nothing at all. */
class ClientSocket extends Duplex {
  taken = 0;

  constructor(readonly takes: boolean) {
    super({ allowHalfOpen: true });
  }
  override _read(): void {}
  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.taken += chunk.length;
    if (this.takes) done();
  }
}

/** Opens a WebSocket on it, behind a gateway that reads whatever comes. */
function open(socket: ClientSocket): void {
  const gateway = { handle: (request: IncomingMessage) => void request.resume() };
  const door = createWebSocketDoor({
    gateway: gateway as unknown as Gateway,
    cors: undefined,
    hostWhitelist: undefined,
    ownNames: [],
  });
  const headers = { host: "x", "sec-websocket-key": "a", "sec-websocket-version": "13" };
  door.emit("upgrade", { url: "/v3/watch", headers }, socket, Buffer.alloc(0));
}

const turns = async (count: number): Promise<void> => {
  for (let at = 0; at < count; at++) await new Promise((resolve) => setImmediate(resolve));
};

test("a client that reads no pongs is not read", async () => {
  const socket = new ClientSocket(false);
  open(socket);
  const pings = Buffer.alloc(131 * 500, Buffer.from([0x89, 0xfd, 0, 0, 0, 0, ...Buffer.alloc(125, "x")]));
  for (let at = 0; at < 200; at++) {
    socket.push(pings);
    await turns(1);
  }
  expect(socket.isPaused()).toBe(true);
  expect(socket.writableLength).toBeLessThan(200_000);
  socket.destroy();
});

test("one that broke the protocol is hung up on, whatever it sends further", async () => {
  const socket = new ClientSocket(true);
  open(socket);
  socket.push(Buffer.from([0x81, 0x01, 0x61]));
  for (let at = 0; at < 100; at++) {
    socket.push(Buffer.alloc(65_536));
    await turns(1);
  }
  expect(socket.readableLength).toBe(0);
  expect(socket.writableEnded).toBe(true);
  for (let looks = 0; looks < 300 && !socket.destroyed; looks++) await Bun.sleep(10);
  expect(socket.destroyed).toBe(true);
});

test("a list of a hundred spaces and more in its protocols is read at once", () => {
  const socket = new ClientSocket(true);
  const door = createWebSocketDoor({
    gateway: { handle: () => {} } as unknown as Gateway,
    cors: undefined,
    hostWhitelist: undefined,
    ownNames: [],
  });
  const protocols = `Bearer${" ".repeat(200_000)}x`;
  const headers = {
    host: "x",
    "sec-websocket-key": "a",
    "sec-websocket-version": "13",
    "sec-websocket-protocol": protocols,
  };
  const beganMs = performance.now();
  door.emit("upgrade", { url: "/v3/watch", headers }, socket, Buffer.alloc(0));
  // Each space looked at anew took tens of seconds.
  expect(performance.now() - beganMs).toBeLessThan(2_000);
  expect(socket.taken).toBeGreaterThan(0);
});
