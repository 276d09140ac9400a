/** The main thread's end of a link's stream, joined to an SSH channel: bytes both ways, neither side faster than the other. */

import type { Duplex } from "node:stream";
import { libc, setNonBlocking } from "../linux/libc.ts";

// Bun connects to a file descriptor, and has a type for what that takes, but no overload for it.
const connect = Bun.connect as unknown as (options: Bun.FdSocketOptions) => Promise<Bun.Socket>;

export interface Join {
  /** Nothing flows any more: the socket is closed, and the channel has taken what it was given or is closed. */
  readonly done: Promise<void>;
  /** Close both now, and lose what is under way. Call it when the link has ended: a peer that reads nothing hides that. */
  destroy(): void;
}

/** The connection below the channel, as `Peer` of src/ssh/listener.ts knows it. */
export interface Flow {
  /** What is written in this turn of the event loop goes out at once: ssh2 makes three writes of every packet. */
  cork(): void;
  /** So much waits to be sent that nothing should be added. */
  readonly congested: boolean;
  whenClear(then: () => void): void;
}

/** Bytes that are written to the socket in one call, from how much on no more are waited for. */
const TOGETHER = 65_536;

/** What to do when some of the channel's data was taken: its window may be opened. */
export type Taken = () => void;

/**
 * Join the main loop's end of a socketpair, which is owned and closed here, to a channel. At most one chunk each way (some 96 KB) is held
 * besides the channel's own buffer: the socket is not read while the channel is full, nor the channel while the socket is.
 * The end of either side ends the other once what came before is delivered.
 */
export function joinChannel(fd: number, channel: Duplex, flow?: Flow, taken?: Taken): Join {
  const done = Promise.withResolvers<void>();
  let socket: Bun.Socket | undefined;
  /** What the socket did not take of the channel's last chunk. */
  let rest: Uint8Array | undefined;
  /** Chunks that came in this turn of the event loop: one for each of ssh's packets, which are written at once. */
  let fresh: Uint8Array[] = [];
  let freshBytes = 0;
  let socketOver = false;
  let channelOver = false;
  let channelEnded = false;

  const settle = (): void => {
    if (socketOver && channelOver) done.resolve();
  };
  const closeSocket = (): void => {
    // Paused, it would not notice its own end.
    socket?.resume();
    socket?.end();
  };
  const push = (chunk: Uint8Array): void => {
    if (socketOver || socket === undefined) return;
    const taken = Math.max(0, socket.write(chunk));
    rest = taken < chunk.length ? chunk.subarray(taken) : undefined;
    if (rest !== undefined) channel.pause();
    else if (channelEnded) closeSocket();
    else if (channel.isPaused()) channel.resume();
  };

  const pushFresh = (): void => {
    const [first, ...more] = fresh;
    if (first === undefined) return;
    fresh = [];
    freshBytes = 0;
    push(more.length === 0 ? first : Buffer.concat([first, ...more]));
    taken?.();
  };

  channel.pause();
  channel.on("data", (chunk: Uint8Array) => {
    freshBytes += chunk.length;
    if (fresh.push(chunk) === 1) queueMicrotask(pushFresh);
    if (freshBytes >= TOGETHER) pushFresh(); // a channel that waited gives all it has at once, unless it is paused
  });
  channel.on("drain", () => {
    if (flow === undefined) socket?.resume();
    else flow.whenClear(() => socket?.resume());
  });
  channel.on("end", () => {
    pushFresh();
    channelEnded = true;
    if (rest === undefined) closeSocket();
  });
  channel.on("error", () => channel.destroy());
  channel.on("finish", () => {
    channelOver = true;
    settle();
  });
  channel.on("close", () => {
    pushFresh();
    channelOver = true;
    closeSocket();
    settle();
  });

  const socketEnded = (): void => {
    if (socketOver) return;
    socketOver = true;
    rest = undefined;
    fresh = [];
    channel.end();
    channel.resume(); // its end, and so its close, comes only to who reads
    settle();
  };

  setNonBlocking(fd);
  connect({
    fd,
    socket: {
      open(opened) {
        socket = opened;
        if (channelOver || channel.destroyed) closeSocket();
        else channel.resume();
      },
      data(from, chunk) {
        if (channelOver || channel.writableEnded) return;
        flow?.cork();
        // The channel may have room while the connection below it has none: the peer decides about the channel's window.
        if (!channel.write(chunk)) from.pause();
        else if (flow?.congested) {
          from.pause();
          flow.whenClear(() => from.resume());
        }
      },
      drain() {
        if (rest !== undefined) push(rest);
      },
      close: socketEnded,
      error: socketEnded,
    },
  }).catch(() => {
    libc.close(fd);
    socketEnded();
  });

  return {
    done: done.promise,
    destroy(): void {
      closeSocket();
      channel.destroy();
    },
  };
}
