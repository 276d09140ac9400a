/** Attaching to the node's serial console: the other end of console-server.ts. */

import { codeOf, messageOf, WaltError } from "../../errors.ts";
import { BoundedSocket } from "./bounded-socket.ts";

/** `^]`, with which telnet is left too. */
export const LEAVE = 0x1d;

/** Bytes typed or piped that wait for the device. */
const TYPED_AHEAD = 65_536;

export interface AttachOptions {
  /** Path of the console's socket. */
  readonly socket: string;
  /** What the node says; resolves when there is room for more. */
  show(bytes: Uint8Array): Promise<void> | undefined;
  /** Called once, when attached, with what takes typed bytes. */
  attached(type: (bytes: Uint8Array) => void): void;
  /** Leave. */
  readonly signal: AbortSignal;
}

/**
 * Attach until `signal` is aborted; `device` when the device ended it.
 * @throws WaltError when there is no console to attach to.
 */
export async function attachConsole(o: AttachOptions): Promise<"left" | "device"> {
  const over = Promise.withResolvers<"left" | "device">();
  let input: BoundedSocket | undefined;
  const socket = await Bun.connect({
    unix: o.socket,
    socket: {
      data(from, bytes) {
        const room = o.show(bytes);
        if (room === undefined) return;
        from.pause();
        void room.then(() => from.resume());
      },
      drain: () => input?.drain(),
      close: () => over.resolve("device"),
      error: () => over.resolve("device"),
    },
  }).catch((error: unknown) => {
    throw unreachable(o.socket, error);
  });
  const typing = new BoundedSocket(socket, TYPED_AHEAD);
  input = typing;
  o.signal.addEventListener("abort", () => over.resolve("left"), { once: true });
  if (o.signal.aborted) over.resolve("left");
  o.attached((bytes) => typing.write(bytes));
  const why = await over.promise;
  socket.end();
  return why;
}

function unreachable(socket: string, error: unknown): WaltError {
  const code = codeOf(error);
  if (code === "EACCES" || code === "EPERM") {
    return new WaltError(`no permission to use ${socket}`, {
      hint: "Run the command as root.",
      cause: error,
    });
  }
  const gone = code === "ENOENT" || code === "ECONNREFUSED";
  return new WaltError(
    gone
      ? `no console: nobody listens on ${socket}`
      : `cannot attach to the console on ${socket}: ${messageOf(error)}`,
    {
      hint: "Does `walt device run` run here, with a virtual machine (device.vm.start)?",
      cause: error,
    },
  );
}
