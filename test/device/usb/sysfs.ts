/** A /sys with USB devices, laid out as the kernel does (Documentation/ABI/stable/sysfs-bus-usb), in a temporary folder. */

import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface Plugged {
  number: number;
  /** `0781:5567` */
  id: string;
  hub?: boolean;
  manufacturer?: string;
  product?: string;
}

/** Controller, hubs and network card of a Raspberry Pi 3 B+ with nothing plugged in. */
export const PI_3_B_PLUS: Record<string, Plugged> = {
  "1-1": { number: 2, id: "0424:2514", hub: true },
  "1-1.1": { number: 3, id: "0424:2514", hub: true },
  "1-1.1.1": { number: 4, id: "0424:7800" },
};

export class Sysfs {
  readonly #root = mkdtempSync(join(tmpdir(), "walt-sys-"));
  readonly #controller = join(this.#root, "devices/platform/soc/3f980000.usb");
  #appearances = 0;

  constructor(devices: Record<string, Plugged> = {}) {
    mkdirSync(this.folder, { recursive: true });
    this.#add("usb1", { number: 1, id: "1d6b:0002", hub: true, product: "DWC OTG Controller" });
    this.#interface("1-0:1.0");
    for (const [port, device] of Object.entries(devices)) this.plug(port, device);
  }

  /** What stands for /sys/bus/usb/devices. */
  get folder(): string {
    return join(this.#root, "bus/usb/devices");
  }

  plug(port: string, device: Plugged): void {
    this.#add(port, device);
    this.#interface(`${port}:1.0`);
  }

  pull(port: string): void {
    for (const name of [port, `${port}:1.0`]) rmSync(join(this.folder, name));
  }

  /** The file of a device's attribute. */
  file(port: string, attribute: string): string {
    return join(this.folder, port, attribute);
  }

  /** Each appearance has a folder of its own, so that no inode comes again, as in the kernel. */
  #add(name: string, { number, id, hub = false, manufacturer, product }: Plugged): void {
    const folder = join(this.#controller, `${this.#appearances++}`, name);
    mkdirSync(folder, { recursive: true });
    const [vendor, model] = id.split(":");
    const attributes = {
      busnum: "1",
      devnum: `${number}`,
      idVendor: vendor,
      idProduct: model,
      bDeviceClass: hub ? "09" : "00",
      manufacturer,
      product,
    };
    for (const [attribute, value] of Object.entries(attributes)) {
      if (value !== undefined) writeFileSync(join(folder, attribute), `${value}\n`);
    }
    symlinkSync(folder, join(this.folder, name));
  }

  #interface(name: string): void {
    const folder = join(this.#controller, `${this.#appearances}`, name);
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, "bInterfaceClass"), "09\n");
    symlinkSync(folder, join(this.folder, name));
  }

  [Symbol.dispose](): void {
    rmSync(this.#root, { recursive: true, force: true });
  }
}
