/**
 * Serves the node's serial console to programs on this machine, over a UNIX socket. A program sends one line
 * of JSON, `{"mode":"write"}`, and gets one: `{}`, or `{"refused":…,"hint":…}`. Then both send plain bytes.
 */

import { rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import type { Piece } from "../../control/pieces.ts";
import { messageOf, WaltError } from "../../errors.ts";
import { Fields } from "../../parse.ts";
import { ATTACH_MODES, type AttachMode, type SerialConsole } from "./serial-console.ts";
import { socketStream } from "./socket-stream.ts";

/** Bytes of the first line at most. */
const LONGEST_REQUEST = 200;
const NO_LINE = "the request is no line of JSON";
/** The name of whoever is attached by the socket, which only root may use. */
const LOCAL = "root on the board";

/** A running server. */
export interface ConsoleServer {
  /** Detach all that are attached by it, and remove the socket. */
  stop(): void;
}

/**
 * Serve a console on a socket that only its owner may use.
 * @param path of the socket. An old socket is replaced: the caller has made sure that no other process uses
 *   it.
 * @throws WaltError when the socket cannot be made.
 */
export async function serveConsole(path: string, console: SerialConsole): Promise<ConsoleServer> {
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    void attach(socket, console);
  });
  try {
    rmSync(path, { force: true });
    await listen(server, path);
  } catch (error) {
    throw new WaltError(`cannot serve the node's console on ${path}: ${messageOf(error)}`, { cause: error });
  }
  return {
    stop: () => {
      server.close();
      for (const socket of sockets) socket.destroy();
      rmSync(path, { force: true });
    },
  };
}

async function listen(server: Server, path: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  // The umask decides the socket's permissions from the moment when it appears, which is during this call.
  const umask = process.umask(0o177);
  try {
    server.once("error", reject).listen(path, resolve);
  } finally {
    process.umask(umask);
  }
  await promise;
}

/** Attach whoever has connected. */
async function attach(socket: Socket, console: SerialConsole): Promise<void> {
  const stream = socketStream(socket);
  const answer = (value: object): void => void socket.write(`${JSON.stringify(value)}\n`);
  const input = stream.input[Symbol.asyncIterator]();
  try {
    const { mode, rest } = await request(input);
    const typed = async function* (): AsyncGenerator<Uint8Array> {
      if (rest.length > 0) yield rest;
      yield* { [Symbol.asyncIterator]: () => input };
    };
    const viewer = { gone: stream.gone, input: typed(), show: ({ bytes }: Piece) => stream.write(bytes) };
    await console.attach({ mode, name: LOCAL, admitted: () => answer({}) }, viewer);
  } catch (error) {
    const hint = error instanceof WaltError ? error.hint : undefined;
    answer({ refused: messageOf(error), hint });
  }
  socket.end();
}

/** The first line, and the bytes that came after it. @throws WaltError when it is not as it should be. */
async function request(input: AsyncIterator<Uint8Array>): Promise<{ mode: AttachMode; rest: Buffer }> {
  let bytes = Buffer.alloc(0);
  for (;;) {
    const end = bytes.indexOf("\n");
    if (end >= 0) {
      const fields = Fields.parse(bytes.toString("utf8", 0, end), "the request", LONGEST_REQUEST);
      return { mode: fields.choice("mode", ATTACH_MODES), rest: bytes.subarray(end + 1) };
    }
    if (bytes.length > LONGEST_REQUEST) throw new WaltError(NO_LINE);
    const { value, done } = await input.next();
    if (done === true) throw new WaltError(NO_LINE);
    bytes = Buffer.concat([bytes, value]);
  }
}
