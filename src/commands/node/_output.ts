/** Bytes to standard output, as fast as its reader takes them. */

/** Write bytes. Resolves when there is room for more. */
export function printed(bytes: Uint8Array): Promise<void> {
  return new Promise((resolve) => process.stdout.write(bytes, () => resolve()));
}

/** Makes the output of a terminal plain lines, for a file or a program: without escapes and other control characters. */
export class PlainOutput {
  readonly #decoder = new TextDecoder();
  /** The beginning of a line. */
  #line = "";

  /** @returns the lines that are complete, in UTF-8. */
  take(bytes: Uint8Array): Uint8Array {
    const lines = (this.#line + this.#decoder.decode(bytes, { stream: true })).split("\n");
    this.#line = (lines.pop() ?? "").slice(-LINE_MAX);
    return new TextEncoder().encode(lines.map((line) => `${plainLine(line)}\n`).join(""));
  }

  /** Nothing more comes. @returns what is left as a line. */
  end(): Uint8Array {
    return this.#line === "" ? new Uint8Array() : this.take(Buffer.from("\n"));
  }
}

/** Characters of a line that are kept until it is complete. */
const LINE_MAX = 8192;

/** A line without escapes and without control characters, but for tabs. */
export function plainLine(line: string): string {
  return Bun.stripANSI(line).replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (one) => (one === "\t" ? one : ""));
}
