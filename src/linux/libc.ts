/** The C library through bun:ffi: the few system calls that neither Bun nor Node.js offers, and `errno`. */

import { dlopen, type Pointer, read as peek, ptr, toArrayBuffer } from "bun:ffi";
import { constants } from "node:os";
import { getSystemErrorMap } from "node:util";
import { WaltError } from "../errors.ts";

/**
 * Functions of glibc as they are: -1 means failure, and `errno()` tells the reason until the next call.
 *
 * Sizes are in bytes. Results fit into 32 bits, because no call here moves more than 2 GB. `ioctl`, `fcntl`
 * and `open` are variadic in C. Their third argument is passed in the same way as a fixed argument, both on
 * x86-64 and on arm64 Linux.
 */
export const libc = dlopen("libc.so.6", {
  open: { args: ["cstring", "i32", "u32"], returns: "i32" },
  close: { args: ["i32"], returns: "i32" },
  ioctl: { args: ["i32", "u64", "ptr"], returns: "i32" },
  fcntl: { args: ["i32", "i32", "i64"], returns: "i32" },
  read: { args: ["i32", "ptr", "u64"], returns: "i32" },
  write: { args: ["i32", "ptr", "u64"], returns: "i32" },
  writev: { args: ["i32", "ptr", "i32"], returns: "i32" },
  poll: { args: ["ptr", "u64", "i32"], returns: "i32" },
  memcpy: { args: ["ptr", "ptr", "u64"], returns: "ptr" },
  memmove: { args: ["ptr", "ptr", "u64"], returns: "ptr" },
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  bind: { args: ["i32", "ptr", "u32"], returns: "i32" },
  socketpair: { args: ["i32", "i32", "i32", "ptr"], returns: "i32" },
  sendto: { args: ["i32", "ptr", "u64", "i32", "ptr", "u32"], returns: "i32" },
  setsockopt: { args: ["i32", "i32", "i32", "ptr", "u32"], returns: "i32" },
  getsockopt: { args: ["i32", "i32", "i32", "ptr", "ptr"], returns: "i32" },
  adjtimex: { args: ["ptr"], returns: "i32" },
  setns: { args: ["i32", "i32"], returns: "i32" },
  __errno_location: { args: [], returns: "ptr" },
}).symbols;

/**
 * Error numbers that the program tells apart. They are the same on x86-64 and arm64 (asm-generic/errno.h).
 */
export const EINTR = 4;
export const EAGAIN = 11;
export const EPIPE = 32;
export const EBADFD = 77;
export const ECONNRESET = 104;

/** Flags and commands of open(2) and fcntl(2). */
export const O_RDONLY = 0;
export const O_RDWR = 2;
export const O_NONBLOCK = 0o4000;
export const O_CLOEXEC = 0o2000000;
const F_DUPFD_CLOEXEC = 1030;
const F_GETFL = 3;
const F_SETFL = 4;

/** Address families, types and flags of socket(2) and sendto(2). */
export const AF_UNIX = 1;
export const AF_INET = 2;
export const AF_INET6 = 10;
export const AF_NETLINK = 16;
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_SEQPACKET = 5;
export const SOCK_CLOEXEC = 0o2000000;
export const SOCK_NONBLOCK = 0o4000;
export const MSG_NOSIGNAL = 0x4000;

/** Events of poll(2), and the bytes of `struct pollfd { int fd; short events; short revents; }`. */
export const POLLIN = 1;
export const POLLOUT = 4;
export const POLLERR = 8;
export const POLLHUP = 16;
export const POLLNVAL = 32;
export const POLLFD_SIZE = 8;

/** Memory whose address can be passed to the kernel. */
export interface Memory {
  /** The memory as bytes. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Address of `bytes[0]`. It is a number, so that `at(address + offset)` is a pointer to any byte of it. */
  readonly address: number;
}

/**
 * Memory of `size` bytes, filled with zeros, whose address never changes.
 *
 * The address of a small `Buffer.alloc(n)` or `new Uint8Array(n)` can change: the JavaScript engine keeps its
 * bytes in a cell of its heap, and moves them when the property `buffer` is first used.
 */
export function allocate(size: number): Memory {
  const bytes = new Uint8Array(new ArrayBuffer(size));
  return { bytes, address: Number(ptr(bytes)) };
}

/**
 * A copy of `length` bytes at an address of this process. They may belong to another thread, which must not
 * free or change them during the call.
 */
export function memoryAt(address: number, length: number): Uint8Array {
  return new Uint8Array(toArrayBuffer(at(address), 0, length)).slice();
}

/** An address as the type of pointers that bun:ffi requires. */
export function at(address: number): Pointer {
  return address as Pointer;
}

// The address of a thread's errno never changes. Each thread has its own copy of this module and asks for it
// once.
let errnoAddress: Pointer | undefined;

/** The error number of the last call of this thread. It is valid directly after a call that failed. */
export function errno(): number {
  if (errnoAddress === undefined) {
    // This call does not change errno: it only returns the address of a thread-local variable.
    errnoAddress = Number(libc.__errno_location()) as Pointer;
  }
  return peek.i32(errnoAddress, 0);
}
errno(); // ask for the address now, so that no call of the C library comes between a failure and its errno

/** The name of an error number, such as `ENOENT` for 2; `error 999` for a number without a name. */
export function errnoName(code: number): string {
  if (code === EBADFD) return "EBADFD"; // Node.js has no name for it
  const found = Object.entries(constants.errno).find(([, value]) => value === code);
  return found?.[0] ?? `error ${code}`;
}

/**
 * The error of a call that failed: `cannot <what>: no such device (ENODEV)`. Call it directly after the
 * failure.
 * @param what what could not be done, such as `open /dev/net/tun`.
 */
export function failure(what: string, code = errno()): WaltError {
  const words = getSystemErrorMap().get(-code)?.[1];
  return new WaltError(`cannot ${what}: ${words === undefined ? "" : `${words} `}(${errnoName(code)})`);
}

/**
 * A new file descriptor of the same open file, which is closed on exec.
 * @throws WaltError with the reason.
 */
export function duplicate(fd: number): number {
  const copy = libc.fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) throw failure(`duplicate file descriptor ${fd}`);
  return copy;
}

/**
 * Make reads and writes of a file descriptor fail with EAGAIN instead of waiting.
 * @throws WaltError on failure.
 */
export function setNonBlocking(fd: number): void {
  const flags = libc.fcntl(fd, F_GETFL, 0);
  if (flags < 0 || libc.fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
    throw failure(`make file descriptor ${fd} non-blocking`);
  }
}
