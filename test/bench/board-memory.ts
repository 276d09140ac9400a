/** What an emulated board's memory goes to when its virtual machine runs: asked by ssh, as whoever looks after boards would. */

import { join } from "node:path";
import type { Board } from "../e2e/board.ts";
import type { Host } from "../lab/host.ts";
import type { World } from "../lab/world.ts";

const SLOW = 300_000;

/** MiB. */
export interface BoardMemory {
  /** As the board's kernel counts it. */
  totalMiB: number;
  /** What the VM was given. */
  vmMiB: number;
  /** What of that it has touched so far. */
  vmTouchedMiB: number;
  /** MemAvailable (proc(5)) meanwhile. */
  availableWithVmMiB: number;
  /** The same, had the VM touched all of its memory. */
  availableWithFullVmMiB: number;
  /** Private memory of walt, and of QEMU without the VM's own. */
  supervisorMiB: number;
  qemuMiB: number;
}

/** A key to log in with, on a host of the laboratory. */
export async function loginKey(host: Host): Promise<{ file: string; publicHalf: string }> {
  const file = join(host.dir, "login");
  await host.must(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file]);
  return { file, publicHalf: await host.must(["cat", `${file}.pub`]) };
}

/** Prints `name kB` lines; the VM's memory is the mapping of its size (its number of kB is put in). */
const SCRIPT = `awk '/^MemTotal|^MemAvailable/ { print $1, $2 }' /proc/meminfo
qemu=$(pidof qemu-system-aarch64)
awk '/^Size:/ { ours = $2 == SIZE } ours && /^Rss:/ { print "touched:", $2; exit }' /proc/$qemu/smaps
awk '/^Private_(Clean|Dirty):/ { sum += $2 } END { print "qemu:", sum }' /proc/$qemu/smaps_rollup
awk '/^Private_(Clean|Dirty):/ { sum += $2 } END { print "walt:", sum }' /proc/$(pidof walt | tr ' ' '\\n' | sort -n | head -n 1)/smaps_rollup
`;

/** Accept the board, wait until its VM runs, and look. @param from a host that reaches it, with the key. */
export async function memoryWithVm(
  world: World,
  from: Host,
  board: Board,
  key: string,
): Promise<BoardMemory> {
  const log = board.console;
  const monitor = await world.monitor();
  await monitor.answer("accept", { timeout: SLOW });
  const [, vm = ""] = await log.waitFor(/event=vm-started .*memory=(\d+)\D/, { timeout: SLOW });
  await monitor.stop();
  await log.waitFor(/Not backgrounding/, { timeout: SLOW }); // dropbear listens
  const [, address = ""] = await log.waitFor(/has the address (\S+)\/\d+ by DHCP/);
  const options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"];
  const ssh = ["ssh", "-i", key, ...options.flatMap((option) => ["-o", option]), `root@${address}`];
  // Firmware and iPXE have had their time, and wait for an address that nobody gives.
  await Bun.sleep(20_000);
  const text = await from.must([...ssh, SCRIPT.replace("SIZE", String(Number(vm) * 1024))], {
    timeout: 120_000,
  });
  const mib = (name: string): number =>
    Math.round(Number(new RegExp(`^${name}: (\\d+)$`, "m").exec(text)?.[1] ?? Number.NaN) / 1024);
  const touched = mib("touched");
  const available = mib("MemAvailable");
  return {
    totalMiB: mib("MemTotal"),
    vmMiB: Number(vm),
    vmTouchedMiB: touched,
    availableWithVmMiB: available,
    availableWithFullVmMiB: available - (Number(vm) - touched),
    supervisorMiB: mib("walt"),
    qemuMiB: mib("qemu") - touched,
  };
}
