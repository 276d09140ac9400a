/** Lines at the bottom of a terminal that are drawn again in place; what is printed goes above them. */

import { write } from "../_command.ts";

/** Printed lines that are kept, for a terminal that gets another size. */
const KEPT = 200;

/** The size of a terminal, in characters: `process.stdout`. */
interface Size {
  readonly columns: number;
  readonly rows: number;
}

export class LiveRegion {
  /** What stands there; the cursor is at the end of the last line. */
  #drawn: readonly string[] = [];
  #printed: string[] = [];

  constructor(readonly size: Size) {}

  /** Show these lines in place of those before, below `printed`, if there is something to print. */
  draw(lines: readonly string[], printed?: string): void {
    const fitting = lines.flatMap((line) => this.#wrapped(line));
    if (printed === undefined && fitting.join("\n") === this.#drawn.join("\n")) return;
    const last = this.#drawn.length;
    const back = last === 0 ? "" : `\r${last > 1 ? `\u001b[${last - 1}A` : ""}\u001b[J`;
    const above = printed === undefined ? [] : printed.split("\n");
    write(back + above.map((line) => `${line}\r\n`).join("") + fitting.join("\r\n"));
    this.#drawn = fitting;
    this.#printed = [...this.#printed, ...above].slice(-KEPT);
  }

  /**
   * The same for a terminal that has got another size: nobody knows where it has put the lines, so that the
   * screen is made anew, with what was printed last.
   */
  redraw(lines: readonly string[]): void {
    const fitting = lines.flatMap((line) => this.#wrapped(line));
    const above = this.#printed.flatMap((line) => this.#wrapped(line));
    const room = Math.max(0, this.size.rows - Math.max(1, fitting.length));
    const shown = room === 0 ? [] : above.slice(-room);
    // Line by line: some terminals keep what stood on a screen that is cleared as a whole.
    const all = [...shown, ...(fitting.length === 0 ? [""] : fitting)];
    write(`\u001b[H${all.map((line) => `${line}\u001b[K`).join("\r\n")}\u001b[J`);
    this.#drawn = fitting;
  }

  #wrapped(line: string): string[] {
    const width = Math.max(20, this.size.columns - 1);
    return Bun.wrapAnsi(line, width, { hard: true, trim: false }).split("\n");
  }
}
