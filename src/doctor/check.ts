/** A check of `walt doctor`: what it looks at, which checks come before it, and what it may find. */

import { codeOf, messageOf, WaltError } from "../errors.ts";

/** What a check found. The engine makes all texts safe for a terminal. */
export type Outcome =
  /** Nothing is wrong. `note`: what is good to know all the same. */
  | { readonly is: "ok"; readonly note?: string }
  /** Something is wrong: what, what shows it, and what to do. */
  | { readonly is: "fault"; readonly what: string; readonly evidence: string; readonly cure: string }
  /** It could not be found out. */
  | { readonly is: "unknown"; readonly why: string };

/** A check as data. `T`: what it is given to look at. */
export interface Check<T> {
  /** Never changes: programs match it. */
  readonly id: string;
  /** What has to be right, for the table in docs/doctor.md. */
  readonly what: string;
  /**
   * Checks that come before it in the list. When one of them finds a fault, this one is not looked at: what
   * it would find is a consequence.
   */
  readonly after: readonly string[];
  look(o: T): Outcome | Promise<Outcome>;
}

export const OK: Outcome = { is: "ok" };

/** The outcome of a check that has nothing to say against a machine, but something that is good to know. */
export function noted(note: string): Outcome {
  return { is: "ok", note };
}

/** @param evidence what shows it, such as a program's output. @param cure what to do, in the imperative. */
export function fault(what: string, evidence: string, cure: string): Outcome {
  return { is: "fault", what, evidence, cure };
}

export function unknown(why: string): Outcome {
  return { is: "unknown", why };
}

/**
 * The fault that an error of this program tells: its message, and its hint as the cure.
 * @param cure what to do if the error has no hint.
 */
export function faultOf(error: WaltError, evidence: string, cure: string): Outcome {
  return fault(error.message, evidence, error.hint ?? cure);
}

/** The outcome of a function that throws a WaltError if something is wrong; see `faultOf`. */
export function told(check: () => void, evidence: string, cure: string): Outcome {
  try {
    check();
    return OK;
  } catch (error) {
    if (!(error instanceof WaltError) || isDenied(error)) throw error;
    return faultOf(error, evidence, cure);
  }
}

/** The error of a check that may not look at something, such as a path. */
export function denied(what: string): WaltError {
  return new WaltError(`no permission to use ${what}`, { cause: { code: "EACCES" } });
}

/** Whether it failed because this user may not look: that tells nothing of the machine. */
export function isDenied(error: unknown): boolean {
  const code = codeOf(error instanceof WaltError ? error.cause : error);
  return code === "EACCES" || code === "EPERM";
}

/** What a check has found that threw: it could not look. */
export function outcomeOfError(error: unknown): Outcome {
  const rights = isDenied(error) ? "; run `walt doctor` as root" : "";
  return unknown(`${messageOf(error)}${rights}`);
}

/** A function that does its work at the first call, and gives the same result at each. */
export function once<T>(work: () => T): () => T {
  let done: { result: T } | undefined;
  return () => {
    done ??= { result: work() };
    return done.result;
  };
}
