/** Large answers and clients that do not take them. */
import { expect, test } from "bun:test";
import type { Socket } from "node:net";
import { runDoor } from "../http/door-fixture";
import { writePieces } from "./write";

test("a client that takes nothing of a large answer is cut off; a slow one is not", async () => {
  const piece = "x".repeat(100_000);
  const ends: boolean[] = [];
  const door = await runDoor(
    {},
    {
      rest: {
        owns: () => true,
        async handle(_request, response) {
          await writePieces(
            response,
            Array.from({ length: 300 }, () => piece),
            200,
          );
          ends.push(response.destroyed);
          response.end();
        },
      },
    },
  );
  try {
    const open = async (): Promise<Socket> => {
      const socket = await door.connect();
      socket.pause();
      socket.write("GET /a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
      return socket;
    };
    const slow = await open();
    let bytes = 0;
    slow.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
      slow.pause();
      setTimeout(() => slow.resume(), 1);
    });
    slow.resume();
    while (ends.length < 1) await Bun.sleep(20);
    expect(ends).toEqual([false]);
    const idle = await open();
    while (ends.length < 2) await Bun.sleep(20);
    expect(ends).toEqual([false, true]);
    expect(bytes).toBeGreaterThan(20_000_000);
    slow.destroy();
    idle.destroy();
  } finally {
    await door.close();
  }
});
