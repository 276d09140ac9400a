/**
 * A device that cannot connect examines itself, while it goes on trying. It keeps what it found for the
 * status and the screen, until its tunnel is up.
 *
 */

import { type Diagnosis, faultsOf } from "../../api/diagnosis.ts";
import type { Log } from "../../log.ts";
import type { State } from "../boot/state.ts";

/** Failures in a row after which it is worth a look: a single one passes by itself often enough. */
const FAILURES = 2;
/** Milliseconds without a network after which it is worth a look: DHCP needs some seconds. */
const NO_NETWORK = 15_000;
/** Milliseconds between the begins of two examinations: each one makes connections to the proxies. */
const EVERY = 300_000;

export interface SelfExaminationOptions {
  /** Examine the device. It must end soon after `signal` is aborted, and never reject. */
  readonly examine: (signal: AbortSignal) => Promise<Diagnosis>;
  readonly log: Log;
  /** Call `what` after `ms`; the result cancels it. A parameter for tests. */
  readonly after?: (ms: number, what: () => void) => () => void;
  /** ms of a clock that only goes forward. A parameter for tests. */
  readonly now?: () => number;
}

export class SelfExamination {
  /** What the last examination found; undefined before the first one, and once the tunnel was up. */
  diagnosis: Diagnosis | undefined;
  #state: Pick<State, "tunnel" | "failures" | "stage"> | undefined;
  #lastBegin = Number.NEGATIVE_INFINITY;
  /** The next one: when, by `now`, and a function that cancels it. */
  #next: { readonly at: number; cancel(): void } | undefined;
  /** Ends the one that is under way. */
  #abort: AbortController | undefined;
  #running: Promise<void> = Promise.resolve();
  #stopped = false;
  readonly #after: NonNullable<SelfExaminationOptions["after"]>;
  readonly #now: () => number;

  constructor(readonly options: SelfExaminationOptions) {
    this.#now = options.now ?? (() => performance.now());
    this.#after =
      options.after ??
      ((ms, what) => {
        const timer = setTimeout(what, ms);
        return () => clearTimeout(timer);
      });
  }

  /** Take note of a new state of the boot. It costs nothing while all is well. */
  readonly see = (state: Pick<State, "tunnel" | "failures" | "stage">): void => {
    this.#state = state;
    if (this.#stopped) return;
    if (state.tunnel === "up") {
      this.#drop();
      this.diagnosis = undefined;
      return;
    }
    const wait = this.#waitIn(state);
    if (wait === undefined || this.#abort !== undefined) return;
    const now = this.#now();
    const at = Math.max(now + wait, this.#lastBegin + EVERY);
    if (this.#next !== undefined && this.#next.at <= at) return;
    this.#next?.cancel();
    this.#next = { at, cancel: this.#after(at - now, () => this.#begin()) };
  };

  /** End what is under way. Resolves when it has ended. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#drop();
    await this.#running;
  }

  /** Milliseconds after which a device in this state is examined; undefined for never. */
  #waitIn({ failures, stage }: Pick<State, "failures" | "stage">): number | undefined {
    if (failures >= FAILURES) return 0;
    return stage === "network" ? NO_NETWORK : undefined;
  }

  #drop(): void {
    this.#next?.cancel();
    this.#next = undefined;
    this.#abort?.abort();
  }

  #begin(): void {
    this.#next = undefined;
    if (this.#state === undefined || this.#waitIn(this.#state) === undefined) return;
    this.#lastBegin = this.#now();
    const abort = new AbortController();
    this.#abort = abort;
    this.#running = this.#examine(abort.signal).finally(() => {
      this.#abort = undefined;
      if (this.#state !== undefined) this.see(this.#state);
    });
  }

  async #examine(signal: AbortSignal): Promise<void> {
    const diagnosis = await this.options.examine(signal);
    if (signal.aborted) return; // half of it could not be looked at
    this.diagnosis = diagnosis;
    const { log } = this.options;
    const [first, ...others] = faultsOf(diagnosis);
    if (first === undefined) {
      log.info("the doctor found nothing wrong with this device", { event: "doctor" });
      return;
    }
    log.warn(first.what, {
      event: "doctor",
      check: first.check,
      of: first.of === "" ? undefined : first.of,
      evidence: first.evidence,
      cure: first.cure,
      more: others.length === 0 ? undefined : others.map(({ check }) => check).join(","),
    });
  }
}
