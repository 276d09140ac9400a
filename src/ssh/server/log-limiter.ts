/**
 * A bound on what strangers can make us write into the log: so many lines for each source, and in all. Lines
 * that are left out are counted.
 */

import type { EventFields, Log } from "../../log.ts";
import { LogBudget } from "../../log-budget.ts";
import type { Rate } from "../../token-bucket.ts";

/** Of one source, and of all together. */
const SOURCE: Rate = { burst: 60, perSecond: 2 };
const ALL: Rate = { burst: 300, perSecond: 30 };
export const NO_LIMIT: Rate = { burst: Number.POSITIVE_INFINITY, perSecond: 0 };

export class LogLimiter {
  readonly #budget: LogBudget;

  /**
   * @param now a clock in ms.
   * @param all of all sources together; ones that cannot be many need no such limit.
   */
  constructor(
    readonly now: () => number = () => performance.now(),
    all: Rate = ALL,
  ) {
    this.#budget = new LogBudget({ source: SOURCE, all }, now());
  }

  /**
   * `log`, for lines that `source` causes: an address, or a node's name. Lines of level debug are not
   * counted: nobody sees them unless he asks.
   */
  limit(log: Log, source: string): Log {
    const write =
      (to: (message: string, fields: EventFields) => void) => (message: string, fields: EventFields) => {
        const missed = this.#budget.take(source, this.now());
        if (missed === undefined) return;
        if (missed > 0)
          log.warn("log lines were left out", { event: "lines-left-out", from: source, count: missed });
        to(message, fields);
      };
    return {
      debug: (message, fields) => log.debug(message, fields),
      info: write((message, fields) => log.info(message, fields)),
      warn: write((message, fields) => log.warn(message, fields)),
      error: write((message, fields) => log.error(message, fields)),
      with: (subject) => this.limit(log.with(subject), source),
    };
  }
}
