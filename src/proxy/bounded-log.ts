/** The relay's log, as far as others cause its lines: bounded for each source and in all. */

import type { EventFields, Log } from "../log.ts";
import { FirstOfKind, LogBudget } from "../log-budget.ts";

/**
 * Lines of one source: enough for a site of devices that reconnects. And of all: less than journald drops.
 */
const LIMITS = {
  source: { burst: 60, perSecond: 0.5 },
  all: { burst: 240, perSecond: 4 },
} as const;
/** ms between lines that say how many were left out. */
const INTERVAL = 60_000;

type Level = "debug" | "info" | "warn";

export class BoundedLog {
  /** Devices with a certificate have a budget of their own, which strangers cannot use up. */
  readonly #budgets;
  readonly #timer: Timer;

  constructor(private readonly log: Log) {
    const budget = () => new LogBudget(LIMITS, performance.now());
    this.#budgets = { device: budget(), stranger: budget(), debug: budget() };
    this.#timer = setInterval(() => this.#tell(), INTERVAL);
    this.#timer.unref();
  }

  /** A line that a source caused: an address, or with `device` the name in a certificate. */
  line(level: Level, source: string, device: boolean, message: string, fields: EventFields): void {
    // What is not shown must not use up the budget of what is.
    const budget = this.#budgets[level === "debug" ? "debug" : device ? "device" : "stranger"];
    if (budget.take(source, performance.now()) !== undefined) this.log[level](message, fields);
  }

  /** Say how many lines were left out, and end. */
  stop(): void {
    clearInterval(this.#timer);
    this.#tell();
  }

  #tell(): void {
    const { device, stranger, debug } = this.#budgets;
    const [devices, strangers] = [device.leftOut(), stranger.leftOut()];
    if (devices + strangers > 0)
      this.log.warn("lines were left out of this log", { event: "lines-left-out", devices, strangers });
    const count = debug.leftOut();
    if (count > 0) this.log.debug("lines were left out of this log", { event: "lines-left-out", count });
  }
}

/** The lines about one connection: of each kind the first, and in the end how many there were. */
export class ConnectionLog {
  readonly #kinds = new FirstOfKind();
  #device: string | undefined;

  constructor(
    private readonly log: BoundedLog,
    /** "192.0.2.1:50000" */
    private readonly from: string,
    private readonly source: string,
  ) {}

  /** It is a device with a certificate of this name. */
  isDevice(name: string): void {
    this.#device = name;
  }

  debug(message: string, fields: EventFields): void {
    this.#line("debug", message, fields);
  }
  info(message: string, fields: EventFields): void {
    this.#line("info", message, fields);
  }
  warn(message: string, fields: EventFields): void {
    this.#line("warn", message, fields);
  }

  /** The connection is over. */
  summarise(): void {
    for (const [kind, times] of this.#kinds.repeated()) {
      this.#write("info", `${kind}: ${times} times`, { event: "repeated", times });
    }
  }

  #line(level: Level, message: string, fields: EventFields): void {
    // A channel can be refused for several reasons: each is a kind of its own.
    if (this.#kinds.add(message)) this.#write(level, message, fields);
  }

  #write(level: Level, message: string, fields: EventFields): void {
    const device = this.#device !== undefined;
    this.log.line(level, this.#device ?? this.source, device, message, { from: this.from, ...fields });
  }
}
