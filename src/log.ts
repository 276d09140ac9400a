/**
 * The log of the daemons: one line per event on stderr, `time level subject: message key=value …`. consola
 * decides what is shown (levels, and repeated lines, which are all kept here) and tells a reporter; the line
 * itself, which programs read and which must be safe for a terminal, is made here. consola's own reporters
 * are for people alone.
 */

import { createConsola, type LogObject } from "consola";
import type { LogEvent } from "./log-events.ts";
import { quoted } from "./text.ts";

/** Fields of a log line. A value that is not plain is quoted; `undefined` is left out. */
export type LogFields = Record<string, string | number | boolean | undefined>;
/** Fields with what the line is about, for programs: its message is for people, and may change. */
export type EventFields = LogFields & { event: LogEvent };

export interface Log {
  debug(message: string, fields: EventFields): void;
  info(message: string, fields: EventFields): void;
  warn(message: string, fields: EventFields): void;
  error(message: string, fields: EventFields): void;
  /** A log whose lines begin with one more subject, such as `endpoint`. */
  with(subject: string): Log;
}

/** consola's numeric levels, as syslog priorities (sd-daemon(3)). */
const PRIORITY = [3, 4, 5, 6, 7, 7];
const NAMES = ["error", "warn", "note", "info", "debug", "trace"];

/** Characters of a line's message, and of each of its values: what is longer is cut. */
const LONGEST = 4000;

function cut(text: string): string {
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
}

function field(value: string | number | boolean): string {
  const text = cut(String(value));
  return /^[\w.:/@+,=-]+$/.test(text) ? text : quoted(text);
}

/**
 * One line of the log, without its time. Control characters cannot get through: in the message they become
 * blanks, in values they are escaped.
 */
export function formatLine(subject: string, message: string, fields: LogFields = {}): string {
  const words = Object.entries(fields).flatMap(([key, value]) =>
    value === undefined ? [] : [`${key}=${field(value)}`],
  );
  const clean = cut(message).replace(/[\p{C}\p{Zl}\p{Zp}]+/gu, " ");
  return [subject === "" ? clean : `${subject}: ${clean}`, ...words].join(" ");
}

/**
 * A log to stderr. Under systemd's journal (JOURNAL_STREAM) lines carry a priority instead of a time.
 * `level` is consola's: 3 shows info and above, 4 also debug.
 */
export function createLog(level = process.env["WALT_DEBUG"] ? 4 : 3): Log {
  const journal = process.env["JOURNAL_STREAM"] !== undefined;
  const instance = createConsola({
    level,
    throttle: 0,
    reporters: [
      {
        log(entry: LogObject): void {
          const text = String(entry.args[0]);
          const head = journal
            ? `<${PRIORITY[entry.level] ?? 6}>`
            : `${entry.date.toISOString()} ${(NAMES[entry.level] ?? "info").padEnd(5)} `;
          process.stderr.write(`${head}${text}\n`);
        },
      },
    ],
  });
  const make = (subject: string): Log => ({
    debug: (message, fields) => instance.debug(formatLine(subject, message, fields)),
    info: (message, fields) => instance.info(formatLine(subject, message, fields)),
    warn: (message, fields) => instance.warn(formatLine(subject, message, fields)),
    error: (message, fields) => instance.error(formatLine(subject, message, fields)),
    with: (next) => make(subject === "" ? next : `${subject}/${next}`),
  });
  return make("");
}

/** A line of the log, for those who keep some of them. */
export interface LogLine {
  readonly level: "info" | "warn" | "error";
  /** The line without its time and level, safe for a terminal. */
  readonly text: string;
}

/** A log whose lines also go to `keep`, except those for debugging. */
export function alsoTo(log: Log, keep: (line: LogLine) => void, subject = ""): Log {
  const to =
    (level: LogLine["level"]) =>
    (message: string, fields: EventFields): void => {
      log[level](message, fields);
      keep({ level, text: formatLine(subject, message, fields) });
    };
  return {
    debug: (message, fields) => log.debug(message, fields),
    info: to("info"),
    warn: to("warn"),
    error: to("error"),
    with: (next) => alsoTo(log.with(next), keep, subject === "" ? next : `${subject}/${next}`),
  };
}
