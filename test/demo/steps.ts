/** The demo's progress: one line per step with its duration. */

import { duration } from "../../src/text.ts";

export interface Step {
  name: string;
  detail: string;
  /** ms */
  duration: number;
}

export class Steps {
  readonly done: Step[] = [];

  constructor(readonly out: NodeJS.WriteStream) {}

  /** Do a step; what it returns as text is told behind its name. */
  async run<T>(name: string, body: () => Promise<{ detail: string; value: T }>): Promise<T> {
    const start = performance.now();
    // On a terminal the step is seen while it runs.
    if (this.out.isTTY) this.out.write(`      …   ${name}`);
    try {
      const { detail, value } = await body();
      this.#line(name, detail, performance.now() - start);
      return value;
    } catch (error) {
      if (this.out.isTTY) this.out.write("\r\x1b[K");
      this.out.write(`  FAILED  ${name}\n`);
      throw error;
    }
  }

  /** A step whose time was measured elsewhere. */
  note(name: string, detail: string, ms: number): void {
    this.#line(name, detail, ms);
  }

  #line(name: string, detail: string, ms: number): void {
    this.done.push({ name, detail, duration: Math.round(ms) });
    if (this.out.isTTY) this.out.write("\r\x1b[K");
    this.out.write(`${duration(ms).padStart(8)}  ${name}${detail === "" ? "" : `: ${detail}`}\n`);
  }
}
