/**
 * Netlink sockets (netlink(7)), on which the kernel tells what changes. The event loop reads them like any other
 * socket, without a thread and without polling.
 */

import { messageOf } from "../errors.ts";
import { connectFd } from "./fd-socket.ts";
import { AF_NETLINK, allocate, at, failure, libc, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_NONBLOCK } from "./libc.ts";

/** Bytes of `struct sockaddr_nl { u16 family; u16 pad; u32 pid; u32 groups }`. */
const SOCKADDR_NL = 12;
/** Milliseconds after which the socket is opened again when opening failed. */
const RETRY = 2000;

/** Protocol and multicast groups of a socket. */
export interface Topic {
  /** linux/netlink.h, such as NETLINK_ROUTE. */
  readonly protocol: number;
  /** Bits. */
  readonly groups: number;
  /** What is told, for errors: `the kernel's events`. */
  readonly what: string;
}

/** Addresses and routes: NETLINK_ROUTE with RTMGRP_IPV4_IFADDR and RTMGRP_IPV4_ROUTE (linux/rtnetlink.h). */
export const IPV4_CHANGES: Topic = {
  protocol: 0,
  groups: 0x10 | 0x40,
  what: "changes of addresses and routes",
};

/** What is called, and when. */
export interface TopicOptions {
  /** Called with every message of the kernel. */
  onMessage(message: Uint8Array): void;
  /**
   * Called when the socket is open: every message from now on will be given, and earlier ones may not have
   * been. This is the case at the beginning, and after messages were lost because they came faster than they
   * were read.
   */
  onSubscribed(): void;
  /** Called with the reason when the socket cannot be opened. It is tried again until `stop()`. */
  onFailure(why: string): void;
}

/** Receives the kernel's messages of this network namespace, from construction to `stop()`. */
export class Subscription {
  #socket: Bun.Socket | undefined;
  #timer: Timer | undefined;
  #stopped = false;

  constructor(
    readonly topic: Topic,
    readonly options: TopicOptions,
  ) {
    void this.#open();
  }

  /** Close the socket. Nothing is called any more. */
  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.#socket?.terminate();
  }

  async #open(): Promise<void> {
    const { onMessage, onSubscribed, onFailure } = this.options;
    try {
      const socket = await connectFd({
        fd: openSocket(this.topic),
        socket: {
          data: (_, message) => onMessage(message),
          // The error ENOBUFS, which says that messages were lost, closes the socket too.
          close: () => this.#lost(0),
          error: () => {},
        },
      });
      if (this.#stopped) socket.terminate();
      else this.#socket = socket;
      if (!this.#stopped) onSubscribed();
    } catch (error) {
      if (!this.#stopped) onFailure(messageOf(error));
      this.#lost(RETRY);
    }
  }

  #lost(wait: number): void {
    this.#socket = undefined;
    if (!this.#stopped) this.#timer = setTimeout(() => void this.#open(), wait);
  }
}

/** A socket that receives the messages, as a file descriptor. @throws WaltError with the reason. */
function openSocket({ protocol, groups, what }: Topic): number {
  const fd = libc.socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
  if (fd < 0) throw failure(`open a socket for ${what}`);
  const address = allocate(SOCKADDR_NL);
  const view = new DataView(address.bytes.buffer);
  view.setUint16(0, AF_NETLINK, true);
  view.setUint32(8, groups, true);
  if (libc.bind(fd, at(address.address), SOCKADDR_NL) < 0) {
    const error = failure(`subscribe to ${what}`);
    libc.close(fd);
    throw error;
  }
  return fd;
}
