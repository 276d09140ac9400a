/**
 * When each device's tunnel was known to be up last, and how the last one ended. In the registry, so that it
 * survives a restart; after a crash the last minute is missing.
 */

import type { End } from "../end.ts";
import { messageOf } from "../errors.ts";
import type { Log } from "../log.ts";
import { safeText } from "../text.ts";
import type { Device, Registry, Seen } from "./registry.ts";

/** ms between two writes of what is up; and after an end, of which more may come. */
const MINUTE = 60_000;
const SOON = 1000;
/** Characters of a reason. */
const MAX_REASON = 300;

type Known = Pick<Device, "id">;

export class Presence {
  readonly #seen: Map<number, Seen>;
  /** Those whose end is not written yet. */
  readonly #changed = new Set<number>();
  #timer: Timer | undefined;
  #due = Number.POSITIVE_INFINITY;

  /** @param present the devices whose tunnels are up. */
  constructor(
    readonly registry: Pick<Registry, "presences" | "setPresences">,
    readonly present: () => readonly Known[],
    readonly log: Log,
    readonly now: () => Date = () => new Date(),
  ) {
    this.#seen = registry.presences();
    this.#in(MINUTE);
  }

  /** Undefined for a device whose tunnel never was up. */
  of({ id }: Known): Seen | undefined {
    return this.#seen.get(id);
  }

  /** A tunnel came up. */
  up({ id }: Known): void {
    this.#seen.set(id, { seenAt: this.now().toISOString(), endedAt: null, end: null, reason: null });
    this.#changed.add(id);
    this.#in(SOON);
  }

  /** A tunnel that was up went down. */
  down({ id }: Known, { kind, text }: End): void {
    const at = this.now().toISOString();
    const reason = safeText(text, MAX_REASON);
    this.#seen.set(id, { seenAt: at, endedAt: at, end: kind, reason });
    this.#changed.add(id);
    this.#in(SOON);
  }

  /** Write what is not written yet, and end. */
  stop(): void {
    clearTimeout(this.#timer);
    this.#write();
  }

  #in(ms: number): void {
    const due = performance.now() + ms;
    if (due >= this.#due) return;
    clearTimeout(this.#timer);
    this.#due = due;
    this.#timer = setTimeout(() => {
      this.#due = Number.POSITIVE_INFINITY;
      this.#write();
      this.#in(MINUTE);
    }, ms);
  }

  #write(): void {
    const seenAt = this.now().toISOString();
    for (const { id } of this.present()) {
      const seen = this.#seen.get(id);
      if (seen?.endedAt !== null) continue;
      this.#seen.set(id, { ...seen, seenAt });
      this.#changed.add(id);
    }
    const changed = [...this.#changed].flatMap((id) => {
      const seen = this.#seen.get(id);
      return seen === undefined ? [] : [[id, seen] as const];
    });
    if (changed.length === 0) return;
    try {
      this.registry.setPresences(new Map(changed));
      this.#changed.clear();
    } catch (error) {
      // It is tried again within a minute; journal and copies say more.
      this.log.debug("what was seen is not written", { event: "detail", reason: messageOf(error) });
    }
  }
}
