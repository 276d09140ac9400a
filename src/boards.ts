/** The kinds of board that WalT supports: one record for everything that differs between them. */

export interface BoardRecord {
  /** The model's name, shown where the firmware tells none; undefined: any machine. */
  readonly model: string | undefined;
  /** File name of the SD-card image that `walt vpn setup-node` writes; undefined: the machine has a system of its own. */
  readonly image: string | undefined;
  /** The only architecture of the board, by Node's names; undefined: either. */
  readonly arch: "arm64" | undefined;
  /** MiB of memory that the board's own system keeps when the node gets the rest; undefined: the node gets half. */
  readonly ownMemory: number | undefined;
  /** ms that a trial start of QEMU may take (vm/kvm-probe.ts). */
  readonly probeTimeout: number;
  /**
   * USB ports by the names that their devices have in /sys/bus/usb/devices: `<bus>-<port>.<port>…`, each port being one of the
   * hub before it (Linux: Documentation/ABI/stable/sysfs-bus-usb).
   */
  readonly usb: UsbPorts;
}

export interface UsbPorts {
  /** Everything that is plugged in here, or into hubs plugged in here, is the node's. */
  readonly external: readonly string[];
  /** Soldered to the board: never the node's, whatever the configuration says. */
  readonly own: readonly string[];
}

/**
 * MiB that a Raspberry Pi keeps for itself: of 905 in an emulated 3 B+, kernel and system take 76, the supervisor 61, each `ssh`
 * to a proxy 4, QEMU itself 62 (docs/sd-card.md tells how that was measured), and translated code up to 64 where KVM is missing.
 * The rest is for buffers and for the pages of programs, which are read from the card again when they do not fit.
 */
const PI_OWN_MEMORY = 320;

const PI = { arch: "arm64", ownMemory: PI_OWN_MEMORY, probeTimeout: 60_000 } as const;

export const BOARDS = {
  "rpi-3-b-plus": {
    ...PI,
    model: "Raspberry Pi 3 Model B+",
    image: "rpi3bp-vpn.dd",
    // Two hubs in one chip (LAN7515): the second is port 1 of the first, and the network card port 1 of the second.
    usb: { external: ["1-1.1.2", "1-1.1.3", "1-1.2", "1-1.3"], own: ["1-1.1.1"] },
  },
  "rpi-3-b": {
    ...PI,
    model: "Raspberry Pi 3 Model B",
    image: "rpi3b-vpn.dd",
    // One hub, with the network card as its port 1 (LAN9514).
    usb: { external: ["1-1.2", "1-1.3", "1-1.4", "1-1.5"], own: ["1-1.1"] },
  },
  generic: {
    model: undefined,
    image: undefined,
    arch: undefined,
    ownMemory: undefined,
    probeTimeout: 10_000,
    // Where the ports of an unknown machine are is unknown: none is passed on unless the configuration names it.
    usb: { external: [], own: [] },
  },
} as const satisfies Record<string, BoardRecord>;

export type Board = keyof typeof BOARDS;

/** In the order in which help and messages list them. */
export const BOARD_NAMES = Object.keys(BOARDS) as Board[];

/** The boards that start from an SD card of ours. */
export const CARD_BOARDS: Board[] = BOARD_NAMES.filter((board) => BOARDS[board].image !== undefined);
