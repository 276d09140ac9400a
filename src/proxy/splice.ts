/** Bytes from one stream to another and back, never faster than the slower one takes them. */

import type { Socket } from "node:net";
import type { Readable } from "node:stream";
import type { ServerChannel } from "ssh2";
import type { Peer } from "./listener.ts";

/** ms that the next hop has for taking what is left once its channel is gone. */
const LINGER = 10_000;

/** A session that gives back what it gets, as `cat` would, and ends with its input. */
export function echo(channel: ServerChannel, peer: Peer): void {
  toChannel(channel, channel, peer);
  channel.on("end", () => {
    peer.cork();
    channel.exit(0);
    channel.end();
  });
  channel.on("error", () => channel.close());
}

/** A channel joined to a connection; both end when the connection does, or when the channel is closed. */
export function splice(channel: ServerChannel, next: Socket, peer: Peer): void {
  toChannel(next, channel, peer);
  channel.on("data", (data: Buffer) => {
    if (next.destroyed || next.writableEnded) return; // read on: the channel closes only once it is read to its end
    if (!next.write(data)) channel.pause();
  });
  next.on("drain", () => channel.resume());
  channel.on("end", () => next.end());
  next.on("end", () => {
    peer.cork();
    channel.end();
  });
  next.on("error", () => next.destroy());
  channel.on("error", () => next.destroy());
  next.on("close", () => {
    channel.resume();
    channel.end();
  });
  channel.on("close", () => {
    next.resume();
    next.end();
    const timer = setTimeout(() => next.destroy(), LINGER);
    next.once("close", () => clearTimeout(timer));
  });
}

/** What comes from `source` goes to the channel. It pauses while the client's window is shut or the connection is full. */
function toChannel(source: Readable, channel: ServerChannel, peer: Peer): void {
  source.on("data", (data: Buffer) => {
    if (!channel.writable) return;
    peer.cork();
    let blocked = false;
    channel.write(data, () => {
      if (blocked) peer.whenClear(() => source.resume());
    });
    // ssh2 takes a chunk at once when the window has room for it.
    blocked = channel.writableLength > 0 || peer.congested;
    if (blocked) source.pause();
  });
}
