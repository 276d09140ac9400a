/** Whether the far end of a line still answers: random words are sent, and must come back. No I/O, time is given. */

/** Words that may be on their way at once; the oldest is forgotten. */
const MAX_SENT = 16;
/** Unless `silence` asks for more, one word each so many ms. */
const INTERVAL = 5000;

export class Heartbeat {
  readonly #sent = new Map<string, number>();
  #heard: number | undefined;
  #began: number | undefined;
  /** Round trip of the last word that came back, ms; 0 = not known yet. */
  rtt = 0;

  constructor(
    /** ms without an echo after which the far end is taken for dead. */
    readonly silence: number,
    readonly word: () => string,
  ) {}

  /** ms between two words: several are lost before `silence` is over. */
  get interval(): number {
    return Math.min(INTERVAL, Math.ceil(this.silence / 3));
  }

  /** The next word to send. */
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

  /** A line came; whether it is one of our words, come back. Each counts once. */
  hear(line: string, now: number): boolean {
    const sent = this.#sent.get(line);
    if (sent === undefined) return false;
    this.#sent.delete(line);
    // The first echo took the time of the connection's opening as well.
    if (this.#heard !== undefined) this.rtt = now - sent;
    this.#heard = now;
    return true;
  }

  /** ms without any echo, once they are more than `silence`. */
  overdue(now: number): number | undefined {
    const since = this.#heard ?? this.#began;
    return since !== undefined && now - since > this.silence ? now - since : undefined;
  }
}
