/**
 * New settings are tried before they are kept: if no tunnel comes up with them in time, the old ones are back.
 * Until then they are in memory only, so that after a power cut the old ones are back as well.
 */

import { randomBytes } from "node:crypto";
import { type Changes, change, type Settings } from "../../config/settings.ts";
import { messageOf, WaltError } from "../../errors.ts";
import type { KeptSettings, TrialOutcome } from "../settings.ts";

export interface TrialOptions {
  /** The settings that are kept now. */
  readonly kept: Settings;
  /** Use these settings from now on: the tunnel ends, and another one is built. @throws WaltError when they cannot be. */
  use(settings: Settings): void;
  /** Check settings before they are tried. @throws WaltError. */
  check(settings: Settings): void;
  /** Write settings that are kept. @throws WaltError. */
  write(settings: KeptSettings): void;
  /** What went wrong last, in words. */
  lastError(): string;
  /** The kept settings cannot be used again. */
  failed(error: unknown): void;
  /** Told when a trial begins or ends. */
  changed(outcome: TrialOutcome): void;
}

export class Trials {
  #kept: Settings;
  #last: TrialOutcome | undefined;
  #trial: { settings: Settings; timer: Timer } | undefined;

  constructor(readonly o: TrialOptions) {
    this.#kept = o.kept;
  }

  /** What became of the last trial since the start. */
  get last(): TrialOutcome | undefined {
    return this.#last;
  }

  /** Settings that are kept, also during a trial. */
  get kept(): Settings {
    return this.#kept;
  }

  /**
   * Prepare a trial.
   * @param within ms until a tunnel must be up.
   * @returns its id, and what begins it.
   * @throws WaltError when the changes cannot be, or another trial goes on.
   */
  prepare(changes: Changes, by: string, within: number): { id: string; begin: () => void } {
    const settings = change(this.#kept, changes);
    this.o.check(settings);
    this.#refuseSecond();
    const id = randomBytes(8).toString("hex");
    return { id, begin: () => this.#begin({ id, by, outcome: "trying", reason: "" }, settings, within) };
  }

  /** A tunnel came up: the settings that are tried have shown that they work. */
  tunnelUp(): void {
    const trial = this.#trial;
    const last = this.#last;
    if (trial === undefined || last === undefined) return;
    clearTimeout(trial.timer);
    try {
      this.o.write({ ...trial.settings, by: last.by, at: new Date().toISOString() });
    } catch (error) {
      this.#revert(`they cannot be written: ${messageOf(error)}`);
      return;
    }
    this.#trial = undefined;
    this.#kept = trial.settings;
    this.#tell({ ...last, outcome: "kept" });
  }

  /** The device stops: there is no trial any more. */
  stop(): void {
    clearTimeout(this.#trial?.timer);
    this.#trial = undefined;
  }

  #refuseSecond(): void {
    if (this.#trial === undefined) return;
    throw new WaltError(`settings of ${this.#last?.by ?? "somebody"} are being tried`, {
      hint: "Wait for the end of that trial.",
    });
  }

  #begin(outcome: TrialOutcome, settings: Settings, within: number): void {
    if (this.#trial !== undefined) return;
    const seconds = Math.round(within / 1000);
    const late = (): void => {
      const error = this.o.lastError();
      const why = error === "" ? "" : `: ${error}`;
      this.#revert(`no tunnel came up within ${seconds} s${why}`);
    };
    this.#trial = { settings, timer: setTimeout(late, within) };
    this.#tell(outcome);
    try {
      this.o.use(settings);
    } catch (error) {
      this.#revert(messageOf(error));
    }
  }

  #revert(reason: string): void {
    clearTimeout(this.#trial?.timer);
    this.#trial = undefined;
    if (this.#last !== undefined) this.#tell({ ...this.#last, outcome: "reverted", reason });
    try {
      this.o.use(this.#kept);
    } catch (error) {
      this.o.failed(error);
    }
  }

  #tell(outcome: TrialOutcome): void {
    this.#last = outcome;
    this.o.changed(outcome);
  }
}
