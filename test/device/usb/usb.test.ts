/** The USB devices of a virtual machine follow those of the board: against a QEMU that is played. */

import { expect, test } from "bun:test";
import { readUsbDevices } from "../../../src/device/usb/devices.ts";
import { usbPorts } from "../../../src/device/usb/ports.ts";
import { parsePeripherals, Usb, type UsbHost } from "../../../src/device/usb/usb.ts";
import { WaltError } from "../../../src/errors.ts";
import { parseUevent } from "../../../src/linux/uevent.ts";
import type { Log } from "../../../src/log.ts";
import { eventually, turn } from "../../lab/eventually.ts";
import { PI_3_B_PLUS, Sysfs } from "./sysfs.ts";

const STICK = { number: 5, id: "0781:5567", product: "Cruzer Blade" };

/** A QEMU as far as its devices are concerned. `refuse` is asked for each device file that is added. */
class Played implements UsbHost {
  readonly devices = new Map<string, string>();
  readonly done: string[] = [];

  constructor(readonly refuse: (file: string) => string | undefined = () => undefined) {}

  async command(name: string, args: Record<string, unknown> = {}): Promise<unknown> {
    await turn();
    const id = String(args["id"]);
    if (name === "qom-list") {
      const own = { name: "usb", type: "child<qemu-xhci>" };
      return [own, ...[...this.devices.keys()].map((key) => ({ name: key, type: "child<usb-host>" }))];
    }
    if (name === "device_del") {
      if (!this.devices.delete(id)) throw new WaltError(`QEMU: Device '${id}' not found`);
      this.done.push(`-${id.replace(/-\d+$/, "")}`);
    } else if (name === "device_add") {
      const file = String(args["hostdevice"]);
      const why = this.refuse(file);
      this.done.push(why === undefined ? `+${file}` : `!${file}`);
      if (why !== undefined) throw new WaltError(`QEMU: ${why}`);
      expect(args).toMatchObject({ driver: "usb-host", bus: "usb.0" });
      this.devices.set(id, file);
    }
    return {};
  }

  /** Until so many things were added, removed or refused. */
  async until(count: number): Promise<string[]> {
    return await eventually(`${count} changes`, () => this.done, { fits: (done) => done.length >= count });
  }
}

function logInto(lines: string[]): Log {
  const add = (text: string): void => void lines.push(text);
  const log: Log = { debug() {}, info: add, warn: add, error: add, with: () => log };
  return log;
}

/** What the kernel says when a USB device comes or goes. */
function uevent(action: string, type = "usb_device") {
  const path = "/devices/platform/soc/3f980000.usb/usb1/1-1/1-1.2";
  const text = `${action}@${path}\0ACTION=${action}\0DEVPATH=${path}\0SUBSYSTEM=usb\0DEVTYPE=${type}\0SEQNUM=1\0`;
  const event = parseUevent(new TextEncoder().encode(text));
  if (event === undefined) throw new Error("not an event");
  return event;
}

function make(sys: Sysfs) {
  const lines: string[] = [];
  const ports = usbPorts("rpi-3-b-plus", "");
  return { usb: new Usb({ ports, log: logInto(lines), devices: () => readUsbDevices(sys.folder) }), lines };
}

test("what is plugged in at the start, later, and pulled; a mode switch is followed; a new machine gets all anew", async () => {
  using sys = new Sysfs({ ...PI_3_B_PLUS, "1-1.2": STICK });
  const { usb, lines } = make(sys);
  const vm = new Played();
  usb.use(vm);
  expect(await vm.until(1)).toEqual(["+/dev/bus/usb/001/005"]);

  sys.plug("1-1.1.3", { number: 6, id: "10c4:ea60" });
  usb.onUevent(uevent("add"));
  usb.onUevent(uevent("bind"));
  expect((await vm.until(2)).at(-1)).toBe("+/dev/bus/usb/001/006");

  sys.pull("1-1.2");
  sys.plug("1-1.2", { number: 7, id: "1d50:6018", product: "DFU" });
  usb.onUevent(uevent("remove"));
  expect((await vm.until(4)).slice(2)).toEqual(["-usb-1-5", "+/dev/bus/usb/001/007"]);

  const again = new Played();
  usb.use(again);
  expect([...(await again.until(2))].sort()).toEqual(["+/dev/bus/usb/001/006", "+/dev/bus/usb/001/007"]);
  sys.pull("1-1.1.3");
  usb.onUevent(uevent("remove"));
  await again.until(3);
  await eventually("one device", () => usb.passed(), { fits: (passed) => passed.length === 1 });
  expect(usb.passed()).toEqual([{ port: "1-1.2", id: "1d50:6018", name: "DFU" }]);
  await usb.stop();
  expect(vm.devices.size).toBe(2); // the old machine was left alone
  expect(lines).toContain("a USB device was passed on to the node");
  expect(lines).toContain("a USB device was unplugged and taken from the node");
});

test("a device that QEMU cannot take yet is tried again, told once, and does not hold up the others", async () => {
  using sys = new Sysfs({ "1-1.2": STICK, "1-1.3": { ...STICK, number: 6 } });
  const { usb, lines } = make(sys);
  let tries = 0;
  const vm = new Played((file) =>
    file.endsWith("005") && ++tries < 3 ? "failed to open host usb device" : undefined,
  );
  usb.use(vm);
  expect(await vm.until(4)).toEqual([
    "!/dev/bus/usb/001/005",
    "+/dev/bus/usb/001/006",
    "!/dev/bus/usb/001/005",
    "+/dev/bus/usb/001/005",
  ]);
  await usb.stop();
  expect(lines.filter((line) => line.includes("cannot be passed on"))).toEqual([
    "a USB device cannot be passed on: QEMU: failed to open host usb device",
  ]);
});

test("events of interfaces and of other subsystems are passed over, and a machine that is gone gets nothing", async () => {
  using sys = new Sysfs();
  let looks = 0;
  const counting = new Usb({
    ports: usbPorts("generic", "1-1"),
    log: logInto([]),
    devices: () => {
      looks++;
      return readUsbDevices(sys.folder);
    },
  });
  const vm = new Played();
  counting.use(vm);
  await eventually("the first look", () => looks === 1);
  counting.onUevent(uevent("add", "usb_interface"));
  await Bun.sleep(100); // longer than it lets events settle: what is tested is that nothing happens
  expect(looks).toBe(1);
  counting.use(undefined);
  sys.plug("1-1", STICK);
  counting.onUevent(uevent("add"));
  await Bun.sleep(100); // again that nothing happens
  expect([looks, vm.done]).toEqual([1, []]);
  await counting.stop();
});

test("an answer of QEMU of another shape names no devices", () => {
  for (const answer of [
    undefined,
    null,
    {},
    [],
    [1, null, {}, { name: 5 }, { name: "usb-1" }, { name: "net0" }],
  ]) {
    expect(parsePeripherals(answer)).toEqual([]);
  }
  expect(parsePeripherals([{ name: "usb-1-2-3", type: "child<usb-host>" }])).toEqual(["usb-1-2-3"]);
});
