/**
 * Finds where each JSON value of a body ends, byte by byte, as the body arrives. A stream's body is a sequence of
 * values with nothing but optional white space between them. The texts of its errors are those that etcd's
 * clients know from its gateway.
 */

/** The body is not JSON, or nests too deep. */
export class JsonSyntaxError extends Error {
  override readonly name = "JsonSyntaxError";
}

/** Values that nest deeper are refused, known fields or not. */
export const jsonDepthMax = 10_000;

/** What may come next. */
const enum State {
  /** A value, or white space before it. */
  Value,
  /** A value, or the end of an empty array. */
  ValueOrEnd,
  /** A member's name, or the end of an empty object. */
  NameOrEnd,
  Name,
  AfterName,
  AfterMember,
  AfterElement,
  String,
  Escape,
  Hex,
  Literal,
  Minus,
  Zero,
  Digits,
  Point,
  Fraction,
  Exponent,
  ExponentSign,
  ExponentDigits,
}

const literals = { 0x74: "true", 0x66: "false", 0x6e: "null" } as const;

function isSpace(byte: number): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;
}

function isDigit(byte: number): boolean {
  return byte >= 0x30 && byte <= 0x39;
}

function isHex(byte: number): boolean {
  return isDigit(byte) || (byte >= 0x41 && byte <= 0x46) || (byte >= 0x61 && byte <= 0x66);
}

/** A byte as etcd's messages show it: in single quotes, Go-escaped, bytes above 127 as that code point. */
function quoteByte(byte: number): string {
  if (byte === 0x27) return "'\\''";
  if (byte === 0x22) return `'"'`;
  const text = String.fromCharCode(byte);
  const short = {
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\b": "\\b",
    "\f": "\\f",
    "\v": "\\v",
    "\u0007": "\\a",
  }[text];
  if (short !== undefined) return `'${short}'`;
  if (text === "\\") return "'\\\\'";
  if (byte < 0x20 || byte === 0x7f) return `'\\x${byte.toString(16).padStart(2, "0")}'`;
  if ((byte >= 0x80 && byte < 0xa0) || byte === 0xad) return `'\\u00${byte.toString(16)}'`;
  return `'${text === "\u00a0" ? "\\u00a0" : text}'`;
}

function invalid(byte: number, context: string): JsonSyntaxError {
  return new JsonSyntaxError(`invalid character ${quoteByte(byte)} ${context}`);
}

/** Cuts a growing body into complete values. It holds the bytes of the incomplete value only. */
export class JsonScanner {
  #chunk: Uint8Array = new Uint8Array(0);
  #position = 0;
  /** Earlier chunks of the value that is being read. */
  #parts: Uint8Array[] = [];
  #partBytes = 0;
  #inValue = false;
  #start = 0;
  #state: State = State.Value;
  /** One entry per open object (true) or array (false). */
  readonly #open: boolean[] = [];
  /** Whether the string being read is a member's name. */
  #stringIsName = false;
  #literal = "";
  #literalAt = 0;
  #hexLeft = 0;
  /** The outermost value ended. */
  #complete = false;

  /** Adds bytes; call {@link next} until it returns undefined before adding more. */
  push(chunk: Uint8Array): void {
    this.#chunk = chunk;
    this.#position = 0;
    this.#start = 0;
  }

  /** Bytes of the incomplete value that are held. */
  get heldBytes(): number {
    return this.#partBytes;
  }

  /** The next complete value's bytes, or undefined when more input is needed. Throws JsonSyntaxError. */
  next(): Uint8Array | undefined {
    const chunk = this.#chunk;
    while (this.#position < chunk.length) {
      const byte = chunk[this.#position]!;
      if (!this.#inValue) {
        if (isSpace(byte)) {
          this.#position++;
          continue;
        }
        this.#inValue = true;
        this.#state = State.Value;
        this.#start = this.#position;
      }
      if (this.#state === State.String) this.#skipString();
      else if (this.#step(byte)) this.#position++;
      if (this.#complete) return this.#take(this.#position);
    }
    if (this.#inValue && chunk.length > this.#start) {
      this.#parts.push(chunk.subarray(this.#start));
      this.#partBytes += chunk.length - this.#start;
    }
    this.#chunk = new Uint8Array(0);
    this.#position = 0;
    this.#start = 0;
    return undefined;
  }

  /** The input is over: the last value if it is a number that only the end completes. Throws when it is cut. */
  end(): Uint8Array | undefined {
    if (!this.#inValue) return undefined;
    const complete =
      this.#open.length === 0 &&
      (this.#state === State.Zero ||
        this.#state === State.Digits ||
        this.#state === State.Fraction ||
        this.#state === State.ExponentDigits);
    if (!complete) throw new JsonSyntaxError("unexpected EOF");
    return this.#take(0);
  }

  #take(end: number): Uint8Array {
    const tail = this.#chunk.subarray(this.#start, end);
    const value = this.#parts.length === 0 ? tail : Buffer.concat([...this.#parts, tail]);
    this.#parts = [];
    this.#partBytes = 0;
    this.#inValue = false;
    this.#complete = false;
    this.#start = end;
    return value;
  }

  /** Moves to the string's end, to an escape, or to the end of the chunk. */
  #skipString(): void {
    const chunk = this.#chunk;
    let position = this.#position;
    while (position < chunk.length) {
      const byte = chunk[position]!;
      if (byte === 0x22) {
        this.#position = position + 1;
        this.#closeString();
        return;
      }
      if (byte === 0x5c) {
        this.#position = position + 1;
        this.#state = State.Escape;
        return;
      }
      if (byte < 0x20) throw invalid(byte, "in string literal");
      position++;
    }
    this.#position = position;
  }

  #closeString(): void {
    if (this.#stringIsName) {
      this.#state = State.AfterName;
      return;
    }
    this.#closeValue();
  }

  /** A value is complete: what may follow depends on what it stands in. */
  #closeValue(): void {
    const depth = this.#open.length;
    if (depth === 0) this.#complete = true;
    else this.#state = this.#open[depth - 1] ? State.AfterMember : State.AfterElement;
  }

  /** The innermost object or array ends. */
  #close(): void {
    this.#open.pop();
    this.#closeValue();
  }

  #nest(byte: number, isObject: boolean): void {
    if (this.#open.length === jsonDepthMax) throw invalid(byte, "exceeded max depth");
    this.#open.push(isObject);
    this.#state = isObject ? State.NameOrEnd : State.ValueOrEnd;
  }

  /** The first byte of a value. */
  #begin(byte: number): void {
    if (byte === 0x7b || byte === 0x5b) {
      this.#nest(byte, byte === 0x7b);
    } else if (byte === 0x22) {
      this.#stringIsName = false;
      this.#state = State.String;
    } else if (byte === 0x2d) {
      this.#state = State.Minus;
    } else if (byte === 0x30) {
      this.#state = State.Zero;
    } else if (isDigit(byte)) {
      this.#state = State.Digits;
    } else {
      const literal = literals[byte as keyof typeof literals];
      if (literal === undefined) throw invalid(byte, "looking for beginning of value");
      this.#literal = literal;
      this.#literalAt = 1;
      this.#state = State.Literal;
    }
  }

