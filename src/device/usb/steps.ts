/** Which USB devices have to be added to the virtual machine, and which have to be removed from it. */

import type { UsbPorts } from "../../boards.ts";
import type { UsbDevice } from "./devices.ts";
import { isExternal } from "./ports.ts";

/**
 * The name of a device in QEMU. A device that is unplugged and plugged in again gets another name, so that
 * QEMU's old device is not taken for it.
 */
export function qemuId(device: UsbDevice): string {
  return `usb-${device.bus}-${device.number}-${device.appearance}`;
}

/** Whether a name in QEMU is one that `qemuId` makes. */
export function isQemuId(id: string): boolean {
  return /^usb-\d+-\d+-\d+$/.test(id);
}

/** Path of the file by which programs access a device (usbfs). */
export function deviceFile(device: UsbDevice): string {
  const three = (n: number): string => String(n).padStart(3, "0");
  return `/dev/bus/usb/${three(device.bus)}/${three(device.number)}`;
}

/** One thing to do: remove the device of a name from QEMU, or add a device under a name. */
export type UsbStep =
  | { readonly do: "remove"; readonly qemuId: string }
  | { readonly do: "add"; readonly qemuId: string; readonly device: UsbDevice };

/**
 * The devices that the node gets: those on its ports except hubs. The devices in a hub are passed on one by
 * one.
 */
export function wanted(devices: readonly UsbDevice[], ports: UsbPorts): UsbDevice[] {
  return devices.filter((device) => !device.hub && isExternal(device.port, ports));
}

/**
 * The steps after which the virtual machine has the devices that the node gets: first devices that are gone
 * are removed, then new ones are added. A device that was plugged in again is removed and added.
 * @param devices all devices of the board.
 * @param attached names of the devices that QEMU has now. Names that `qemuId` does not make are left alone.
 * @param ports which ports are the node's.
 */
export function usbSteps(
  devices: readonly UsbDevice[],
  attached: readonly string[],
  ports: UsbPorts,
): UsbStep[] {
  const mine = wanted(devices, ports);
  const ids = new Set(mine.map(qemuId));
  const has = new Set(attached);
  return [
    ...attached
      .filter((id) => isQemuId(id) && !ids.has(id))
      .map((id): UsbStep => ({ do: "remove", qemuId: id })),
    ...mine
      .filter((device) => !has.has(qemuId(device)))
      .map((device): UsbStep => ({ do: "add", qemuId: qemuId(device), device })),
  ];
}
