/**
 * Tells devices how many others have their tunnels through the same entrypoint. When that is lost, each waits
 * for a random time that follows from it, so that they do not all come back at once.
 */

import type { Device } from "./registry.ts";

/** A device whose tunnel is up. */
export interface Present {
  readonly device: Device;
  readonly via: string;
}

/** ms in which changes are collected. */
const DELAY = 3000;
/** A device is told again when the number has changed by more than this share of it. */
const CHANGE = 0.25;

export class Spread {
  /** What each device was told last. */
  readonly #told = new Map<number, number>();
  #timer: Timer | undefined;

  /**
   * @param present the devices whose tunnels are up.
   * @param tell gives the order `peers`; what it throws does not matter.
   */
  constructor(
    readonly present: () => readonly Present[],
    readonly tell: (device: Device, count: number) => Promise<unknown>,
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
    const present = this.present();
    const counts = new Map<string, number>();
    for (const { via } of present) counts.set(via, (counts.get(via) ?? 0) + 1);
    for (const { device, via } of present) {
      const count = counts.get(via) ?? 1;
      const told = this.#told.get(device.id) ?? 1;
      if (Math.abs(count - told) <= CHANGE * told) continue;
      this.#told.set(device.id, count);
      this.tell(device, count).catch(() => {}); // an older device does not know the order
    }
  }
}
