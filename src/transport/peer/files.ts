/** Pieces of files, on a connection of their own: the question, the answer, and who asks. */
import type { MemberId } from "../../ids";
import type { PeerHandler } from "../../member/ports";
import type { HeaderList } from "../http2/stream";
import { fileNameBytesMax, pieceBytesMax } from "./limits";

export const checksumHeader = "keelson-crc32";

export interface PieceRequest {
  readonly name: string;
  readonly offset: number;
  readonly bytesMax: number;
}

export function pieceQuery({ name, offset, bytesMax }: PieceRequest): string {
  return new URLSearchParams({ name, offset: String(offset), bytes: String(bytesMax) }).toString();
}

/** Reads what {@link pieceQuery} writes; undefined for anything else. */
export function readPieceRequest(query: string): PieceRequest | undefined {
  const parameters = new URLSearchParams(query);
  const name = parameters.get("name") ?? "";
  const offset = readCounter(parameters.get("offset"));
  const bytesMax = readCounter(parameters.get("bytes"));
  if (name === "" || Buffer.byteLength(name) > fileNameBytesMax) return undefined;
  if (offset === undefined || bytesMax === undefined || bytesMax === 0) return undefined;
  return { name, offset, bytesMax: Math.min(bytesMax, pieceBytesMax) };
}

function readCounter(text: string | null): number | undefined {
  if (text === null || !/^\d{1,16}$/.test(text)) return undefined;
  const value = Number(text);
  return Number.isSafeInteger(value) ? value : undefined;
}

/** Asks the member for the piece. Never rejects: a failure becomes an answer that says so. */
export async function pieceAnswer(
  handler: PeerHandler,
  from: MemberId,
  { name, offset, bytesMax }: PieceRequest,
): Promise<{ readonly headers: HeaderList; readonly body: Uint8Array }> {
  try {
    const piece = await handler.readPiece(from, name, offset, bytesMax);
    if (piece.length > bytesMax) throw new Error("the piece is longer than was asked for");
    return {
      headers: [
        [":status", "200"],
        ["content-type", "application/octet-stream"],
        ["content-length", String(piece.length)],
        [checksumHeader, String(Bun.hash.crc32(piece))],
      ],
      body: piece,
    };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    return {
      headers: [
        [":status", "404"],
        ["content-type", "application/json"],
      ],
      body: Buffer.from(JSON.stringify({ reason: "no-piece", message, retry: false })),
    };
  }
}
