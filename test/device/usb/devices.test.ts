/** From /sys to what the virtual machine should have, and the steps that lead there. */

import { expect, test } from "bun:test";
import { rmSync, writeFileSync } from "node:fs";
import type { UsbPorts } from "../../../src/boards.ts";
import { readUsbDevices, type UsbDevice } from "../../../src/device/usb/devices.ts";
import { isExternal, usbPorts } from "../../../src/device/usb/ports.ts";
import { deviceFile, isQemuId, qemuId, usbSteps, wanted } from "../../../src/device/usb/steps.ts";
import { PI_3_B_PLUS, Sysfs } from "./sysfs.ts";

const PI = usbPorts("rpi-3-b-plus", "");
const STICK = { number: 5, id: "0781:5567", manufacturer: "SanDisk", product: "Cruzer Blade" };
const LORA = { number: 7, id: "0483:5740", product: "LoRa dongle" };

/** Ports of the devices that are added, names in QEMU of those removed. */
function brief(devices: UsbDevice[], attached: string[], ports = PI): string[] {
  return usbSteps(devices, attached, ports).map((s) =>
    s.do === "add" ? `+${s.device.port}` : `-${s.qemuId}`,
  );
}

test("devices are read from /sys: numbers, vendor and product, name, hub; neither root hubs nor interfaces", () => {
  using sys = new Sysfs({ ...PI_3_B_PLUS, "1-1.10": STICK, "1-1.2": LORA });
  const found = readUsbDevices(sys.folder);
  expect(found.map((d) => d.port)).toEqual(["1-1", "1-1.1", "1-1.1.1", "1-1.2", "1-1.10"]);
  expect(found.filter((d) => d.hub).map((d) => d.port)).toEqual(["1-1", "1-1.1"]);
  expect(found.at(-1)).toEqual({
    port: "1-1.10",
    bus: 1,
    number: 5,
    appearance: expect.any(Number),
    hub: false,
    id: "0781:5567",
    name: "SanDisk Cruzer Blade",
  });
  expect(deviceFile({ ...STICK, port: "1-1.2", bus: 1, appearance: 9, hub: false, name: "" })).toBe(
    "/dev/bus/usb/001/005",
  );
});

test("a device may say what it likes, and vanish while it is looked at", () => {
  using sys = new Sysfs({
    "1-1": { ...STICK, product: `\u001b[2J${"x".repeat(500)}` },
    "1-2": LORA,
    "1-3": LORA,
  });
  rmSync(sys.file("1-2", "devnum"));
  writeFileSync(sys.file("1-3", "busnum"), "../../../etc");
  const found = readUsbDevices(sys.folder);
  expect(found.map((d) => d.port)).toEqual(["1-1"]);
  expect(found[0]?.name).toStartWith("SanDisk ?[2Jxxx");
  expect(found[0]?.name).toHaveLength(60);
});

test("a machine without USB has no devices", () => {
  expect(readUsbDevices("/nonexistent")).toEqual([]);
});

test("on a Pi 3 B+ the sockets are the node's, hubs and the network card never", () => {
  using sys = new Sysfs({
    ...PI_3_B_PLUS,
    "1-1.1.2": STICK,
    "1-1.1.3": { number: 6, id: "05e3:0608", hub: true },
    "1-1.1.3.4": LORA,
    "1-1.2": { ...STICK, number: 8 },
    "1-1.3": { ...STICK, number: 9 },
  });
  expect(wanted(readUsbDevices(sys.folder), PI).map((d) => d.port)).toEqual([
    "1-1.1.2",
    "1-1.1.3.4",
    "1-1.2",
    "1-1.3",
  ]);
});

