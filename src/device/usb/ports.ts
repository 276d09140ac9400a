/** Which USB ports of a board are its sockets, and so the node's. */

import { BOARDS, type Board, type UsbPorts } from "../../boards.ts";

/** The ports of a board; `configured` is `device.vm.usb`, with commas between, and "" for the board's own sockets. */
export function usbPorts(board: Board, configured: string): UsbPorts {
  const { external, own } = BOARDS[board].usb;
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
