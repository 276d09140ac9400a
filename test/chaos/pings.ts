/** A ping(8) without end, and the pauses in its answers. */

import type { Host } from "../lab/host.ts";
import type { LabProcess } from "../lab/process.ts";

/** ms between two pings. */
const INTERVAL = 50;
/** A longer time without an answer, ms, is a pause. */
const PAUSE = 400;
/** ms for which answers must have come one after the other. */
const STEADY = 500;

export class Pings {
  readonly #process: LabProcess;
  #last = Number.NEGATIVE_INFINITY;
  #pauseEnded = Number.NEGATIVE_INFINITY;
  #read = 0;

  constructor(host: Host, address: string) {
    const interval = String(INTERVAL / 1000);
    this.#process = host.spawn(["ping", "-n", "-D", "-i", interval, address]);
  }

  /** Take what ping has said since the last look. */
  #look(): void {
    const text = this.#process.stdout;
    const end = text.lastIndexOf("\n") + 1;
    // What is kept of the output is bounded: after it was cut, all of it is looked at again.
    const from = this.#read <= end ? this.#read : 0;
    for (const [, seconds] of text.slice(from, end).matchAll(/^\[(\d+\.\d+)\] \d+ bytes from/gm)) {
      const at = Number(seconds) * 1000;
      if (at <= this.#last) continue;
      if (at - this.#last > PAUSE) this.#pauseEnded = at;
      this.#last = at;
    }
    this.#read = end;
  }

  /** Whether they are answered now, and have been for a while. */
  get areAnswered(): boolean {
    this.#look();
    const now = Date.now();
    return now - this.#last < PAUSE && now - this.#pauseEnded > STEADY;
  }

  /** When the last pause ended, ms since 1970. */
  get pauseEnded(): number {
    this.#look();
    return this.#pauseEnded;
  }
}
