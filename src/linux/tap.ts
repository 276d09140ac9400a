/**
 * TAP devices: a network interface whose other end is a file descriptor (Linux:
 * Documentation/networking/tuntap.rst).
 */

import { WaltError } from "../errors.ts";
import { allocate, at, failure, libc, O_CLOEXEC, O_NONBLOCK, O_RDONLY, O_RDWR } from "./libc.ts";

/** linux/if_tun.h; the same numbers on x86-64 and arm64. */
export const TUNSETIFF = 0x400454ca;
export const IFF_TAP = 0x0002;
export const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;
export const TUNSETVNETHDRSZ = 0x400454d8;
/** By value, not by pointer. */
export const TUNSETOFFLOAD = 0x400454d0;
/** TUN_F_CSUM, TSO4, TSO6, TSO_ECN; and with USO4, USO6 of Linux 6.2. */
const TUN_F_TCP = 0x0f;
const TUN_F_ALL = 0x6f;
/** The shortest virtio-net header. */
const VNET_HEADER = 10;

/**
 * struct ifreq of linux/if.h on 64-bit machines: char name[16], then a union of 24 bytes that begins with u16
 * flags.
 */
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
  /**
   * TUN_F_ bits of the offloads that the kernel does here; undefined: frames come and go without a virtio-net
   * header.
   */
  readonly offload: number | undefined;
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
 * Make a TAP (or attach to a persistent one) for plain Ethernet frames: no packet information in front of
 * them, non-blocking, gone when its file descriptor is closed. It is down and in no bridge. `%d` in the name
 * is a free number.
 * @param ns path of the network namespace that it appears in, such as `/run/netns/blue`; the caller's own
 * unless given.
 * @throws WaltError with the reason: no right to, no module `tun`, name in use.
 */
export function openTap(name: string, ns?: string): Tap {
  const tap = make(name, IFF_TAP | IFF_NO_PI, ns);
  // What an earlier owner of a persistent one asked for would give us super-frames, cut off.
  libc.ioctl(tap.fd, BigInt(TUNSETOFFLOAD), at(0));
  return { ...tap, offload: undefined };
}

/**
 * As `openTap`, with a virtio-net header of 10 bytes in front of every frame, both ways (linux/virtio_net.h),
 * if the kernel can. Frames come whole and with checksums until `setOffload`.
 */
export function openOffloadTap(name: string, ns?: string): Tap {
  let tap: Omit<Tap, "offload">;
  try {
    tap = make(name, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, ns);
  } catch (error) {
    try {
      return openTap(name, ns);
    } catch {
      throw error;
    }
  }
  const size = allocate(4);
  new DataView(size.bytes.buffer).setInt32(0, VNET_HEADER, true);
  if (libc.ioctl(tap.fd, BigInt(TUNSETVNETHDRSZ), at(size.address)) < 0) {
    const error = failure(`set the size of the virtio-net header of ${name}`);
    libc.close(tap.fd);
    throw error;
  }
  const offload = setOffload(tap.fd, TUN_F_ALL);
  setOffload(tap.fd, 0);
  return { ...tap, offload };
}

/**
 * Ask for frames as they are before offloads are done: only those in `mask` are not done. Returns those that
 * the kernel agreed to.
 */
export function setOffload(fd: number, mask: number): number {
  for (const some of [mask, mask & TUN_F_TCP]) {
    if (libc.ioctl(fd, BigInt(TUNSETOFFLOAD), at(some)) >= 0) return some;
  }
  libc.ioctl(fd, BigInt(TUNSETOFFLOAD), at(0));
  return 0;
}

function make(name: string, flags: number, ns: string | undefined): Omit<Tap, "offload"> {
  const request = interfaceRequest(name, flags);
  const fd = ns === undefined ? openTun() : openTunIn(ns);
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

/** A namespace is a property of the thread, so there is no `await` in here. */
function openTunIn(ns: string): number {
  const own = openFile("/proc/thread-self/ns/net");
  let tun: number | undefined;
  try {
    const other = openFile(ns);
    try {
      enter(other, `the network namespace ${ns}`);
      try {
        tun = openTun();
        return tun;
      } finally {
        enter(own, "the own network namespace again");
      }
    } finally {
      libc.close(other);
    }
  } catch (error) {
    if (tun !== undefined) libc.close(tun);
    throw error;
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
