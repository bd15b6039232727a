/**
 * What moves on open pages. Everybody who looks at one address shares a room: its page is rendered once a second, and
 * only cells whose text changed travel, as `hx-partial` elements in one event.
 */
import type { Answer, BodyWriter } from "../rest/answer";
import { Problem } from "../rest/problem";
import { securityHeaders } from "./headers";
import { escapeText, type LiveCell } from "./html";
import type { Query } from "./query";

export const livePath = "/live";
const paceMs = 1_000;
/** Addresses that are looked at at the same time, and who looks. */
const roomsMax = 64;
const watchersMax = 512;
const targetCharactersMax = 2_048;

export interface LiveOptions {
  /** Tells pages whether the server that they hear is still the same process. */
  readonly bootId: string;
  /** The cells of a page; undefined when there are none at this address. */
  render(target: string): Promise<readonly LiveCell[] | undefined>;
  /** Has figures kept fresh until the answer is called. */
  keepAsking(): () => void;
}

interface Watcher {
  readonly writer: BodyWriter;
  /** Has not taken in what it was sent: the next cells it gets are all of them. */
  behind: boolean;
  /** Its connection takes no more at the moment. */
  blocked: boolean;
  end(): void;
}

class Room {
  readonly watchers = new Set<Watcher>();
  cells = new Map<string, string>();
  rendering: Promise<void> | undefined;
}

function partial(id: string, text: string): string {
  return `<hx-partial hx-target="#${escapeText(id)}" hx-swap="innerMorph">${text}</hx-partial>`;
}

function event(data: string, name?: string): string {
  const lines = data.split("\n").map((line) => `data: ${line}`);
  return `${name === undefined ? "" : `event: ${name}\n`}${lines.join("\n")}\n\n`;
}

export class LiveRooms {
  readonly #options: LiveOptions;
  readonly #rooms = new Map<string, Room>();
  #watchers = 0;
  #timer: ReturnType<typeof setInterval> | undefined;
  #release: (() => void) | undefined;
  #stopped = false;

  constructor(options: LiveOptions) {
    this.#options = options;
  }

  /** The cells of an address as one event, for pages that cannot hold a connection. Throws Problems. */
  async once(target: string): Promise<string> {
    const cells = await this.#options.render(target);
    if (cells === undefined) throw new Problem("not-found", "Nothing moves at this address.");
    return cells.map(({ id, text }) => partial(id, text)).join("");
  }

  /** Sends to `writer` what changes, until it or the server ends. Throws Problems before anything is sent. */
  async enter(
    target: string,
    onClose: (listener: () => void) => void,
  ): Promise<(writer: BodyWriter) => Promise<void>> {
    if (this.#stopped) throw new Problem("unavailable", "The server stops.");
    const known = this.#rooms.get(target);
    if (this.#watchers >= watchersMax || (known === undefined && this.#rooms.size >= roomsMax)) {
      throw new Problem("too-many-requests", "Too many pages are open.");
    }
    const room = known ?? new Room();
    if (known === undefined) {
      if (target.length > targetCharactersMax || (await this.#options.render(target)) === undefined) {
        throw new Problem("not-found", "Nothing moves at this address.");
      }
    }
    return async (writer) => {
      if (this.#stopped) return;
      await new Promise<void>((resolve) => {
        const watcher: Watcher = { writer, behind: true, blocked: false, end: resolve };
        this.#rooms.set(target, this.#rooms.get(target) ?? room);
        this.#rooms.get(target)!.watchers.add(watcher);
        this.#watchers++;
        this.#run();
        onClose(() => {
          this.#leave(target, watcher);
          resolve();
        });
        writer.write(event(this.#options.bootId, "boot"));
        void this.#update(target, this.#rooms.get(target)!);
      });
    };
  }

  #leave(target: string, watcher: Watcher): void {
    const room = this.#rooms.get(target);
    if (room?.watchers.delete(watcher) !== true) return;
    this.#watchers--;
    if (room.watchers.size === 0) this.#rooms.delete(target);
    if (this.#rooms.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#release?.();
    this.#release = undefined;
  }

  #run(): void {
    if (this.#timer !== undefined) return;
    this.#release = this.#options.keepAsking();
    this.#timer = setInterval(() => {
      for (const [target, room] of this.#rooms) void this.#update(target, room);
    }, paceMs);
  }

  #update(target: string, room: Room): Promise<void> {
    room.rendering ??= this.#render(target, room)
      .catch(() => {})
      .finally(() => {
        room.rendering = undefined;
      });
    return room.rendering;
  }

  async #render(target: string, room: Room): Promise<void> {
    const cells = (await this.#options.render(target)) ?? [];
    const before = room.cells;
    room.cells = new Map(cells.map(({ id, text }) => [id, text]));
    let all: string | undefined;
    let changed = "";
    for (const { id, text } of cells) if (before.get(id) !== text) changed += partial(id, text);
    for (const watcher of room.watchers) {
      const { writer } = watcher;
      if (writer.over || watcher.blocked) continue;
      // Whoever does not read is not written to: what it missed comes in one piece later.
      const text = watcher.behind
        ? (all ??= cells.map((cell) => partial(cell.id, cell.text)).join(""))
        : changed;
      const sent = text === "" ? event("", "beat") : event(text) + event("", "beat");
      watcher.behind = false;
      if (writer.write(sent)) continue;
      watcher.blocked = true;
      watcher.behind = true;
      void writer.drained().then(() => {
        watcher.blocked = false;
      });
    }
  }

  /** Ends all streams, for good. */
  stop(): void {
    this.#stopped = true;
    for (const room of this.#rooms.values()) for (const watcher of room.watchers) watcher.end();
  }
}

/** The answer to a page that wants to hear, or with `once` to be told. Throws Problems. */
export async function liveAnswer(
  rooms: LiveRooms,
  query: Query,
  onClose: (listener: () => void) => void,
): Promise<Answer> {
  const target = query.text("page") ?? "";
  if (query.has("once")) {
    return {
      status: 200,
      headers: {
        ...securityHeaders,
        "content-type": "text/html; charset=utf-8",
        "cache-control": "no-store",
      },
      body: await rooms.once(target),
    };
  }
  return {
    status: 200,
    headers: {
      ...securityHeaders,
      "content-type": "text/event-stream",
      "cache-control": "no-store",
      "x-accel-buffering": "no",
    },
    body: await rooms.enter(target, onClose),
  };
}
