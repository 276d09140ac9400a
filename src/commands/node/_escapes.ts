/** What a user types on a console, with ssh's escapes: at the beginning of a line `~.` leaves, `~?` helps, `~~` is `~`. */

const TILDE = 0x7e;
const LINE_ENDS: readonly number[] = [0x0a, 0x0d];

export interface Typed {
  /** What goes to the console. */
  readonly bytes: Uint8Array;
  readonly asks: "nothing" | "help" | "leave";
}

export const ESCAPES_HELP = [
  "~.  leave the console",
  "~~  type one ~",
  "~?  this help",
  "(Escapes count only at the beginning of a line.)",
].join("\r\n");

export class Escapes {
  /** What came before: the beginning of a line, and there a `~`; or something else. */
  #at: "line" | "tilde" | "text" = "line";

  /** Take what was typed. What stands behind an escape that leaves is dropped. */
  type(bytes: Uint8Array): Typed {
    const out: number[] = [];
    let asks: Typed["asks"] = "nothing";
    for (const byte of bytes) {
      if (this.#at === "tilde") {
        this.#at = "text";
        if (byte === 0x2e) return { bytes: Uint8Array.from(out), asks: "leave" };
        if (byte === 0x3f) {
          this.#at = "line";
          asks = "help";
          continue;
        }
        out.push(TILDE);
        if (byte === TILDE) continue;
      } else if (this.#at === "line" && byte === TILDE) {
        this.#at = "tilde";
        continue;
      }
      out.push(byte);
      this.#at = LINE_ENDS.includes(byte) ? "line" : "text";
    }
    return { bytes: Uint8Array.from(out), asks };
  }
}
