/**
 * Pairs of connected UNIX sockets, which connect two threads, or this process with a child's standard input
 * and output.
 */

import {
  AF_UNIX,
  allocate,
  at,
  failure,
  libc,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_SEQPACKET,
  SOCK_STREAM,
  setNonBlocking,
} from "./libc.ts";

function pair(type: number): [number, number] {
  const fds = allocate(8);
  if (libc.socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, at(fds.address)) < 0)
    throw failure("make a socketpair");
  const view = new DataView(fds.bytes.buffer);
  return [view.getInt32(0, true), view.getInt32(4, true)];
}

/**
 * Two connected sockets for a stream of bytes, as file descriptors.
 *
 * `ours` is non-blocking. `theirs` blocks, as programs expect of their standard input and output. Both are
 * closed on exec, so that no child inherits them by accident and keeps the connection open. A child gets
 * `theirs` by `Bun.spawn({ stdio: [theirs, theirs, …] })`, which duplicates it; close `theirs` afterwards.
 * @throws WaltError with the reason.
 */
export function socketPair(): [ours: number, theirs: number] {
  const [ours, theirs] = pair(SOCK_STREAM);
  try {
    setNonBlocking(ours);
  } catch (error) {
    for (const fd of [ours, theirs]) libc.close(fd);
    throw error;
  }
  return [ours, theirs];
}

/**
 * Two connected sockets for records, as file descriptors, both non-blocking: one read returns what one write
 * wrote.
 * @throws WaltError with the reason.
 */
export function recordPair(): [ours: number, theirs: number] {
  return pair(SOCK_SEQPACKET | SOCK_NONBLOCK);
}
