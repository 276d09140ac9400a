import { messageOf } from "../../src/errors.ts";

/** The number of a bench's option, from 1 to `most`. Anything else is a usage error, which ends the program. */
export function count(option: string, text: string, most: number): number {
  const value = /^\d{1,9}$/.test(text) ? Number(text) : 0;
  if (value >= 1 && value <= most) return value;
  process.stderr.write(`--${option} ${text}: it must be a whole number from 1 to ${most}\n`);
  process.exit(2);
}

/** What `parse` returns. An error of it is one of usage, which ends the program. @param help is printed below it. */
export function orUsage<T>(parse: () => T, help = ""): T {
  try {
    return parse();
  } catch (error) {
    process.stderr.write(`${messageOf(error)}\n${help === "" ? "" : `\n${help}`}`);
    process.exit(2);
  }
}
