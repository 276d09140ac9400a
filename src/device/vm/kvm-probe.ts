/**
 * Finds out whether KVM works on this machine.
 *
 * That /dev/kvm can be opened is not enough: inside a virtual machine it may be there without executing
 * anything. So QEMU is started with the node's type of machine and processor, and with a firmware of a few
 * instructions that switches the machine off.
 */

import { accessSync, constants, rmSync, writeFileSync } from "node:fs";
import { arch as hostArch } from "node:os";
import { join } from "node:path";
import { BOARDS, type Board } from "../../boards.ts";
import { codeOf, messageOf } from "../../errors.ts";
import { smallFolder } from "../../linux/files.ts";
import { PrintedTooMuch, runAny, TookTooLong } from "../../linux/run.ts";
import { safeText } from "../../text.ts";
import { type Accelerator, type Architecture, processor, QEMU } from "./qemu-arguments.ts";

/**
 * Milliseconds to wait for the probe. A KVM that executes nothing hangs for ever, which happens on PCs, where
 * a good probe takes 0.1 s. A Raspberry Pi needs longer: it reads QEMU from its card while everything else
 * starts, and must not be taken for a board without KVM because it is slow.
 */
const timeoutOf = (board: Board): number => BOARDS[board].probeTimeout;

/**
 * The port of QEMU's device isa-debug-exit. A value that is written to it makes QEMU exit with 2 * value + 1.
 */
const EXIT_PORT = 0xf4;
const EXIT_VALUE = 0x10;

/** The firmware, the arguments that it needs, and QEMU's exit status if the firmware was executed. */
function probe(arch: Architecture): { firmware: Buffer; args: string[]; status: number } {
  if (arch === "x64") {
    const firmware = Buffer.alloc(0x10000, 0xf4); // hlt
    // The processor starts 16 bytes before the end: mov al, value; out port, al
    firmware.set([0xb0, EXIT_VALUE, 0xe6, EXIT_PORT], 0xfff0);
    const args = ["-device", `isa-debug-exit,iobase=${EXIT_PORT},iosize=1`];
    return { firmware, args, status: (EXIT_VALUE << 1) | 1 };
  }
  // w0 = 0x84000008, which is SYSTEM_OFF of PSCI (Arm DEN 0022); then hvc. This call makes QEMU exit with 0,
  // and nothing else does.
  const instructions = [
    0x52800100, // mov w0, #8
    0x72b08000, // movk w0, #0x8400, lsl #16
    0xd4000002, // hvc #0
    0x14000000, // b .
  ];
  const firmware = Buffer.alloc(4096);
  for (const [index, word] of instructions.entries()) firmware.writeUInt32LE(word, index * 4);
  return { firmware, args: [], status: 0 };
}

/**
 * Run the probe. It is exported for its test, which runs it with emulation, too.
 * @param timeout milliseconds.
 * @param signal ends the probe when it is aborted.
 * @returns undefined when the firmware was executed, otherwise the reason in words.
 * @throws WaltError when it cannot be tried now: there is no QEMU, no room for the firmware, or no process can be made.
 */
export async function tryAccelerator(
  o: { board: Board; arch: Architecture; accel: Accelerator },
  timeout = timeoutOf(o.board),
  signal?: AbortSignal,
): Promise<string | undefined> {
  const { firmware, args, status } = probe(o.arch);
  const folder = smallFolder((made) => {
    writeFileSync(join(made, "firmware"), firmware);
    return made;
  });
  try {
    const path = join(folder, "firmware");
    const silent = ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-m", "64M"];
    const qemu = [QEMU[o.arch].program, ...processor(o), ...silent, ...args, "-bios", path];
    const done = await runAny(qemu, { timeout, signal });
    if (done.status === status) return undefined;
    const last = done.stderr.trim().split("\n").at(-1) ?? "";
    return `QEMU failed (exit ${done.status})${last === "" ? "" : `: ${safeText(last, 200)}`}`;
  } catch (error) {
    if (error instanceof PrintedTooMuch || signal?.aborted === true) return messageOf(error);
    if (!(error instanceof TookTooLong)) throw error;
    return `QEMU executed nothing within ${timeout / 1000} s`;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** For which virtual machine an accelerator is looked for. */
export interface FindOptions {
  /** The kind of board; `generic` unless given. */
  board?: Board;
  /**
   * Architecture of the virtual machine; that of this machine unless given. Another one is always emulated.
   */
  arch?: Architecture;
  /** Called with a message when KVM does not work. */
  say?: (words: string) => void;
  /** Ends the search when it is aborted; the result is then `tcg`. */
  signal?: AbortSignal;
}

/**
 * `kvm` if it works, otherwise `tcg`, which is emulation and many times slower. It takes at most 20 s, and on
 * a Raspberry Pi at most 2 min.
 * @throws as `tryAccelerator`: another time the result may be another one.
 */
export async function findAccelerator(o: FindOptions = {}): Promise<Accelerator> {
  const { board = "generic", signal, say } = o;
  const arch = o.arch ?? (hostArch() === "arm64" ? "arm64" : "x64");
  const why =
    whyNoKvm(arch) ??
    (await twice(() => tryAccelerator({ board, arch, accel: "kvm" }, timeoutOf(board), signal), signal, say));
  if (why === undefined) return "kvm";
  if (signal?.aborted !== true)
    say?.(`the virtual machine is emulated, which is slow, because KVM does not work: ${why}`);
  return "tcg";
}

/**
 * Run a probe, and once more if it failed: a board that is still starting may be too busy for the first one.
 * Exported for its test.
 * @returns undefined when one of them succeeded, otherwise the reason of the last one.
 */
export async function twice(
  probe: () => Promise<string | undefined>,
  signal?: AbortSignal,
  say?: (words: string) => void,
): Promise<string | undefined> {
  const why = await probe();
  if (why === undefined || signal?.aborted === true) return why;
  say?.(`KVM did not work and is tried once more: ${why}`);
  return await probe();
}

/** Why KVM cannot work, in words; undefined when it has to be tried. */
export function whyNoKvm(arch: Architecture): string | undefined {
  if (arch !== hostArch()) return `this machine is ${hostArch()}, but the virtual machine is ${arch}`;
  try {
    accessSync("/dev/kvm", constants.R_OK | constants.W_OK);
  } catch (error) {
    return codeOf(error) === "ENOENT"
      ? "/dev/kvm does not exist: the processor has no KVM, or the firmware or the kernel has switched it off"
      : messageOf(error);
  }
  return undefined;
}
