/**
 * Which of a tunnel's further lanes takes the next frame: the one with the least in flight.
 *
 * So the lanes begin together. Each has a TCP of its own below, which sends ten packets at first. With all
 * frames on one lane the first flow would wait there for a round trip, while the others are empty.
 */

/** Bytes that a lane may have in flight more than another one that could take the frame: what TCP sends at first. */
const TURN = 14 << 10;

/** A lane as the others see it. */
export interface Taker {
  /** It could take a frame at once. */
  readonly ready: boolean;
  /** Bytes that were sent and are not acknowledged. */
  readonly inFlight: number;
  /** An acknowledgement is overdue, so that a frame would wait behind what TCP sends again. */
  readonly overdue: boolean;
  /** Nothing was acknowledged for so long that the lane may be dead. */
  readonly silent: boolean;
}

export class Turns {
  readonly #lanes: Taker[] = [];

  /** How many lanes take turns. */
  get count(): number {
    return this.#lanes.length;
  }

  add(lane: Taker): void {
    this.#lanes.push(lane);
  }

  remove(lane: Taker): void {
    const at = this.#lanes.indexOf(lane);
    if (at >= 0) this.#lanes.splice(at, 1);
  }

  /** Whether this lane may take a frame. @param more bytes that it has taken besides those in flight. */
  has(lane: Taker, more: number): boolean {
    const lanes = this.#lanes;
    const most = lane.inFlight + more - TURN;
    for (let i = 0; i < lanes.length; i++) {
      const other = lanes[i];
      if (other === undefined || other === lane || !other.ready || other.overdue) continue;
      if (lane.overdue || other.inFlight <= most) return false;
    }
    return true;
  }

  /** Whether all lanes are silent: they carry nothing until one is heard again, or ends. */
  get silent(): boolean {
    const lanes = this.#lanes;
    for (let i = 0; i < lanes.length; i++) if (lanes[i]?.silent === false) return false;
    return lanes.length > 0;
  }
}
