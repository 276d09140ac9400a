/** Waiting: a sleep that an abort ends early, a bound on a wait, and how long to wait after failures. */

/** Resolves after `ms` milliseconds, or as soon as `signal` is aborted. It never rejects. */
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

/** Resolves as soon as `signal` is aborted. It never rejects. */
export function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}

/** What `work` gives. @throws `late` when it takes longer than `ms` milliseconds. It goes on all the same. */
export async function within<T>(ms: number, work: Promise<T>, late: Error): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(late), ms);
  try {
    return await Promise.race([work, promise]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * A duration, made up to 20 % longer at random, so that the devices that lost the same server do not all
 * connect again at the same moment.
 * @param ms duration in milliseconds.
 * @param random a number from 0 to 1.
 */
export function withJitter(ms: number, random: () => number = Math.random): number {
  return ms * (1 + 0.2 * random());
}

/** The shortest and the longest wait after failures, in milliseconds. */
export const FIRST_WAIT = 500;
export const LONGEST_WAIT = 30_000;

/**
 * How long to wait after failures, in milliseconds: the wait doubles with each failure, up to `LONGEST_WAIT`.
 * @param failures number of failures in a row, from 1.
 */
export function backoff(failures: number): number {
  return Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** Math.min(Math.max(0, failures - 1), 16));
}
