/** What the kernel knows of its clock: whether something keeps it right, and how wrong it may be. */

import { allocate, at, libc } from "./libc.ts";

/** Bytes of `struct timex` on 64-bit Linux, and where the fields are that are read (adjtimex(2), linux/timex.h). */
const TIMEX_SIZE = 208;
/** `long maxerror`: µs. */
const MAX_ERROR = 24;
/** `int status`. */
const STATUS = 40;
/** A bit of `status`: nothing keeps the clock. */
const STA_UNSYNC = 0x40;

/** ms by which the clock is wrong at most; null when nothing keeps it; undefined when the kernel does not tell. */
export function clockError(): number | null | undefined {
  // The first field, `modes`, is 0: nothing is changed.
  const timex = allocate(TIMEX_SIZE);
  if (libc.adjtimex(at(timex.address)) < 0) return undefined;
  const fields = new DataView(timex.bytes.buffer);
  if ((fields.getInt32(STATUS, true) & STA_UNSYNC) !== 0) return null;
  return Number(fields.getBigInt64(MAX_ERROR, true)) / 1000;
}
