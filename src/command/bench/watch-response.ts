/** Reads the few fields of a WatchResponse that counting needs, without building objects for the rest. */

export interface ReadWatchResponse {
  readonly created: boolean;
  readonly canceled: boolean;
  readonly events: number;
  /** The value of the last event's key. */
  readonly lastValue: Buffer | undefined;
}

const wireLengthDelimited = 2;
const watchResponseFields = { created: 3, canceled: 4, events: 11 } as const;
const eventKeyValueField = 2;
const keyValueValueField = 5;

/** Calls back for every field; numbers are given for varints, and start and end for delimited fields. */
function eachField(
  bytes: Uint8Array,
  start: number,
  end: number,
  visit: (field: number, wireType: number, from: number, to: number) => void,
): void {
  let at = start;
  const varint = (): number => {
    let value = 0;
    for (let factor = 1; at < end; factor *= 128) {
      const byte = bytes[at++]!;
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
    }
    throw new Error("an answer of the server is cut short");
  };
  while (at < end) {
    const tag = varint();
    const wireType = tag & 7;
    const field = Math.floor(tag / 8);
    if (wireType === wireLengthDelimited) {
      const length = varint();
      visit(field, wireType, at, at + length);
      at += length;
    } else if (wireType === 0) {
      const from = at;
      varint();
      visit(field, wireType, from, at);
    } else throw new Error(`an answer of the server has a field of wire type ${wireType}`);
  }
}

export function readWatchResponse(bytes: Uint8Array): ReadWatchResponse {
  let created = false;
  let canceled = false;
  let events = 0;
  let eventFrom = 0;
  let eventTo = 0;
  eachField(bytes, 0, bytes.length, (field, _, from, to) => {
    if (field === watchResponseFields.events) {
      events++;
      eventFrom = from;
      eventTo = to;
    } else if (field === watchResponseFields.created) created = bytes[from] === 1;
    else if (field === watchResponseFields.canceled) canceled = bytes[from] === 1;
  });
  let lastValue: Buffer | undefined;
  if (events > 0) {
    eachField(bytes, eventFrom, eventTo, (field, _, from, to) => {
      if (field !== eventKeyValueField) return;
      eachField(bytes, from, to, (inner, __, valueFrom, valueTo) => {
        if (inner === keyValueValueField) {
          lastValue = Buffer.from(bytes.buffer, bytes.byteOffset + valueFrom, valueTo - valueFrom);
        }
      });
    });
  }
  return { created, canceled, events, lastValue };
}
