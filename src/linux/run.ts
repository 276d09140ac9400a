/** Programs of the system, run to their end, and children that never outlive us. */

import { messageOf, WaltError } from "../errors.ts";

export interface RunResult {
  status: number;
  stdout: string;
  stderr: string;
}

/** A program was ended because it ran for longer than it may. */
export class TookTooLong extends WaltError {}

export interface RunOptions {
  /** Text for its standard input; none unless given. */
  input?: string;
  /** Killed after this many ms; 30 000 unless told. */
  timeout?: number;
  /** Killed when it is aborted. */
  signal?: AbortSignal | undefined;
  env?: Record<string, string | undefined>;
}

/**
 * Run a program and wait for it, whatever its exit status.
 * @throws WaltError when it cannot be started, TookTooLong when it takes too long; the reason of `signal` when that was aborted.
 */
export async function runAny(command: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const name = command[0] ?? "";
  const timeout = options.timeout ?? 30_000;
  options.signal?.throwIfAborted();
  let child: Bun.Subprocess<"ignore" | Uint8Array<ArrayBuffer>, "pipe", "pipe">;
  try {
    child = Bun.spawn([...command], {
      stdin: options.input === undefined ? "ignore" : new TextEncoder().encode(options.input),
      stdout: "pipe",
      stderr: "pipe",
      // Said even when it is our own: else Bun looks for the program in the PATH that we were started with.
      env: options.env ?? process.env,
      ...(options.signal === undefined ? {} : { signal: options.signal, killSignal: "SIGKILL" as const }),
    });
  } catch (error) {
    throw new WaltError(`cannot run ${name}: ${messageOf(error)}`, {
      hint: `Is ${name} installed?`,
      cause: error,
    });
  }
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    child.kill("SIGKILL");
  }, timeout);
  try {
    const [stdout, stderr, status] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
      child.exited,
    ]);
    options.signal?.throwIfAborted();
    if (late) throw new TookTooLong(`${command.join(" ")} took longer than ${timeout} ms and was ended`);
    return { status, stdout, stderr };
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Run a program that must succeed; its standard output.
 * @throws WaltError with what it printed to standard error.
 */
export async function run(command: readonly string[], options: RunOptions = {}): Promise<string> {
  const { status, stdout, stderr } = await runAny(command, options);
  if (status !== 0) {
    throw new WaltError(`${command.join(" ")} failed (exit ${status}): ${stderr.trim() || stdout.trim()}`);
  }
  return stdout;
}

/**
 * A command line whose process the kernel kills when this process dies, `kill -9` included (prctl(2), PR_SET_PDEATHSIG). An
 * orphan would hold on to a bridge, a TAP or a port, and the next start would find them taken. setpriv(1) is part of util-linux.
 */
export function diesWithParent(command: readonly string[]): string[] {
  return ["setpriv", "--pdeathsig", "KILL", "--", ...command];
}
