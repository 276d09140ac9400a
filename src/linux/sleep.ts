/** Waiting that an abort ends early, and how long to wait after failures. */

/** Resolves after `ms`, or at once when `signal` is aborted. */
export function sleep(ms: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const end = (): void => {
    clearTimeout(timer);
    signal.removeEventListener("abort", end);
    resolve();
  };
  const timer = setTimeout(end, ms);
  signal.addEventListener("abort", end);
  if (signal.aborted) end();
  return promise;
}

/** A wait made up to 20 % longer, so that many devices that lost the same server do not come back all at once. */
export function withJitter(ms: number, random: () => number = Math.random): number {
  return ms * (1 + 0.2 * random());
}

/** Waits after failures, ms: doubled from the first to the longest. */
export const FIRST_WAIT = 500;
export const LONGEST_WAIT = 30_000;

/** Wait before the n-th attempt in a row, n from 1; ms. */
export function backoff(failures: number): number {
  return Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** Math.min(Math.max(0, failures - 1), 16));
}
