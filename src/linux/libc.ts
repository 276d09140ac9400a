/** The C library through bun:ffi: the few system calls that neither Bun nor node has, and `errno`. */

import { dlopen, type Pointer, read as peek, ptr, toArrayBuffer } from "bun:ffi";
import { constants } from "node:os";
import { getSystemErrorMap } from "node:util";
import { WaltError } from "../errors.ts";

/**
 * glibc's functions as they are: -1 means failure, the reason is in `errno()` until the next call.
 * Sizes are bytes. Results fit 32 bits, as nothing here moves more than 2 GB at once. `ioctl`, `fcntl` and `open` are
 * variadic in C; their third argument travels like a fixed one on x86-64 and on Linux's arm64.
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
  setns: { args: ["i32", "i32"], returns: "i32" },
  __errno_location: { args: [], returns: "ptr" },
}).symbols;

/** Error numbers that somebody here tells apart. The same on x86-64 and arm64 (asm-generic/errno.h). */
export const EINTR = 4;
export const EIO = 5;
export const EAGAIN = 11;
export const ENOMEM = 12;
export const EPIPE = 32;
export const EBADFD = 77;
export const ECONNRESET = 104;
export const ENOBUFS = 105;

/** open(2) and fcntl(2). */
export const O_RDONLY = 0;
export const O_RDWR = 2;
export const O_NONBLOCK = 0o4000;
export const O_CLOEXEC = 0o2000000;
const F_DUPFD_CLOEXEC = 1030;
const F_GETFL = 3;
const F_SETFL = 4;

/** socket(2), sendto(2). */
export const AF_UNIX = 1;
export const AF_NETLINK = 16;
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_SEQPACKET = 5;
export const SOCK_CLOEXEC = 0o2000000;
export const SOCK_NONBLOCK = 0o4000;
export const MSG_NOSIGNAL = 0x4000;

/** poll(2): events, and the 8 bytes of struct pollfd { int fd; short events; short revents; }. */
export const POLLIN = 1;
export const POLLOUT = 4;
export const POLLERR = 8;
export const POLLHUP = 16;
export const POLLNVAL = 32;
export const POLLFD_SIZE = 8;

/** Bytes that the kernel may be pointed at. */
export interface Memory {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Address of `bytes[0]`, as a number, so that `at(address + offset)` points into the middle without a new view. */
  readonly address: number;
}

/**
 * Zeroed memory of `size` bytes whose address stays. (The address of a small `Buffer.alloc` or `new Uint8Array(n)` goes
 * stale as soon as somebody touches its `.buffer`: it lives in the engine's own cells until then.)
 */
export function allocate(size: number): Memory {
  const bytes = new Uint8Array(new ArrayBuffer(size));
  return { bytes, address: Number(ptr(bytes)) };
}

/** A copy of memory of this process, such as another thread's, which stays where it is meanwhile. */
export function memoryAt(address: number, length: number): Uint8Array {
  return new Uint8Array(toArrayBuffer(at(address), 0, length)).slice();
}

/** A number as the pointer that bun:ffi wants. */
export function at(address: number): Pointer {
  return address as Pointer;
}

// Where this thread's errno lives never changes, so the address is asked for once a thread (modules are per thread).
let errnoAddress: Pointer | undefined;

/** The error number of the call just made. Only right after a failure. */
export function errno(): number {
  if (errnoAddress === undefined) {
    // The call below does not touch errno itself (it returns the address of a thread-local).
    errnoAddress = Number(libc.__errno_location()) as Pointer;
  }
  return peek.i32(errnoAddress, 0);
}
errno();

/** `ENOENT` for 2, and so on; `error 999` for what has no name. */
export function errnoName(code: number): string {
  if (code === EBADFD) return "EBADFD"; // which node has no name for
  const found = Object.entries(constants.errno).find(([, value]) => value === code);
  return found?.[0] ?? `error ${code}`;
}

/** A failed call as an error for people: `cannot <what>: no such device (ENODEV)`. Call it right after the failure. */
export function failure(what: string, code = errno()): WaltError {
  const words = getSystemErrorMap().get(-code)?.[1];
  return new WaltError(`cannot ${what}: ${words === undefined ? "" : `${words} `}(${errnoName(code)})`);
}

/** Another file descriptor of the same open file, closed on exec. */
export function duplicate(fd: number): number {
  const copy = libc.fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) throw failure(`duplicate file descriptor ${fd}`);
  return copy;
}

/** Make reads and writes of a file descriptor return EAGAIN instead of waiting. */
export function setNonBlocking(fd: number): void {
  const flags = libc.fcntl(fd, F_GETFL, 0);
  if (flags < 0 || libc.fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
    throw failure(`make file descriptor ${fd} non-blocking`);
  }
}
