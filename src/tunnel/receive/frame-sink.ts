/**
 * The frames of one tunnel on their way from the peer, from the lane on which they came to the TAP. The
 * functions stand in the order of that way:
 *
 * 1. `numbered` puts frames that came over several lanes in the order of their flow (reorder.ts).
 * 2. `frame` makes the virtio-net header of a frame safe for the kernel (frame/virtio.ts). On the server the
 *    guard then decides whether the frame may pass (guard.ts).
 * 3. `#deliver` writes the frame to the TAP with one write(2).
 */

import type { End } from "../../end.ts";
import { at, EBADFD, errno, libc, type Memory } from "../../linux/libc.ts";
import { sanitise, segmentsOf, VIRTIO } from "../frame/virtio.ts";
import { GroupLimit, type Guard, type GuardRules, parseGuard, refusal } from "./guard.ts";
import { Reorder } from "./reorder.ts";

export class FrameSink {
  /** Frames written to the TAP. */
  frames = 0;
  /** Bytes of those frames, without headers of messages and of virtio-net. */
  bytes = 0;
  /** Frames that the guard refused, or whose virtio-net header was wrong. */
  refused = 0;
  /** Frames that the TAP did not take. */
  #untaken = 0;
  readonly #guard: Guard | undefined;
  readonly #groups = new GroupLimit();
  /** Made for the first further lane. */
  #reorder: Reorder | undefined;

  /**
   * @param tap file descriptor of the TAP; -1 once it is closed.
   * @param vnet the TAP expects a virtio-net header in front of each frame.
   * @param guard what the peer's node may send. Undefined: the peer is trusted.
   * @param stop ends the tunnel, as its TAP is gone.
   * @throws WaltError when an address in `guard` is none.
   */
  constructor(
    public tap: number,
    readonly vnet: boolean,
    guard: GuardRules | undefined,
    readonly stop: (end: End) => void,
  ) {
    this.#guard = guard === undefined ? undefined : parseGuard(guard);
  }

  /** Frames that the TAP did not take, or for which there was no room while they waited for others. */
  get lost(): number {
    return this.#untaken + (this.#reorder?.lost ?? 0);
  }

  /** The peer numbers all frames from here on. */
  numbering(now: number): void {
    this.#ordered().begin(now);
  }

  /**
   * Take a numbered frame: deliver it, and those that waited for it, or keep a copy until those before it came.
   * @param offset of the frame in `memory`, or of its virtio-net header if it is `offloaded`.
   * @param length from there on, bytes.
   */
  numbered(
    flow: number,
    number: number,
    offloaded: boolean,
    memory: Memory,
    offset: number,
    length: number,
    now: number,
  ): void {
    const order = this.#ordered();
    if (!order.isNext(flow, number)) {
      order.keep(flow, number, offloaded, memory, offset, length, now);
      return;
    }
    this.frame(memory, offloaded, offset, length, now);
    order.delivered(flow, now);
  }

  /** Go on without frames that have not come for long. @param now ms. @returns ms until the next call is due. */
  tick(now: number): number {
    return this.#reorder?.tick(now) ?? Number.POSITIVE_INFINITY;
  }

  #ordered(): Reorder {
    this.#reorder ??= new Reorder((memory, offloaded, offset, length, now) =>
      this.frame(memory, offloaded, offset, length, now),
    );
    return this.#reorder;
  }

  /** Take a frame that is next in its flow. The parameters are those of `numbered`. */
  frame(memory: Memory, offloaded: boolean, offset: number, length: number, now: number): void {
    const end = offset + length;
    const guard = this.#guard;
    // For a frame without virtio-net header there is room in front of it, in the reader as in the pool.
    const header = offloaded ? offset : offset - VIRTIO;
    const frame = header + VIRTIO;
    const sane = !offloaded || sanitise(memory.bytes, header, end, guard === undefined);
    if (!sane) {
      this.refused++;
      return;
    }
    if (!offloaded) memory.bytes.fill(0, header, frame);
    if (guard !== undefined && this.#refuses(memory.bytes, guard, header, end, now)) {
      this.refused++;
      return;
    }
    const from = this.vnet ? header : frame;
    this.#deliver(memory.address + from, end - from, end - frame);
  }

  /** @param header offset of the virtio-net header; the frame follows, up to `end`. */
  #refuses(bytes: Uint8Array, guard: Guard, header: number, end: number, now: number): boolean {
    const frame = header + VIRTIO;
    const length = end - frame;
    const segments = segmentsOf(bytes, header, end);
    if (refusal(bytes, frame, length, guard, segments) !== undefined) return true;
    const group = ((bytes[frame] ?? 0) & 1) !== 0;
    return group && !this.#groups.allows(segments, length, now);
  }

  #deliver(address: number, length: number, frame: number): void {
    if (libc.write(this.tap, at(address), length) >= 0) {
      this.frames++;
      this.bytes += frame;
    } else if (errno() === EBADFD) {
      this.stop({ kind: "tap", text: "the TAP no longer exists" });
    } else {
      // EIO: the TAP is down. ENOMEM or ENOBUFS: the host is short of memory. The frame is lost, as frames
      // may be on any network.
      this.#untaken++;
    }
  }

  /** Give all slots back to the pool. The sink is not used any more. */
  free(): void {
    this.#reorder?.free();
  }
}
