/** Features of this machine's processor. */

import { readTextIfAny } from "./files.ts";

/**
 * Whether the processor has AES instructions: /proc/cpuinfo then has the word `aes` in the line `flags`
 * (x86-64) or `Features` (arm64). False when the file does not exist.
 */
export function hasAes(file = "/proc/cpuinfo"): boolean {
  const text = readTextIfAny(file, 1 << 20) ?? "";
  return /^(flags|Features)\s*:.*\baes\b/m.test(text);
}
