/**
 * A network in user space: members and clients reach each other through TCP forwarders whose every direction can be
 * blocked, slowed, delayed or reset. A blocked direction behaves as a cable that was pulled: connections stay open,
 * new ones get through to nobody, and what was sent waits until the block ends or the connection is given up.
 */
import { connect, createServer, type AddressInfo, type Server as TcpServer, type Socket } from "node:net";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";

/** Bytes that one direction of one connection may hold back before its sender has to wait. */
const heldBytesMax = 1024 ** 2;

/** What happens to everything that one side sends to another. */
export class Link {
  blocked = false;
  delayMs = 0;
  bytesPerSecond = Infinity;
  readonly pumps = new Set<Pump>();

  constructor(
    readonly from: string,
    readonly to: string,
  ) {}

  changed(): void {
    for (const pump of this.pumps) pump.run();
  }

  get plain(): boolean {
    return !this.blocked && this.delayMs === 0 && this.bytesPerSecond === Infinity;
  }
}

/** One direction of one connection. */
class Pump {
  readonly #held: { readonly bytes: Buffer; readonly dueAt: number }[] = [];
  #heldBytes = 0;
  #freeAt = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #ended = false;
  /** Something was held back by a block. */
  wasBlocked = false;

  constructor(
    readonly link: Link,
    readonly source: Socket,
    readonly target: Socket,
  ) {
    link.pumps.add(this);
    source.on("data", (bytes: Buffer) => this.#take(bytes));
    source.on("end", () => {
      this.#ended = true;
      this.run();
    });
    target.on("drain", () => this.run());
  }

  #take(bytes: Buffer): void {
    if (this.link.plain && this.#held.length === 0) {
      if (!this.target.write(bytes)) this.source.pause();
      return;
    }
    const now = performance.now();
    const transferMs = (bytes.length / this.link.bytesPerSecond) * 1000;
    this.#freeAt = Math.max(now, this.#freeAt) + transferMs;
    this.#held.push({ bytes, dueAt: this.#freeAt + this.link.delayMs });
    this.#heldBytes += bytes.length;
    if (this.#heldBytes > heldBytesMax) this.source.pause();
    this.run();
  }

  /** Sends on what is due. */
  run(): void {
    clearTimeout(this.#timer);
    if (this.target.destroyed) return;
    if (this.link.blocked) {
      if (this.#held.length > 0) this.wasBlocked = true;
      return;
    }
    const now = performance.now();
    let clear = !this.target.writableNeedDrain;
    while (clear && this.#held.length > 0 && this.#held[0]!.dueAt <= now) {
      const { bytes } = this.#held.shift()!;
      this.#heldBytes -= bytes.length;
      clear = this.target.write(bytes);
    }
    const [next] = this.#held;
    if (next !== undefined) {
      if (clear) this.#timer = setTimeout(() => this.run(), Math.max(1, next.dueAt - now));
    } else if (this.#ended) this.target.end();
    if (clear && this.#heldBytes <= heldBytesMax && !this.#ended) this.source.resume();
  }

  close(): void {
    clearTimeout(this.#timer);
    this.link.pumps.delete(this);
  }
}

/** Every process of a tree, parents first, from the kernel. */
export function processTree(pid: number): number[] {
  try {
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "latin1").trim();
    return [
      pid,
      ...children
        .split(" ")
        .filter(Boolean)
        .flatMap((child) => processTree(Number(child))),
    ];
  } catch {
    return [];
  }
}

/** The inode of a loopback connection's socket, as seen from the side that dialled. */
function dialledInode(dialPort: number, listenPort: number): string | undefined {
  const hex = (port: number): string => port.toString(16).toUpperCase().padStart(4, "0");
  const wanted = ` 0100007F:${hex(dialPort)} 0100007F:${hex(listenPort)} `;
  const line = readFileSync("/proc/net/tcp", "latin1")
    .split("\n")
    .find((text) => text.includes(wanted));
  return line?.trim().split(/\s+/)[9];
}

function holdsSocket(pid: number, inode: string): boolean {
  const wanted = `socket:[${inode}]`;
  return processTree(pid).some((one) => {
    try {
      return readdirSync(`/proc/${one}/fd`).some((fd) => {
        try {
          return readlinkSync(`/proc/${one}/fd/${fd}`) === wanted;
        } catch {
          return false;
        }
      });
    } catch {
      return false;
    }
  });
}

interface Connection {
  readonly from: string;
  readonly to: string;
  readonly sockets: readonly [Socket, Socket];
  readonly pumps: readonly [Pump, Pump];
}

export class Network {
  readonly #links = new Map<string, Link>();
  readonly #connections = new Set<Connection>();
  readonly #listeners = new Set<TcpServer>();
  readonly #pids = new Map<string, () => number | undefined>();
  /** Connections whose dialler could not be found, by where they went. */
  readonly strangers = new Map<string, number>();

  /** How a connection's dialler is recognised: by the process that holds its socket. */
  addMember(name: string, pid: () => number | undefined): void {
    this.#pids.set(name, pid);
  }

  link(from: string, to: string): Link {
    const key = `${from} ${to}`;
    const known = this.#links.get(key);
    if (known !== undefined) return known;
    const link = new Link(from, to);
    this.#links.set(key, link);
    return link;
  }

  /**
   * Opens a forwarder to `to`; returns its port. `from` names who dials, or is left out where every member may: then
   * each connection is looked up.
   */
  async forward(to: string, targetPort: () => number, from?: string): Promise<number> {
    const listener = createServer({ allowHalfOpen: true }, (near) => {
      near.on("error", () => {});
      const dialler = from ?? this.#diallerOf(near);
      if (dialler === undefined) {
        this.strangers.set(to, (this.strangers.get(to) ?? 0) + 1);
        near.destroy();
        return;
      }
      this.#join(near, dialler, to, targetPort());
    });
    this.#listeners.add(listener);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    listener.once("error", reject);
    listener.listen(0, "127.0.0.1", resolve);
    await promise;
    return (listener.address() as AddressInfo).port;
  }

  #diallerOf(near: Socket): string | undefined {
    const inode = dialledInode(near.remotePort ?? 0, near.localPort ?? 0);
    if (inode === undefined || inode === "0") return undefined;
    for (const [name, pidOf] of this.#pids) {
      const pid = pidOf();
      if (pid !== undefined && holdsSocket(pid, inode)) return name;
    }
    return undefined;
  }

  #join(near: Socket, from: string, to: string, port: number): void {
    const far = connect({ host: "127.0.0.1", port, allowHalfOpen: true });
    near.setNoDelay(true);
    far.setNoDelay(true);
    const there = new Pump(this.link(from, to), near, far);
    const back = new Pump(this.link(to, from), far, near);
    const connection: Connection = { from, to, sockets: [near, far], pumps: [there, back] };
    this.#connections.add(connection);
    const over = (): void => {
      this.#connections.delete(connection);
      there.close();
      back.close();
      near.destroy();
      far.destroy();
    };
    for (const socket of connection.sockets) {
      socket.on("error", over);
      socket.on("close", over);
    }
  }

  /** Cuts one direction. */
  block(from: string, to: string): void {
    const link = this.link(from, to);
    link.blocked = true;
    link.changed();
  }

  /** Cuts both directions between each of one side and each of the other. */
  part(oneSide: readonly string[], otherSide: readonly string[]): void {
    for (const one of oneSide) {
      for (const other of otherSide) {
        this.block(one, other);
        this.block(other, one);
      }
    }
  }

  slow(from: string, to: string, delayMs: number, bytesPerSecond = Infinity): void {
    const link = this.link(from, to);
    link.delayMs = delayMs;
    link.bytesPerSecond = bytesPerSecond;
    link.changed();
  }

  /** Takes every fault off. What was held back arrives now, late, or with `reset` its connections break instead. */
  heal(options: { reset: boolean } = { reset: false }): void {
    if (options.reset) {
      for (const connection of this.#connections) {
        if (connection.pumps.some(({ wasBlocked }) => wasBlocked)) this.#reset(connection);
      }
    }
    for (const link of this.#links.values()) {
      link.blocked = false;
      link.delayMs = 0;
      link.bytesPerSecond = Infinity;
      link.changed();
    }
    for (const { pumps } of this.#connections) for (const pump of pumps) pump.wasBlocked = false;
  }

  #reset({ sockets }: Connection): void {
    for (const socket of sockets) socket.resetAndDestroy();
  }

  /** Breaks the connections between two sides, whoever dialled; how many there were. */
  reset(one: string, other: string): number {
    const broken = [...this.#connections].filter(
      ({ from, to }) => (from === one && to === other) || (from === other && to === one),
    );
    for (const connection of broken) this.#reset(connection);
    return broken.length;
  }

  close(): void {
    for (const listener of this.#listeners) listener.close();
    for (const { sockets } of this.#connections) for (const socket of sockets) socket.destroy();
  }
}
