/** Attaches to the node's serial console, which server.ts serves. */

import { codeOf, messageOf, WaltError } from "../../errors.ts";
import { BoundedSocket } from "./bounded-socket.ts";

/** The character Ctrl-] (ASCII 29), which leaves the console as it leaves telnet(1). */
export const LEAVE = 0x1d;

/** Bytes of input that wait for the device; further bytes are lost. */
const TYPED_AHEAD = 65_536;

/** How to attach. */
export interface AttachOptions {
  /** Path of the console's socket. */
  readonly socket: string;
  /** Called with the node's output. If it returns a promise, no more output is read until that resolves. */
  show(bytes: Uint8Array): Promise<void> | undefined;
  /** Called once, when attached, with the function that types bytes on the console. */
  attached(type: (bytes: Uint8Array) => void): void;
  /** Aborted to detach from the console. */
  readonly signal: AbortSignal;
}

/**
 * Attach to the console until `signal` is aborted ("left") or the device closes the connection ("device").
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

/** The error for a console that cannot be attached to. */
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
      ? `there is no console: no program listens on ${socket}`
      : `cannot attach to the console on ${socket}: ${messageOf(error)}`,
    {
      hint: "Is `walt device run` running on this machine, with a virtual machine (device.vm.start)?",
      cause: error,
    },
  );
}
