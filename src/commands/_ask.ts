/** Questions to the person at the terminal. */

import { createInterface } from "node:readline/promises";
import { usageError, WaltError } from "../errors.ts";

/**
 * Ask for what an option did not say. The question goes to stderr, so that output can be piped.
 * @throws WaltError (usage) naming the option when there is no terminal to ask on; WaltError on ^C or ^D.
 */
export async function ask(question: string, option: string, fallback?: string): Promise<string> {
  if (!process.stdin.isTTY) throw usageError(`${option} is missing, and there is no terminal to ask on`);
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    for (;;) {
      const answer = (
        await terminal.question(`${question}${fallback === undefined ? "" : ` [${fallback}]`}: `)
      ).trim();
      if (answer !== "") return answer;
      if (fallback !== undefined) return fallback;
    }
  } catch (error) {
    // ^C and ^D: how readline/promises says it.
    if (error instanceof Error && error.name === "AbortError")
      throw new WaltError("no answer was given", { hint: `Give it with ${option}.`, cause: error });
    throw error;
  } finally {
    terminal.close();
  }
}

/** A yes or no; without a terminal `option` is what would have said yes. */
export async function confirm(question: string, option: string): Promise<boolean> {
  for (;;) {
    const answer = (await ask(`${question} (yes/no)`, option)).toLowerCase();
    if (answer === "y" || answer === "yes") return true;
    if (answer === "n" || answer === "no") return false;
  }
}