test("the network card stays the board's even when the configuration names the hub before it", () => {
  const all = usbPorts("rpi-3-b-plus", "1-1");
  expect(isExternal("1-1.2", all)).toBe(true);
  expect(isExternal("1-1.1.1", all)).toBe(false);
  expect(isExternal("1-1.1", usbPorts("rpi-3-b", "1-1"))).toBe(false);
  // Port 1.1 of the 3 B+ is a hub, of the 3 B the card; and port 10 is not below port 1.
  expect(isExternal("1-1.10", { external: ["1-1.1"], own: [] })).toBe(false);
});

test("on other machines nothing is the node's but what the configuration names", () => {
  using sys = new Sysfs({ "1-1": STICK, "1-2": LORA });
  const found = readUsbDevices(sys.folder);
  expect(brief(found, [], usbPorts("generic", ""))).toEqual([]);
  expect(brief(found, [], usbPorts("generic", "1-2,2-1"))).toEqual(["+1-2"]);
});

test("what is plugged is added, what is pulled is removed, what is both is done in this order", () => {
  using sys = new Sysfs({ ...PI_3_B_PLUS, "1-1.2": STICK });
  const before = readUsbDevices(sys.folder);
  expect(brief(before, [])).toEqual(["+1-1.2"]);
  const attached = wanted(before, PI).map(qemuId);
  expect(brief(before, attached)).toEqual([]);
  expect(brief([], [...attached, "something-else", "usb"])).toEqual([`-${attached[0]}`]);

  // It switches its mode: the same place, another number, other ids.
  sys.pull("1-1.2");
  sys.plug("1-1.2", { number: 6, id: "1d50:6018" });
  expect(brief(readUsbDevices(sys.folder), attached)).toEqual([`-${attached[0]}`, "+1-1.2"]);
});

test("a device that comes again with the same number is another one", () => {
  using sys = new Sysfs({ "1-1.2": STICK });
  const attached = wanted(readUsbDevices(sys.folder), PI).map(qemuId);
  sys.pull("1-1.2");
  sys.plug("1-1.2", STICK);
  expect(brief(readUsbDevices(sys.folder), attached)).toEqual([`-${attached[0]}`, "+1-1.2"]);
});

test("whatever happens, the steps lead to what is wanted, and there is nothing to do then", () => {
  let seed = 7;
  const random = (n: number): number => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    return Math.floor((seed / 2 ** 32) * n);
  };
  const names = [
    "1-1",
    "1-1.1",
    "1-1.1.1",
    "1-1.1.2",
    "1-1.1.3",
    "1-1.1.3.1",
    "1-1.2",
    "1-1.3",
    "1-1.4",
    "2-1",
  ];
  const choices: UsbPorts[] = [
    PI,
    usbPorts("rpi-3-b", ""),
    usbPorts("generic", "1-1,2-1"),
    usbPorts("generic", ""),
  ];
  for (let round = 0; round < 500; round++) {
    const ports = choices[random(choices.length)] ?? PI;
    let attached = ["usb", "net0"];
    for (let change = 0; change < 4; change++) {
      const devices = names
        .filter(() => random(2) === 0)
        .map((port): UsbDevice => {
          const [bus = "1"] = port.split("-");
          const number = 1 + random(4);
          return {
            port,
            bus: Number(bus),
            number,
            appearance: random(3),
            hub: random(4) === 0,
            id: "0:0",
            name: "",
          };
        })
        // Two devices of a bus do not have the same number.
        .filter((d, i, all) => all.findIndex((o) => o.bus === d.bus && o.number === d.number) === i);
      for (const step of usbSteps(devices, attached, ports)) {
        expect(isQemuId(step.qemuId)).toBe(true);
        attached = attached.filter((id) => id !== step.qemuId);
        if (step.do === "add") attached.push(step.qemuId);
      }
      const mine = wanted(devices, ports);
      expect(new Set(attached)).toEqual(new Set(["usb", "net0", ...mine.map(qemuId)]));
      expect(usbSteps(devices, attached, ports)).toEqual([]);
      expect(mine.some((d) => d.hub || (ports === PI && d.port === "1-1.1.1"))).toBe(false);
    }
  }
});
