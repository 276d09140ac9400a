/**
 * Whether KVM works here. That /dev/kvm can be opened says little: within a VM it may be there and execute nothing. So a QEMU
 * with the very machine and processor of the node runs a firmware of a few instructions, which switches the machine off.
 */

import { accessSync, constants, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { arch as hostArch, tmpdir } from "node:os";
import { join } from "node:path";
import { BOARDS, type Board } from "../../boards.ts";
import { codeOf, messageOf } from "../../errors.ts";
import { runAny, TookTooLong } from "../../linux/run.ts";
import { safeText } from "../../text.ts";
import { type Accelerator, type Architecture, processor, QEMU } from "./qemu-arguments.ts";

/**
 * How long to wait for the probe, ms. KVM that does not execute hangs for ever: that was seen on PCs, where QEMU starts in 0.1 s. A
 * Pi reads QEMU from its card while everything else starts; being slow must not make it look like a board without KVM.
 */
const patience = (board: Board): number => BOARDS[board].probeTimeout;

/** Written to isa-debug-exit's port, this makes QEMU exit with `(value << 1) | 1`. */
const EXIT_VALUE = 0x10;
const EXIT_PORT = 0xf4;

/** The firmware, the arguments it needs, and QEMU's exit status when it has run. */
function probe(arch: Architecture): { firmware: Buffer; args: string[]; status: number } {
  if (arch === "x64") {
    const firmware = Buffer.alloc(0x10000, 0xf4); // hlt
    // The processor starts 16 bytes below the end: mov al, value; out port, al
    firmware.set([0xb0, EXIT_VALUE, 0xe6, EXIT_PORT], 0xfff0);
    const args = ["-device", `isa-debug-exit,iobase=${EXIT_PORT},iosize=1`];
    return { firmware, args, status: (EXIT_VALUE << 1) | 1 };
  }
  // w0 = 0x84000008, PSCI's SYSTEM_OFF (Arm DEN 0022); then hvc. QEMU exits with 0, and nothing but the call leads there.
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
 * Run the probe: undefined when it executed, else why not, in words. `timeout` is in ms.
 * Exported for its test, which runs it emulated too.
 */
export async function tryAccelerator(
  o: { board: Board; arch: Architecture; accel: Accelerator },
  timeout = patience(o.board),
  signal?: AbortSignal,
): Promise<string | undefined> {
  const { firmware, args, status } = probe(o.arch);
  const folder = mkdtempSync(join(tmpdir(), "walt-kvm-"));
  try {
    const path = join(folder, "firmware");
    writeFileSync(path, firmware);
    const silent = ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-m", "64M"];
    const qemu = [QEMU[o.arch].program, ...processor(o), ...silent, ...args, "-bios", path];
    const done = await runAny(qemu, { timeout, signal });
    if (done.status === status) return undefined;
    const last = done.stderr.trim().split("\n").at(-1) ?? "";
    return `QEMU could not use it (exit ${done.status})${last === "" ? "" : `: ${safeText(last, 200)}`}`;
  } catch (error) {
    return error instanceof TookTooLong ? `it executed nothing within ${timeout / 1000} s` : messageOf(error);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export interface FindOptions {
  /** A generic machine unless told. */
  board?: Board;
  /** This machine's architecture unless told; a VM of another one is always emulated. */
  arch?: Architecture;
  /** Is told what does not work, and why. */
  say?: (words: string) => void;
  signal?: AbortSignal;
}

/**
 * `kvm` where it works, else `tcg` (emulation, many times slower), and then `say` is told why. Takes at most 20 s, on a Pi 2 min, and
 * less when `signal` is aborted; then it is `tcg`.
 */
export async function findAccelerator(o: FindOptions = {}): Promise<Accelerator> {
  const { board = "generic", signal, say } = o;
  const arch = o.arch ?? (hostArch() === "arm64" ? "arm64" : "x64");
  const why =
    absence(arch) ??
    (await twice(() => tryAccelerator({ board, arch, accel: "kvm" }, patience(board), signal), signal, say));
  if (why === undefined) return "kvm";
  if (signal?.aborted !== true) say?.(`the virtual machine is emulated, which is slow: /dev/kvm: ${why}`);
  return "tcg";
}

/** A board that is busy with its start may fail once what works the next time. Exported for its test. */
export async function twice(
  probe: () => Promise<string | undefined>,
  signal?: AbortSignal,
  say?: (words: string) => void,
): Promise<string | undefined> {
  const why = await probe();
  if (why === undefined || signal?.aborted === true) return why;
  say?.(`KVM is tried once more: ${why}`);
  return await probe();
}

/** Why KVM need not be tried. */
function absence(arch: Architecture): string | undefined {
  if (arch !== hostArch()) return `this machine is ${hostArch()}, the VM is ${arch}`;
  try {
    accessSync("/dev/kvm", constants.R_OK | constants.W_OK);
  } catch (error) {
    return codeOf(error) === "ENOENT"
      ? "does not exist: the processor has no virtualisation, or the firmware or the kernel has it switched off"
      : messageOf(error);
  }
  return undefined;
}
