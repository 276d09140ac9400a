/**
 * The serial line between QEMU and the console: a pair of sockets, of which QEMU has one as its standard
 * input and output. QEMU's output is always read at once, whether somebody watches or not, so that QEMU never
 * waits.
 */

import { connectFd } from "../../linux/fd-socket.ts";
import { libc } from "../../linux/libc.ts";
import { socketPair } from "../../linux/socketpair.ts";
import { BoundedSocket } from "./bounded-socket.ts";
import type { SerialConsole } from "./serial-console.ts";

/** Typed bytes that wait for a guest that does not read. Further bytes are lost, as on a real serial line. */
const TYPED_AHEAD = 4096;

/** A serial line. */
export interface SerialLine {
  /** File descriptor of QEMU's end. The caller closes it once QEMU has it. */
  readonly theirs: number;
  /** Resolves when the line has ended and all of QEMU's output is in the console. */
  readonly ended: Promise<void>;
  /** End the line. */
  stop(): void;
}

/**
 * Open a serial line between the console and a QEMU that is to be started.
 * @throws WaltError when there are no more file descriptors.
 */
export async function openSerialLine(console: SerialConsole): Promise<SerialLine> {
  const [ours, theirs] = socketPair();
  const ended = Promise.withResolvers<void>();
  let input: BoundedSocket | undefined;
  const socket = await connectFd({
    fd: ours,
    socket: {
      data: (_, bytes) => console.output(bytes),
      drain: () => input?.drain(),
      close: () => ended.resolve(),
      error: () => ended.resolve(),
    },
  }).catch((error: unknown) => {
    libc.close(theirs); // ours is closed already
    throw error;
  });
  input = new BoundedSocket(socket, TYPED_AHEAD);
  const disconnect = console.connect((bytes) => input?.write(bytes));
  void ended.promise.then(disconnect);
  return { theirs, ended: ended.promise, stop: () => void socket.end() };
}
