/** The last warnings and errors of the supervisor: what went wrong while nobody could be told. */

import { MAX_ERRORS } from "../../control/report.ts";
import type { LogLine } from "../../log.ts";
import { safeText } from "../../text.ts";

/** A warning or an error. */
export interface LastError {
  /** ISO 8601, by the board's clock. */
  readonly at: string;
  /** Safe for a terminal. */
  readonly text: string;
}

/** Characters of a text that is kept: as many as a report shows. */
const LONGEST = 200;

export class LastErrors {
  #errors: LastError[] = [];

  /** @param now the time of a line that is kept; tests give another clock. */
  constructor(readonly now: () => Date = () => new Date()) {}

  /** The oldest first, at most MAX_ERRORS. */
  get errors(): readonly LastError[] {
    return this.#errors;
  }

  /** Keep a line of the log, unless it only informs. */
  readonly keep = ({ level, text }: LogLine): void => {
    if (level === "info") return;
    const error = { at: this.now().toISOString(), text: safeText(text, LONGEST) };
    this.#errors = [...this.#errors, error].slice(-MAX_ERRORS);
  };
}
