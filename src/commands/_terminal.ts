/** How wide the output of a command may be. */

/** Columns of text that is not on a terminal, and of a terminal that does not say how many it has. */
const DEFAULT_WIDTH = 80;
/** Lines of prose that are longer are hard to read. */
const MAX_PROSE = 100;

/** Columns of the terminal that standard output is; undefined where it is none: then nothing is cut. */
export function terminalWidth(): number | undefined {
  if (!process.stdout.isTTY) return undefined;
  // A terminal that a program made may have no size at all.
  return process.stdout.columns > 0 ? process.stdout.columns : DEFAULT_WIDTH;
}

/** Columns for prose such as help. */
export function proseWidth(): number {
  return Math.min(MAX_PROSE, terminalWidth() ?? DEFAULT_WIDTH);
}

/** Whether standard output may be coloured (https://no-color.org). */
export function isColoured(): boolean {
  return process.stdout.isTTY && (process.env["NO_COLOR"] ?? "") === "";
}
