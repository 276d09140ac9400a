/**
 * One direction of a path, as a model describes it: it tells of each packet when it arrives, or that it is
 * dropped. It does no I/O and has no clock: the shaper and the simulation pass the time, in ms.
 */

import { chance } from "../../rig.ts";
import type { LineModel } from "./models.ts";

/** A rate counts as constant for this long, ms. */
const STEP = 5;
/** Numbers that the random function makes. */
const RANDOM = 1 << 24;

export class Line {
  /** When the last packet will have left the queue, ms. */
  #busy = 0;
  /** When the last packet arrives, ms: none overtakes another. */
  #last = 0;
  /** When each packet leaves the queue, ms, and its bytes: those that are still in it. */
  readonly #leaving: number[] = [];
  readonly #sizes: number[] = [];
  /** The first of them that counts. */
  #first = 0;
  /** Bytes in the queue. */
  #waiting = 0;
  /** Bytes that the token bucket has. */
  #tokens: number;
  /** When it was filled last, ms. */
  #filled = 0;
  /** When the next burst arrives, ms. */
  #burst = 0;
  /** When the next pause begins, or this one began, and when it ends, ms. */
  #pause = 0;
  #pauseEnd = 0;
  readonly #random: (below: number) => number;

  constructor(
    readonly model: LineModel,
    seed: number,
  ) {
    this.#random = chance(seed * 2654435761 + 12_345);
    for (let i = 0; i < 16; i++) this.#random(2);
    this.#tokens = model.police?.bucket ?? 0;
  }

  /**
   * Send a packet.
   * @param bytes on the wire, with all headers.
   * @returns when it arrives, ms; undefined: it is dropped.
   */
  send(bytes: number, now: number): number | undefined {
    const { model } = this;
    if (model.loss !== undefined && this.#random(RANDOM) < model.loss * RANDOM) return undefined;
    if (model.police !== undefined) {
      const { rate, bucket } = model.police;
      this.#tokens = Math.min(bucket, this.#tokens + rate * (now - this.#filled));
      this.#filled = now;
      if (this.#tokens < bytes) return undefined;
      this.#tokens -= bytes;
    }
    this.#drain(now);
    if (this.#waiting > 0 && this.#waiting + bytes > model.queue) return undefined;
    this.#busy = this.#passed(bytes, Math.max(this.#busy, now));
    this.#leaving.push(this.#busy);
    this.#sizes.push(bytes);
    this.#waiting += bytes;
    let due = this.#busy + model.delay(this.#busy);
    if (model.jitter !== undefined) due += (this.#random(RANDOM) / RANDOM) * model.jitter;
    if (model.burst !== undefined) {
      while (this.#burst < due) this.#burst += model.burst * (0.75 + this.#random(RANDOM) / RANDOM / 2);
      due = this.#burst;
    }
    this.#last = this.#paused(Math.max(this.#last, due));
    return this.#last;
  }

  /** When it arrives, ms, if a pause does not let it arrive at `due`. */
  #paused(due: number): number {
    const { pauses } = this.model;
    if (pauses === undefined) return due;
    while (this.#pauseEnd < due) {
      this.#pause = this.#pauseEnd + 2 * pauses.every * (this.#random(RANDOM) / RANDOM);
      this.#pauseEnd = this.#pause + pauses.length * (this.#random(RANDOM) / RANDOM);
    }
    return due < this.#pause ? due : this.#pauseEnd;
  }

  /** Forget what has left the queue. */
  #drain(now: number): void {
    const leaving = this.#leaving;
    while (this.#first < leaving.length && (leaving[this.#first] ?? 0) <= now) {
      this.#waiting -= this.#sizes[this.#first++] ?? 0;
    }
    if (this.#first < 1024) return;
    leaving.splice(0, this.#first);
    this.#sizes.splice(0, this.#first);
    this.#first = 0;
  }

  /** When `bytes` have passed that begin at `from`, ms. */
  #passed(bytes: number, from: number): number {
    let [left, at] = [bytes, from];
    for (;;) {
      const rate = this.model.rate(at);
      if (rate === Number.POSITIVE_INFINITY) return at;
      const end = (Math.floor(at / STEP + 1e-9) + 1) * STEP;
      if (rate * (end - at) >= left) return at + left / rate;
      left -= rate * (end - at);
      at = end;
    }
  }
}
