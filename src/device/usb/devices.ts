/** Reads from /sys which USB devices are plugged into the board. */

import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { codeOf } from "../../errors.ts";
import { readTextIfAny } from "../../linux/files.ts";
import { safeText } from "../../text.ts";

/** The folder in which the kernel has one entry for each USB device and each interface of one. */
export const USB_DEVICES = "/sys/bus/usb/devices";

/**
 * Devices that are looked at. A bus has at most 127 devices (USB 2.0, 8.4.1), and a board has two or three
 * buses.
 */
const MAX_DEVICES = 512;

/** A USB device that is plugged in. */
export interface UsbDevice {
  /** The port that it is plugged into, such as `1-1.2` (see `UsbPorts`). */
  readonly port: string;
  /** Number of its bus. */
  readonly bus: number;
  /** Its number on the bus. A device that is plugged in again gets another number. */
  readonly number: number;
  /**
   * The inode of its folder in /sys. A device that appears again has another one, even with the same port and
   * number.
   */
  readonly appearance: number;
  /** Whether it is a hub. */
  readonly hub: boolean;
  /** Vendor and product in hexadecimal, such as `0781:5567`. */
  readonly id: string;
  /**
   * The name that the device itself tells: at most 60 characters, safe for a terminal; "" when it has none.
   */
  readonly name: string;
}

/** Class code of hubs (USB 2.0, 11.23.1), as the kernel writes it in /sys. */
const HUB_CLASS = "09";

/**
 * All USB devices except root hubs, in the order of their ports. A device that is unplugged during the call
 * is left out.
 * @param folder to read instead of /sys/bus/usb/devices. There are no devices when it does not exist, as on a
 *   machine without USB.
 * @throws the system's error when the folder cannot be read.
 */
export function readUsbDevices(folder: string = USB_DEVICES): UsbDevice[] {
  // The folder also has interfaces of devices (`1-1.2:1.0`) and root hubs (`usb1`), which do not match.
  const ports = list(folder).filter((name) => /^\d{1,3}-\d{1,3}(\.\d{1,3}){0,6}$/.test(name));
  const devices = ports.slice(0, MAX_DEVICES).map((port) => readUsbDevice(folder, port));
  return devices
    .filter((device) => device !== undefined)
    .sort((a, b) => a.port.localeCompare(b.port, "en", { numeric: true }));
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    if (codeOf(error) === "ENOENT") return [];
    throw error;
  }
}

/**
 * One device; undefined when it is not there.
 * @param port of the device, or `usb1` for the root hub of bus 1.
 */
export function readUsbDevice(folder: string, port: string): UsbDevice | undefined {
  const read = (file: string): string => attribute(join(folder, port, file));
  const appearance = statSync(join(folder, port), { throwIfNoEntry: false })?.ino;
  const [bus, number] = [read("busnum"), read("devnum")];
  const [vendor, product] = [read("idVendor"), read("idProduct")];
  const isNumber = /^[1-9]\d{0,2}$/;
  const isId = /^[0-9a-f]{4}$/;
  if (appearance === undefined || !isNumber.test(bus) || !isNumber.test(number)) return undefined;
  if (!isId.test(vendor) || !isId.test(product)) return undefined;
  const words = [read("manufacturer"), read("product")].filter((word) => word !== "").join(" ");
  return {
    port,
    bus: Number(bus),
    number: Number(number),
    appearance,
    hub: read("bDeviceClass") === HUB_CLASS,
    id: `${vendor}:${product}`,
    name: safeText(words, 60),
  };
}

/**
 * The content of a file in /sys. It is "" when the file cannot be read: not every device has every file, and
 * a device may be unplugged at this moment.
 */
function attribute(path: string): string {
  try {
    return readTextIfAny(path, 4096)?.trim() ?? "";
  } catch {
    return "";
  }
}
