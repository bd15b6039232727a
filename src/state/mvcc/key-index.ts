/**
 * Every key in order, with what is known of its versions. A two-level sorted list: leaves of up to 512 keys, and
 * one array of leaves. Counting skips whole leaves, so the count of a range costs microseconds at a million keys.
 */
import type { KeyEntry } from "./key-entry";

const leafKeysMax = 512;

interface Leaf {
  readonly keys: string[];
  readonly entries: KeyEntry[];
}

export class KeyIndex {
  readonly #leaves: Leaf[] = [{ keys: [], entries: [] }];
  /** A lower bound of each leaf's keys, above all keys of the leaf before; the first is never looked at. */
  readonly #firsts: string[] = [""];
  /** Live keys of each leaf. */
  readonly #lives: number[] = [0];
  #size = 0;
  #live = 0;
  /** Where `find` last looked: the place for `insert`, `remove` and `adjustLive`. */
  #leafAt = 0;
  #slotAt = 0;

  /** Keys with at least one retained version, deleted ones included. */
  get size(): number {
    return this.#size;
  }
  /** Keys whose newest version is not a tombstone. */
  get live(): number {
    return this.#live;
  }

  /** The entry of a key, and the place that `insert`, `remove` and `adjustLive` work on next. */
  find(key: string): KeyEntry | undefined {
    this.#leafAt = this.#leafOf(key);
    const leaf = this.#leaves[this.#leafAt]!;
    this.#slotAt = lowerBound(leaf.keys, key);
    return leaf.keys[this.#slotAt] === key ? leaf.entries[this.#slotAt] : undefined;
  }

  /** Adds the key that `find` has just missed. */
  insert(key: string, entry: KeyEntry): void {
    const leaf = this.#leaves[this.#leafAt]!;
    if (this.#slotAt === leaf.keys.length) {
      leaf.keys.push(key);
      leaf.entries.push(entry);
    } else {
      leaf.keys.splice(this.#slotAt, 0, key);
      leaf.entries.splice(this.#slotAt, 0, entry);
    }
    this.#size++;
    if (entry.live) this.adjustLive(1);
    if (leaf.keys.length > leafKeysMax) this.#split(leaf);
  }

  /** Forgets the dead key that `find` has just found. */
  remove(): void {
    const leaf = this.#leaves[this.#leafAt]!;
    leaf.keys.splice(this.#slotAt, 1);
    leaf.entries.splice(this.#slotAt, 1);
    this.#size--;
    if (leaf.keys.length === 0 && this.#leaves.length > 1) {
      this.#leaves.splice(this.#leafAt, 1);
      this.#firsts.splice(this.#leafAt, 1);
      this.#lives.splice(this.#leafAt, 1);
    }
  }

  /** The key that `find` has just found came to life (1) or died (-1). */
  adjustLive(by: 1 | -1): void {
    this.#lives[this.#leafAt]! += by;
    this.#live += by;
  }

  /** Live keys in [low, high); `high` undefined means to the end. */
  countLive(low: string, high: string | undefined): number {
    return this.#count(low, high, true);
  }

  /** Keys in [low, high), dead ones included: what a walk would touch. */
  countEntries(low: string, high: string | undefined): number {
    return this.#count(low, high, false);
  }

  /** Visits keys in [low, high) in order until the visitor answers false. It must not change the index. */
  walk(low: string, high: string | undefined, visit: (key: string, entry: KeyEntry) => boolean): void {
    const last = this.#lastLeafOf(low, high);
    let at = this.#leafOf(low);
    for (let slot = lowerBound(this.#leaves[at]!.keys, low); at <= last; at++, slot = 0) {
      const { keys, entries } = this.#leaves[at]!;
      const end = at === last && high !== undefined ? lowerBound(keys, high) : keys.length;
      for (; slot < end; slot++) if (!visit(keys[slot]!, entries[slot]!)) return;
    }
  }

  /**
   * As {@link walk}, for those who want live keys: passes leaves over that have none, so that the dead keys of a
   * large delete cost little until a compaction has swept them. Dead keys between live ones are still visited.
   */
  walkLive(low: string, high: string | undefined, visit: (key: string, entry: KeyEntry) => boolean): void {
    const last = this.#lastLeafOf(low, high);
    let at = this.#leafOf(low);
    for (let slot = lowerBound(this.#leaves[at]!.keys, low); at <= last; at++, slot = 0) {
      if (this.#lives[at] === 0) continue;
      const { keys, entries } = this.#leaves[at]!;
      const end = at === last && high !== undefined ? lowerBound(keys, high) : keys.length;
      for (; slot < end; slot++) if (!visit(keys[slot]!, entries[slot]!)) return;
    }
  }

  #count(low: string, high: string | undefined, live: boolean): number {
    const first = this.#leafOf(low);
    const last = this.#lastLeafOf(low, high);
    if (last < first) return 0;
    let count = 0;
    // Leaves in between count as a whole.
    for (let at = first + 1; at < last; at++)
      count += live ? this.#lives[at]! : this.#leaves[at]!.keys.length;
    for (const at of first === last ? [first] : [first, last]) {
      const { keys, entries } = this.#leaves[at]!;
      const start = at === first ? lowerBound(keys, low) : 0;
      const end = at === last && high !== undefined ? lowerBound(keys, high) : keys.length;
      if (start === 0 && end === keys.length) count += live ? this.#lives[at]! : keys.length;
      else if (!live) count += end - start;
      else for (let slot = start; slot < end; slot++) if (entries[slot]!.sequence > 0) count++;
    }
    return count;
  }

  /** The last leaf that may hold keys of a range; -1 when the range is empty. */
  #lastLeafOf(low: string, high: string | undefined): number {
    if (high === undefined) return this.#leaves.length - 1;
    return high <= low ? -1 : this.#leafOf(high);
  }

  /** The leaf in which a key is, or would be. */
  #leafOf(key: string): number {
    const firsts = this.#firsts;
    let low = 0;
    let high = firsts.length;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (firsts[middle]! <= key) low = middle;
      else high = middle;
    }
    return low;
  }

  #split(leaf: Leaf): void {
    // Keys that arrive in order would leave every leaf half full; a key behind all others opens a new leaf instead.
    const last = this.#leafAt === this.#leaves.length - 1 && this.#slotAt === leaf.keys.length - 1;
    const cut = last ? leaf.keys.length - 1 : leaf.keys.length >> 1;
    const right: Leaf = { keys: leaf.keys.splice(cut), entries: leaf.entries.splice(cut) };
    let live = 0;
    for (const entry of right.entries) if (entry.live) live++;
    this.#leaves.splice(this.#leafAt + 1, 0, right);
    this.#firsts.splice(this.#leafAt + 1, 0, right.keys[0]!);
    this.#lives.splice(this.#leafAt + 1, 0, live);
    this.#lives[this.#leafAt]! -= live;
  }
}

/** The first position whose key is not below `key`. */
function lowerBound(keys: readonly string[], key: string): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (keys[middle]! < key) low = middle + 1;
    else high = middle;
  }
  return low;
}
