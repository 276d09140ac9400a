/**
 * The command line of QEMU: the virtual machine's processor and devices, and how it boots from the network.
 */

import { existsSync } from "node:fs";
import { BOARDS, type Board } from "../../boards.ts";
import { WaltError } from "../../errors.ts";
import { netbootScript } from "./netboot.ts";

/** The architectures that a virtual machine can have, as Node.js names them. */
export type Architecture = "x64" | "arm64";
/** What executes the guest's instructions: the processor, by KVM, or TCG, QEMU's emulation. */
export type Accelerator = "kvm" | "tcg";

/** The virtual machine to start. */
export interface MachineOptions {
  board: Board;
  arch: Architecture;
  accel: Accelerator;
  /** Memory in MiB. */
  memory: number;
  /** Number of processors. */
  cpus: number;
  /** MAC address of its network card, such as `52:54:00:01:02:03`. */
  nodeMac: string;
  /** MTU of its network, in bytes. */
  mtu: number;
  /** What kind of node it is, for a WalT server: `qemu-arm-64`. */
  model: string;
  /** The time of day for its real-time clock; undefined when the board's own counts. */
  time?: Date | undefined;
  /** Name of an existing TAP, to which its network card is attached. */
  tap: string;
  /** Path of the UNIX socket on which QEMU will listen for QMP, at most 107 bytes (unix(7)). */
  qmpSocket: string;
}

/** Files that the virtual machine boots with, and the Debian package of each. */
const IPXE = {
  x64: { path: "/usr/lib/ipxe/ipxe.lkrn", package: "ipxe" },
  arm64: { path: "/usr/lib/ipxe/ipxe-arm64.efi", package: "ipxe" },
} as const;
const EFI = { path: "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd", package: "qemu-efi-aarch64" } as const;

/** What kind of node the virtual machine is, for a WalT server, which chooses the boot files by it. */
export const DEFAULT_MODEL: Readonly<Record<Architecture, string>> = {
  x64: "pc-x86-64",
  arm64: "qemu-arm-64",
};

/** QEMU's program for each architecture, and the Debian package that has it. */
export const QEMU = {
  x64: { program: "qemu-system-x86_64", package: "qemu-system-x86" },
  arm64: { program: "qemu-system-aarch64", package: "qemu-system-arm" },
} as const;

/** The architecture of this machine. @throws WaltError on one for which there is no virtual machine. */
export function thisArchitecture(): Architecture {
  const { arch } = process;
  if (arch === "x64" || arch === "arm64") return arch;
  throw new WaltError(`there is no virtual machine for a processor of type ${arch}, only for x64 and arm64`);
}

/**
 * Check that this machine has the files that a virtual machine needs.
 * @throws WaltError naming the file that is missing and the command that installs it.
 */
export function checkMachine(arch: Architecture): void {
  const { program, package: name } = QEMU[arch];
  if (Bun.which(program) === null) {
    throw new WaltError(`cannot start the virtual machine: the program ${program} is missing`, {
      hint: `apt-get install --no-install-recommends ${name}`,
    });
  }
  for (const file of arch === "arm64" ? [EFI, IPXE.arm64] : [IPXE.x64]) {
    if (!existsSync(file.path)) {
      throw new WaltError(`cannot boot the virtual machine from the network: ${file.path} is missing`, {
        hint: `apt-get install --no-install-recommends ${file.package}`,
      });
    }
  }
}

/** The USB controller's name in QMP; its bus is `<name>.0`. */
export const USB_CONTROLLER = "usb";

/**
 * MiB for translated code, on a Raspberry Pi without KVM: emulation translates the guest's code into the
 * board's.
 */
const TRANSLATED = 64;

/**
 * The type of machine on arm64, which is described to the guest by a device tree alone: WalT's kernel for it has no
 * ACPI, and Debian's panics with ACPI when its command line says `acpi=off`, as WalT's does.
 */
const VIRT = "virt,acpi=off";

/**
 * By these names of the machine (SMBIOS, type 1) WalT's images know a node that is a virtual PC, and put a console
 * on its serial line.
 */
const PC_NAMES = "type=1,manufacturer=QEMU,product=Standard PC (i440FX + PIIX,, 1996)";

