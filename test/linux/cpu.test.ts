/** What /proc/cpuinfo says, on machines that we have seen. */

import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { hasAes } from "../../src/linux/cpu.ts";

test.each([
  ["a mini-PC", "flags\t\t: fpu vme sse4_2 popcnt aes xsave avx\n", true],
  ["a processor without", "flags\t\t: fpu vme sse4_2 popcnt xsave\nbugs\t\t: aes\n", false],
  ["a Raspberry Pi 3", "processor\t: 0\nFeatures\t: fp asimd evtstrm crc32 cpuid\n", false],
  ["a board with them", "Features\t: fp asimd aes pmull sha1 sha2 crc32\n", true],
  ["an odd one", "flags\t\t: vaes kaes_x\n", false],
])("%s", (_, text, has) => {
  const folder = mkdtempSync(join(tmpdir(), "walt-cpu-"));
  try {
    const file = join(folder, "cpuinfo");
    writeFileSync(file, text);
    expect(hasAes(file)).toBe(has);
    expect(hasAes(join(folder, "none"))).toBe(false);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
