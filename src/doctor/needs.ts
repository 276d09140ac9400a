/** Checks of what a machine must have: programs, and the device of which TAPs are made. */

import { TUN, TUN_CURE } from "../linux/tap.ts";
import { denied, fault, OK, type Outcome } from "./check.ts";
import type { Machine } from "./machine.ts";

/** @param programs the Debian package of each. */
export function lookAtPrograms(machine: Machine, programs: Readonly<Record<string, string>>): Outcome {
  const missing = Object.entries(programs).filter(([program]) => !machine.has(program));
  if (missing.length === 0) return OK;
  const names = missing.map(([program]) => program);
  const packages = [...new Set(missing.map(([, name]) => name))];
  return fault(
    `${names.length === 1 ? "a program is" : "programs are"} missing: ${names.join(", ")}`,
    "not found in PATH, /usr/sbin, /usr/bin and /usr/local",
    `apt-get install --no-install-recommends ${packages.join(" ")}`,
  );
}

/** Whether TAPs can be made. */
export async function lookAtTun(machine: Machine): Promise<Outcome> {
  const code = await machine.access(TUN);
  if (code === undefined) return OK;
  if (code === "EACCES") throw denied(TUN);
  return fault("no TAP can be made: /dev/net/tun cannot be opened", `${TUN}: ${code}`, TUN_CURE);
}
