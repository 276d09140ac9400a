/**
 * Pairs of connected UNIX sockets: how bytes travel between threads, and to a child's standard input and
 * output.
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
 * A pair of byte streams, `[ours, theirs]`. Ours is non-blocking; theirs blocks, as programs expect of their
 * stdio. Both are closed on exec: a child gets theirs by `Bun.spawn({ stdio: [theirs, theirs, …] })`, which
 * duplicates it, and no other child inherits it by accident (it would keep the connection open). Close theirs
 * once the child has it.
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

/** A pair that keeps the borders of records, both ends non-blocking: one write is one read. */
export function recordPair(): [ours: number, theirs: number] {
  return pair(SOCK_SEQPACKET | SOCK_NONBLOCK);
}
