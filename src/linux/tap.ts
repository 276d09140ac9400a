/**
 * TAP devices: a network interface whose other end is a file descriptor (Linux:
 * Documentation/networking/tuntap.rst).
 */

import { WaltError } from "../errors.ts";
import { allocate, at, failure, libc, O_CLOEXEC, O_NONBLOCK, O_RDONLY, O_RDWR } from "./libc.ts";

/** The device of which TAPs are made. */
export const TUN = "/dev/net/tun";
/** What to do when it cannot be opened. */
export const TUN_CURE = `Load its module (modprobe tun), and let every user open it, as udev does: chmod 666 ${TUN}. To use it a program needs CAP_NET_ADMIN all the same.`;

/** Numbers of linux/if_tun.h, which are the same on x86-64 and arm64. */
export const TUNSETIFF = 0x400454ca;
export const IFF_TAP = 0x0002;
export const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;
export const TUNSETVNETHDRSZ = 0x400454d8;
/** The argument of this ioctl(2) is passed by value, not by pointer. */
export const TUNSETOFFLOAD = 0x400454d0;
/**
 * TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6 and TUN_F_TSO_ECN; then the same with TUN_F_USO4 and TUN_F_USO6 of Linux
 * 6.2.
 */
export const TUN_F_TCP = 0x0f;
export const TUN_F_ALL = 0x6f;
/** Bytes of the shortest virtio-net header. */
const VNET_HEADER = 10;

/**
 * Bytes of struct ifreq, and the offset of its flags (linux/if.h, on 64-bit machines): `char name[16]`, then
 * a union of 24 bytes that begins with `u16 flags`.
 */
export const IFREQ_SIZE = 40;
export const IFREQ_FLAGS = 16;
/** Characters of the longest interface name: IFNAMSIZ without the final zero byte. */
export const NAME_MAX = 15;

/** setns(2): the file descriptor is that of a network namespace. */
const CLONE_NEWNET = 0x40000000;

/** A TAP. The kernel removes it when its file descriptor is closed. */
export interface Tap {
  readonly fd: number;
  /** The interface's name, as the kernel chose it. */
  readonly name: string;
  /**
   * TUN_F_ bits of the offloads that the kernel supports; undefined when frames have no virtio-net header.
   */
  readonly offload: number | undefined;
}

/**
 * The struct ifreq (40 bytes) for the ioctl(2) TUNSETIFF.
 * @param flags IFF_TAP and others.
 * @throws WaltError when the name is not a valid name for an interface.
 */
export function interfaceRequest(name: string, flags: number): ReturnType<typeof allocate> {
  if (!/^[A-Za-z0-9][A-Za-z0-9_.%-]*$/.test(name) || name.length > NAME_MAX) {
    throw new WaltError(`${JSON.stringify(name)} is not a valid name for a network interface`, {
      hint: `Use up to ${NAME_MAX} letters, digits, "-", "_" and "."; the first is a letter or a digit.`,
    });
  }
  const request = allocate(IFREQ_SIZE);
  request.bytes.set(new TextEncoder().encode(name), 0);
  new DataView(request.bytes.buffer).setUint16(IFREQ_FLAGS, flags, true);
  return request;
}

/**
 * Make a TAP, or attach to a persistent one. Its file descriptor is non-blocking, and each read or write is
 * one Ethernet frame without packet information in front. A new TAP is down and in no bridge.
 * @param name of the interface; the kernel replaces `%d` in it by a free number.
 * @param ns path of the network namespace that it is made in, such as `/run/netns/blue`; the caller's own
 *   unless given.
 * @throws WaltError with the reason: the permission or the kernel module `tun` is missing, or the name is in
 *   use.
 */
export function openTap(name: string, ns?: string): Tap {
  const tap = make(name, IFF_TAP | IFF_NO_PI, ns);
  // If an earlier owner of a persistent TAP asked for offloads, the kernel would give us super-frames, cut
  // off.
  libc.ioctl(tap.fd, BigInt(TUNSETOFFLOAD), at(0));
  return { ...tap, offload: undefined };
}

/**
 * As `openTap`, but each frame that is read or written has a virtio-net header of 10 bytes in front
 * (linux/virtio_net.h), if the kernel supports that. Until `setOffload` is called, the kernel gives no
 * super-frames and no frames without checksums.
 * @throws WaltError with the reason, as `openTap`.
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
 * Tell the kernel which offloads the reader of a TAP does itself: the kernel then gives frames without doing
 * them.
 * @param fd of a TAP with virtio-net headers.
 * @param mask TUN_F_ bits.
 * @returns the bits that the kernel accepted: `mask`, or `mask` without UDP segmentation (USO), or 0.
 */
export function setOffload(fd: number, mask: number): number {
  for (const some of [mask, mask & TUN_F_TCP]) {
    if (libc.ioctl(fd, BigInt(TUNSETOFFLOAD), at(some)) >= 0) return some;
  }
  libc.ioctl(fd, BigInt(TUNSETOFFLOAD), at(0));
  return 0;
}

/** Make a TAP, or attach to a persistent one. @throws WaltError with the reason. */
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
  const fd = libc.open(TUN, O_RDWR | O_NONBLOCK | O_CLOEXEC, 0);
  if (fd < 0) {
    const { message } = failure(`open ${TUN}`);
    throw new WaltError(message, {
      hint: "TAPs need root (CAP_NET_ADMIN) and the kernel module tun: modprobe tun.",
    });
  }
  return fd;
}

/**
 * Open /dev/net/tun in another network namespace, and return to the old one. There is no `await` in here: a
 * thread has one namespace at a time, in which other tasks of the event loop would run, too.
 */
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
        enter(own, "the old network namespace again");
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
