/**
 * The kernel's own news of devices: uevents, which it sends to a netlink socket (netlink(7), NETLINK_KOBJECT_UEVENT).
 * The event loop reads that socket like any other: no thread, no polling, nothing to be installed.
 */

import { messageOf } from "../errors.ts";
import { connectFd } from "./fd-socket.ts";
import { AF_NETLINK, allocate, at, failure, libc, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_NONBLOCK } from "./libc.ts";

/** linux/netlink.h; the kernel multicasts to group 1 (udev passes its own messages on in group 2). */
const NETLINK_KOBJECT_UEVENT = 15;
const KERNEL_GROUP = 1;
/** struct sockaddr_nl { u16 family; u16 pad; u32 pid; u32 groups } */
const SOCKADDR_NL = 12;

/** Bytes of the longest message looked at: UEVENT_BUFFER_SIZE (linux/kobject.h) is 2048, and the path comes before. */
const MAX_MESSAGE = 8192;

/** ms until a socket that was lost is opened again, when that failed. */
const AGAIN = 2000;

export interface Uevent {
  /** `add`, `remove`, `change`, `move`, `online`, `offline`, `bind`, `unbind`. */
  readonly action: string;
  /** Of the device below /sys, such as `/devices/platform/soc/3f980000.usb/usb1/1-1`. */
  readonly path: string;
  /** `usb`, `net`, …; "" where it has none. */
  readonly subsystem: string;
  /** Everything that it says, `DEVTYPE` and the like. */
  readonly values: ReadonlyMap<string, string>;
}

/**
 * One message: `action@path`, then `KEY=value`, each with a zero at its end (lib/kobject_uevent.c). Undefined for what is none,
 * such as what a program with the right to do so sent instead of the kernel.
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

export interface UeventOptions {
  heard(event: Uevent): void;
  /**
   * From now on every event is heard; what was before is not known: the time to look at /sys. Called at the beginning, and
   * when events were lost because they came faster than they were read.
   */
  fresh(): void;
  /** The socket cannot be opened, in words; it is tried again. */
  failed(why: string): void;
}

/** Hears the kernel's events of this network namespace until it is stopped. */
export class Uevents {
  #socket: Bun.Socket | undefined;
  #timer: Timer | undefined;
  #stopped = false;

  constructor(readonly options: UeventOptions) {
    void this.#open();
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.#socket?.terminate();
  }

  async #open(): Promise<void> {
    const { heard, fresh, failed } = this.options;
    try {
      const socket = await connectFd({
        fd: openSocket(),
        socket: {
          data: (_, message) => {
            const event = parseUevent(message);
            if (event !== undefined) heard(event);
          },
          // ENOBUFS, "events were lost", closes it too.
          close: () => this.#lost(0),
          error: () => {},
        },
      });
      if (this.#stopped) socket.terminate();
      else this.#socket = socket;
      if (!this.#stopped) fresh();
    } catch (error) {
      if (!this.#stopped) failed(messageOf(error));
      this.#lost(AGAIN);
    }
  }

  #lost(wait: number): void {
    this.#socket = undefined;
    if (!this.#stopped) this.#timer = setTimeout(() => void this.#open(), wait);
  }
}

/** A socket that gets the kernel's events. @throws WaltError with the reason. */
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
