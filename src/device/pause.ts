/** Waiting that ends early when the device is stopped. */

/** Resolves after `ms`, or at once when `signal` is aborted. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
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
