/** Text for people: untrusted strings made safe, tables, durations. */

/** Control, format, unassigned and separator characters: what may move the cursor, hide, or break a line. */
const UNSAFE = /[\p{C}\p{Zl}\p{Zp}]/gu;

/**
 * A string from the network, made safe for a terminal: control, format and separator characters (escape
 * sequences, right-to-left marks, line breaks) become `?`, and it is cut to `max` characters.
 */
export function safeText(text: string, max = 80): string {
  const clean = text.replace(UNSAFE, "?");
  // A pair of surrogates is not cut apart.
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

/** A string in quotes, as in JSON, with every character that is not safe for a terminal escaped. */
export function quoted(text: string): string {
  return JSON.stringify(text).replace(UNSAFE, (character) =>
    Array.from(character.split(""), (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`).join(
      "",
    ),
  );
}

/** Rows below a header, columns padded; no trailing blanks. */
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

/** Bytes, for people: `0 B`, `999 B`, `1.5 kB`, `12.3 MB`. */
export function size(bytes: number): string {
  const units = ["kB", "MB", "GB", "TB", "PB"];
  // Rounded before the unit is chosen, so that there is no "1000.0 kB".
  if (Math.round(bytes) < 1000) return `${Math.round(bytes)} B`;
  let value = bytes / 1000;
  let at = 0;
  for (; value >= 999.95 && at < units.length - 1; at++) value /= 1000;
  return `${value.toFixed(1)} ${units[at]}`;
}

/**
 * A duration in ms, for people (below zero, where two clocks differ, it is `0 ms`): `8 ms`, `1.2 s`, `3 min
 * 20 s`, `2 h 5 min`, `3 d 4 h`.
 */
export function duration(ms: number): string {
  // Rounded before the unit is chosen, so that there is no "1000 ms" and no "60.0 s".
  if (ms < 999.5) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < 59_950) return `${(ms / 1000).toFixed(1)} s`;
  const s = Math.round(ms / 1000);
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`;
}
