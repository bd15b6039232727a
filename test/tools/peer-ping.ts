/**
 * What a message between two members costs: `bun test/tools/peer-ping.ts`. Two processes on loopback; the peer
 * transport, the same messages over node:http2 at both ends, and node:http2 against our own engine.
 */
import { connect, createServer, type ClientHttp2Stream, type ServerHttp2Stream } from "node:http2";
import { createServer as createTcpServer } from "node:net";
import type { PeerMessage } from "../../src/member/peer-message";
import { MessageAssembler } from "../../src/transport/peer/assembler";
import { ByteWriter } from "../../src/transport/peer/bytes";
import { encodeMessage } from "../../src/transport/peer/codec";
import { TestMember, until } from "../../src/transport/peer/testing";
import { OutputBudget } from "../../src/transport/http2/output";
import { Http2Session } from "../../src/transport/http2/session";
import type { Http2Stream } from "../../src/transport/http2/stream";

const kinds = ["peer transport", "node:http2", "node:http2 to own engine"] as const;
type Kind = (typeof kinds)[number];

/** One end: sends messages, and hands on what comes. */
interface End {
  send(message: PeerMessage): void;
}

const messageBytesMax = 64 * 1024 ** 2;

function append(from: bigint, to: bigint, index: number, bytes: number): PeerMessage {
  const entry = { term: 1, index, kind: "command", data: Buffer.alloc(bytes, index) } as const;
  return {
    kind: "append",
    from,
    to,
    term: 1,
    previousIndex: index - 1,
    previousTerm: 1,
    commit: 0,
    entries: [entry],
  };
}

/** Writes the messages of one turn with one call. */
function batched(write: (bytes: Buffer) => void): (message: PeerMessage) => void {
  let writer = new ByteWriter(64 * 1024);
  return (message) => {
    if (writer.end === 0) {
      setImmediate(() => {
        write(writer.bytes.subarray(0, writer.end));
        writer = new ByteWriter(64 * 1024);
      });
    }
    encodeMessage(writer, message);
  };
}

function assembling(sink: (message: PeerMessage) => void): (chunk: Buffer) => void {
  const assembler = new MessageAssembler(1n, 2n, messageBytesMax, sink);
  return (chunk) => assembler.read(chunk, 0, chunk.length);
}

/** The answering side; prints what the other side must know. */
async function serve(kind: Kind): Promise<void> {
  if (kind === "peer transport") {
    let peer: TestMember | undefined;
    const member = await TestMember.open(2n, {
      handler: {
        receive(message) {
          if (message.kind !== "append") return;
          const { index } = message.entries[0]!;
          const answer = { accepted: true, index, hintIndex: 0, hintTerm: 0, term: 1 };
          if (message.commit === 0) {
            member.transport.send([{ kind: "append-answer", from: 2n, to: 1n, ...answer }]);
          }
        },
      },
    });
    console.log(new URL(member.url).port);
    for await (const line of console) {
      peer = new TestMember(1n);
      peer.url = line;
      member.start(peer);
    }
    return;
  }
  const answering = (write: (bytes: Buffer) => void) => {
    const send = batched(write);
    return assembling((message) => {
      if (message.kind !== "append") return;
      const { index } = message.entries[0]!;
      const answer = { accepted: true, index, hintIndex: 0, hintTerm: 0, term: 1 };
      if (message.commit === 0) send({ kind: "append-answer", from: 2n, to: 1n, ...answer });
    });
  };
  if (kind === "node:http2") {
    const server = createServer({ settings: { initialWindowSize: 8 * 1024 ** 2 } });
    server.on("stream", (stream: ServerHttp2Stream) => {
      stream.respond({ ":status": 200 });
      stream.on(
        "data",
        answering((bytes) => void stream.write(bytes)),
      );
      stream.on("error", () => {});
    });
    server.listen(0, "127.0.0.1", () => console.log((server.address() as { port: number }).port));
    return;
  }
  const server = createTcpServer({ noDelay: true }, (socket) => {
    new Http2Session(socket, {
      maxConcurrentStreams: 10,
      headerListBytesMax: 16_384,
      budget: new OutputBudget(2 ** 30),
      streamWindowBytes: 8 * 1024 ** 2,
      failed: () => {},
    }).start({
      request(stream: Http2Stream) {
        stream.respondWith([[":status", "200"]]);
        // The engine's answers carry gRPC's prefix, which the other end skips.
        const read = answering((bytes) => void stream.send([bytes], bytes.length));
        stream.receiver = {
          onData: (bytes, start, end) => read((bytes as Buffer).subarray(start, end)),
          onEnd() {},
          onDrain() {},
          onFinished() {},
          abandon() {},
        };
      },
      ping: () => true,
      wrote() {},
      closed() {},
    });
  });
  server.listen(0, "127.0.0.1", () => console.log((server.address() as { port: number }).port));
}

