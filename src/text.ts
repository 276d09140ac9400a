/** Text for people: untrusted strings made safe for a terminal, tables, sizes and durations. */

/**
 * Characters that can move the cursor, hide text or break a line: control and format characters, characters
 * that Unicode has not assigned, and separators of lines and paragraphs.
 */
const UNSAFE = /[\p{C}\p{Zl}\p{Zp}]/gu;

/**
 * An untrusted string, made safe to print on a terminal. Control, format and separator characters (of escape
 * sequences, right-to-left marks, line breaks) become `?`.
 * @param max UTF-16 units of the result; a longer string is cut and ends in `…`.
 */
export function safeText(text: string, max = 80): string {
  const clean = text.replace(UNSAFE, "?");
  // A surrogate pair is not cut in the middle.
  return clean.length > max ? `${clean.slice(0, max - 1).replace(/[\ud800-\udbff]$/, "")}…` : clean;
}

/** Columns of a claim that `plainText` leaves unless told otherwise. */
const CLAIM_COLUMNS = 40;

/**
 * What somebody unknown says about itself, made safe for a screen on which a person decides: printable ASCII
 * only, each other character shown as `?`, blanks in a row as one, at most `max` columns. So it takes exactly
 * as many columns as it has characters, and cannot reach the next line of the terminal or imitate a line of
 * ours.
 */
export function plainText(text: string, max = CLAIM_COLUMNS): string {
  const plain = text
    .replace(/[^ -~]/gu, "?")
    .replace(/ +/g, " ")
    .trim();
  return plain.length > max ? `${plain.slice(0, Math.max(0, max - 3))}...`.slice(0, max) : plain;
}

/** A string in quotes, as in JSON. Characters that are not safe for a terminal are escaped as `\uXXXX`. */
export function quoted(text: string): string {
  return JSON.stringify(text).replace(UNSAFE, (character) =>
    Array.from(character.split(""), (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`).join(
      "",
    ),
  );
}

/** A table as text: rows below a header, with aligned columns, and no spaces at the ends of lines. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [header, ...rows];
  const widths = header.map((_, column) => Math.max(...all.map((row) => Bun.stringWidth(row[column] ?? ""))));
  return all
    .map((row) =>
      row
        .map((cell, column) => cell + " ".repeat((widths[column] ?? 0) - Bun.stringWidth(cell)))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

/**
 * Text in lines of at most `width` columns, broken between words. A word that is longer has a line of its own.
 * @param indent of all lines but the first, which the caller begins.
 */
export function wrap(text: string, width: number, indent = 0): string {
  const room = Math.max(20, width - indent);
  const lines = text.split("\n").flatMap((line) => Bun.wrapAnsi(line, room, { trim: true }).split("\n"));
  return lines.map((line) => line.trimEnd()).join(`\n${" ".repeat(indent)}`);
}

/** The first `width` columns of a line, ending in `…` where something is left out. */
export function cut(line: string, width: number): string {
  if (Bun.stringWidth(line) <= width) return line;
  let kept = "";
  for (const character of line) {
    if (Bun.stringWidth(kept + character) > width - 1) break;
    kept += character;
  }
  return `${kept.trimEnd()}…`;
}

/** A number of bytes for people: `0 B`, `999 B`, `1.5 kB`, `12.3 MB`. */
export function size(bytes: number): string {
  const units = ["kB", "MB", "GB", "TB", "PB"];
  // The number is rounded before the unit is chosen, so that the result is never "1000.0 kB".
  if (Math.round(bytes) < 1000) return `${Math.round(bytes)} B`;
  let value = bytes / 1000;
  let at = 0;
  for (; value >= 999.95 && at < units.length - 1; at++) value /= 1000;
  return `${value.toFixed(1)} ${units[at]}`;
}

/**
 * A duration for people: `8 ms`, `1.2 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`.
 * @param ms milliseconds. A negative duration, which two different clocks can yield, becomes `0 ms`.
 */
export function duration(ms: number): string {
  // The number is rounded before the unit is chosen, so that the result is never "1000 ms" or "60.0 s".
  if (ms < 999.5) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < 59_950) return `${(ms / 1000).toFixed(1)} s`;
  const s = Math.round(ms / 1000);
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`;
}
