/** Lines at the bottom of a terminal that are drawn again in place; what is printed goes above them. */

import { write } from "../_command.ts";

export class LiveRegion {
  /** What stands there; the cursor is at the end of the last line. */
  #drawn: readonly string[] = [];

  /** @param columns of the terminal, now. */
  constructor(readonly columns: () => number) {}

  /** Show these lines in place of those before, below `printed`, if there is something to print. */
  draw(lines: readonly string[], printed?: string): void {
    const width = Math.max(20, this.columns() - 1);
    const fitting = lines.flatMap((line) =>
      Bun.wrapAnsi(line, width, { hard: true, trim: false }).split("\n"),
    );
    if (printed === undefined && fitting.join("\n") === this.#drawn.join("\n")) return;
    const above = printed === undefined ? "" : `${printed.replaceAll("\n", "\r\n")}\r\n`;
    write(`${this.#cleared()}${above}${fitting.join("\r\n")}`);
    this.#drawn = fitting;
  }

  /** What goes back to the first line, and clears from there to the end. */
  #cleared(): string {
    if (this.#drawn.length === 0) return "";
    // After a change of its width the terminal may show a line in several.
    const width = Math.max(1, this.columns());
    const lines = this.#drawn.reduce(
      (sum, line) => sum + Math.max(1, Math.ceil(Bun.stringWidth(line) / width)),
      0,
    );
    return `\r${lines > 1 ? `\u001b[${lines - 1}A` : ""}\u001b[J`;
  }
}