/** QEMU's arguments for the type of machine, the processor and the accelerator. */
export function processor(o: Pick<MachineOptions, "board" | "arch" | "accel">): string[] {
  if (o.arch === "x64") {
    // With "graphics=off", SeaBIOS and iPXE use the serial console.
    const machine = "q35,graphics=off";
    return o.accel === "kvm"
      ? ["-machine", `${machine},accel=kvm`, "-cpu", "host"]
      : ["-machine", machine, "-accel", "tcg,thread=multi", "-cpu", "max"];
  }
  // Both Raspberry Pi 3 have the same processor, a BCM2837.
  const pi3 = o.board !== "generic";
  if (o.accel === "tcg") {
    const cpu = pi3 ? "cortex-a53" : "cortex-a72";
    // Without a limit, translated code may fill an eighth of the machine's memory, which is too much on a
    // small board (`ownMemory` in boards.ts counts with 64 MiB).
    const accelerator = `tcg,thread=multi${pi3 ? `,tb-size=${TRANSLATED}` : ""}`;
    return ["-machine", VIRT, "-accel", accelerator, "-cpu", cpu];
  }
  // The BCM2837 has no interrupt controller (GIC) that KVM could use for the guest, so QEMU emulates one.
  const irqchip = pi3 ? "kernel_irqchip=off" : "gic-version=max";
  return ["-machine", `${VIRT},accel=kvm,${irqchip}`, "-cpu", "host"];
}

/**
 * QEMU's arguments for the firmware, iPXE and the network card. iPXE is loaded as if it were a kernel, with
 * its script as the kernel's command line. This needs neither an option ROM on the network card, which does
 * not exist for arm64, nor TFTP. On arm64 the firmware EDK2 starts iPXE.
 */
function boot(o: MachineOptions): string[] {
  const firmware = o.arch === "arm64" ? ["-bios", EFI.path] : [];
  const mtu = o.mtu > 1500 ? `,host_mtu=${o.mtu}` : "";
  const card = `virtio-net-pci,netdev=net0,mac=${o.nodeMac},romfile=${mtu}`;
  return [...firmware, "-kernel", IPXE[o.arch].path, "-append", netbootScript(o.model), "-device", card];
}

/** QEMU's arguments for what the guest finds out about its machine, and the time of day. */
function facts({ arch, time }: MachineOptions): string[] {
  // With clock=rt, the guest's clock does not jump when that of the board is set.
  const rtc = time === undefined ? [] : ["-rtc", `base=${time.toISOString().slice(0, 19)},clock=rt`];
  return [...(arch === "x64" ? ["-smbios", PC_NAMES] : []), ...rtc];
}

/**
 * The command line of QEMU, its program first. The serial console is QEMU's standard input and output. A
 * reboot of the guest ends QEMU (-no-reboot), so that its owner starts it in one way, whatever ended it.
 * @throws WaltError when the kind of board does not have that architecture.
 */
export function qemuArguments(o: MachineOptions): string[] {
  const { arch } = BOARDS[o.board];
  if (arch !== undefined && o.arch !== arch) {
    throw new WaltError(`device.board is ${o.board}, which has ${arch}, but this machine has ${o.arch}`, {
      hint: 'Set board = "generic" in the table [device] of vpn.toml.',
    });
  }
  // biome-ignore format: one option a line
  return [
    QEMU[o.arch].program,
    ...processor(o),
    ...facts(o),
    "-m", `${o.memory}M`,
    "-smp", `${o.cpus}`,
    "-nodefaults",
    "-no-user-config",
    "-no-reboot",
    "-display", "none",
    "-chardev", "stdio,id=console,signal=off",
    "-serial", "chardev:console",
    "-chardev", `socket,id=qmp,path=${o.qmpSocket.replaceAll(",", ",,")},server=on,wait=off`,
    "-mon", "chardev=qmp,mode=control",
    "-netdev", `tap,id=net0,ifname=${o.tap},script=no,downscript=no`,
    ...boot(o),
    "-device", "virtio-rng-pci",
    // The board's USB devices are added to this controller. It can have at most 15 ports of USB 2 and 15 of
    // USB 3.
    "-device", `qemu-xhci,id=${USB_CONTROLLER},p2=15,p3=15`,
    // By this device a kernel that panics tells QEMU so, instead of standing still for ever. Linux needs the
    // module pvpanic-pci for it.
    "-device", "pvpanic-pci",
  ];
}
