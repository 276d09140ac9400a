/** Runs programs of the system to their end. */

import { messageOf, WaltError } from "../errors.ts";
import { WholeOutput } from "./output.ts";

/** The result of a program that has ended. */
export interface RunResult {
  /** Its exit status. */
  status: number;
  /** Its standard output as text. */
  stdout: string;
  /** Its standard error as text. */
  stderr: string;
}

/** A program was killed because it ran longer than `RunOptions.timeout`. */
export class TookTooLong extends WaltError {}

/** A program was killed because it printed more than `OUTPUT_MOST` bytes. */
export class PrintedTooMuch extends WaltError {}

/** Bytes that a program may print to either output: `ip -j address` of a server with 1000 tunnels has some 1 MB. */
export const OUTPUT_MOST = 4 << 20;

/** Characters of what a program that failed has printed, in the message of the error: the last ones. */
const WORDS_MOST = 4000;

/** How a program is run. */
export interface RunOptions {
  /** Text for its standard input; none unless given. */
  input?: string;
  /** Milliseconds after which it is killed; 30 000 unless given. */
  timeout?: number;
  /** The program is killed when this signal is aborted. */
  signal?: AbortSignal | undefined;
  /** All of its environment variables; those of this process unless given. */
  env?: Record<string, string | undefined>;
}

/** What `start` gives: a program that runs. @throws WaltError naming the program when it cannot be started. */
export function started<T>(name: string, start: () => T): T {
  try {
    return start();
  } catch (error) {
    throw new WaltError(`cannot run ${name}: ${messageOf(error)}`, {
      hint: `Is ${name} installed?`,
      cause: error,
    });
  }
}

/**
 * Run a program and wait for its end, whatever its exit status is.
 * @throws WaltError when it cannot be started.
 * @throws TookTooLong when it was killed after the timeout.
 * @throws PrintedTooMuch when it was killed because it printed more than `OUTPUT_MOST` bytes.
 * @throws the reason of `options.signal` when that was aborted.
 */
export async function runAny(command: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const name = command[0] ?? "";
  const timeout = options.timeout ?? 30_000;
  options.signal?.throwIfAborted();
  const child = started(name, () =>
    Bun.spawn([...command], {
      stdin: options.input === undefined ? "ignore" : new TextEncoder().encode(options.input),
      stdout: "pipe",
      stderr: "pipe",
      lazy: true, // else Bun reads, and keeps, all that comes
      // Said even when it is our own: else Bun looks for the program in the PATH that we were started with.
      env: options.env ?? process.env,
      ...(options.signal === undefined ? {} : { signal: options.signal, killSignal: "SIGKILL" as const }),
    }),
  );
  let killed: WaltError | undefined;
  const kill = (why: WaltError): void => {
    killed ??= why;
    child.kill("SIGKILL");
  };
  const typed = command.join(" ");
  const timer = setTimeout(
    () => kill(new TookTooLong(`${typed} took longer than ${timeout} ms and was killed`)),
    timeout,
  );
  const tooLong = (): void =>
    kill(new PrintedTooMuch(`${typed} printed more than ${OUTPUT_MOST} bytes and was killed`));
  try {
    const outputs = [child.stdout, child.stderr].map(
      (stream) => new WholeOutput(stream, OUTPUT_MOST, tooLong),
    );
    const status = await child.exited;
    const [stdout = "", stderr = ""] = await Promise.all(outputs.map((output) => output.text()));
    options.signal?.throwIfAborted();
    if (killed !== undefined) throw killed;
    return { status, stdout, stderr };
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Run a program that must succeed, and return its standard output.
 * @throws as `runAny`, and WaltError with what it printed when its exit status is not 0.
 */
export async function run(command: readonly string[], options: RunOptions = {}): Promise<string> {
  const { status, stdout, stderr } = await runAny(command, options);
  if (status !== 0) {
    const words = (stderr.trim() || stdout.trim()).slice(-WORDS_MOST);
    throw new WaltError(`${command.join(" ")} failed (exit ${status}): ${words}`);
  }
  return stdout;
}
