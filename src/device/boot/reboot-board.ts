/**
 * Reboots the whole board. Its init is asked first, which ends everything in order. If the board still runs
 * some time later, the kernel is told to reboot at once. If that hangs too, the hardware watchdog restarts the
 * board, because the supervisor does not say any more that it is well (device/root/usr/lib/walt/watchdog).
 */

import { readlinkSync, writeFileSync } from "node:fs";
import { messageOf, WaltError } from "../../errors.ts";
import { run } from "../../linux/run.ts";
import type { Log } from "../../log.ts";

/** Milliseconds that init may take. It ends a virtual machine, and on a PC all services. */
export const INIT_TAKES = 90_000;

/** The board, as far as it is rebooted; tests give another one. */
export interface RebootSystem {
  /** Whether this process sees the whole board, and not only a container on it. */
  isWhole(): boolean;
  /** Ask init. @throws WaltError when that fails. */
  askInit(): Promise<void>;
  /** Have the kernel reboot at once, after it has written what it can. @throws the system's error. */
  force(): void;
  /** Wait so many milliseconds. */
  wait(ms: number): Promise<void>;
}

/**
 * Prepare to reboot the board.
 * @returns a function that does it. It resolves when that has begun, or has failed, which the log then says.
 * @throws WaltError when this is not a whole board.
 */
export function prepareReboot(log: Log, system: RebootSystem = SYSTEM): () => Promise<void> {
  if (!system.isWhole()) {
    throw new WaltError("the device runs in a container, so it cannot reboot the board", {
      hint: "Reboot the machine that the container is on.",
    });
  }
  return async () => {
    log.warn("the board reboots", { event: "board-reboots" });
    try {
      await system.askInit();
    } catch (error) {
      force(system, log, messageOf(error));
      return;
    }
    const late = `init has not rebooted it within ${INIT_TAKES / 1000} s`;
    void system.wait(INIT_TAKES).then(() => force(system, log, late));
  };
}

function force(system: RebootSystem, log: Log, why: string): void {
  log.error(`the kernel reboots the board at once: ${why}`, { event: "board-reboots" });
  try {
    system.force();
  } catch (error) {
    log.error(`the kernel does not reboot the board: ${messageOf(error)}`, { event: "board-reboots" });
  }
}

/** The first namespace of process ids, that of the board (PROC_PID_INIT_INO of Linux, linux/proc_ns.h). */
const BOARD_PROCESSES = "pid:[4026531836]";

/** The kernel's keys, also for root alone when they are switched off (Documentation/admin-guide/sysrq.rst). */
const SYSRQ = "/proc/sysrq-trigger";

const SYSTEM: RebootSystem = {
  isWhole: () => readlinkSync("/proc/self/ns/pid") === BOARD_PROCESSES,
  // systemd's program and that of busybox both ask init, and end at once.
  askInit: async () => void (await run(["reboot"])),
  // Sync, remount all file systems without writing, and reboot.
  force: () => {
    for (const key of ["s", "u", "b"]) writeFileSync(SYSRQ, key);
  },
  wait: (ms) => Bun.sleep(ms),
};
