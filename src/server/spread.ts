/**
 * Tells devices how many others have their tunnels through the same entrypoint, and whose turn is when. When the
 * entrypoint is lost, each waits for its turn, so that they do not all come back at once.
 */

import type { Device } from "./registry.ts";

/** A device whose tunnel is up. */
export interface Present {
  readonly device: Device;
  readonly via: string;
}

/** What a device is told. */
export interface Turn {
  /** Devices with tunnels through the same entrypoint. */
  readonly count: number;
  /** Which of them this one is, from 0. */
  readonly turn: number;
}

/** ms in which changes are collected. */
const DELAY = 3000;
/** A device is told again when the number has changed by more than this share of it. */
const CHANGE = 0.25;
/** Or when its turn has moved by more than this share of the time of all. */
const MOVE = 0.05;

export class Spread {
  /** What each device was told last. */
  readonly #told = new Map<number, Turn>();
  #timer: Timer | undefined;

  /**
   * @param present the devices whose tunnels are up.
   * @param tell gives the order `peers`; what it throws does not matter.
   */
  constructor(
    readonly present: () => readonly Present[],
    readonly tell: (device: Device, turn: Turn) => Promise<unknown>,
    readonly delay = DELAY,
  ) {}

  /** A tunnel came up or went down. @param forget the device knows nothing any more. */
  changed(forget: Pick<Device, "id">): void {
    this.#told.delete(forget.id);
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#tellAll();
    }, this.delay);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  #tellAll(): void {
    for (const group of Map.groupBy(this.present(), ({ via }) => via).values()) {
      const count = group.length;
      const inOrder = group.toSorted((a, b) => a.device.id - b.device.id);
      for (const [turn, { device }] of inOrder.entries()) {
        const told = this.#told.get(device.id) ?? { count: 1, turn: 0 };
        const moved = Math.abs(turn / count - told.turn / told.count);
        if (Math.abs(count - told.count) <= CHANGE * told.count && moved <= MOVE) continue;
        this.#told.set(device.id, { count, turn });
        this.tell(device, { count, turn }).catch(() => {}); // an older device does not know the order
      }
    }
  }
}
