/**
 * Finds every half-open key range that holds a key: a treap ordered by start, each node knowing the largest end
 * below it. Lookup visits O(log n + hits) nodes; insert and remove take O(log n).
 */

/** Sorts after every binary string, whose characters stop at 0xff: the end of "to the end". */
export const endOfKeys = "\uffff";

interface Node<Value> {
  readonly start: string;
  readonly end: string;
  readonly values: Value[];
  /** Random and heap-ordered, which keeps the tree flat whatever the order of inserts. */
  readonly priority: number;
  endMax: string;
  left: Node<Value> | undefined;
  right: Node<Value> | undefined;
}

export class IntervalIndex<Value> {
  #root: Node<Value> | undefined;
  #size = 0;
  #seed = 0x2545f491;

  /** Values held. */
  get size(): number {
    return this.#size;
  }

  insert(start: string, end: string, value: Value): void {
    this.#size++;
    this.#root = this.#insert(this.#root, start, end, value);
  }

  /** Removes one value that was inserted with exactly this range. */
  remove(start: string, end: string, value: Value): boolean {
    let removed = false;
    const descend = (node: Node<Value> | undefined): Node<Value> | undefined => {
      if (node === undefined) return undefined;
      const order = compare(start, end, node);
      if (order === 0) {
        const at = node.values.indexOf(value);
        if (at < 0) return node;
        removed = true;
        node.values.splice(at, 1);
        return node.values.length > 0 ? node : merge(node.left, node.right);
      }
      if (order < 0) node.left = descend(node.left);
      else node.right = descend(node.right);
      refresh(node);
      return node;
    };
    this.#root = descend(this.#root);
    if (removed) this.#size--;
    return removed;
  }

  /** Calls `visit` for each value whose range holds `key`. */
  stab(key: string, visit: (value: Value) => void): void {
    if (this.#root !== undefined) stabNode(this.#root, key, visit);
  }

  #insert(node: Node<Value> | undefined, start: string, end: string, value: Value): Node<Value> {
    if (node === undefined) {
      return {
        start,
        end,
        values: [value],
        priority: this.#random(),
        endMax: end,
        left: undefined,
        right: undefined,
      };
    }
    const order = compare(start, end, node);
    if (order === 0) {
      node.values.push(value);
      return node;
    }
    if (order < 0) {
      const left = this.#insert(node.left, start, end, value);
      node.left = left;
      if (left.priority > node.priority) {
        node.left = left.right;
        refresh(node);
        left.right = node;
        refresh(left);
        return left;
      }
    } else {
      const right = this.#insert(node.right, start, end, value);
      node.right = right;
      if (right.priority > node.priority) {
        node.right = right.left;
        refresh(node);
        right.left = node;
        refresh(right);
        return right;
      }
    }
    refresh(node);
    return node;
  }

  #random(): number {
    let x = this.#seed;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#seed = x | 0;
    return x >>> 0;
  }
}

function compare(start: string, end: string, node: Node<unknown>): number {
  if (start !== node.start) return start < node.start ? -1 : 1;
  if (end !== node.end) return end < node.end ? -1 : 1;
  return 0;
}

function refresh(node: Node<unknown>): void {
  let endMax = node.end;
  if (node.left !== undefined && node.left.endMax > endMax) endMax = node.left.endMax;
  if (node.right !== undefined && node.right.endMax > endMax) endMax = node.right.endMax;
  node.endMax = endMax;
}

function merge<Value>(
  left: Node<Value> | undefined,
  right: Node<Value> | undefined,
): Node<Value> | undefined {
  if (left === undefined) return right;
  if (right === undefined) return left;
  if (left.priority > right.priority) {
    left.right = merge(left.right, right);
    refresh(left);
    return left;
  }
  right.left = merge(left, right.left);
  refresh(right);
  return right;
}

function stabNode<Value>(node: Node<Value>, key: string, visit: (value: Value) => void): void {
  if (node.endMax <= key) return;
  if (node.left !== undefined) stabNode(node.left, key, visit);
  if (node.start > key) return;
  if (key < node.end) for (const value of node.values) visit(value);
  if (node.right !== undefined) stabNode(node.right, key, visit);
}
