/** Which USB ports of a board are its sockets, and so the node's. */

import type { Board } from "./machine.ts";

/**
 * Ports by the names that their devices have in /sys/bus/usb/devices: `<bus>-<port>.<port>…`, each port being one of the hub
 * before it (Linux: Documentation/ABI/stable/sysfs-bus-usb).
 */
export interface UsbPorts {
  /** Everything that is plugged in here, or into hubs plugged in here, is the node's. */
  readonly external: readonly string[];
  /** Soldered to the board: never the node's, whatever the configuration says. */
  readonly own: readonly string[];
}

/** The four sockets of each Raspberry Pi, whose wired network card hangs on the same hubs. */
const BOARDS: Record<Board, UsbPorts> = {
  // Two hubs in one chip (LAN7515): the second is port 1 of the first, and the network card port 1 of the second.
  "rpi-3-b-plus": { external: ["1-1.1.2", "1-1.1.3", "1-1.2", "1-1.3"], own: ["1-1.1.1"] },
  // One hub, with the network card as its port 1 (LAN9514).
  "rpi-3-b": { external: ["1-1.2", "1-1.3", "1-1.4", "1-1.5"], own: ["1-1.1"] },
  // Nobody knows what is inside the case: nothing unless the configuration says so.
  generic: { external: [], own: [] },
};

/** The ports of a board; `configured` is `device.vm.usb`, with commas between, and "" for the board's own sockets. */
export function usbPorts(board: Board, configured: string): UsbPorts {
  const { external, own } = BOARDS[board];
  return { external: configured === "" ? external : configured.split(","), own };
}

/** Whether what has this name in /sys/bus/usb/devices is plugged into a port, or into a hub that is. */
function below(name: string, ports: readonly string[]): boolean {
  return ports.some((port) => name === port || name.startsWith(`${port}.`));
}

/** Whether a device of this name is the node's, if it is no hub. */
export function isExternal(name: string, ports: UsbPorts): boolean {
  return below(name, ports.external) && !below(name, ports.own);
}