  /** A number ended before this byte. At the top the byte belongs to the next value. */
  #endNumber(byte: number): boolean {
    this.#closeValue();
    return this.#complete ? false : this.#step(byte);
  }

  /** Takes one byte; false when the value ended before it. */
  #step(byte: number): boolean {
    switch (this.#state) {
      case State.Value:
        if (!isSpace(byte)) this.#begin(byte);
        return true;
      case State.ValueOrEnd:
        if (isSpace(byte)) return true;
        if (byte === 0x5d) this.#close();
        else this.#begin(byte);
        return true;
      case State.NameOrEnd:
      case State.Name:
        if (isSpace(byte)) return true;
        if (byte === 0x7d && this.#state === State.NameOrEnd) {
          this.#close();
          return true;
        }
        if (byte !== 0x22) throw invalid(byte, "looking for beginning of object key string");
        this.#stringIsName = true;
        this.#state = State.String;
        return true;
      case State.AfterName:
        if (isSpace(byte)) return true;
        if (byte !== 0x3a) throw invalid(byte, "after object key");
        this.#state = State.Value;
        return true;
      case State.AfterMember:
        if (isSpace(byte)) return true;
        if (byte === 0x2c) this.#state = State.Name;
        else if (byte === 0x7d) this.#close();
        else throw invalid(byte, "after object key:value pair");
        return true;
      case State.AfterElement:
        if (isSpace(byte)) return true;
        if (byte === 0x2c) this.#state = State.Value;
        else if (byte === 0x5d) this.#close();
        else throw invalid(byte, "after array element");
        return true;
      case State.Escape:
        if (byte === 0x75) {
          this.#hexLeft = 4;
          this.#state = State.Hex;
        } else if ('"\\/bfnrt'.includes(String.fromCharCode(byte))) {
          this.#state = State.String;
        } else {
          throw invalid(byte, "in string escape code");
        }
        return true;
      case State.Hex:
        if (!isHex(byte)) throw invalid(byte, "in \\u hexadecimal character escape");
        if (--this.#hexLeft === 0) this.#state = State.String;
        return true;
      case State.Literal: {
        const expected = this.#literal.charCodeAt(this.#literalAt);
        if (byte !== expected) {
          throw invalid(byte, `in literal ${this.#literal} (expecting '${this.#literal[this.#literalAt]}')`);
        }
        if (++this.#literalAt === this.#literal.length) this.#closeValue();
        return true;
      }
      case State.Minus:
        if (byte === 0x30) this.#state = State.Zero;
        else if (isDigit(byte)) this.#state = State.Digits;
        else throw invalid(byte, "in numeric literal");
        return true;
      case State.Zero:
      case State.Digits:
        if (this.#state === State.Digits && isDigit(byte)) return true;
        if (byte === 0x2e) this.#state = State.Point;
        else if (byte === 0x65 || byte === 0x45) this.#state = State.Exponent;
        else return this.#endNumber(byte);
        return true;
      case State.Point:
        if (!isDigit(byte)) throw invalid(byte, "after decimal point in numeric literal");
        this.#state = State.Fraction;
        return true;
      case State.Fraction:
        if (isDigit(byte)) return true;
        if (byte === 0x65 || byte === 0x45) this.#state = State.Exponent;
        else return this.#endNumber(byte);
        return true;
      case State.Exponent:
        if (byte === 0x2b || byte === 0x2d) this.#state = State.ExponentSign;
        else if (isDigit(byte)) this.#state = State.ExponentDigits;
        else throw invalid(byte, "in exponent of numeric literal");
        return true;
      case State.ExponentSign:
        if (!isDigit(byte)) throw invalid(byte, "in exponent of numeric literal");
        this.#state = State.ExponentDigits;
        return true;
      case State.ExponentDigits:
        return isDigit(byte) ? true : this.#endNumber(byte);
      default:
        return true;
    }
  }
}
