/**
 * A device's report: the facts that it tells the server of itself. The one place of their names, units and
 * bounds, for the device that prints them and the server that parses them.
 *
 * The two may be of different versions. So nothing in a report is an error: a field that is missing, or that
 * has another type or a value out of its range, is null, and unknown fields are ignored.
 */

import { WaltError } from "../errors.ts";
import { describe } from "../parse.ts";
import { safeText } from "../text.ts";

/** Bytes that a printed report has at most. The bounds below ensure it. */
export const MAX_REPORT = 40_960;
/** USB devices, other entrypoints and errors that a report has room for. */
export const MAX_USB = 16;
export const MAX_OTHERS = 8;
export const MAX_ERRORS = 16;
const MAX_SET = 12;

/** Makes a value of `T` of anything. It never throws. */
type Reader<T> = (value: unknown) => T;

/** A text, made safe for a terminal, and cut to `max` characters. */
const text =
  (max: number): Reader<string | null> =>
  (value) =>
    // One character more than fits is looked at, so that a text that is cut ends in `…`.
    typeof value === "string" ? safeText(value.slice(0, max + 1), max) : null;

/** A number from `min` to `max`, rounded to `digits` decimal places. */
const number =
  (min: number, max: number, digits = 0): Reader<number | null> =>
  (value) =>
    typeof value === "number" && value >= min && value <= max ? Number(value.toFixed(digits)) : null;

/** Bytes, or a count. */
const count = number(0, Number.MAX_SAFE_INTEGER);
/** Seconds, less than a hundred years. */
const seconds = number(0, 3.2e9);

const flag: Reader<boolean | null> = (value) => (typeof value === "boolean" ? value : null);

/** A time of day, as Date's toISOString writes it. */
const time: Reader<string | null> = (value) =>
  typeof value === "string" && /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(value) ? value : null;

/** The first `max` of an array. */
const list =
  <T>(item: Reader<T>, max: number): Reader<T[] | null> =>
  (value) =>
    Array.isArray(value) ? value.slice(0, max).map(item) : null;

/** An object with these fields. Of any other value all fields are null. */
const record =
  <T extends Readonly<Record<string, Reader<unknown>>>>(
    fields: T,
  ): Reader<{ [K in keyof T]: ReturnType<T[K]> }> =>
  (value) => {
    const from: Readonly<Record<string, unknown>> =
      typeof value === "object" && value !== null && !Array.isArray(value) ? { ...value } : {};
    const read = Object.entries(fields).map(([name, field]) => [name, field(from[name])]);
    return Object.fromEntries(read) as { [K in keyof T]: ReturnType<T[K]> };
  };

const report = record({
  /** When the facts were gathered, by the board's clock. Compare it with the time of arrival. */
  at: time,
  /** The stage of the device's boot, such as `tunnel`. */
  stage: text(40),
  /** What the stage is about, in words. */
  detail: text(200),
  vm: record({
    /** As in DeviceStatus: `off`, `starting`, `running`, `waiting`, `powered-off`. */
    state: text(20),
    /** What DHCP gave to the VM's network boot, as its console tells: the address, and the host name if any. */
    dhcp: record({ address: text(15), name: text(64) }),
    /** How the last virtual machine ended. All null when none has ended since the supervisor's start. */
    lastEnd: record({
      at: time,
      /** One of VM_ENDS in device/vm/end.ts, for programs. */
      kind: text(30),
      /** The same in words, with details. */
      reason: text(200),
      /** QEMU's exit status; null when a signal ended it, or it was never started. */
      exitCode: number(0, 255),
      /** The signal that ended QEMU, such as `SIGKILL`. */
      signal: text(20),
      /** Seconds that the machine had run. */
      ran: seconds,
    }),
  }),
  /** The USB devices that the node has: the port, vendor and product, and the device's own words. */
  usb: list(record({ port: text(32), id: text(9), name: text(60) }), MAX_USB),
  /** Of the processor, °C. */
  temperature: number(-100, 300, 1),
  power: record({
    /** The supply's voltage is too low now; or was at some time since the board's start. */
    underVoltage: flag,
    underVoltageBefore: flag,
    /** The firmware has slowed the processor down now, for its voltage or its heat; or had at some time. */
    throttled: flag,
    throttledBefore: flag,
  }),
  /** Processes that run or wait for the disk, as averages of 1, 5 and 15 minutes (proc_loadavg(5)). */
  load: record({ one: number(0, 1e6, 2), five: number(0, 1e6, 2), fifteen: number(0, 1e6, 2) }),
  /** Bytes in all, and bytes that programs can still get (`MemAvailable` of proc_meminfo(5)). */
  memory: record({ total: count, available: count }),
  disk: record({
    /** Bytes of the file system with the state folder, and bytes that are free there. */
    size: count,
    free: count,
    /** Errors that the kernel has found in any ext4 file system since it was last checked. */
    errors: count,
  }),
  /** Seconds since the start. */
  uptime: record({ board: seconds, supervisor: seconds }),
  versions: record({ walt: text(40), kernel: text(80), base: text(80) }),
  entrypoints: record({
    /** The one that the device uses or tries. */
    used: text(300),
    /** The others of its configuration. */
    others: list(text(300), MAX_OTHERS),
  }),
  /** By which the server tells two boards with a copied key apart. */
  board: record({ mac: text(17), serialNumber: text(64) }),
  link: record({
    /** The interface that leads to the entrypoint, such as `eth0`. */
    interface: text(15),
    /** Mbit/s. */
    speed: number(0, 1e6),
  }),
  clock: record({
    /** Whether something, such as NTP, keeps the board's clock. */
    synchronised: flag,
    /** By how many ms the clock is wrong at most; null when nothing keeps it. */
    error: number(0, 3.2e12),
  }),
  settings: record({
    /** What was set from the lab, a line for each. */
    set: list(text(120), MAX_SET),
    /** The last trial of settings since the supervisor's start: `outcome` is `trying`, `kept` or `reverted`. */
    trial: record({ id: text(16), by: text(100), outcome: text(20), reason: text(300) }),
  }),
  /** When a proxy refused the certificate last, and why; null if none has since the supervisor's start. */
  refusal: record({ at: time, reason: text(300) }),
  /** What the device found wrong when it last examined itself, and when; null when it found nothing, or did not. */
  doctor: record({ at: time, fault: text(300) }),
  /** The last warnings and errors of the supervisor's log, the oldest first. */
  errors: list(record({ at: time, text: text(200) }), MAX_ERRORS),
});

/** A report. What is not known is null. All texts are bounded, and safe for a terminal. */
export type Report = ReturnType<typeof report>;

/** Parse a report. @throws WaltError when the value is no object. */
export function parseReport(value: unknown): Report {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new WaltError(`a report must be an object, found ${describe(value)}`);
  }
  return report(value);
}

/** A report as JSON on one line without its end, at most MAX_REPORT bytes: what is too long is cut. */
export function printReport(facts: Report): string {
  return JSON.stringify(report(facts));
}
