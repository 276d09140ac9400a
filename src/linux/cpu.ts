/** What this machine's processor can do. */

import { readTextIfAny } from "./files.ts";

/**
 * Whether it has AES instructions: a flag of that name in /proc/cpuinfo, on x86-64 in `flags`, on arm64 in `Features`. Where that cannot be
 * told: no.
 */
export function hasAes(file = "/proc/cpuinfo"): boolean {
  const text = readTextIfAny(file, 1 << 20) ?? "";
  return /^(flags|Features)\s*:.*\baes\b/m.test(text);
}
