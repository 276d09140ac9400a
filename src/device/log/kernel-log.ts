/**
 * The board's kernel log. The kernel itself keeps its last lines, so nothing is kept here: each reader opens
 * /dev/kmsg, and reads on from the oldest record (Linux: Documentation/ABI/testing/dev-kmsg).
 */

import { closeSync, constants, openSync, readSync } from "node:fs";
import { codeOf, messageOf, WaltError } from "../../errors.ts";
import { readText, readTextIfAny } from "../../linux/files.ts";
import { sleep } from "../../linux/sleep.ts";
import { safeText } from "../../text.ts";
import { LINES_KEPT, LONGEST_LINE } from "./line-ring.ts";
import { type LineLog, type Lines, missedLine, type TailOptions } from "./tail.ts";

const KMSG = "/dev/kmsg";
/** Bytes of a record at most (CONSOLE_EXT_LOG_MAX of the kernel, PRINTK_MESSAGE_MAX since 6.3). */
const LONGEST_RECORD = 8192;
/** Records that are read before others have their turn: less than 1 ms of work. */
const TURN = 100;
/** Pieces of TURN records that a reader is given of what is there. A kernel that floods its log has no end. */
const PIECES = 200;
/** Characters that a reader is given of what is there. */
const KEPT = 2 * LINES_KEPT;
/** Milliseconds between two looks for new records, while somebody follows. */
const LOOK = 500;

/** The kernel's log, open for one reader. */
export interface KernelRecords {
  /** The next record; undefined while there is no other. @throws the system's error. */
  read(): string | undefined;
  close(): void;
}

/** What is needed of the system; tests give others. */
export interface KernelLogSystem {
  /** Tells this run of the kernel from others, in hex digits. */
  boot(): string;
  /** @throws the system's error. */
  open(): KernelRecords;
  /** When the kernel started: ms since 1970, by the clock as it is now. */
  started(): number;
  /** Wait until it is time to look for new records. */
  wait(signal: AbortSignal): Promise<void>;
}

/** See `LineLog`: lines that the kernel drops while a reader is slow are among those that it misses. */
export class KernelLog implements LineLog {
  readonly ring: string;

  constructor(readonly system: KernelLogSystem = SYSTEM) {
    this.ring = system.boot();
  }

  async *read({ lines = Infinity, follow, after }: TailOptions, signal: AbortSignal): AsyncGenerator<Lines> {
    const reader = new Reader(this.system, after?.ring === this.ring ? after.position : undefined);
    try {
      let old: string[] = [];
      for (let pieces = 0; pieces < PIECES && !signal.aborted; pieces++) {
        const piece = reader.next();
        if (piece.length === 0) break;
        old = lastOf([...old, ...piece], lines);
        await new Promise((resolve) => setImmediate(resolve));
      }
      if (old.length > 0) yield { text: old.join(""), next: reader.position };
      while (follow && !signal.aborted) {
        const piece = reader.next();
        if (piece.length > 0) yield { text: piece.join(""), next: reader.position };
        else await this.system.wait(signal);
      }
    } finally {
      reader.close();
    }
  }
}

/** Reads records, and makes lines of them. */
class Reader {
  readonly #records: KernelRecords;
  /** The number of the record that comes next, if the kernel drops none. */
  #next: number | undefined;

  /** @param from the number of the first record that is wanted. @throws WaltError when the log cannot be read. */
  constructor(
    readonly system: KernelLogSystem,
    from: number | undefined,
  ) {
    this.#next = from;
    this.#records = readable(() => system.open());
  }

  /** The number of the record that comes next. */
  get position(): number {
    return this.#next ?? 0;
  }

  /** The next lines, those of TURN records at most; none when there are no others yet. */
  next(): string[] {
    const started = this.system.started();
    const lines: string[] = [];
    for (let read = 0; read < TURN; read++) {
      const text = readable(() => this.#records.read());
      if (text === undefined) break;
      const record = parseRecord(text);
      if (record === undefined) continue;
      if (record.number < (this.#next ?? 0)) {
        read--; // it is not wanted, and what is wanted comes behind it
        continue;
      }
      const missed = record.number - (this.#next ?? record.number);
      this.#next = record.number + 1;
      if (missed > 0) lines.push(missedLine(missed));
      const time = new Date(started + record.uptime).toISOString();
      lines.push(`${time} ${safeText(record.text, LONGEST_LINE)}\n`);
    }
    return lines;
  }

  close(): void {
    this.#records.close();
  }
}

/** The last of the lines: so many, and KEPT characters at most. */
function lastOf(lines: readonly string[], count: number): string[] {
  let characters = 0;
  let first = lines.length;
  while (first > 0 && lines.length - first < count) {
    characters += lines[first - 1]?.length ?? 0;
    if (characters > KEPT) break;
    first--;
  }
  return lines.slice(first);
}

/**
 * A record: `priority,number,microseconds,flags;text`, and below it lines of fields that begin with a blank.
 * Undefined when it has another form.
 */
function parseRecord(record: string): { number: number; uptime: number; text: string } | undefined {
  const [, number, microseconds, text] = /^\d+,(\d+),(\d+),[^;\n]*;([^\n]*)/.exec(record) ?? [];
  if (number === undefined || microseconds === undefined || text === undefined) return undefined;
  return { number: Number(number), uptime: Number(microseconds) / 1000, text };
}

/** What `read` gives. @throws WaltError with the reason why the log cannot be read. */
function readable<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw new WaltError(`cannot read the kernel's log ${KMSG}: ${messageOf(error)}`, { cause: error });
  }
}

const SYSTEM: KernelLogSystem = {
  open: () => {
    const fd = openSync(KMSG, constants.O_RDONLY | constants.O_NONBLOCK);
    const buffer = Buffer.alloc(LONGEST_RECORD);
    const read = (): string | undefined => {
      for (;;) {
        try {
          return buffer.toString("utf8", 0, readSync(fd, buffer, 0, buffer.length, null));
        } catch (error) {
          const code = codeOf(error);
          if (code === "EAGAIN") return undefined;
          // The kernel has dropped the record that came next. The next read gives the oldest that is there.
          if (code !== "EPIPE") throw error;
        }
      }
    };
    return { read, close: () => closeSync(fd) };
  },
  boot: () => (readTextIfAny("/proc/sys/kernel/random/boot_id") ?? "").replaceAll(/[^0-9a-f]/g, ""),
  started: () => Date.now() - 1000 * Number.parseFloat(readText("/proc/uptime")),
  wait: (signal) => sleep(LOOK, signal),
};
