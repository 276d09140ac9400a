/** Which USB ports of a board the node gets. */

import { BOARDS, type Board, type UsbPorts } from "../../boards.ts";

/**
 * The ports of a board.
 * @param configured `device.vm.usb`: the node's ports, separated by commas, or "" for all external ports of
 *   the board.
 */
export function usbPorts(board: Board, configured: string): UsbPorts {
  const { external, own } = BOARDS[board].usb;
  return { external: configured === "" ? external : configured.split(","), own };
}

/** Whether a device is plugged into one of the ports, or into a hub that is. */
export function below(name: string, ports: readonly string[]): boolean {
  return ports.some((port) => name === port || name.startsWith(`${port}.`));
}

/** Whether a device is on a port of the node. @param name of the port, as in `UsbDevice.port`. */
export function isExternal(name: string, ports: UsbPorts): boolean {
  return below(name, ports.external) && !below(name, ports.own);
}
