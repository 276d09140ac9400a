/**
 * A heartbeat: random words are sent, and the peer must send them back. It does no input or output itself,
 * and every method gets the current time.
 */

/** Words without an echo that are remembered; the oldest one is forgotten first. */
const MAX_SENT = 64;
/** Milliseconds between two words, unless `silence` requires a shorter interval. */
const INTERVAL = 5000;

/** The heartbeat of one connection. All times are milliseconds of `performance.now()`. */
export class Heartbeat {
  /** When each word was sent that did not come back. */
  readonly #sent = new Map<string, number>();
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
    this.#sent.set(word, now);
    for (const old of this.#sent.keys()) {
      if (this.#sent.size <= MAX_SENT) break;
      this.#sent.delete(old);
    }
    return word;
  }

  /**
   * Take a line from the peer.
   * @returns the round trip time when it is the echo of a word, ms; undefined when it is not. Each word counts once.
   */
  receive(line: string, now: number): number | undefined {
    const sent = this.#sent.get(line);
    if (sent === undefined) return undefined;
    this.#sent.delete(line);
    this.#heard = now;
    return now - sent;
  }

  /** How many milliseconds there was no echo, if that is more than `silence`; undefined otherwise. */
  overdue(now: number): number | undefined {
    const since = this.#heard ?? this.#began;
    return since !== undefined && now - since > this.silence ? now - since : undefined;
  }
}
