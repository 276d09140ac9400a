/** Text for people: untrusted strings made safe, tables, durations. */

/**
 * A string from the network, made safe for a terminal: control, format and separator characters (escape sequences,
 * right-to-left marks, line breaks) become `?`, and it is cut to `max` characters.
 */
export function safeText(text: string, max = 80): string {
  const clean = text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "?");
  return clean.length > max ? `${clean.slice(0, max - 1)}…` : clean;
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

/** A duration in ms, for people: `8 ms`, `1.2 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`. */
export function duration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  const s = Math.round(ms / 1000);
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`;
}
