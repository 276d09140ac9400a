/** A stream of bytes between two ends as the pump sees it: a socket, or what travels inside one. No call here waits. */

import type { End } from "../../end.ts";
import { at, EAGAIN, EINTR, errno, libc, type Memory } from "../../linux/libc.ts";

/** struct iovec { void *base; size_t length; } on 64-bit machines: as four 32-bit numbers, the lower half of each first. */
export const IOVEC = 16;
/** `read` may bring so many bytes at once at least: who calls it has room for them. */
export const STREAM_ROOM = 36_864;

export interface Stream {
  readonly fd: number;
  /** Bytes that `writev` took have not left yet: it wants to be flushed when the socket takes more. */
  readonly pending: boolean;
  /** It takes nothing now, whatever room the socket has: the peer has to say something first. */
  readonly blocked: boolean;
  /** There is more to read, although the socket may have nothing. */
  readonly more: boolean;
  /** Why it ended, where that is known: what was wrong with what came, or what the peer said. `read` returns 0 then. */
  readonly end: End | undefined;
  /** How often its keys were changed. */
  readonly rekeys: number;
  /** Bytes that have left so far. */
  readonly left: number;
  /** When something came that shows that the peer lives, ms of performance.now(); undefined: only what it says shows it. */
  readonly heard: number | undefined;
  /** @returns bytes that were put at `offset`, 0 at the end of the stream, -errno (EAGAIN: nothing now). */
  read(into: Memory, offset: number, room: number, now: number): number;
  /** @returns bytes that were taken of `count` buffers from number `first` on, or -errno (EAGAIN: none now). */
  writev(vector: Memory, words: Uint32Array, first: number, count: number): number;
  /** Send what is pending. @returns 0, or -errno when it is broken. */
  flush(): number;
  /** Send a message of another channel of the connection. @returns whether it was taken. */
  send(payload: Uint8Array): boolean;
  /** Ask the peer for a sign of life, if the stream can. */
  ask(): void;
  /** Nothing more will be written. True once everything has left, and the peer has understood: go on reading until then. */
  close(): boolean;
  /** Give back what it borrowed. The file descriptor stays open. */
  free(): void;
}

/** A socket whose bytes are the stream. */
export class SocketStream implements Stream {
  left = 0;
  readonly pending = false;
  readonly blocked = false;
  readonly more = false;
  readonly rekeys = 0;
  readonly end = undefined;
  readonly heard = undefined;

  constructor(readonly fd: number) {}

  read(into: Memory, offset: number, room: number): number {
    const n = libc.read(this.fd, at(into.address + offset), room);
    return n < 0 ? -passing() : n;
  }

  writev(vector: Memory, _words: Uint32Array, first: number, count: number): number {
    const n = libc.writev(this.fd, at(vector.address + IOVEC * first), count);
    if (n < 0) return -passing();
    this.left += n;
    return n;
  }

  flush(): number {
    return 0;
  }

  send(): boolean {
    return true; // there are no other channels
  }

  ask(): void {}

  close(): boolean {
    return true;
  }

  free(): void {}
}

/** errno of the call just made, EAGAIN instead of EINTR: it will be tried again anyway. */
export function passing(): number {
  const code = errno();
  return code === EINTR ? EAGAIN : code;
}
