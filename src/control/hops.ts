/** The round trip times from a device to each of its proxies, as the device answers them: one line of JSON. */

import { Fields } from "../parse.ts";

/** Proxies of a chain, and round trips to one, that an answer has room for. */
const HOPS_MAX = 16;
export const ROUNDS_MAX = 50;
/** Bytes of the line at most. */
export const HOPS_BYTES = 16_384;
/** The longest round trip time, ms. */
const LONGEST = 600_000;

export interface Hop {
  /** The proxy, as `host:port`. */
  readonly name: string;
  /** Round trip times, ms; null for one whose answer did not come. They include the hops before. */
  readonly rtts: (number | null)[];
}

/** The line, without its end. */
export function printHops(hops: readonly Hop[]): string {
  const rounded = hops.map(({ name, rtts }) => ({
    name,
    rtts: rtts.map((ms) => ms && Number(ms.toFixed(3))),
  }));
  return JSON.stringify({ hops: rounded });
}

/** @throws WaltError. */
export function parseHops(line: string): Hop[] {
  return Fields.parse(line, "the device's answer", HOPS_BYTES).list("hops", parseHop, HOPS_MAX);
}

function parseHop(f: Fields): Hop {
  return { name: f.words("name", 300), rtts: parseRtts(f) };
}

/** The round trip times in the field `rtts`. @throws WaltError. */
export function parseRtts(f: Fields): (number | null)[] {
  return f
    .array("rtts", ROUNDS_MAX)
    .map((one, index) =>
      one === null ? null : new Fields({ rtts: one }, `rtts[${index}]`).number("rtts", 0, LONGEST),
    );
}
