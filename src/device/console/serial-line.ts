/** QEMU's end of the node's serial console: a socket that is its standard input and output, read at once, whoever watches. */

import { connectFd } from "../../linux/fd-socket.ts";
import { libc } from "../../linux/libc.ts";
import { socketPair } from "../../linux/socketpair.ts";
import { BoundedSocket } from "./bounded-socket.ts";
import type { SerialConsole } from "./ring.ts";

/** Typed bytes that wait for a guest that does not read; more are lost, as on a real serial line. */
const TYPED_AHEAD = 4096;

export interface SerialLine {
  /** QEMU's end; to be closed once QEMU has it. */
  readonly theirs: number;
  /** Everything that was said is in the console, and the line is cut. */
  readonly closed: Promise<void>;
  /** Cut the line. */
  close(): void;
}

/** A serial line between a QEMU to be started and the console. @throws WaltError when there are no more file descriptors. */
export async function openSerialLine(console: SerialConsole): Promise<SerialLine> {
  const [ours, theirs] = socketPair();
  const closed = Promise.withResolvers<void>();
  let input: BoundedSocket | undefined;
  const socket = await connectFd({
    fd: ours,
    socket: {
      data: (_, bytes) => console.said(bytes),
      drain: () => input?.drain(),
      close: () => closed.resolve(),
      error: () => closed.resolve(),
    },
  }).catch((error: unknown) => {
    libc.close(theirs); // ours is closed already
    throw error;
  });
  input = new BoundedSocket(socket, TYPED_AHEAD);
  const disconnect = console.connect((bytes) => input?.write(bytes));
  void closed.promise.then(disconnect);
  return { theirs, closed: closed.promise, close: () => void socket.end() };
}
