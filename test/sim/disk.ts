/**
 * A disk in memory that can lose power. Each file is what is surely on disk plus the operations since the last
 * sync; directories are the same for their names. When power fails, every operation that was not synced is, on
 * its own, kept, dropped, or torn at a sector with old or random bytes, and no order among them is kept.
 */
import type { Disk, DiskFile } from "../../src/member/ports";
import type { Rng } from "../../src/rng";

const sectorBytes = 512;
const growthMax = 1024 ** 2;

type FileOperation =
  | { readonly kind: "write"; readonly offset: number; readonly bytes: Uint8Array }
  | { readonly kind: "truncate"; readonly size: number }
  | { readonly kind: "allocate"; readonly size: number };

/** Bytes that operations change in place, with room to grow, since every one of a run goes through here twice. */
class Content {
  length = 0;
  /** Zero behind `length`. */
  #bytes: Uint8Array<ArrayBuffer>;

  constructor(bytes = new Uint8Array(0)) {
    this.#bytes = bytes;
    this.length = bytes.length;
  }

  copy(from = 0, to = this.length): Uint8Array<ArrayBuffer> {
    return this.#bytes.slice(from, Math.min(to, this.length));
  }

  apply(operation: FileOperation): void {
    if (operation.kind === "write") {
      const { offset, bytes } = operation;
      this.#grow(offset + bytes.length);
      this.#bytes.set(bytes, offset);
      return;
    }
    if (operation.size >= this.length) return this.#grow(operation.size);
    if (operation.kind === "allocate") return;
    this.#bytes.fill(0, operation.size, this.length);
    this.length = operation.size;
  }

