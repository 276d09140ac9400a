/** What the parts of the page share: where they are, what they say, and how they are kept up to date. */

import { AskError } from "./ask.ts";

/** ms until what failed is tried again. */
const RETRY = 2000;

/** What a part of the page is given. */
export interface Part {
  readonly main: HTMLElement;
  /** Aborted when another part is shown. */
  readonly signal: AbortSignal;
  /** Say what was done. */
  done(text: string): void;
  /** Say what is wrong; null: nothing is any more. */
  problem(text: string | null): void;
  /** Show another part, by its address behind the `#`, which says what was done. */
  leave(address: string, text: string): void;
  /** Say which server it is. */
  server(text: string): void;
}

/** Run `once` again and again until `signal`; a failure is shown until it is over. */
export async function repeat({ signal, problem }: Part, once: () => Promise<void>): Promise<void> {
  while (!signal.aborted) {
    try {
      await once();
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof AskError)) throw error;
      problem(error.message);
      await pause(RETRY, signal);
    }
  }
}

/** Resolves after `ms`, or when `signal` is aborted. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

/** Do something, and say what came of it. @param next the address of the part that is shown then, if another one. */
export async function attempt(part: Part, what: () => Promise<string>, next?: string): Promise<boolean> {
  const { done, problem } = part;
  try {
    const text = await what();
    problem(null);
    if (next === undefined) done(text);
    else part.leave(next, text);
    return true;
  } catch (error) {
    if (!(error instanceof AskError)) throw error;
    problem(error.message);
    return false;
  }
}
