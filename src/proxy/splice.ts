/** Bytes from one stream to another and back, never faster than the slower one takes them. */

import type { Socket } from "node:net";
import type { ServerChannel } from "ssh2";
import { ByteQueue } from "./byte-queue.ts";
import type { Peer } from "./peer.ts";
import type { ReceiveWindow } from "./receive-window.ts";

/** ms that the next hop has for taking what is left once its channel is gone. */
const LINGER = 10_000;

/** A session that gives back what it gets, as `cat` would, and ends with its input. */
export function echo(channel: ServerChannel, peer: Peer): void {
  const window = peer.guard.window(channel);
  const writer = new ChannelWriter(channel, peer);
  const queue = new ByteQueue();
  let inputEnded = false;
  const flush = (): void => {
    while (writer.ready) {
      const block = queue.take();
      if (block === undefined) break;
      writer.write(block, () => window.consumed(block.length), flush);
    }
    if (!inputEnded || !queue.empty || !writer.ready) return;
    peer.cork();
    channel.exit(0);
    channel.end();
  };
  channel.on("data", (data: Buffer) => {
    queue.add(data);
    flush();
  });
  channel.on("end", () => {
    inputEnded = true;
    flush();
  });
  channel.on("error", () => channel.close());
  channel.on("close", () => {
    queue.clear();
    window.free();
  });
}

/** A channel joined to a connection; both end when the connection does, or when the channel is closed. */
export function splice(channel: ServerChannel, next: Socket, peer: Peer): void {
  up(channel, next, peer.guard.window(channel));
  const writer = new ChannelWriter(channel, peer);
  next.on("data", (data: Buffer) => {
    writer.write(data, undefined, () => next.resume());
    if (!writer.ready) next.pause();
  });
  next.on("end", () => {
    peer.cork();
    channel.end();
  });
  next.on("error", () => next.destroy());
  channel.on("error", () => next.destroy());
  next.on("close", () => channel.end());
  channel.on("close", () => {
    next.resume();
    if (next.destroyed) return;
    const timer = setTimeout(() => next.destroy(), LINGER);
    next.once("close", () => clearTimeout(timer));
  });
}

/** From the channel to the next hop: what it does not take at once waits, up to the channel's window. */
function up(channel: ServerChannel, next: Socket, window: ReceiveWindow): void {
  const queue = new ByteQueue();
  let inputEnded = false;
  const write = (data: Buffer): void => {
    next.write(data, () => {
      window.consumed(data.length);
      flush();
    });
  };
  const flush = (): void => {
    while (next.writableLength === 0 && !next.destroyed) {
      const block = queue.take();
      if (block === undefined) break;
      write(block);
    }
    if (inputEnded && queue.empty && !next.writableEnded) next.end();
  };
  channel.on("data", (data: Buffer) => {
    if (next.destroyed || next.writableEnded) window.consumed(data.length);
    else if (next.writableLength === 0 && queue.empty) write(data);
    else queue.add(data);
  });
  const end = (): void => {
    inputEnded = true;
    flush();
  };
  channel.on("end", end);
  channel.on("close", end);
  next.on("close", () => {
    queue.clear();
    window.free();
  });
}

/**
 * Writes to a channel. It takes no more for now while its client's window is shut or the connection
 * congested.
 */
class ChannelWriter {
  #taking = true;

  constructor(
    private readonly channel: ServerChannel,
    private readonly peer: Peer,
  ) {
    peer.watch(channel);
  }

  /** Whether more may be written; otherwise the last write's `then` is called once it may. */
  get ready(): boolean {
    return this.#taking;
  }

  /** Write, unless the channel is closed. `taken` is called when ssh2 has sent it. */
  write(data: Buffer, taken: (() => void) | undefined, then: () => void): void {
    const { channel, peer } = this;
    if (!channel.writable) {
      taken?.();
      return;
    }
    peer.cork();
    let waits = false;
    channel.write(data, () => {
      taken?.();
      if (!waits) return;
      peer.whenClear(() => {
        this.#taking = true;
        then();
      });
    });
    // ssh2 takes a chunk at once when the window has room for it.
    waits = channel.writableLength > 0 || peer.congested;
    this.#taking = !waits;
  }
}
