/** From the USB devices that the board has, and those that the virtual machine has, to what has to be done. */

import type { UsbPorts } from "../../boards.ts";
import type { UsbDevice } from "./devices.ts";
import { isExternal } from "./ports.ts";

/** The device's name in QEMU: another one for each appearance of a device, so that the same name is the same device. */
export function qemuId(device: UsbDevice): string {
  return `usb-${device.bus}-${device.number}-${device.appearance}`;
}

/** The names in QEMU that are ours. */
export function isQemuId(id: string): boolean {
  return /^usb-\d+-\d+-\d+$/.test(id);
}

/** The file through which the host's programs reach a device (usbfs). */
export function deviceFile(device: UsbDevice): string {
  const three = (n: number): string => String(n).padStart(3, "0");
  return `/dev/bus/usb/${three(device.bus)}/${three(device.number)}`;
}

export type UsbStep =
  | { readonly do: "remove"; readonly qemuId: string }
  | { readonly do: "add"; readonly qemuId: string; readonly device: UsbDevice };

/** The node's devices among all: those on its ports, but no hub, as a hub's devices are passed on one by one. */
export function wanted(devices: readonly UsbDevice[], ports: UsbPorts): UsbDevice[] {
  return devices.filter((device) => !device.hub && isExternal(device.port, ports));
}

/**
 * What makes the virtual machine have what it should: what is gone is removed, then what is new is added. A device that
 * appeared afresh (other number, other vendor and product, or only another inode) is both.
 * @param attached names of the devices that QEMU has now; names that are not ours are left alone.
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
