/**
 * The serial line between QEMU and the console: a pair of sockets, of which QEMU has one as its standard
 * input and output. QEMU's output is always read at once, whether somebody watches or not, so that QEMU never
 * waits.
 */

import { connectFd } from "../../linux/fd-socket.ts";
import { libc } from "../../linux/libc.ts";
import { socketPair } from "../../linux/socketpair.ts";
import { BoundedSocket } from "./bounded-socket.ts";
import type { SerialConsole } from "./ring.ts";

/** Typed bytes that wait for a guest that does not read. Further bytes are lost, as on a real serial line. */
const TYPED_AHEAD = 4096;

/** A serial line. */
export interface SerialLine {
  /** File descriptor of QEMU's end. The caller closes it once QEMU has it. */
  readonly theirs: number;
  /** Resolves when the line is closed and all of QEMU's output is in the console. */
  readonly closed: Promise<void>;
  /** Close the line. */
  close(): void;
}

/**
 * Open a serial line between the console and a QEMU that is to be started.
 * @throws WaltError when there are no more file descriptors.
 */
export async function openSerialLine(console: SerialConsole): Promise<SerialLine> {
  const [ours, theirs] = socketPair();
  const closed = Promise.withResolvers<void>();
  let input: BoundedSocket | undefined;
  const socket = await connectFd({
    fd: ours,
    socket: {
      data: (_, bytes) => console.output(bytes),
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
