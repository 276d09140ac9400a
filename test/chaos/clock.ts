/** Clocks that can be moved while programs run, by libfaketime(1): of all programs that are started with `environment`. */

import { existsSync } from "node:fs";
import { arch } from "node:os";
import type { Host } from "../lab/host.ts";

const TRIPLE = arch() === "arm64" ? "aarch64-linux-gnu" : "x86_64-linux-gnu";
/** The library of Debian's package libfaketime, for programs with threads. */
const LIBRARY = `/usr/lib/${TRIPLE}/faketime/libfaketimeMT.so.1`;
/** The file on a host that says how far its clock is off. */
const FILE = "/etc/lab-clock";

/** Whether clocks can be moved on this machine. */
export const canMoveClocks = (): boolean => existsSync(LIBRARY);

/** The environment of a host's programs whose clock can be moved; none where that cannot be done. */
export function clockEnvironment(host: Host): Record<string, string> {
  if (!canMoveClocks()) return {};
  moveClock(host, 0);
  return {
    LD_PRELOAD: LIBRARY,
    FAKETIME_TIMESTAMP_FILE: FILE,
    // The file is read again after so many seconds.
    FAKETIME_CACHE_DURATION: "1",
    // Only the time of day is wrong on machines whose clock is wrong.
    FAKETIME_DONT_FAKE_MONOTONIC: "1",
    // Else a program that is killed leaves something in /dev/shm.
    FAKETIME_DISABLE_SHM: "1",
  };
}

/** From now on the clock of the host is off by so many seconds. */
export function moveClock(host: Host, seconds: number): void {
  host.writeFile(FILE, `${seconds < 0 ? "" : "+"}${seconds}\n`);
}
