/**
 * The power of USB ports: what is asked of which hub, on a /sys of a Raspberry Pi 3 B+, with hubs that are
 * functions.
 */

import { expect, test } from "bun:test";
import { BOARDS } from "../../../src/boards.ts";
import { type Control, cyclePower } from "../../../src/device/usb/power.ts";
import { WaltError } from "../../../src/errors.ts";
import { PI_3_B_PLUS, Sysfs } from "./sysfs.ts";

const PI = BOARDS["rpi-3-b-plus"];

/**
 * Hubs that say of themselves how they switch power (USB 2.0, 11.23.2.1), and note what they are asked to do.
 */
function hubs(modes: Record<string, number>, refuses: string[] = []): { control: Control; asked: string[] } {
  const asked: string[] = [];
  const control: Control = (file, { type, request, value, index }) => {
    if (type === 0xa0 && request === 6) {
      const mode = modes[file];
      if (mode === undefined || value !== 0x2900) throw new WaltError("cannot ask the hub (EPIPE)");
      return Uint8Array.of(9, 0x29, 4, mode, 0, 50, 0, 0, 0xff);
    }
    const what = `${file} ${{ 1: "off", 3: "on" }[request]} ${index}`;
    asked.push(what);
    if (type !== 0x23 || value !== 8 || refuses.includes(what))
      throw new WaltError("cannot ask the hub (ENODEV)");
    return new Uint8Array();
  };
  return { control, asked };
}

const FIRST = "/dev/bus/usb/001/002";
const SECOND = "/dev/bus/usb/001/003";

test("all sockets of a 3 B+ lose their power together, and its network card keeps it", async () => {
  using sys = new Sysfs(PI_3_B_PLUS);
  const { control, asked } = hubs({ [FIRST]: 1, [SECOND]: 1 });
  const waited: string[][] = [];
  const done = await cyclePower({
    ...{ ports: PI.usb, usbSwitch: PI.usbSwitch, folder: sys.folder, control },
    wait: async () => void waited.push([...asked]),
  });
  expect(done).toEqual({ cycled: ["1-1.1.2", "1-1.1.3", "1-1.2", "1-1.3"] });
  const off = [`${SECOND} off 2`, `${SECOND} off 3`, `${FIRST} off 2`, `${FIRST} off 3`];
  expect(waited).toEqual([off]);
  expect(asked).toEqual([...off, ...off.map((line) => line.replace("off", "on"))]);
});

test("a port that leads to the network card is never switched, whatever the configuration says", async () => {
  using sys = new Sysfs(PI_3_B_PLUS);
  const { control, asked } = hubs({ [FIRST]: 1, [SECOND]: 1, "/dev/bus/usb/001/001": 1 });
  const external = ["1-1", "1-1.1", "1-1.1.1", "1-1.2"];
  const done = await cyclePower({
    ...{ ports: { external, own: PI.usb.own }, usbSwitch: PI.usbSwitch, folder: sys.folder, control },
    wait: async () => {},
  });
  const why = "a chip of the board is behind it";
  expect(done).toEqual({ cycled: ["1-1.2"], kept: `1-1: ${why}; 1-1.1: ${why}; 1-1.1.1: ${why}` });
  expect(asked).toEqual([`${FIRST} off 2`, `${FIRST} on 2`]);
});

test("sockets with one switch are left alone if it is not the node's", async () => {
  using sys = new Sysfs(PI_3_B_PLUS);
  const { control, asked } = hubs({ [FIRST]: 1, [SECOND]: 1 });
  const ports = { external: ["1-1.3"], own: PI.usb.own };
  const done = await cyclePower({ ports, usbSwitch: PI.usbSwitch, folder: sys.folder, control });
  expect(done).toEqual({ kept: "the board's sockets have one switch, and 1-1.2 is not the node's" });
  expect(asked).toEqual([]);
});

test.each([
  [0, "1-1.2: its hub switches all ports together"],
  [2, "1-1.2: its hub does not switch the power of its ports"],
  [undefined, "1-1.2: cannot ask the hub (EPIPE)"],
])("a hub that does not switch each port alone (%p) is left alone, and that is said", async (mode, kept) => {
  using sys = new Sysfs(PI_3_B_PLUS);
  const { control, asked } = hubs(mode === undefined ? {} : { [FIRST]: mode });
  const ports = { external: ["1-1.2"], own: [] };
  expect(await cyclePower({ ports, usbSwitch: undefined, folder: sys.folder, control })).toEqual({ kept });
  expect(asked).toEqual([]);
});

test("a hub that has gone, ports of a root hub, and a hub that leaves a port without power", async () => {
  using sys = new Sysfs(PI_3_B_PLUS);
  const root = "/dev/bus/usb/001/001";
  const { control } = hubs({ [root]: 1, [FIRST]: 1 }, [`${root} on 3`]);
  const ports = { external: ["1-2", "1-3", "1-9.1"], own: [] };
  const done = await cyclePower({
    ...{ ports, usbSwitch: undefined, folder: sys.folder, control },
    wait: async () => {},
  });
  expect(done).toEqual({
    cycled: ["1-2"],
    kept: "1-9.1: there is no hub 1-9; 1-3 has no power now: cannot ask the hub (ENODEV)",
  });
  expect(await cyclePower({ ports: { external: [], own: [] }, usbSwitch: undefined })).toBeUndefined();
});

test("the kernel is asked for real: a hub that it does not have is refused with its reason", async () => {
  using sys = new Sysfs({ "1-1": { number: 250, id: "0424:2514", hub: true } });
  const ports = { external: ["1-1.2"], own: [] };
  const done = await cyclePower({ ports, usbSwitch: undefined, folder: sys.folder });
  expect(done?.kept).toMatch(/^1-1\.2: cannot open \/dev\/bus\/usb\/001\/250: /);
});
