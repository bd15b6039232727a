/**
 * The Huffman code of HPACK (RFC 7541, appendix B). It is canonical: the lengths of the codes, ordered by length
 * and then by symbol, determine it, so only the lengths are written down.
 */

/** Bits of the code of each byte from 0 to 255, one digit in base 36 each; the end-of-string symbol has 30. */
const lengths =
  "dnsssssssoussussssssssusssssssss6aacd68baa8b8666555666666678f6ca" +
  "d67777777777777777777777878djde6f56565666577666567655677777fbeds" +
  "kmkkmmmnmnnnnnonoomnonnnnlmnmnnomlkmmnnlnmmolmnnllmlnmnnkmmmnmmn" +
  "qqkjmnmpqqqrrqopjlqrrqrollqqsrrrkoklmllnmmppooqnqrqqrrrrrsrrrrrq";
const endOfString = 256;

/** A binary tree in one array: two slots per node; a positive slot is a node, a negative one a leaf. */
const tree: number[] = buildTree();

function buildTree(): number[] {
  const symbols = Array.from({ length: 257 }, (_, symbol) => ({
    symbol,
    bits: symbol === endOfString ? 30 : Number.parseInt(lengths[symbol]!, 36),
  }));
  symbols.sort((a, b) => a.bits - b.bits || a.symbol - b.symbol);
  const nodes = [0, 0];
  let code = 0;
  let previousBits = 0;
  for (const { symbol, bits } of symbols) {
    code *= 2 ** (bits - previousBits);
    previousBits = bits;
    let node = 0;
    for (let bit = bits - 1; bit >= 0; bit--) {
      const slot = node + (Math.floor(code / 2 ** bit) % 2);
      if (bit === 0) nodes[slot] = -1 - symbol;
      else {
        if (nodes[slot] === 0) {
          nodes[slot] = nodes.length;
          nodes.push(0, 0);
        }
        node = nodes[slot]!;
      }
    }
    code++;
  }
  return nodes;
}

/**
 * Four bits at a time: for each inner node of the tree and each half byte, the node behind it and the symbol that
 * was completed on the way, if any (no code is shorter than five bits). Made at the first use.
 */
let steps: Int32Array | undefined;
/** Nodes at which a string may end: up to seven bits into the end-of-string symbol, which is all ones. */
const mayEnd = new Set<number>();

const noSymbol = 0x1ff;
/** No string goes on behind this. */
const broken = -1;

function buildSteps(): Int32Array {
  const built = new Int32Array((tree.length / 2) * 16).fill(broken);
  for (let node = 0; node < tree.length; node += 2) {
    for (let half = 0; half < 16; half++) {
      let at = node;
      let symbol = noSymbol;
      for (let bit = 3; bit >= 0; bit--) {
        const next = tree[at + ((half >> bit) & 1)]!;
        if (next < 0) symbol = -1 - next;
        at = Math.max(next, 0);
      }
      if (symbol !== endOfString) built[(node / 2) * 16 + half] = (at << 8) | symbol;
    }
  }
  for (let node = 0, bits = 0; bits < 8; bits++) {
    mayEnd.add(node);
    node = tree[node + 1]!;
  }
  return built;
}

let scratch = Buffer.alloc(1024);

/** Decodes a Huffman-coded string into one character per byte; throws a plain Error for a broken code. */
export function decodeHuffman(bytes: Uint8Array, start: number, end: number): string {
  steps ??= buildSteps();
  // The shortest code has five bits.
  const longest = Math.ceil(((end - start) * 8) / 5);
  if (scratch.length < longest) scratch = Buffer.alloc(2 * longest);
  let length = 0;
  let node = 0;
  for (let i = start; i < end; i++) {
    const byte = bytes[i]!;
    const high = steps[node * 8 + (byte >> 4)]!;
    if (high === broken) throw new Error("HPACK: end-of-string symbol inside a string");
    if ((high & noSymbol) !== noSymbol) scratch[length++] = high;
    const low = steps[(high >> 9) * 16 + (byte & 15)]!;
    if (low === broken) throw new Error("HPACK: end-of-string symbol inside a string");
    if ((low & noSymbol) !== noSymbol) scratch[length++] = low;
    node = (low >> 9) * 2;
  }
  if (!mayEnd.has(node)) throw new Error("HPACK: a string ends inside a symbol");
  return scratch.toString("latin1", 0, length);
}
