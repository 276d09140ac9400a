/** The one error class that users see, and guards for the errors of the system. */

/** Exit statuses of every command. */
export const EXIT = { done: 0, failed: 1, usage: 2 } as const;

/**
 * An error for a person: the message says what went wrong, with the value; `hint` says what to do about it.
 * Shown without a stack trace. Anything else that is thrown is a bug of ours and is shown as one.
 */
export class WaltError extends Error {
  readonly hint: string | undefined;
  readonly exitCode: number;

  constructor(message: string, options: { hint?: string; exitCode?: number; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "WaltError";
    this.hint = options.hint;
    this.exitCode = options.exitCode ?? EXIT.failed;
  }
}

/** An error of whoever typed the command: exit status 2. */
export function usageError(message: string, hint?: string): WaltError {
  return new WaltError(
    message,
    hint === undefined ? { exitCode: EXIT.usage } : { hint, exitCode: EXIT.usage },
  );
}

/** The message of anything that was thrown, on one line's worth of text. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The system's error code (`ENOENT`, …) of what was thrown, if it has one. */
export function codeOf(error: unknown): string | undefined {
  if (typeof error !== "object" || error === null || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : undefined;
}
