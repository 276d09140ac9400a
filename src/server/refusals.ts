/** Certificates that proxies have refused, as devices report them: each refusal is in the journal once. */

import type { Report } from "../control/report.ts";
import type { Journal } from "./journal.ts";
import type { Device } from "./registry.ts";

/** Events of a device that are looked at for the last refusal of the run before. */
const LOOKED_AT = 100;

export class Refusals {
  /** The time of the last one, by the device's id: no more than there are devices in the registry. */
  readonly #last = new Map<number, string>();

  readonly #counts = new Map<number, number>();

  /** How many a device has reported since the server's start. */
  count({ id }: Pick<Device, "id">): number {
    return this.#counts.get(id) ?? 0;
  }

  /** @param refused is told of a new one. */
  constructor(
    readonly journal: Pick<Journal, "events" | "ofDevice">,
    readonly refused: (device: Pick<Device, "id" | "node">, reason: string) => void,
  ) {}

  /** A device reports the last refusal of its certificate. */
  told(device: Pick<Device, "id" | "node">, { at, reason }: Report["refusal"]): void {
    if (at === null || this.#last.get(device.id) === at) return;
    const isKnown = !this.#last.has(device.id) && this.#hasEvent(device, at);
    this.#last.set(device.id, at);
    if (isKnown) return;
    this.#counts.set(device.id, this.count(device) + 1);
    const words = reason ?? "it says no reason";
    this.journal.ofDevice({ kind: "certificate-refused", device, details: { reason: words, at } });
    this.refused(device, words);
  }

  #hasEvent({ node }: Pick<Device, "node">, at: string): boolean {
    const events = this.journal.events({ node, last: LOOKED_AT });
    return events.some(({ kind, details }) => kind === "certificate-refused" && details["at"] === at);
  }
}
