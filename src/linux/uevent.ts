/**
 * Uevents: the kernel's messages about devices that come and go, sent to a netlink socket (netlink(7),
 * NETLINK_KOBJECT_UEVENT). The event loop reads that socket like any other, without a thread and without
 * polling.
 */

import { messageOf } from "../errors.ts";
import { connectFd } from "./fd-socket.ts";
import { AF_NETLINK, allocate, at, failure, libc, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_NONBLOCK } from "./libc.ts";

/** linux/netlink.h. The kernel sends to the multicast group 1; udev sends its own messages to group 2. */
const NETLINK_KOBJECT_UEVENT = 15;
const KERNEL_GROUP = 1;
/** Bytes of `struct sockaddr_nl { u16 family; u16 pad; u32 pid; u32 groups }`. */
const SOCKADDR_NL = 12;

/**
 * Bytes of the longest message that is read. The variables take at most UEVENT_BUFFER_SIZE, 2048
 * (linux/kobject.h), and the device's path comes before them.
 */
const MAX_MESSAGE = 8192;

/** Milliseconds after which the socket is opened again when opening failed. */
const RETRY = 2000;

/** One message of the kernel. */
export interface Uevent {
  /** `add`, `remove`, `change`, `move`, `online`, `offline`, `bind` or `unbind`. */
  readonly action: string;
  /** Path of the device below /sys, such as `/devices/platform/soc/3f980000.usb/usb1/1-1`. */
  readonly path: string;
  /** Its subsystem, such as `usb` or `net`; "" where it has none. */
  readonly subsystem: string;
  /** All variables of the message, such as `DEVTYPE`. */
  readonly values: ReadonlyMap<string, string>;
}

/**
 * Parse a message: `action@path`, then `KEY=value` pairs, each with a zero byte at its end
 * (lib/kobject_uevent.c). Undefined when the message has another format: programs with CAP_NET_ADMIN can send
 * messages, too.
 */
export function parseUevent(message: Uint8Array): Uevent | undefined {
  if (message.length > MAX_MESSAGE || message.at(-1) !== 0) return undefined;
  const [head = "", ...pairs] = new TextDecoder().decode(message.subarray(0, -1)).split("\0");
  const [, action, path] = /^([a-z]{1,16})@(\/.*)$/s.exec(head) ?? [];
  if (action === undefined || path === undefined) return undefined;
  const values = new Map<string, string>();
  for (const pair of pairs) {
    const equals = pair.indexOf("=");
    if (equals <= 0) return undefined;
    values.set(pair.slice(0, equals), pair.slice(equals + 1));
  }
  if (values.get("ACTION") !== action || values.get("DEVPATH") !== path) return undefined;
  return { action, path, subsystem: values.get("SUBSYSTEM") ?? "", values };
}

/** What is called, and when. */
export interface UeventOptions {
  /** Called with every message of the kernel. */
  onEvent(event: Uevent): void;
  /**
   * Called when the socket is open: every event from now on will be reported, and earlier ones may not have
   * been, so that it is time to look at /sys. This is the case at the beginning, and after events were lost
   * because they came faster than they were read.
   */
  onSubscribed(): void;
  /** Called with the reason when the socket cannot be opened. It is tried again until `stop()`. */
  onFailure(why: string): void;
}

/** Receives the kernel's events of this network namespace, from construction to `stop()`. */
export class Uevents {
  #socket: Bun.Socket | undefined;
  #timer: Timer | undefined;
  #stopped = false;

  constructor(readonly options: UeventOptions) {
    void this.#open();
  }

  /** Close the socket. Nothing is called any more. */
  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.#socket?.terminate();
  }

  async #open(): Promise<void> {
    const { onEvent, onSubscribed, onFailure } = this.options;
    try {
      const socket = await connectFd({
        fd: openSocket(),
        socket: {
          data: (_, message) => {
            const event = parseUevent(message);
            if (event !== undefined) onEvent(event);
          },
          // The error ENOBUFS, which says that events were lost, closes the socket too.
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

/** A socket that receives the kernel's events, as a file descriptor. @throws WaltError with the reason. */
function openSocket(): number {
  const fd = libc.socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);
  if (fd < 0) throw failure("open a socket for the kernel's events");
  const address = allocate(SOCKADDR_NL);
  const view = new DataView(address.bytes.buffer);
  view.setUint16(0, AF_NETLINK, true);
  view.setUint32(8, KERNEL_GROUP, true);
  if (libc.bind(fd, at(address.address), SOCKADDR_NL) < 0) {
    const error = failure("subscribe to the kernel's events");
    libc.close(fd);
    throw error;
  }
  return fd;
}
