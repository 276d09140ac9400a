/**
 * A heartbeat: random words are sent, and the peer must send them back. It does no input or output itself,
 * and every method gets the current time.
 */

/** Words without an echo that are remembered; the oldest one is forgotten first. */
const MAX_SENT = 16;
/** Milliseconds between two words, unless `silence` requires a shorter interval. */
const INTERVAL = 5000;

/** The heartbeat of one connection. All times are milliseconds of `performance.now()`. */
export class Heartbeat {
  readonly #sent = new Set<string>();
  #heard: number | undefined;
  #began: number | undefined;

  constructor(
    /** Milliseconds without an echo after which the peer is taken for dead. */
    readonly silence: number,
    /** Makes a new random word. */
    readonly word: () => string,
  ) {}

  /** Milliseconds between two words. Several words must be lost before `silence` is over. */
  get interval(): number {
    return Math.min(INTERVAL, Math.ceil(this.silence / 3));
  }

  /** The next word, which the caller sends now. */
  beat(now: number): string {
    const word = this.word();
    this.#began ??= now;
    this.#sent.add(word);
    for (const old of this.#sent) {
      if (this.#sent.size <= MAX_SENT) break;
      this.#sent.delete(old);
    }
    return word;
  }

  /** Take a line from the peer. True when it is the echo of a word; each word counts once. */
  receive(line: string, now: number): boolean {
    if (!this.#sent.delete(line)) return false;
    this.#heard = now;
    return true;
  }

  /** How many milliseconds there was no echo, if that is more than `silence`; undefined otherwise. */
  overdue(now: number): number | undefined {
    const since = this.#heard ?? this.#began;
    return since !== undefined && now - since > this.silence ? now - since : undefined;
  }
}
