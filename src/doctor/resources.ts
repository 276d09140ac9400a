/** Checks of what a machine may run out of: memory, file descriptors, inotify instances; and of its clock. */

import { duration, size } from "../text.ts";
import { fault, noted, OK, type Outcome, unknown } from "./check.ts";
import type { Machine } from "./machine.ts";

/** Bytes: what a started ssh or ip needs, and the daemon's own peaks. */
const LEAST_MEMORY = 24 << 20;
/** The part of a limit that may be used. */
const MOST_USED = 0.9;
/** This version was made after it (ms since 1970): a clock that shows less is wrong. */
export const MADE_AFTER = Date.parse("2026-11-01T00:00:00Z");
/** Milliseconds by which clocks may differ. */
const CLOCK_SLACK = 300_000;

export async function lookAtMemory(machine: Machine): Promise<Outcome> {
  const text = (await machine.read("/proc/meminfo")) ?? "";
  const kib = /^MemAvailable:\s+(\d+) kB$/m.exec(text)?.[1];
  if (kib === undefined) return unknown("/proc/meminfo does not say how much memory is available");
  const available = Number(kib) * 1024;
  if (available >= LEAST_MEMORY) return noted(`${size(available)} available`);
  return fault(
    "the machine has almost no memory left",
    `${size(available)} are available (MemAvailable of /proc/meminfo)`,
    "End what is not needed (`ps aux --sort -rss`), or give the virtual machine less: device.vm.memory.",
  );
}

/**
 * Whether files can still be opened: on the machine, and by a process of ours.
 * @param pid of the process; undefined if it does not run.
 */
export async function lookAtDescriptors(machine: Machine, pid: number | undefined): Promise<Outcome> {
  const [used = 0, , most = 0] = ((await machine.read("/proc/sys/fs/file-nr")) ?? "")
    .split(/\s+/)
    .map(Number);
  if (most > 0 && used > most * MOST_USED) {
    return fault(
      "the machine has almost no file descriptors left",
      `${used} of ${most} are in use (/proc/sys/fs/file-nr)`,
      "Find the program that leaks them (`lsof`), or raise the limit: sysctl -w fs.file-max=…",
    );
  }
  if (pid === undefined) return OK;
  const limits = (await machine.read(`/proc/${pid}/limits`)) ?? "";
  const limit = Number(/^Max open files\s+(\d+)/m.exec(limits)?.[1] ?? Number.POSITIVE_INFINITY);
  const open = (await machine.list(`/proc/${pid}/fd`)).length;
  if (open > limit * MOST_USED) {
    return fault(
      "the daemon has almost no file descriptors left",
      `${open} of ${limit} are in use (/proc/${pid}/limits)`,
      "Raise LimitNOFILE= of its unit, and restart it.",
    );
  }
  return noted(open === 0 ? "" : `${open} of ${limit} in use by process ${pid}`);
}

export async function lookAtInotify(machine: Machine): Promise<Outcome> {
  const code = await machine.watch("/");
  if (code === undefined) return OK;
  return fault(
    "changes of files cannot be watched: there are too many watchers",
    `inotify_init: ${code}`,
    "Raise the limits: sysctl -w fs.inotify.max_user_instances=1024 fs.inotify.max_user_watches=524288",
  );
}

/**
 * Whether the clock is later than it must be at least.
 * @param known times that have passed (ms since 1970), and from where they are known.
 */
export function lookAtClock(
  machine: Machine,
  known: readonly { readonly time: number; readonly from: string }[],
): Outcome {
  const now = machine.now();
  const cure = "Set it: `timedatectl set-ntp true`, or `date -s`. Check the battery of the clock.";
  const shows = `the clock shows ${new Date(now).toISOString()}`;
  if (now < MADE_AFTER) return fault("the clock is wrong", `${shows}, and this version is newer`, cure);
  for (const { time, from } of known) {
    if (now >= time - CLOCK_SLACK) continue;
    return fault(
      `the clock is at least ${duration(time - now)} behind`,
      `${shows}; ${from}: ${new Date(time).toISOString()}`,
      cure,
    );
  }
  return noted(new Date(now).toISOString());
}
