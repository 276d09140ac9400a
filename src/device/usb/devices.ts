/** The USB devices that the kernel knows, as /sys tells of them. */

import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { codeOf } from "../../errors.ts";
import { readTextIfAny } from "../../linux/files.ts";
import { safeText } from "../../text.ts";

export const USB_DEVICES = "/sys/bus/usb/devices";

/** More devices cannot be on a bus (USB 2.0, 8.4.1); a board has two buses or three. */
const MAX_DEVICES = 512;

export interface UsbDevice {
  /** Where it is plugged in: `1-1.2`. */
  readonly port: string;
  /** Its numbers on the host: the file /dev/bus/usb/<bus>/<number>. A device that comes again gets another number. */
  readonly bus: number;
  readonly number: number;
  /** The inode of its folder in /sys, which is another one each time a device appears, be it at the same place and number. */
  readonly appearance: number;
  readonly hub: boolean;
  /** Vendor and product, `0781:5567`. */
  readonly id: string;
  /** Its name as it says itself, at most 60 characters, safe for a terminal; "" when it has none. */
  readonly name: string;
}

/** Class code of hubs (USB 2.0, 11.23.1), as /sys writes it. */
const HUB_CLASS = "09";

/**
 * All USB devices but the hosts' own root hubs, in the order of their ports. One that goes while it is looked at is left out.
 * @param folder what stands for /sys/bus/usb/devices. One that does not exist (no USB here) has no devices.
 */
export function readUsbDevices(folder: string = USB_DEVICES): UsbDevice[] {
  // Others are interfaces, `1-1.2:1.0`, and root hubs, `usb1`.
  const ports = list(folder).filter((name) => /^\d{1,3}-\d{1,3}(\.\d{1,3}){0,6}$/.test(name));
  const devices = ports.slice(0, MAX_DEVICES).map((port) => readDevice(folder, port));
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

function readDevice(folder: string, port: string): UsbDevice | undefined {
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

/** One line of a file in /sys, "" when it cannot be had: a device without that text, or one that is just being unplugged. */
function attribute(path: string): string {
  try {
    return readTextIfAny(path, 4096)?.trim() ?? "";
  } catch {
    return "";
  }
}
