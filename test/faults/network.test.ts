import { afterEach, expect, test } from "bun:test";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";
import { Network } from "./network";

const opened: { close(): void }[] = [];
afterEach(() => {
  for (const one of opened.splice(0)) one.close();
});

/** A server that sends back what it gets, behind a forwarder that "clients" dial. */
async function echo() {
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.pipe(socket);
  });
  const { promise, resolve } = Promise.withResolvers<void>();
  server.listen(0, "127.0.0.1", resolve);
  await promise;
  const network = new Network();
  const port = await network.forward("m1", () => (server.address() as AddressInfo).port, "clients");
  opened.push(network, { close: () => server.close() });
  return { network, port };
}

function dial(port: number): { socket: Socket; received: () => string; closed: () => boolean } {
  const socket = connect(port, "127.0.0.1");
  let received = "";
  let closed = false;
  socket.on("data", (chunk: Buffer) => (received += chunk.toString()));
  socket.on("error", () => {});
  socket.on("close", () => (closed = true));
  opened.push({ close: () => socket.destroy() });
  return { socket, received: () => received, closed: () => closed };
}

async function until(holds: () => boolean, timeoutMs = 3_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error("it does not come");
    await Bun.sleep(5);
  }
}

test("bytes pass in order, however large", async () => {
  const { port } = await echo();
  const client = dial(port);
  const sent = Array.from({ length: 40_000 }, (_, index) => `${index},`).join("");
  client.socket.write(sent);
  await until(() => client.received().length === sent.length);
  expect(client.received()).toBe(sent);
});

test("a blocked direction holds its bytes, keeps the connection, and lets the other direction pass", async () => {
  const { network, port } = await echo();
  const client = dial(port);
  client.socket.write("a");
  await until(() => client.received() === "a");
  network.block("clients", "m1");
  client.socket.write("b");
  await Bun.sleep(80);
  expect([client.received(), client.closed()]).toEqual(["a", false]);
  network.heal();
  await until(() => client.received() === "ab");

  // The answer is held where the request was not.
  network.block("m1", "clients");
  client.socket.write("c");
  await Bun.sleep(80);
  expect(client.received()).toBe("ab");
  network.heal();
  await until(() => client.received() === "abc");
});

test("after a block connections may break instead", async () => {
  const { network, port } = await echo();
  const [blocked, later] = [dial(port), dial(port)];
  blocked.socket.write("a");
  await until(() => blocked.received() === "a");
  network.part(["clients"], ["m1"]);
  blocked.socket.write("b");
  await Bun.sleep(50);
  network.heal({ reset: true });
  await until(() => blocked.closed());
  expect(blocked.received()).toBe("a");
  later.socket.write("x");
  await until(() => later.received() === "x");
  expect(network.reset("clients", "m1")).toBe(1);
  await until(() => later.closed());
});

test("delay and rate", async () => {
  const { network, port } = await echo();
  const client = dial(port);
  client.socket.write("a");
  await until(() => client.received() === "a");
  network.slow("clients", "m1", 120);
  const beginMs = performance.now();
  client.socket.write("b");
  await until(() => client.received() === "ab");
  expect(performance.now() - beginMs).toBeGreaterThan(110);
  network.slow("clients", "m1", 0, 1_000_000);
  const slowFrom = performance.now();
  client.socket.write("y".repeat(300_000));
  await until(() => client.received().length === 300_002, 5_000);
  expect(performance.now() - slowFrom).toBeGreaterThan(250);
});

test("who dialled is known from the process that holds the socket", async () => {
  const { network } = await echo();
  const server = createServer((socket) => void socket.on("error", () => {}).end("hello"));
  const { promise, resolve } = Promise.withResolvers<void>();
  server.listen(0, "127.0.0.1", resolve);
  await promise;
  opened.push({ close: () => server.close() });
  const port = await network.forward("m2", () => (server.address() as AddressInfo).port);
  const stranger = dial(port);
  await until(() => stranger.closed());
  expect([stranger.received(), network.strangers.get("m2")]).toEqual(["", 1]);
  network.addMember("m1", () => process.pid);
  network.block("m1", "m2");
  network.block("m2", "m1");
  const member = dial(port);
  await Bun.sleep(60);
  expect(member.received()).toBe("");
  network.heal();
  await until(() => member.received() === "hello");
});
