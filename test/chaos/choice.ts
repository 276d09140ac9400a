/** Choices that a seed decides: the same seed and round choose the same faults. */

import { chance } from "../tunnel/rig.ts";

export class Choice {
  readonly #below: (below: number) => number;

  /** @param seed any whole number. @param round each round of a seed has its own choices. */
  constructor(seed: number, round: number) {
    this.#below = chance(scattered(scattered(seed) + round));
    for (let i = 0; i < 4; i++) this.#below(2); // the first numbers of near seeds are near each other
  }

  /** A whole number from `from` to `to`, both included. */
  between(from: number, to: number): number {
    return from + this.#below(to - from + 1);
  }

  /** One of these. @throws Error when there is none. */
  of<T>(values: readonly T[]): T {
    const value = values[this.#below(values.length)];
    if (value === undefined) throw new Error("there is nothing to choose from");
    return value;
  }

  /** True in so many of 100 cases. */
  percent(share: number): boolean {
    return this.#below(100) < share;
  }
}

/** Neighbouring numbers become numbers that have nothing in common (the finaliser of MurmurHash3). */
function scattered(number: number): number {
  let x = Math.imul(number ^ (number >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}
