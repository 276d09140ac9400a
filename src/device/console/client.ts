/** Attaches to the node's serial console, which server.ts serves. */

import { codeOf, messageOf, WaltError } from "../../errors.ts";
import { Fields } from "../../parse.ts";
import { BoundedSocket } from "./bounded-socket.ts";
import type { AttachMode } from "./serial-console.ts";

/** The character Ctrl-] (ASCII 29), which leaves the console as it leaves telnet(1). */
export const LEAVE = 0x1d;

/** Bytes of input that wait for the device; further bytes are lost. */
const TYPED_AHEAD = 65_536;

/** How to attach. */
export interface AttachOptions {
  /** Path of the console's socket. */
  readonly socket: string;
  readonly mode: AttachMode;
  /** Called with the node's output. If it returns a promise, no more output is read until that resolves. */
  show(bytes: Uint8Array): Promise<void> | undefined;
  /** Called once, when attached, with the function that types bytes on the console. */
  attached(type: (bytes: Uint8Array) => void): void;
  /** Aborted to detach from the console. */
  readonly signal: AbortSignal;
}

/**
 * Attach to the console until `signal` is aborted ("left") or the device closes the connection ("device").
 * @throws WaltError when there is no console to attach to, or the device refuses.
 */
export async function attachConsole(o: AttachOptions): Promise<"left" | "device"> {
  const over = Promise.withResolvers<"left" | "device">();
  let input: BoundedSocket | undefined;
  /** The beginning of the device's answer; undefined once it is complete. */
  let answer: Buffer | undefined = Buffer.alloc(0);
  /** The output that follows the answer, or follows in `bytes`. */
  const admitted = (bytes: Uint8Array): Uint8Array => {
    if (answer === undefined) return bytes;
    answer = Buffer.concat([answer, bytes]);
    const end = answer.indexOf("\n");
    if (end < 0) return new Uint8Array();
    const rest = answer.subarray(end + 1);
    checkAnswer(answer.toString("utf8", 0, end));
    answer = undefined;
    o.attached((typed) => input?.write(typed));
    return rest;
  };
  const socket = await Bun.connect({
    unix: o.socket,
    socket: {
      data(from, bytes) {
        try {
          const room = o.show(admitted(bytes));
          if (room === undefined) return;
          from.pause();
          void room.then(() => from.resume());
        } catch (error) {
          over.reject(error);
        }
      },
      drain: () => input?.drain(),
      close: () => over.resolve("device"),
      error: () => over.resolve("device"),
    },
  }).catch((error: unknown) => {
    throw unreachable(o.socket, error);
  });
  input = new BoundedSocket(socket, TYPED_AHEAD);
  input.write(Buffer.from(`${JSON.stringify({ mode: o.mode })}\n`));
  o.signal.addEventListener("abort", () => over.resolve("left"), { once: true });
  if (o.signal.aborted) over.resolve("left");
  try {
    return await over.promise;
  } finally {
    socket.end();
  }
}

/** @throws WaltError with the device's words when its answer is a refusal. */
function checkAnswer(line: string): void {
  const fields = Fields.parse(line, "the device's answer");
  if (!fields.has("refused")) return;
  const hint = fields.has("hint") ? { hint: fields.words("hint", 500) } : {};
  throw new WaltError(fields.words("refused", 500), hint);
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
