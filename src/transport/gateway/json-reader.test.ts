import { describe, expect, test } from "bun:test";
import { create, toJson, toJsonString, fromJsonString, type DescMessage } from "@bufbuild/protobuf";
import fc from "fast-check";
import {
  AuthUserAddRequestSchema,
  LeaseGrantRequestSchema,
  MoveLeaderRequestSchema,
  RangeRequestSchema,
  TxnRequestSchema,
  WatchRequestSchema,
} from "../../proto/gen/etcd/rpc_pb";
import { decodeBase64, exactInteger, messageDepthMax, readMessage } from "./json-reader";
import { JsonScanner, jsonDepthMax } from "./json-scanner";

/** What the gateway does with a body: the first value becomes a message. */
function read(desc: DescMessage, body: string | Uint8Array): unknown {
  const scanner = new JsonScanner();
  scanner.push(typeof body === "string" ? Buffer.from(body) : body);
  const value = scanner.next() ?? scanner.end();
  return value === undefined ? create(desc) : readMessage(desc, value);
}

function problem(desc: DescMessage, body: string | Uint8Array): string {
  try {
    read(desc, body);
  } catch (error) {
    return (error as Error).message;
  }
  return "accepted";
}

describe("refusals have the words and places that etcd's gateway answers with", () => {
  const cases: readonly (readonly [DescMessage, string, string])[] = [
    [
      RangeRequestSchema,
      `{"key":"Zm9v",}`,
      "invalid character '}' looking for beginning of object key string",
    ],
    [RangeRequestSchema, `{"key":"Zm9v"`, "unexpected EOF"],
    [RangeRequestSchema, "xx", "invalid character 'x' looking for beginning of value"],
    [RangeRequestSchema, "'", "invalid character '\\'' looking for beginning of value"],
    [RangeRequestSchema, "é", "invalid character 'Ã' looking for beginning of value"],
    [RangeRequestSchema, "]", "invalid character ']' looking for beginning of value"],
    [RangeRequestSchema, "null", "proto: syntax error (line 1:1): unexpected token null"],
    [RangeRequestSchema, "[]", "proto: syntax error (line 1:1): unexpected token ["],
    [RangeRequestSchema, `"abc"`, `proto: syntax error (line 1:1): unexpected token "abc"`],
    [RangeRequestSchema, "01", "proto: syntax error (line 1:1): unexpected token 0"],
    [RangeRequestSchema, "1e5", "proto: syntax error (line 1:1): unexpected token 1e5"],
    [RangeRequestSchema, `{"key":"Zm9v","key":"Zm9v"}`, `proto: (line 1:15): duplicate field "key"`],
    [RangeRequestSchema, `{"range_end":"","rangeEnd":""}`, `proto: (line 1:17): duplicate field "rangeEnd"`],
    [RangeRequestSchema, `{"key":5}`, "proto: (line 1:8): invalid value for bytes field key: 5"],
    [RangeRequestSchema, `{"key":{}}`, "proto: (line 1:8): invalid value for bytes field key: {"],
    [RangeRequestSchema, `{"key":"Zm9v*"}`, `proto: (line 1:8): invalid value for bytes field key: "Zm9v*"`],
    [
      RangeRequestSchema,
      `{"key":"Zm9v=="}`,
      `proto: (line 1:8): invalid value for bytes field key: "Zm9v=="`,
    ],
    [RangeRequestSchema, `{"key":"a"}`, `proto: (line 1:8): invalid value for bytes field key: "a"`],
    [RangeRequestSchema, `{"key":"+/-_"}`, `proto: (line 1:8): invalid value for bytes field key: "+/-_"`],
    [RangeRequestSchema, `{"limit":1.5}`, "proto: (line 1:10): invalid value for int64 field limit: 1.5"],
    [RangeRequestSchema, `{"limit":" 1"}`, `proto: (line 1:10): invalid value for int64 field limit: " 1"`],
    [RangeRequestSchema, `{"limit":""}`, `proto: (line 1:10): invalid value for int64 field limit: ""`],
    [
      RangeRequestSchema,
      `{"limit":"0x10"}`,
      `proto: (line 1:10): invalid value for int64 field limit: "0x10"`,
    ],
    [
      RangeRequestSchema,
      `{"limit":9223372036854775808}`,
      "proto: (line 1:10): invalid value for int64 field limit: 9223372036854775808",
    ],
    [
      RangeRequestSchema,
      `{"key":"YQ=="\n,\n  "limit":"x"}`,
      `proto: (line 3:11): invalid value for int64 field limit: "x"`,
    ],
    [RangeRequestSchema, `{"limit":01}`, "invalid character '1' after object key:value pair"],
    [RangeRequestSchema, `{"limit":-}`, "invalid character '}' in numeric literal"],
    [RangeRequestSchema, `{"limit":tru}`, "invalid character '}' in literal true (expecting 'e')"],
    [RangeRequestSchema, `{"key":"Y\\q"}`, "invalid character 'q' in string escape code"],
    [RangeRequestSchema, `{"key":"Y\\u12g"}`, "invalid character 'g' in \\u hexadecimal character escape"],
    [RangeRequestSchema, `{"key":"Y\n"}`, "invalid character '\\n' in string literal"],
    [RangeRequestSchema, `"\u0001"`, "invalid character '\\x01' in string literal"],
    [RangeRequestSchema, `{"key" 1}`, "invalid character '1' after object key"],
    [RangeRequestSchema, `{1}`, "invalid character '1' looking for beginning of object key string"],
    [RangeRequestSchema, `{"a":1 "b"}`, `invalid character '"' after object key:value pair`],
    [RangeRequestSchema, "[1 2]", "invalid character '2' after array element"],
    [RangeRequestSchema, "1.x", "invalid character 'x' after decimal point in numeric literal"],
    [RangeRequestSchema, "1ex", "invalid character 'x' in exponent of numeric literal"],
    [RangeRequestSchema, "nul", "unexpected EOF"],
    [
      RangeRequestSchema,
      `{"serializable":1}`,
      "proto: (line 1:17): invalid value for bool field serializable: 1",
    ],
    [
      RangeRequestSchema,
      `{"serializable":"true"}`,
      `proto: (line 1:17): invalid value for bool field serializable: "true"`,
    ],
    [
      RangeRequestSchema,
      `{"sort_order":1.5}`,
      "proto: (line 1:15): invalid value for enum field sortOrder: 1.5",
    ],
    [
      RangeRequestSchema,
      `{"sort_order":true}`,
      "proto: (line 1:15): invalid value for enum field sortOrder: true",
    ],
    [
      RangeRequestSchema,
      `{"sort_order":99999999999}`,
      "proto: (line 1:15): invalid value for enum field sortOrder: 99999999999",
    ],
    [
      TxnRequestSchema,
      `{"success":[{"request_put":{"key":"YQ=="},"request_range":{"key":"YQ=="}}]}`,
      `proto: (line 1:43): error parsing "request_range", oneof etcdserverpb.RequestOp.request is already set`,
    ],
    [TxnRequestSchema, `{"success":[null]}`, "proto: syntax error (line 1:13): unexpected token null"],
    [TxnRequestSchema, `{"success":{}}`, "proto: syntax error (line 1:12): unexpected token {"],
    [
      TxnRequestSchema,
      `{"success":[{"request_put":5}]}`,
      "proto: syntax error (line 1:28): unexpected token 5",
    ],
    [AuthUserAddRequestSchema, `{"name":5}`, "proto: (line 1:9): invalid value for string field name: 5"],
    [LeaseGrantRequestSchema, `{"ID":1e400}`, "proto: (line 1:7): invalid value for int64 field ID: 1e400"],
    [LeaseGrantRequestSchema, `{"TTL":"+1"}`, `proto: (line 1:8): invalid value for int64 field TTL: "+1"`],
    [
      MoveLeaderRequestSchema,
      `{"targetID":-1}`,
      "proto: (line 1:13): invalid value for uint64 field targetID: -1",
    ],
    [
      MoveLeaderRequestSchema,
      `{"targetID":18446744073709551616}`,
      "proto: (line 1:13): invalid value for uint64 field targetID: 18446744073709551616",
    ],
  ];
  for (const [desc, body, message] of cases) {
    test(body, () => expect(problem(desc, body)).toBe(message));
  }

  test("bytes that are no UTF-8 are refused where they stand, in unknown fields too", () => {
    const body = Buffer.concat([
      Buffer.from(`{"key":"YQ==","x":"`),
      Buffer.of(0xff, 0xfe),
      Buffer.from(`"}`),
    ]);
    expect(problem(RangeRequestSchema, body)).toBe(
      "proto: syntax error (line 1:19): invalid UTF-8 in string",
    );
  });

  test("half a surrogate pair is no text", () => {
    expect(problem(AuthUserAddRequestSchema, `{"name":"a\\ud800b"}`)).toStartWith("proto: syntax error");
  });
});

