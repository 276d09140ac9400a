/** The virtual machine as QEMU's arguments: processor, devices and how it boots from the network. */

import { existsSync } from "node:fs";
import { BOARDS, type Board } from "../../boards.ts";
import { WaltError } from "../../errors.ts";

export type Architecture = "x64" | "arm64";
export type Accelerator = "kvm" | "tcg";

export interface MachineOptions {
  board: Board;
  arch: Architecture;
  accel: Accelerator;
  /** MiB. */
  memory: number;
  cpus: number;
  /** `52:54:00:01:02:03`. */
  mac: string;
  /** Of its network, bytes. */
  mtu: number;
  /** An existing TAP that the VM's network card is attached to. */
  tap: string;
  /** Path of the UNIX socket on which QEMU will listen for QMP, at most 107 bytes (unix(7)). */
  qmpSocket: string;
}

/** Files that the VM boots with, and the Debian package of each. */
const IPXE = {
  x64: { path: "/usr/lib/ipxe/ipxe.lkrn", package: "ipxe" },
  arm64: { path: "/usr/lib/ipxe/ipxe-arm64.efi", package: "ipxe" },
} as const;
const EFI = { path: "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd", package: "qemu-efi-aarch64" } as const;

/**
 * What iPXE does, for ever: an address by DHCP, then what DHCP names, by HTTP or TFTP. Better than its own `autoboot`, which waits
 * 13 s for IPv6 routers that are not there, and gives up when the tunnel is not up yet.
 */
const NETBOOT = `:retry
ifconf -c dhcp || goto again
chain --autofree \${filename} ||
:again
sleep 2
goto retry`;

/** QEMU's program for an architecture, and the Debian package that has it. */
export const QEMU = {
  x64: { program: "qemu-system-x86_64", package: "qemu-system-x86" },
  arm64: { program: "qemu-system-aarch64", package: "qemu-system-arm" },
} as const;

/**
 * What is missing on this machine to run such a VM.
 * @throws WaltError naming the package.
 */
export function checkMachine(arch: Architecture): void {
  const { program, package: name } = QEMU[arch];
  if (Bun.which(program) === null) {
    throw new WaltError(`cannot start the VM: there is no ${program}`, {
      hint: `apt-get install --no-install-recommends ${name}`,
    });
  }
  for (const file of arch === "arm64" ? [EFI, IPXE.arm64] : [IPXE.x64]) {
    if (!existsSync(file.path)) {
      throw new WaltError(`cannot boot the VM from the network: ${file.path} is missing`, {
        hint: `apt-get install --no-install-recommends ${file.package}`,
      });
    }
  }
}

/** The USB controller's name in QMP; its bus is `<name>.0`. */
export const USB_CONTROLLER = "usb";

/** MiB for the code that an emulated processor's was translated to, on a Raspberry Pi. */
const TRANSLATED = 64;

/** Machine type and processor. */
export function processor(o: Pick<MachineOptions, "board" | "arch" | "accel">): string[] {
  if (o.arch === "x64") {
    // "graphics=off" lets SeaBIOS, and with it iPXE, speak on the serial console.
    const machine = "q35,graphics=off";
    return o.accel === "kvm"
      ? ["-machine", `${machine},accel=kvm`, "-cpu", "host"]
      : ["-machine", machine, "-accel", "tcg,thread=multi", "-cpu", "max"];
  }
  // Both Raspberry Pi 3 have the same processor, a BCM2837.
  const pi3 = o.board !== "generic";
  if (o.accel === "tcg") {
    const cpu = pi3 ? "cortex-a53" : "cortex-a72";
    // The translated code may fill an eighth of a machine's memory, unless told: too much of a small board's (memory.ts).
    const accelerator = `tcg,thread=multi${pi3 ? `,tb-size=${TRANSLATED}` : ""}`;
    return ["-machine", "virt", "-accel", accelerator, "-cpu", cpu];
  }
  // The BCM2837 has no GIC that KVM could lend to the guest, so QEMU emulates one.
  const irqchip = pi3 ? "kernel_irqchip=off" : "gic-version=max";
  return ["-machine", `virt,accel=kvm,${irqchip}`, "-cpu", "host"];
}

/**
 * Firmware, iPXE and network card. iPXE is loaded as if it were a kernel, with its script as the kernel's command line: that needs
 * no option ROM on the card (there is none for arm64) and no TFTP. On arm64 EDK2 starts it.
 */
function boot(o: MachineOptions): string[] {
  const firmware = o.arch === "arm64" ? ["-bios", EFI.path] : [];
  const card = `virtio-net-pci,netdev=net0,mac=${o.mac},romfile=${o.mtu > 1500 ? `,host_mtu=${o.mtu}` : ""}`;
  return [...firmware, "-kernel", IPXE[o.arch].path, "-append", NETBOOT, "-device", card];
}

/**
 * QEMU's arguments, its program first. The serial console is on standard output, nothing else is shown; a reboot of the guest
 * ends QEMU (-no-reboot), so that whoever owns it starts it afresh and sees it in one place.
 * @throws WaltError when the board cannot have that architecture.
 */
export function qemuArguments(o: MachineOptions): string[] {
  const { arch } = BOARDS[o.board];
  if (arch !== undefined && o.arch !== arch) {
    throw new WaltError(`board ${o.board} is ${arch}, this machine is ${o.arch}`, {
      hint: 'Say board = "generic" in vpn.toml.',
    });
  }
  // biome-ignore format: one option a line
  return [
    QEMU[o.arch].program,
    ...processor(o),
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
    // The board's USB devices are plugged in here, as they come: 15 ports of USB 2 and 15 of USB 3 are the most it can have.
    "-device", `qemu-xhci,id=${USB_CONTROLLER},p2=15,p3=15`,
    // A kernel that panics says so (a Linux with the module pvpanic-pci), instead of standing still for ever.
    "-device", "pvpanic-pci",
  ];
}
