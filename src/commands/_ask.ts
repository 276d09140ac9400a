/** Questions to the person at the terminal. */

import { usageError, WaltError } from "../errors.ts";
import { readLines } from "../linux/lines.ts";

/** Bytes of an answer. A terminal takes no longer lines (termios(3), MAX_CANON). */
const MAX_ANSWER = 4096;
/** Times that a question is asked again after an answer that is none. */
const MAX_AGAIN = 10;

/**
 * Ask for what an option did not say. The question goes to stderr, so that output can be piped.
 * @param option is named when there is no answer
 * @param parse makes a value of what was typed, or undefined when it is no answer and is asked for again
 * @throws WaltError (usage) naming the option when there is no terminal to ask on; WaltError on ^C or ^D.
 */
async function question<T>(
  text: string,
  option: string,
  parse: (answer: string) => T | undefined,
): Promise<T> {
  if (!process.stdin.isTTY) throw usageError(`${option} is missing, and there is no terminal to ask on`);
  const noAnswer = (): WaltError =>
    new WaltError("no answer was given", { hint: `Use the option ${option} instead.` });
  const stop = new AbortController();
  const stopped = (): void => stop.abort();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, stopped);
  let found: { value: T } | undefined;
  let asked = 0;
  const ask = (): void => {
    if (++asked > MAX_AGAIN) throw noAnswer();
    process.stderr.write(text);
  };
  try {
    ask();
    await readLines(process.stdin, "standard input", MAX_ANSWER, stop.signal, (line) => {
      const value = parse(line.trim());
      if (value === undefined) return ask();
      found = { value };
      stop.abort();
    });
  } finally {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.off(signal, stopped);
    if (found === undefined) process.stderr.write("\n");
  }
  if (found === undefined) throw noAnswer();
  return found.value;
}

/** What was typed, or `fallback` for an empty answer. @throws as `question`. */
export function ask(text: string, option: string, fallback?: string): Promise<string> {
  const prompt = `${text}${fallback === undefined ? "" : ` [${fallback}]`}: `;
  return question(prompt, option, (answer) => (answer === "" ? fallback : answer));
}

/** Bytes of a passphrase. */
const MAX_SECRET = 1024;

/**
 * Ask for a passphrase, which is not shown.
 * @param option is named when there is no terminal.
 * @throws WaltError (usage) without a terminal; WaltError on ^C, ^D, and when it is empty.
 */
export async function askSecret(text: string, option: string): Promise<string> {
  const { stdin, stderr } = process;
  if (!stdin.isTTY) throw usageError(`${option} is missing, and there is no terminal to ask on`);
  stdin.setRawMode(true); // before the question: what is typed at once is not shown either
  stderr.write(`${text}: `);
  let typed = Buffer.alloc(0);
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const end = (): void => reject(new WaltError("no passphrase was given"));
  const take = (chunk: Uint8Array): void => {
    for (const byte of chunk) {
      // ^C, ^D; then the end of the line. What counts is the first of them.
      if (byte === 3 || byte === 4) end();
      else if (byte === 10 || byte === 13) resolve(typed.toString("utf8"));
      else if (byte === 8 || byte === 127) typed = typed.subarray(0, -1);
      else if (byte >= 32 && typed.length < MAX_SECRET) typed = Buffer.concat([typed, Buffer.of(byte)]);
    }
  };
  stdin.on("data", take).once("end", end).resume();
  try {
    const secret = await promise;
    if (secret === "") throw new WaltError("no passphrase was given");
    return secret;
  } finally {
    stdin.off("data", take).off("end", end).pause();
    stdin.setRawMode(false);
    stderr.write("\n");
  }
}

/** A yes or no; without a terminal `option` is what would have said yes. @throws as `question`. */
export function confirm(text: string, option: string): Promise<boolean> {
  return question(`${text} (yes/no): `, option, (answer) => {
    const word = answer.toLowerCase();
    if (word === "y" || word === "yes") return true;
    return word === "n" || word === "no" ? false : undefined;
  });
}
