/** The kinds of board that WalT supports: one record holds everything that differs between them. */

/** Everything that the program knows of one kind of board. */
export interface BoardRecord {
  /** The model's name, shown when the firmware tells none; undefined when the board may be any machine. */
  readonly model: string | undefined;
  /**
   * File name of the image that `walt vpn setup-node` writes; undefined when the board starts from its own
   * disk.
   */
  readonly image: string | undefined;
  /**
   * The architecture of the board, as Node.js names it; undefined when it may be any that walt is built for.
   */
  readonly arch: "arm64" | undefined;
  /** MiB of memory that the node does not get; undefined when the node gets half of the board's memory. */
  readonly ownMemory: number | undefined;
  /** Milliseconds that a trial start of QEMU may take (vm/kvm-probe.ts). */
  readonly probeTimeout: number;
  /**
   * Types of thermal zones that tell the processor's temperature; the first one that the kernel has counts.
   */
  readonly thermalZones: readonly string[];
  /**
   * File in which Raspberry Pi's own kernel shows the firmware's flags of under-voltage and throttling, below
   * `/`; undefined when the board has no such firmware.
   */
  readonly throttled: string | undefined;
  /** Which USB ports the node may use. */
  readonly usb: UsbPorts;
  /**
   * Ports that the power of all external ports is switched by, although the hubs say that they switch each
   * port alone; undefined where the hubs are right. From the README of uhubctl, "Raspberry Pi B+,2B,3B" and
   * "Raspberry Pi 3B+" (https://github.com/mvp/uhubctl, commit 2985dfc): port 2 of hub 1-1 switches all four
   * sockets, those of the 3 B+'s second hub as well. Not measured here.
   */
  readonly usbSwitch: readonly string[] | undefined;
}

/**
 * USB ports. A port has the name of a device in it in /sys/bus/usb/devices: `<bus>-<port>.<port>…`, where
 * each port is one of the hub before it (Linux: Documentation/ABI/stable/sysfs-bus-usb).
 */
export interface UsbPorts {
  /** Ports of the node: it gets what is plugged in here, and into hubs that are plugged in here. */
  readonly external: readonly string[];
  /** Ports of chips on the board itself: the node never gets these, whatever the configuration says. */
  readonly own: readonly string[];
}

/**
 * MiB that a Raspberry Pi keeps for itself. Measured on an emulated 3 B+ with 905 MiB (docs/sd-card.md tells
 * how): the kernel and the system use 76, the supervisor 61, each `ssh` to a proxy 4, and QEMU itself 62.
 * Without KVM, QEMU uses up to 64 more for translated code. The rest is for buffers and for the pages of
 * programs; pages that do not fit are read from the card again.
 */
const PI_OWN_MEMORY = 320;

const PI = {
  arch: "arm64",
  ownMemory: PI_OWN_MEMORY,
  probeTimeout: 60_000,
  thermalZones: ["cpu-thermal"], // bcm283x.dtsi of Linux
  throttled: "sys/devices/platform/soc/soc:firmware/get_throttled",
} as const;

/** The boards by their names in the configuration. */
export const BOARDS = {
  "rpi-3-b-plus": {
    ...PI,
    model: "Raspberry Pi 3 Model B+",
    image: "rpi3bp-vpn.dd",
    // One chip (LAN7515) has two hubs and the network card. The second hub is at port 1 of the first, and the
    // network card at port 1 of the second.
    usb: { external: ["1-1.1.2", "1-1.1.3", "1-1.2", "1-1.3"], own: ["1-1.1.1"] },
    usbSwitch: ["1-1.2"],
  },
  "rpi-3-b": {
    ...PI,
    model: "Raspberry Pi 3 Model B",
    image: "rpi3b-vpn.dd",
    // One chip (LAN9514) has a hub and the network card, which is at port 1 of the hub.
    usb: { external: ["1-1.2", "1-1.3", "1-1.4", "1-1.5"], own: ["1-1.1"] },
    usbSwitch: ["1-1.2"],
  },
  generic: {
    model: undefined,
    image: undefined,
    arch: undefined,
    ownMemory: undefined,
    probeTimeout: 10_000,
    // The sensor in the processor of a PC; that of many arm64 boards; that of a PC's firmware.
    thermalZones: ["x86_pkg_temp", "cpu-thermal", "acpitz"],
    throttled: undefined,
    // The ports of an unknown machine are unknown: the node gets only those that the configuration names.
    usb: { external: [], own: [] },
    usbSwitch: undefined,
  },
} as const satisfies Record<string, BoardRecord>;

/** The name of a kind of board, as the configuration has it. */
export type Board = keyof typeof BOARDS;

/** The names of all boards, in the order in which help and messages list them. */
export const BOARD_NAMES = Object.keys(BOARDS) as Board[];

/** The boards that start from an SD card with an image of walt. */
export const CARD_BOARDS: Board[] = BOARD_NAMES.filter((board) => BOARDS[board].image !== undefined);
