/** How a test waits: for an event or a condition, and never for ever. A failure says what was awaited, and what was seen instead. */

import { inspect } from "node:util";

/** Longest wait unless told, ms. Only what has come to a halt shall fail, not what is slow on a busy machine. */
export const PATIENCE = 60_000;

/** ms between two looks at a condition unless told. */
const INTERVAL = 5;

/** Characters that a failure shows of the last value. */
const SHOWN = 4000;

/** How long to wait. */
export interface Bound {
  /** Longest wait, ms; `PATIENCE` unless told. */
  within?: number;
}

/** How to look at a condition. */
export interface Looks extends Bound {
  /** ms between two looks. 0: look again as soon as the other events of this moment have had their turn. */
  every?: number;
}

/** What is still missing: these values of a condition mean "not yet". */
type Missing = undefined | null | false;

/**
 * Wait for an event: what its promise gives.
 * @param what the event, in words, for the failure.
 * @throws Error when it does not come in time; what the promise throws.
 */
export function eventually<T>(what: string, event: Promise<T>, options?: Bound): Promise<T>;
/**
 * Wait for a condition: `look` is called again and again until it gives something other than undefined, null or false, or
 * where `fits` is given, something that fits. That is the result.
 * @param what the condition, in words, for the failure.
 * @throws Error with the last value when it does not hold in time; what `look` throws, at once.
 */
export function eventually<T>(
  what: string,
  look: () => T | Promise<T>,
  options: Looks & { fits: (value: T) => boolean },
): Promise<T>;
export function eventually<T>(
  what: string,
  look: () => T | Promise<T>,
  options?: Looks,
): Promise<Exclude<T, Missing>>;
export async function eventually<T>(
  what: string,
  awaited: Promise<T> | (() => T | Promise<T>),
  options: Looks & { fits?: (value: T) => boolean } = {},
): Promise<T> {
  const { within = PATIENCE, every = INTERVAL, fits = isThere } = options;
  let last = awaited instanceof Promise ? "" : "; not one look came to its end";
  let isLate = false;
  let timer: Timer | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      isLate = true;
      reject(new Error(`${what}: not within ${within} ms${last}`));
    }, within);
  });
  const lookUntilItFits = async (look: () => T | Promise<T>): Promise<T> => {
    while (!isLate) {
      const value = await look();
      if (fits(value)) return value;
      last = `; the last value was ${inspect(value).slice(0, SHOWN)}`;
      await (every === 0 ? turn() : Bun.sleep(every));
    }
    return await late;
  };
  try {
    return await Promise.race([awaited instanceof Promise ? awaited : lookUntilItFits(awaited), late]);
  } finally {
    isLate = true;
    clearTimeout(timer);
  }
}

const isThere = (value: unknown): boolean => value !== undefined && value !== null && value !== false;

/** Let everything else that is ready have its turn. */
export const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
