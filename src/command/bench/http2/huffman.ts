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

/** Decodes a Huffman-coded string into one character per byte; throws a plain Error for a broken code. */
export function decodeHuffman(bytes: Uint8Array, start: number, end: number): string {
  let text = "";
  let node = 0;
  for (let i = start; i < end; i++) {
    const byte = bytes[i]!;
    for (let bit = 7; bit >= 0; bit--) {
      const next = tree[node + ((byte >> bit) & 1)]!;
      if (next >= 0) node = next;
      else {
        const symbol = -1 - next;
        if (symbol === endOfString) throw new Error("HPACK: end-of-string symbol inside a string");
        text += String.fromCharCode(symbol);
        node = 0;
      }
    }
  }
  return text;
}
