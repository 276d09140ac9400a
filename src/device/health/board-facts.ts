/** Facts of the board, from files of /proc and /sys. No program is started, and no file of a disk is read. */

import { readdirSync, statfsSync } from "node:fs";
import { join } from "node:path";
import { BOARDS, type Board } from "../../boards.ts";
import type { Report } from "../../control/report.ts";
import { clockError } from "../../linux/clock.ts";
import { readTextIfAny } from "../../linux/files.ts";

/** Of which board, and which parts of it. */
export interface BoardFactsOptions {
  readonly board: Board;
  /** The state folder. */
  readonly state: string;
  /** The interface that leads to the entrypoint; undefined while there is none. */
  readonly interface: string | undefined;
  /** Folder to read instead of `/`. */
  readonly root?: string;
}

/** The facts that the board's kernel tells. */
export type BoardFacts = Pick<
  Report,
  "temperature" | "power" | "load" | "memory" | "disk" | "link" | "clock"
> & {
  /** Seconds since the kernel's start. */
  readonly uptime: number | null;
};

/** Bytes of a file at most. The longest one that is read, /proc/meminfo, has some 1500. */
const MAX_FILE = 16_384;
/** Entries of a folder that are looked at. */
const MAX_ENTRIES = 64;

/** Read them. It never throws: what cannot be read is null. */
export function readBoardFacts({ board, state, interface: name, root = "/" }: BoardFactsOptions): BoardFacts {
  const files = new Files(root);
  const link = name ?? null;
  return {
    temperature: temperature(files, BOARDS[board].thermalZones),
    power: power(files, BOARDS[board].throttled),
    load: load(files),
    memory: memory(files),
    disk: { ...space(state), errors: diskErrors(files) },
    link: { interface: link, speed: link === null ? null : speed(files, link) },
    clock: clock(),
    uptime: numberOf(files.text("proc/uptime")?.split(" ")[0]),
  };
}

/** Files below a folder, any of which may be missing. */
class Files {
  constructor(readonly root: string) {}

  text(path: string): string | null {
    try {
      return readTextIfAny(join(this.root, path), MAX_FILE)?.trim() ?? null;
    } catch {
      // Some files of /sys give an error while the hardware behind them has no value: EINVAL for the speed of
      // a link that is down, for example.
      return null;
    }
  }

  number(path: string): number | null {
    return numberOf(this.text(path));
  }

  /** Paths of the entries of a folder, in the order of their names. */
  entries(path: string): string[] {
    try {
      const names = readdirSync(join(this.root, path)).sort();
      return names.slice(0, MAX_ENTRIES).map((name) => join(path, name));
    } catch {
      return [];
    }
  }
}

const numberOf = (text: string | null | undefined): number | null =>
  text === null || text === undefined || !/^-?\d+(\.\d+)?$/.test(text) ? null : Number(text);

/**
 * °C, of the first of these types of thermal zone that the kernel has
 * (Documentation/ABI/testing/sysfs-class-thermal).
 */
function temperature(files: Files, types: readonly string[]): number | null {
  const zones = files.entries("sys/class/thermal").map((zone) => ({
    zone,
    type: files.text(join(zone, "type")),
  }));
  const found = types.flatMap((type) => zones.filter((one) => one.type === type)).at(0);
  const thousandths = found === undefined ? null : files.number(join(found.zone, "temp"));
  return thousandths === null ? null : thousandths / 1000;
}

/** Bits of the firmware's flags, as its command GET_THROTTLED has them: now, and since the start. */
const UNDER_VOLTAGE = 1 << 0;
/** The frequency is capped; it is throttled; the soft limit of the temperature is reached. */
const SLOWED_DOWN = (1 << 1) | (1 << 2) | (1 << 3);
const SINCE_START = 16;

const POWER_UNKNOWN: Report["power"] = {
  underVoltage: null,
  underVoltageBefore: null,
  throttled: null,
  throttledBefore: null,
};

/**
 * The firmware's flags where the kernel shows them: Raspberry Pi's own kernel does. Otherwise the alarm of the
 * driver raspberrypi-hwmon, which tells of the voltage alone. Debian's kernel (6.12) has neither.
 */
function power(files: Files, path: string | undefined): Report["power"] {
  const text = path === undefined ? null : files.text(path);
  if (text !== null && /^(0x)?[0-9a-f]{1,8}$/i.test(text)) {
    const flags = Number.parseInt(text, 16);
    const before = flags >>> SINCE_START;
    return {
      underVoltage: (flags & UNDER_VOLTAGE) !== 0,
      underVoltageBefore: (before & UNDER_VOLTAGE) !== 0,
      throttled: (flags & SLOWED_DOWN) !== 0,
      throttledBefore: (before & SLOWED_DOWN) !== 0,
    };
  }
  const sensors = files.entries("sys/class/hwmon");
  const sensor = sensors.find((one) => files.text(join(one, "name")) === "rpi_volt");
  const alarm = sensor === undefined ? null : files.number(join(sensor, "in0_lcrit_alarm"));
  return { ...POWER_UNKNOWN, underVoltage: alarm === null ? null : alarm !== 0 };
}

function load(files: Files): Report["load"] {
  const [one, five, fifteen] = (files.text("proc/loadavg") ?? "").split(" ");
  return { one: numberOf(one), five: numberOf(five), fifteen: numberOf(fifteen) };
}

function memory(files: Files): Report["memory"] {
  const info = files.text("proc/meminfo") ?? "";
  const bytes = (name: string): number | null => {
    const kib = numberOf(new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(info)?.[1]);
    return kib === null ? null : kib * 1024;
  };
  return { total: bytes("MemTotal"), available: bytes("MemAvailable") };
}

/** Bytes of the file system with this folder, and bytes of it that are free for root. */
function space(folder: string): Pick<Report["disk"], "size" | "free"> {
  try {
    const { bsize, blocks, bfree } = statfsSync(folder);
    return { size: blocks * bsize, free: bfree * bsize };
  } catch {
    return { size: null, free: null };
  }
}

/** The sum over all ext4 file systems (Documentation/ABI/testing/sysfs-fs-ext4); null when there is none. */
function diskErrors(files: Files): number | null {
  const counts = files
    .entries("sys/fs/ext4")
    .map((disk) => files.number(join(disk, "errors_count")))
    .filter((count) => count !== null);
  return counts.length === 0 ? null : counts.reduce((sum, count) => sum + count, 0);
}

/** Mbit/s; null while the link is down, of which the kernel says -1 or gives an error. */
function speed(files: Files, name: string): number | null {
  const value = files.number(join("sys/class/net", name, "speed"));
  return value === null || value < 0 ? null : value;
}

function clock(): Report["clock"] {
  const error = clockError();
  if (error === undefined) return { synchronised: null, error: null };
  return { synchronised: error !== null, error };
}
