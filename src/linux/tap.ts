/** TAP devices: a network interface whose other end is a file descriptor (Linux: Documentation/networking/tuntap.rst). */

import { WaltError } from "../errors.ts";
import { allocate, at, failure, libc, O_CLOEXEC, O_NONBLOCK, O_RDONLY, O_RDWR } from "./libc.ts";

/** linux/if_tun.h; the same numbers on x86-64 and arm64. */
export const TUNSETIFF = 0x400454ca;
export const IFF_TAP = 0x0002;
export const IFF_NO_PI = 0x1000;

/** struct ifreq of linux/if.h on 64-bit machines: char name[16], then a union of 24 bytes that begins with u16 flags. */
export const IFREQ_SIZE = 40;
export const IFREQ_FLAGS = 16;
/** Longest interface name: IFNAMSIZ less the final zero. */
export const NAME_MAX = 15;

const CLONE_NEWNET = 0x40000000;

/** A TAP that lives as long as its file descriptor. */
export interface Tap {
  readonly fd: number;
  /** The interface's name, as the kernel gave it. */
  readonly name: string;
}

/** The 40 bytes that TUNSETIFF wants. @throws WaltError when no interface can have that name. */
export function interfaceRequest(name: string, flags: number): ReturnType<typeof allocate> {
  if (!/^[A-Za-z0-9][A-Za-z0-9_.%-]*$/.test(name) || name.length > NAME_MAX) {
    throw new WaltError(`${JSON.stringify(name)} is no name for a network interface`, {
      hint: `Letters, digits, "-", "_" and ".", at most ${NAME_MAX} of them.`,
    });
  }
  const request = allocate(IFREQ_SIZE);
  request.bytes.set(new TextEncoder().encode(name), 0);
  new DataView(request.bytes.buffer).setUint16(IFREQ_FLAGS, flags, true);
  return request;
}

/**
 * Make a TAP (or attach to a persistent one) for plain Ethernet frames: no packet information in front of them,
 * non-blocking, gone when its file descriptor is closed. It is down and in no bridge. `%d` in the name is a free number.
 * @param ns path of the network namespace that it appears in, such as `/run/netns/blue`; the caller's own unless given.
 * @throws WaltError with the reason: no right to, no module `tun`, name in use.
 */
export function openTap(name: string, ns?: string): Tap {
  const request = interfaceRequest(name, IFF_TAP | IFF_NO_PI);
  const fd = ns === undefined ? openTun() : inNamespace(ns, openTun);
  if (libc.ioctl(fd, BigInt(TUNSETIFF), at(request.address)) < 0) {
    const error = failure(`make the TAP ${name}`);
    libc.close(fd);
    throw error;
  }
  const end = request.bytes.indexOf(0);
  return { fd, name: new TextDecoder().decode(request.bytes.subarray(0, Math.min(end, NAME_MAX))) };
}

function openTun(): number {
  const fd = libc.open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC, 0);
  if (fd < 0) {
    const { message } = failure("open /dev/net/tun");
    throw new WaltError(message, {
      hint: "TAPs need root (CAP_NET_ADMIN) and the kernel module tun: modprobe tun.",
    });
  }
  return fd;
}

/** What `body` does is done in another network namespace; a namespace is a property of the thread, so no `await` in it. */
function inNamespace<T>(path: string, body: () => T): T {
  const own = openFile("/proc/thread-self/ns/net");
  try {
    const other = openFile(path);
    try {
      enter(other, `the network namespace ${path}`);
      try {
        return body();
      } finally {
        enter(own, "the own network namespace again");
      }
    } finally {
      libc.close(other);
    }
  } finally {
    libc.close(own);
  }
}

function enter(namespace: number, words: string): void {
  if (libc.setns(namespace, CLONE_NEWNET) < 0) throw failure(`enter ${words}`);
}

function openFile(path: string): number {
  const fd = libc.open(path, O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) throw failure(`open ${path}`);
  return fd;
}
