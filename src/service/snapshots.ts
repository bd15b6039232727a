/**
 * Snapshots that members keep in their data directories: taken, listed, read, checked and removed on any of them, by
 * way of any other. A file is the state database followed by its SHA-256, as `etcdctl snapshot save` writes it.
 */
import { createHash } from "node:crypto";
import { mkdir, open, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { GrpcCode, refuse, StoreError } from "../errors";
import { hexId, type MemberId } from "../ids";
import type { Member } from "../member/member";
import type { JobContext } from "./jobs";
import { answerOf } from "./other-member";

const folderName = "snapshots";
const digestBytes = 32;
/** A piece that one member asks another for. */
const pieceBytesMax = 256 * 1024;
const hashPieceBytes = 1024 ** 2;
/** Taking and checking a snapshot of many gigabytes takes minutes. */
const longCallTimeoutMs = 30 * 60_000;
const shortCallTimeoutMs = 10_000;
const namePattern = /^([0-9a-f]{16})-(\d{8}T\d{6}Z)-r(\d{1,16})(?:-\d{1,4})?$/;

/** What is known of a snapshot without opening it. */
export interface SnapshotInfo {
  readonly name: string;
  /** Who holds it, as 16 hexadecimal digits. */
  readonly member: string;
  readonly revision: number;
  readonly appliedIndex: number;
  /** Of the whole file. */
  readonly bytes: number;
  /** Of the database in it, in hexadecimal. */
  readonly sha256: string;
  readonly takenAtMs: number;
}

export interface SnapshotVerdict {
  readonly name: string;
  readonly sound: boolean;
  readonly problem: string | undefined;
}

/** Whether a snapshot may have this name; the member that holds it is part of it. */
export function snapshotOwner(name: string): MemberId | undefined {
  const found = namePattern.exec(name);
  return found === null ? undefined : BigInt(`0x${found[1]}`);
}

type Question =
  | { readonly ask: "list" }
  /** `work` names it, so that its progress can be asked for. */
  | { readonly ask: "take"; readonly work?: string }
  | { readonly ask: "verify"; readonly name: string; readonly work?: string }
  | { readonly ask: "progress"; readonly work: string }
  | { readonly ask: "info" | "remove"; readonly name: string }
  | { readonly ask: "read"; readonly name: string; readonly offset: number; readonly length: number };

interface Progress {
  readonly done: number;
  readonly total: number;
}

const method = "snapshots";
/** How often a member is asked how far it is. */
const progressEveryMs = 100;

export class Snapshots {
  readonly #member: Member;
  readonly #directory: string;
  readonly #wallMs: () => number;
  /** How far the work is that others asked for. */
  readonly #progress = new Map<string, Progress>();

  constructor(member: Member, wallMs: () => number) {
    this.#member = member;
    this.#directory = join(member.options.dataDirectory, folderName);
    this.#wallMs = wallMs;
    member.calls.answer(method, async (_from, body) => {
      const question = JSON.parse(Buffer.from(body).toString()) as Question;
      if (question.ask === "read") return this.#read(question.name, question.offset, question.length);
      return Buffer.from(JSON.stringify((await this.#handle(question)) ?? null));
    });
  }

  /**
   * Takes one on the named member. Whoever gives up gets a StoreError when it has been taken, and it is removed again:
   * a copy that is under way is let finish.
   */
  async take(member: MemberId, context?: JobContext): Promise<SnapshotInfo> {
    const taken =
      member === this.#member.id
        ? await this.#take(context)
        : ((await this.#followed(member, (work) => ({ ask: "take", work }), context)) as SnapshotInfo);
    if (context?.canceled !== true) return taken;
    await this.remove(taken.name);
    throw new StoreError(GrpcCode.canceled, "given up; what was taken is removed");
  }

  /** Has another member work, and asks it now and then how far it is. */
  async #followed(
    to: MemberId,
    questionOf: (work: string) => Question,
    context: JobContext | undefined,
  ): Promise<unknown> {
    const work = String(this.#member.randomId());
    let over = false;
    const outcome = this.#ask(to, questionOf(work), longCallTimeoutMs).finally(() => {
      over = true;
    });
    const follow = async (): Promise<void> => {
      for (;;) {
        await Promise.race([outcome, this.#member.pause(progressEveryMs)]);
        if (over || this.#member.stopping) return;
        const at = (await this.#ask(to, { ask: "progress", work }, shortCallTimeoutMs)) as Progress | null;
        if (at !== null && !over) context?.progress(at.done, at.total);
      }
    };
    // A member that cannot say how far it is may still come to its end.
    if (context !== undefined) follow().catch(() => {});
    return outcome;
  }

  /** Work for another member, whose progress it may ask for. */
  async #named<Outcome>(
    work: string | undefined,
    perform: (context: Pick<JobContext, "progress" | "canceled">) => Promise<Outcome>,
  ): Promise<Outcome> {
    const key = work ?? "";
    const context = {
      canceled: false,
      progress: (done: number, total: number) =>
        void (key !== "" && this.#progress.set(key, { done, total })),
    };
    try {
      return await perform(context);
    } finally {
      this.#progress.delete(key);
    }
  }

  /** Those of all members that answer, newest first. Members that `silentNow` names are not asked. */
  async list(
    timeoutMs = shortCallTimeoutMs,
    silentNow: (member: string) => boolean = () => false,
  ): Promise<{ readonly snapshots: readonly SnapshotInfo[]; readonly silent: readonly string[] }> {
    const silent: string[] = [];
    const lists = await Promise.all(
      this.#member.state.members().map(async ({ ID }) => {
        const id = hexId(ID).padStart(16, "0");
        try {
          if (!silentNow(id)) return (await this.#ask(ID, { ask: "list" }, timeoutMs)) as SnapshotInfo[];
        } catch {
          // Silent, too.
        }
        silent.push(id);
        return [];
      }),
    );
    const snapshots = lists.flat().sort((a, b) => b.takenAtMs - a.takenAtMs || (a.name < b.name ? -1 : 1));
    return { snapshots, silent };
  }

  /** Those of this member alone. */
  own(): Promise<readonly SnapshotInfo[]> {
    return this.#list();
  }

  /** Undefined when there is none of this name. */
  async info(name: string, timeoutMs = shortCallTimeoutMs): Promise<SnapshotInfo | undefined> {
    const info = await this.#ask(this.#ownerOf(name), { ask: "info", name }, timeoutMs);
    return (info as SnapshotInfo | null) ?? undefined;
  }

  /** At most `length` bytes, and at most one piece, from `offset`. */
  read(name: string, offset: number, length: number): Promise<Uint8Array> {
    const owner = this.#ownerOf(name);
    const piece = Math.min(length, pieceBytesMax);
    if (owner === this.#member.id) return this.#read(name, offset, piece);
    const question: Question = { ask: "read", name, offset, length: piece };
    return answerOf(
      this.#member.call(owner, method, Buffer.from(JSON.stringify(question)), shortCallTimeoutMs),
    );
  }

  verify(name: string, context?: JobContext): Promise<SnapshotVerdict> {
    // Here it can be given up; elsewhere it comes to its end.
    if (this.#ownerOf(name) === this.#member.id) return this.#verify(name, context);
    return this.#followed(
      this.#ownerOf(name),
      (work) => ({ ask: "verify", name, work }),
      context,
    ) as Promise<SnapshotVerdict>;
  }

  /** False when there was none. */
  remove(name: string): Promise<boolean> {
    return this.#ask(this.#ownerOf(name), { ask: "remove", name }, shortCallTimeoutMs) as Promise<boolean>;
  }

  #ownerOf(name: string): MemberId {
    const owner = snapshotOwner(name);
    if (owner === undefined) throw new StoreError(GrpcCode.invalidArgument, "this is no name of a snapshot");
    if (!this.#member.state.members().some(({ ID }) => ID === owner)) throw refuse("memberNotFound");
    return owner;
  }

  async #ask(to: MemberId, question: Question, timeoutMs: number): Promise<unknown> {
    const answer = await answerOf(
      this.#member.call(to, method, Buffer.from(JSON.stringify(question)), timeoutMs),
    );
    return JSON.parse(Buffer.from(answer).toString()) as unknown;
  }

  #handle(question: Exclude<Question, { ask: "read" }>): Promise<unknown> {
    switch (question.ask) {
      case "take":
        return this.#named(question.work, (context) => this.#take(context));
      case "progress":
        return Promise.resolve(this.#progress.get(question.work));
      case "list":
        return this.#list();
      case "info":
        return this.#info(question.name);
      case "remove":
        return this.#remove(question.name);
      case "verify":
        return this.#named(question.work, (context) => this.#verify(question.name, context));
    }
  }

  #path(name: string, ending: "snapshot" | "json" | "tmp"): string {
    if (!namePattern.test(name))
      throw new StoreError(GrpcCode.invalidArgument, "this is no name of a snapshot");
    return join(this.#directory, `${name}.${ending}`);
  }

  async #take(context?: Pick<JobContext, "progress">): Promise<SnapshotInfo> {
    const member = hexId(this.#member.id).padStart(16, "0");
    await mkdir(this.#directory, { recursive: true });
    const takenAtMs = this.#wallMs();
    const stamp = new Date(takenAtMs).toISOString().replace(/[-:]|\.\d+/g, "");
    const scratch = join(this.#directory, `taking-${takenAtMs}-${this.#member.randomId()}.tmp`);
    try {
      const copy = await this.#member.housekeeping.takeSnapshotFile(scratch, (done, total) =>
        context?.progress(done, total),
      );
      const name = await this.#freeName(`${member}-${stamp}-r${copy.revision}`);
      const file = await open(scratch, "a");
      try {
        await file.write(copy.digest);
        await file.sync();
      } finally {
        await file.close();
      }
      const info: SnapshotInfo = {
        name,
        member,
        revision: copy.revision,
        appliedIndex: copy.appliedIndex,
        bytes: copy.bytes + digestBytes,
        sha256: Buffer.from(copy.digest).toString("hex"),
        takenAtMs,
      };
      // The snapshot counts once its description is there.
      await rename(scratch, this.#path(name, "snapshot"));
      await writeFile(this.#path(name, "tmp"), JSON.stringify(info), { flush: true });
      await rename(this.#path(name, "tmp"), this.#path(name, "json"));
      return info;
    } finally {
      await rm(scratch, { force: true });
    }
  }

  async #freeName(wanted: string): Promise<string> {
    const taken = new Set(await readdir(this.#directory));
    for (let number = 1; ; number++) {
      const name = number === 1 ? wanted : `${wanted}-${number}`;
      if (!taken.has(`${name}.snapshot`)) return name;
    }
  }

  async #list(): Promise<SnapshotInfo[]> {
    const files = await readdir(this.#directory).catch(() => [] as string[]);
    const names = files.filter((file) => file.endsWith(".json")).map((file) => file.slice(0, -5));
    const infos = await Promise.all(names.map((name) => this.#info(name)));
    return infos.filter((info) => info !== undefined);
  }

  async #info(name: string): Promise<SnapshotInfo | undefined> {
    if (!namePattern.test(name)) return undefined;
    try {
      return JSON.parse(await readFile(this.#path(name, "json"), "utf8")) as SnapshotInfo;
    } catch {
      return undefined;
    }
  }

  async #read(name: string, offset: number, length: number): Promise<Uint8Array> {
    const file = await open(this.#path(name, "snapshot"), "r");
    try {
      const bytes = Buffer.allocUnsafe(Math.min(length, pieceBytesMax));
      const { bytesRead } = await file.read(bytes, 0, bytes.length, offset);
      return bytes.subarray(0, bytesRead);
    } finally {
      await file.close();
    }
  }

  /** Reads the whole file again: its end has to be the digest of what is before. */
  async #verify(name: string, context?: Pick<JobContext, "progress" | "canceled">): Promise<SnapshotVerdict> {
    const info = await this.#info(name);
    if (info === undefined) throw new StoreError(GrpcCode.notFound, "there is no such snapshot");
    const hash = createHash("sha256");
    const file = await open(this.#path(name, "snapshot"), "r");
    try {
      const { size } = await file.stat();
      const problem = (text: string | undefined): SnapshotVerdict => ({
        name,
        sound: text === undefined,
        problem: text,
      });
      if (size !== info.bytes) return problem(`it has ${size} bytes where ${info.bytes} were written`);
      const piece = Buffer.allocUnsafe(hashPieceBytes);
      for (let offset = 0; offset < size - digestBytes;) {
        const { bytesRead } = await file.read(
          piece,
          0,
          Math.min(piece.length, size - digestBytes - offset),
          offset,
        );
        if (bytesRead === 0) return problem("it ended early");
        hash.update(piece.subarray(0, bytesRead));
        offset += bytesRead;
        context?.progress(offset, size - digestBytes);
        if (context?.canceled === true || this.#member.stopping) throw refuse("canceled");
        await this.#member.soon();
      }
      const end = Buffer.alloc(digestBytes);
      await file.read(end, 0, digestBytes, size - digestBytes);
      const digest = hash.digest();
      if (!digest.equals(end) || digest.toString("hex") !== info.sha256) {
        return problem("its content is not what was written");
      }
      return problem(undefined);
    } finally {
      await file.close();
    }
  }

  async #remove(name: string): Promise<boolean> {
    if ((await this.#info(name)) === undefined) return false;
    // Without its description it does not count any more, also after a crash in between.
    await rm(this.#path(name, "json"), { force: true });
    await rm(this.#path(name, "snapshot"), { force: true });
    return true;
  }
}