async function connectTo(
  kind: Kind,
  port: number,
  say: (line: string) => void,
  received: () => void,
): Promise<End> {
  if (kind === "peer transport") {
    const member = await TestMember.open(1n, { handler: { receive: received } });
    const peer = new TestMember(2n);
    peer.url = `http://127.0.0.1:${port}`;
    member.start(peer);
    say(member.url);
    await until("they are connected", () => member.connected(peer), 10_000);
    return { send: (message) => member.transport.send([message]) };
  }
  const session = connect(`http://127.0.0.1:${port}`);
  const stream: ClientHttp2Stream = session.request({ ":method": "POST", ":path": "/messages" });
  await new Promise((resolve) => stream.on("response", resolve));
  const read = assembling(received);
  const prefixBytes = kind === "node:http2" ? 0 : 5;
  stream.on("data", (chunk: Buffer) => read(prefixBytes === 0 ? chunk : chunk.subarray(prefixBytes)));
  return { send: batched((bytes) => void stream.write(bytes)) };
}

async function measure(kind: Kind): Promise<void> {
  const child = Bun.spawn([process.execPath, import.meta.path, "serve", kind], {
    stdout: "pipe",
    stdin: "pipe",
    stderr: "inherit",
  });
  const reader = child.stdout.getReader();
  const port = Number(new TextDecoder().decode((await reader.read()).value));
  let answered: () => void = () => {};
  const end = await connectTo(
    kind,
    port,
    (line) => {
      child.stdin.write(`${line}\n`);
      void child.stdin.flush();
    },
    () => answered(),
  );
  for (const bytes of [300, 30_000]) {
    const rounds = bytes === 300 ? 30_000 : 10_000;
    await pingPong(end, 10_000, bytes, (f) => (answered = f));
    const cpu = process.cpuUsage();
    const times = await pingPong(end, rounds, bytes, (f) => (answered = f));
    const used = process.cpuUsage(cpu);
    times.sort((a, b) => a - b);
    const p50 = (times[rounds >> 1]! * 1000).toFixed(0);
    const p99 = (times[Math.floor(rounds * 0.99)]! * 1000).toFixed(0);
    const each = `${(used.user / rounds).toFixed(1)} + ${(used.system / rounds).toFixed(1)}`;
    console.log(
      `${kind}: append of ${bytes} B and its answer: p50 ${p50} µs, p99 ${p99} µs, ${each} µs of CPU`,
    );
  }
  await bulk(kind, end, (f) => (answered = f));
  child.kill();
  await child.exited;
}

async function pingPong(
  end: End,
  rounds: number,
  bytes: number,
  onAnswer: (hear: () => void) => void,
): Promise<number[]> {
  const times: number[] = [];
  for (let round = 1; round <= rounds; round++) {
    const sentMs = performance.now();
    await new Promise<void>((resolve) => {
      onAnswer(resolve);
      end.send(append(1n, 2n, round, bytes));
    });
    times.push(performance.now() - sentMs);
  }
  return times;
}

/** 32 MiB on their way in messages of 1 MiB, as replication allows. */
async function bulk(kind: Kind, end: End, onAnswer: (hear: () => void) => void): Promise<void> {
  const total = 1000;
  const payload = 1024 ** 2;
  const startMs = performance.now();
  const cpu = process.cpuUsage();
  let [sent, answers] = [0, 0];
  await new Promise<void>((resolve) => {
    onAnswer(() => {
      if (++answers === total) resolve();
      else if (sent < total) end.send(append(1n, 2n, ++sent, payload));
    });
    while (sent < 32) end.send(append(1n, 2n, ++sent, payload));
  });
  const tookMs = performance.now() - startMs;
  const used = process.cpuUsage(cpu);
  console.log(
    `${kind}: bulk ${Math.round((total * payload) / tookMs / 1000)} MB/s, ` +
      `${((used.user + used.system) / total / 1000).toFixed(2)} ms of CPU per MiB`,
  );
}

if (process.argv[2] === "serve") await serve(process.argv[3] as Kind);
else {
  const only = process.argv[2];
  for (const kind of kinds) if (only === undefined || kind === only) await measure(kind);
  process.exit(0);
}
