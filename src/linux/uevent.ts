/** Uevents: the kernel's messages about devices that come and go, on a netlink socket (NETLINK_KOBJECT_UEVENT). */

import { Subscription, type Topic } from "./netlink.ts";

/**
 * NETLINK_KOBJECT_UEVENT (linux/netlink.h). The kernel sends to the multicast group 1; udev sends its own
 * messages to group 2.
 */
const KERNEL_EVENTS: Topic = { protocol: 15, groups: 1, what: "the kernel's events" };

/**
 * Bytes of the longest message that is read. The variables take at most UEVENT_BUFFER_SIZE, 2048
 * (linux/kobject.h), and the device's path comes before them.
 */
const MAX_MESSAGE = 8192;

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
  readonly #subscription: Subscription;

  constructor({ onEvent, onSubscribed, onFailure }: UeventOptions) {
    this.#subscription = new Subscription(KERNEL_EVENTS, {
      onMessage: (message) => {
        const event = parseUevent(message);
        if (event !== undefined) onEvent(event);
      },
      onSubscribed,
      onFailure,
    });
  }

  /** Close the socket. Nothing is called any more. */
  stop(): void {
    this.#subscription.stop();
  }
}