  #grow(length: number): void {
    if (length <= this.length) return;
    if (length > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(length, Math.min(2 * this.#bytes.length, length + growthMax)));
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    this.length = length;
  }
}

/** A file's content, whatever it is called and whether or not a name is left. */
class Inode {
  /** What the next power cut cannot take. */
  durable = new Content();
  /** What a reader sees now. */
  current = new Content();
  unsynced: FileOperation[] = [];
  /** Operations that were unsynced once and are not any more. */
  settled = 0;

  static of(bytes: Uint8Array<ArrayBuffer>): Inode {
    const inode = new Inode();
    inode.reset(bytes);
    return inode;
  }

  /** From now on these bytes, all of them durable. */
  reset(bytes: Uint8Array<ArrayBuffer>): void {
    this.durable = new Content(bytes);
    this.current = new Content(bytes.slice());
    this.settle(this.unsynced.length);
  }

  /** Takes the oldest operations out of those that are not synced. */
  settle(count: number): FileOperation[] {
    this.settled += count;
    return this.unsynced.splice(0, count);
  }
}

type NameOperation =
  | { readonly kind: "create"; readonly name: string; readonly inode: Inode }
  | { readonly kind: "remove"; readonly name: string }
  | { readonly kind: "rename"; readonly from: string; readonly to: string; readonly inode: Inode };

class Directory {
  durable = new Map<string, Inode>();
  current = new Map<string, Inode>();
  unsynced: NameOperation[] = [];
}

/** What happens to an operation that was not synced when power fails. */
export type Fate = "kept" | "dropped" | "torn-old" | "torn-random";

/** The error of a power cut, and of everything that is tried after it by those who were running. */
export class PowerCutError extends Error {
  override readonly name = "PowerCutError";
}

export interface SimulatedDiskOptions {
  /** How many bytes all files together may have. */
  readonly budgetBytes?: number;
  /** Syncs stay under way until {@link SimulatedDisk.completeSync} is called. */
  readonly manualSync?: boolean;
  /** Decides when a sync completes: calls back then. What was written after it began is not covered. */
  readonly scheduleSync?: (complete: () => void) => void;
}

/** How long a file of so many bytes is after the operation. */
function lengthAfter(length: number, operation: FileOperation): number {
  if (operation.kind === "truncate") return operation.size;
  return Math.max(
    length,
    operation.kind === "write" ? operation.offset + operation.bytes.length : operation.size,
  );
}

function errno(code: string, what: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${code}: ${what}`), { code });
}

interface RunningSync {
  readonly inode: Inode;
  /** Covers the operations of the file before this one, counted from its beginning. */
  readonly upTo: number;
  readonly done: PromiseWithResolvers<void>;
}

/** See the top of this file. Same calls and same generator, same outcome. */
export class SimulatedDisk implements Disk {
  readonly #rng: Rng;
  readonly #manualSync: boolean;
  readonly #scheduleSync: SimulatedDiskOptions["scheduleSync"];
  #directories = new Map<string, Directory>();
  #running: RunningSync[] = [];
  /** Grows with each restart: file handles of an earlier life are dead. */
  #life = 0;
  #syncErrors = 0;
  #cutAt = Number.POSITIVE_INFINITY;
  #cut = false;
  /** Changing operations so far: the clock of power cuts. */
  operations = 0;
  budgetBytes: number;

  constructor(rng: Rng, options: SimulatedDiskOptions = {}) {
    this.#rng = rng;
    this.#manualSync = options.manualSync ?? false;
    this.#scheduleSync = options.scheduleSync;
    this.budgetBytes = options.budgetBytes ?? Number.POSITIVE_INFINITY;
  }

  /** Whether the power is off: nothing works until {@link restart}. */
  get isCut(): boolean {
    return this.#cut;
  }

  /** Cuts the power when so many more changing operations have been started; that last one is unsynced. */
  cutPowerAfter(operations: number): void {
    this.#cutAt = this.operations + operations;
  }

  /** The next `count` syncs report an error; the bytes count as clean afterwards, and the next power cut takes them. */
  failSyncs(count: number): void {
    this.#syncErrors = count;
  }

  /** Completes the oldest sync that is under way; false when there is none. */
  completeSync(): boolean {
    const running = this.#running.shift();
    if (running === undefined) return false;
    this.#finishSync(running);
    return true;
  }

  get runningSyncs(): number {
    return this.#running.length;
  }

  /** Turns the power off now. Each unsynced operation meets its fate at {@link restart}. */
  cutPower(): void {
    this.#cut = true;
    this.#cutAt = Number.POSITIVE_INFINITY;
    const running = this.#running;
    this.#running = [];
    for (const { done } of running) done.reject(new PowerCutError("the power failed during a sync"));
  }

  /**
   * Starts over after a power cut, or after the process alone was killed (then nothing is lost but handles).
   * `fate` decides for tests that enumerate; by default each operation draws its own.
   */
  restart(fate?: (operation: FileOperation | NameOperation) => Fate): void {
    if (this.#cut) {
      for (const directory of this.#directories.values()) this.#settleNames(directory, fate);
      for (const inode of this.#inodes()) this.#settleFile(inode, fate);
    } else {
      for (const running of this.#running) running.done.reject(new PowerCutError("the process was killed"));
    }
    this.#running = [];
    this.#cut = false;
    this.#cutAt = Number.POSITIVE_INFINITY;
    this.#life++;
  }

  #inodes(): Set<Inode> {
    const all = new Set<Inode>();
    for (const directory of this.#directories.values()) {
      for (const inode of directory.durable.values()) all.add(inode);
      for (const inode of directory.current.values()) all.add(inode);
    }
    return all;
  }

  #settleNames(directory: Directory, choose?: (operation: NameOperation) => Fate): void {
    const settled = new Map(directory.durable);
    for (const operation of directory.unsynced) {
      const fate = choose?.(operation) ?? (this.#rng.below(2) === 0 ? "kept" : "dropped");
      if (fate === "dropped") continue;
      if (operation.kind === "create") settled.set(operation.name, operation.inode);
      if (operation.kind === "remove") settled.delete(operation.name);
      if (operation.kind === "rename") {
        settled.delete(operation.from);
        settled.set(operation.to, operation.inode);
      }
    }
    directory.durable = settled;
    directory.current = new Map(settled);
    directory.unsynced = [];
  }

  #settleFile(inode: Inode, choose?: (operation: FileOperation) => Fate): void {
    const survivors: FileOperation[] = [];
    for (const operation of inode.unsynced) {
      const fate = choose?.(operation) ?? this.#drawFate(operation);
      if (fate === "dropped") continue;
      survivors.push(fate === "kept" || operation.kind !== "write" ? operation : this.#tear(operation, fate));
    }
    // Order among the survivors is the disk's business, as far as one file's size changes allow.
    shuffle(survivors, this.#rng);
    for (const operation of survivors) inode.durable.apply(operation);
    inode.reset(inode.durable.copy());
  }

  #drawFate(operation: FileOperation): Fate {
    const draw = this.#rng.below(4);
    if (operation.kind !== "write") return draw < 2 ? "kept" : "dropped";
    return (["kept", "dropped", "torn-old", "torn-random"] as const)[draw]!;
  }

  /** Part of a write, cut at a sector: the rest is what was there before, or noise. */
  #tear(operation: FileOperation & { kind: "write" }, fate: Fate): FileOperation {
    const { offset, bytes } = operation;
    const firstBoundary = sectorBytes - (offset % sectorBytes);
    const boundaries: number[] = [0];
    for (let at = firstBoundary; at < bytes.length; at += sectorBytes) boundaries.push(at);
    const keep = boundaries[this.#rng.below(boundaries.length)]!;
    const keepsHead = this.#rng.below(2) === 0;
    if (fate === "torn-random") {
      const noisy = bytes.slice();
      const [from, to] = keepsHead ? [keep, bytes.length] : [0, keep];
      for (let i = from; i < to; i++) noisy[i] = this.#rng.below(256);
      return { kind: "write", offset, bytes: noisy };
    }
    return keepsHead
      ? { kind: "write", offset, bytes: bytes.subarray(0, keep) }
      : { kind: "write", offset: offset + keep, bytes: bytes.subarray(keep) };
  }

  /** Counts an operation that changes something, and fails from the power cut on. */
  #step(): void {
    if (this.#cut) throw new PowerCutError("the power is off");
    this.operations++;
  }

  #afterStep(): void {
    if (this.operations < this.#cutAt) return;
    this.cutPower();
    throw new PowerCutError("the power failed");
  }

  #directory(path: string): Directory {
    let directory = this.#directories.get(path);
    if (directory === undefined) this.#directories.set(path, (directory = new Directory()));
    return directory;
  }

  #split(path: string): { directory: Directory; name: string } {
    const slash = path.lastIndexOf("/");
    return { directory: this.#directory(path.slice(0, slash)), name: path.slice(slash + 1) };
  }

  open(path: string, mode: "create" | "open" | "read"): DiskFile {
    const { directory, name } = this.#split(path);
    let inode = directory.current.get(name);
    if (mode === "create") {
      if (inode !== undefined) throw errno("EEXIST", path);
      this.#step();
      inode = new Inode();
      directory.current.set(name, inode);
      directory.unsynced.push({ kind: "create", name, inode });
      this.#afterStep();
    } else if (this.#cut) {
      throw new PowerCutError("the power is off");
    }
    if (inode === undefined) throw errno("ENOENT", path);
    return this.#handle(inode, mode);
  }

  #handle(inode: Inode, mode: "create" | "open" | "read"): DiskFile {
    const life = this.#life;
    let open = true;
    const use = (): void => {
      if (this.#cut || life !== this.#life) throw new PowerCutError("the file was opened before the restart");
      if (!open) throw errno("EBADF", "the file is closed");
    };
    const change = (operation: FileOperation): void => {
      use();
      if (mode === "read") throw errno("EBADF", "the file is open for reading");
      this.#step();
      if (this.budgetBytes !== Number.POSITIVE_INFINITY) {
        const grownBytes = lengthAfter(inode.current.length, operation) - inode.current.length;
        if (grownBytes > 0 && this.usedBytes + grownBytes > this.budgetBytes) {
          this.#overflow(inode, operation);
          throw errno("ENOSPC", "no space left on the simulated disk");
        }
      }
      inode.current.apply(operation);
      inode.unsynced.push(operation);
      this.#afterStep();
    };
    return {
      write: (offset, bytes) => change({ kind: "write", offset, bytes: bytes.slice() }),
      read: (offset, length) => {
        use();
        return inode.current.copy(offset, offset + length);
      },
      sync: () => {
        try {
          use();
          this.#step();
          this.#afterStep();
        } catch (error) {
          return Promise.reject(error);
        }
        const upTo = inode.settled + inode.unsynced.length;
        const running = { inode, upTo, done: Promise.withResolvers<void>() };
        if (this.#manualSync) this.#running.push(running);
        else if (this.#scheduleSync === undefined) this.#finishSync(running);
        else {
          this.#running.push(running);
          this.#scheduleSync(() => {
            const at = this.#running.indexOf(running);
            // A crash ended it.
            if (at === -1) return;
            this.#running.splice(at, 1);
            this.#finishSync(running);
          });
        }
        return running.done.promise;
      },
      truncate: (size) => change({ kind: "truncate", size }),
      allocate: (size) => change({ kind: "allocate", size }),
      size: () => {
        use();
        return inode.current.length;
      },
      close: () => {
        open = false;
      },
    };
  }

  /** A write that meets the full disk leaves the part that fitted. */
  #overflow(inode: Inode, operation: FileOperation): void {
    if (operation.kind !== "write") return;
    const room = inode.current.length + this.budgetBytes - this.usedBytes - operation.offset;
    if (room <= 0) return;
    const part: FileOperation = { ...operation, bytes: operation.bytes.subarray(0, room) };
    inode.current.apply(part);
    inode.unsynced.push(part);
  }

  #finishSync({ inode, upTo, done }: RunningSync): void {
    // A sync that began later may have been faster.
    const covered = inode.settle(Math.max(0, upTo - inode.settled));
    if (this.#syncErrors > 0) {
      this.#syncErrors--;
      // The pages are marked clean: readers still see them, a later sync does not write them.
      done.reject(errno("EIO", "the simulated disk failed to sync"));
      return;
    }
    for (const operation of covered) inode.durable.apply(operation);
    done.resolve();
  }

  /** Of all files together. */
  get usedBytes(): number {
    let used = 0;
    for (const inode of this.#inodes()) used += inode.current.length;
    return used;
  }

  list(directory: string): string[] {
    if (this.#cut) throw new PowerCutError("the power is off");
    const names = [...(this.#directories.get(directory)?.current.keys() ?? [])];
    for (const path of this.#directories.keys()) {
      if (path.startsWith(`${directory}/`)) {
        const name = path.slice(directory.length + 1);
        if (!name.includes("/")) names.push(name);
      }
    }
    return names.sort();
  }

  /** Directories themselves are taken to be durable at once; only names of files can be lost. */
  makeDirectory(path: string): void {
    this.#step();
    this.#directory(path);
    this.#afterStep();
  }

  /** Durable at once as well; what the power cut takes back are the removals of files in it. */
  removeDirectory(path: string): void {
    this.#step();
    const directory = this.#directories.get(path);
    if (directory === undefined) throw errno("ENOENT", path);
    if (directory.current.size > 0) throw errno("ENOTEMPTY", path);
    if (directory.unsynced.length === 0) this.#directories.delete(path);
    this.#afterStep();
  }

  rename(from: string, to: string): void {
    this.#step();
    const source = this.#split(from);
    const target = this.#split(to);
    if (source.directory !== target.directory)
      throw errno("EXDEV", "renames across directories are not simulated");
    const inode = source.directory.current.get(source.name);
    if (inode === undefined) throw errno("ENOENT", from);
    source.directory.current.delete(source.name);
    source.directory.current.set(target.name, inode);
    source.directory.unsynced.push({ kind: "rename", from: source.name, to: target.name, inode });
    this.#afterStep();
  }

  remove(path: string): void {
    this.#step();
    const { directory, name } = this.#split(path);
    if (!directory.current.delete(name)) throw errno("ENOENT", path);
    directory.unsynced.push({ kind: "remove", name });
    this.#afterStep();
  }

  async removeLater(path: string): Promise<void> {
    this.remove(path);
  }

  syncDirectory(path: string): void {
    this.#step();
    this.#afterStep();
    const directory = this.#directory(path);
    directory.durable = new Map(directory.current);
    directory.unsynced = [];
  }

  async syncDirectoryLater(path: string): Promise<void> {
    this.syncDirectory(path);
  }

  freeBytes(_directory: string): number {
    return Math.max(0, this.budgetBytes - this.usedBytes);
  }

  /** What a reader sees in a file, for tests that damage it. */
  content(path: string): Uint8Array {
    const { directory, name } = this.#split(path);
    const inode = directory.current.get(name);
    if (inode === undefined) throw errno("ENOENT", path);
    return inode.current.copy();
  }

  /** Changes a file behind everybody's back, durably: rot, misdirected writes, a careless hand. */
  damage(path: string, change: (content: Uint8Array<ArrayBuffer>) => Uint8Array<ArrayBuffer> | void): void {
    const { directory, name } = this.#split(path);
    const inode = directory.current.get(name);
    if (inode === undefined) throw errno("ENOENT", path);
    const content = inode.current.copy();
    inode.reset(change(content) ?? content);
  }

  /** Flips one bit of a file. */
  flipBit(path: string, offset: number, bit: number): void {
    this.damage(path, (content) => {
      content[offset] = content[offset]! ^ (1 << bit);
    });
  }

  /** What would be left if power failed now and took everything that was not synced. */
  durableCopy(): SimulatedDisk {
    const copy = new SimulatedDisk(this.#rng);
    for (const [path, directory] of this.#directories) {
      const target = copy.#directory(path);
      for (const [name, { durable }] of directory.durable) {
        const inode = Inode.of(durable.copy());
        target.current.set(name, inode);
        target.durable.set(name, inode);
      }
    }
    return copy;
  }

  /** A disk with the same content, all of it synced. */
  clone(rng: Rng): SimulatedDisk {
    const copy = new SimulatedDisk(rng, { budgetBytes: this.budgetBytes, manualSync: this.#manualSync });
    for (const [path, directory] of this.#directories) {
      const target = copy.#directory(path);
      for (const [name, { current }] of directory.current) {
        const inode = Inode.of(current.copy());
        target.current.set(name, inode);
        target.durable.set(name, inode);
      }
    }
    return copy;
  }
}

function shuffle(items: unknown[], rng: Rng): void {
  for (let i = items.length - 1; i > 0; i--) {
    const j = rng.below(i + 1);
    [items[i], items[j]] = [items[j], items[i]];
  }
}