describe("a request means exactly what it says", () => {
  test("integers above 2^53 given as bare numbers are not rounded", () => {
    expect(read(RangeRequestSchema, `{"revision":9007199254740993}`)).toMatchObject({
      revision: 9007199254740993n,
    });
    expect(read(MoveLeaderRequestSchema, `{"targetID":18446744073709551615}`)).toMatchObject({
      targetID: 18446744073709551615n,
    });
  });

  test("numbers with a point or an exponent count when they are integers", () => {
    expect(exactInteger("1e2")).toBe(100n);
    expect(exactInteger("1.0")).toBe(1n);
    expect(exactInteger("12300e-2")).toBe(123n);
    expect(exactInteger("1000000000000000000e-17")).toBe(10n);
    expect(exactInteger("-0.0")).toBe(0n);
    expect(exactInteger("0e999999999999")).toBe(0n);
    expect(exactInteger("1e999999999")).toBeUndefined();
    expect(exactInteger("-1.5e1")).toBe(-15n);
    expect(exactInteger("1e-1")).toBeUndefined();
    expect(exactInteger(`0.${"0".repeat(100_000)}1`)).toBeUndefined();
  });

  test("fields go by either spelling, nulls are unset, unknown fields and enum names are passed over", () => {
    const message = read(
      RangeRequestSchema,
      `{"key":"YQ==","rangeEnd":"Yg==","limit":null,"sort_order":"NOSUCH","sortTarget":"MOD","x":{"a":[1,{"b":"}"},[]],"n":1e400},"keysOnly":true}`,
    );
    expect(message).toMatchObject({
      key: new Uint8Array([97]),
      rangeEnd: new Uint8Array([98]),
      limit: 0n,
      sortOrder: 0,
      sortTarget: 3,
      keysOnly: true,
    });
  });

  test("a null beside a oneof's member does not take its place", () => {
    const message = read(
      TxnRequestSchema,
      `{"success":[{"request_range":{"key":"YQ=="},"request_put":null}]}`,
    );
    expect(message).toMatchObject({ success: [{ request: { case: "requestRange" } }] });
  });

  test("enum lists keep known names and numbers", () => {
    const message = read(WatchRequestSchema, `{"create_request":{"filters":["NODELETE","XX",0,7]}}`);
    expect(message).toMatchObject({ requestUnion: { value: { filters: [1, 0, 7] } } });
  });

  test("base64 is taken in both alphabets, padded or not", () => {
    expect(decodeBase64("_-8=")).toEqual(new Uint8Array([0xff, 0xef]));
    expect(decodeBase64("/+8")).toEqual(new Uint8Array([0xff, 0xef]));
    expect(decodeBase64("YW\nJj")).toEqual(new Uint8Array([97, 98, 99]));
    expect(decodeBase64("YQ==\n")).toBeUndefined();
    expect(decodeBase64("YQ=")).toBeUndefined();
    expect(decodeBase64("Zm 9v")).toBeUndefined();
  });

  test("what protobuf writes as JSON reads back the same", () => {
    const bytes = fc.uint8Array({ maxLength: 40 });
    const int64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
    const range = fc.record({
      key: bytes,
      rangeEnd: bytes,
      limit: int64,
      revision: int64,
      serializable: fc.boolean(),
    });
    const put = fc.record({ key: bytes, value: bytes, lease: int64, prevKv: fc.boolean() });
    const operation = fc.oneof(
      range.map((value) => ({ request: { case: "requestRange" as const, value } })),
      put.map((value) => ({ request: { case: "requestPut" as const, value } })),
    );
    const compare = fc.record({
      key: bytes,
      result: fc.integer({ min: 0, max: 3 }),
      target: fc.constant(0),
      targetUnion: int64.map((value) => ({ case: "version" as const, value })),
    });
    fc.assert(
      fc.property(
        fc.array(compare, { maxLength: 3 }),
        fc.array(operation, { maxLength: 4 }),
        fc.boolean(),
        (compares, operations, proto) => {
          const message = create(TxnRequestSchema, { compare: compares, success: operations } as never);
          const text = toJsonString(TxnRequestSchema, message, {
            useProtoFieldName: proto,
            prettySpaces: proto ? 2 : 0,
          });
          const own = readMessage(TxnRequestSchema, Buffer.from(text)) as typeof message;
          expect(toJson(TxnRequestSchema, own)).toEqual(
            toJson(TxnRequestSchema, fromJsonString(TxnRequestSchema, text)),
          );
        },
      ),
      { numRuns: 200 },
    );
  });
});

