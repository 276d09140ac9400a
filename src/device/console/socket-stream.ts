/** A connection of a UNIX socket as the stream of an order. */

import type { Socket } from "node:net";
import { AskerGone, type OrderStream } from "../../control/order-stream.ts";

/** The stream of a connection, which its owner has made with `allowHalfOpen`. */
export function socketStream(socket: Socket): OrderStream {
  const gone = new AbortController();
  socket.on("error", () => {}); // `close` is emitted after it
  socket.once("close", () => gone.abort());
  const write = (bytes: Uint8Array): Promise<void> =>
    new Promise((resolve, reject) => {
      if (socket.write(bytes)) return resolve();
      const over = (): void => {
        socket.off("drain", drained).off("close", closed);
      };
      const drained = (): void => {
        over();
        resolve();
      };
      const closed = (): void => {
        over();
        reject(new AskerGone("the connection is closed"));
      };
      socket.once("drain", drained).once("close", closed);
      if (socket.destroyed) closed();
    });
  return { input: socket.iterator({ destroyOnReturn: false }), write, gone: gone.signal };
}