describe("nesting has a limit", () => {
  test("of any JSON", () => {
    const nested = (depth: number): string => `${'{"a":'.repeat(depth)}1${"}".repeat(depth)}`;
    expect(problem(RangeRequestSchema, nested(jsonDepthMax))).toBe("accepted");
    expect(problem(RangeRequestSchema, nested(jsonDepthMax + 1))).toBe(
      "invalid character '{' exceeded max depth",
    );
  });

  test("of messages", () => {
    const nested = (depth: number): string =>
      `${'{"success":[{"request_txn":'.repeat(depth)}{}${"}]}".repeat(depth)}`;
    expect(problem(TxnRequestSchema, nested((messageDepthMax - 2) / 2))).toBe("accepted");
    expect(problem(TxnRequestSchema, nested(messageDepthMax / 2 + 1))).toContain(
      "exceeded max recursion depth",
    );
  });
});

describe("a body may be cut anywhere", () => {
  const body = Buffer.from(
    ` {"a":[1,-2.5e+3,true,null,"q\\"\\u00e9é"],"b":{}} [ ] "x\\\\" 12 {"c":{"d":[{}]}}\n3`,
  );
  const whole = [
    `{"a":[1,-2.5e+3,true,null,"q\\"\\u00e9é"],"b":{}}`,
    "[ ]",
    `"x\\\\"`,
    "12",
    `{"c":{"d":[{}]}}`,
    "3",
  ];

  test("and its values come out whole", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: body.length }), { maxLength: 12 }), (cuts) => {
        const scanner = new JsonScanner();
        const values: string[] = [];
        const ends = [...cuts, body.length].toSorted((left, right) => left - right);
        let start = 0;
        for (const end of ends) {
          scanner.push(body.subarray(start, end));
          for (let value = scanner.next(); value !== undefined; value = scanner.next()) {
            values.push(Buffer.from(value).toString());
          }
          start = end;
        }
        const last = scanner.end();
        if (last !== undefined) values.push(Buffer.from(last).toString());
        expect(values).toEqual(whole);
        expect(scanner.heldBytes).toBe(0);
      }),
    );
  });

  test("and arbitrary bytes are a value or a refusal, never anything else", () => {
    const piece = fc.constantFrom(
      "{",
      "}",
      "[",
      "]",
      ",",
      ":",
      `"`,
      "\\",
      "u00e9",
      "1",
      "-",
      ".",
      "e",
      "true",
      "nul",
      " ",
      "\n",
      `"key"`,
      "YQ==",
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 20 }), (pieces) => {
        const text = pieces.join("");
        let accepted: unknown;
        try {
          accepted = JSON.parse(text);
        } catch {
          accepted = undefined;
        }
        const scanner = new JsonScanner();
        let value: Uint8Array | undefined;
        try {
          scanner.push(Buffer.from(text));
          value = scanner.next() ?? scanner.end();
        } catch {
          // Refused: then it is no JSON text.
          expect(accepted).toBeUndefined();
          return;
        }
        // The first value of a body is JSON by itself.
        if (value !== undefined) JSON.parse(Buffer.from(value).toString());
      }),
      { numRuns: 2000 },
    );
  });
});
