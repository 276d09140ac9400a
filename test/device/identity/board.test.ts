/** What a board says about itself, read under a folder that stands for /. */

import { afterAll, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { bridgeMac, readBoard } from "../../../src/device/identity/board.ts";

const dir = mkdtempSync(join(tmpdir(), "walt-board-"));
afterAll(() => rmSync(dir, { recursive: true }));

let count = 0;
function machine(files: Record<string, string>): string {
  const root = join(dir, String(count++));
  for (const [file, text] of Object.entries({ "etc/hostname": "x\n", ...files })) {
    mkdirSync(dirname(join(root, file)), { recursive: true });
    writeFileSync(join(root, file), text);
  }
  return root;
}

test("a Raspberry Pi tells model and serial number in its device tree", () => {
  const root = machine({
    "proc/device-tree/model": "Raspberry Pi 3 Model B Plus Rev 1.3\0",
    "proc/device-tree/serial-number": "00000000deadbeef\0",
    "etc/machine-id": "0123\n",
  });
  expect(readBoard("rpi-3-b-plus", root)).toEqual({
    model: "Raspberry Pi 3 Model B Plus Rev 1.3",
    serialNumber: "00000000deadbeef",
  });
});

test("a PC tells them by DMI", () => {
  const root = machine({
    "sys/class/dmi/id/sys_vendor": "Intel\n",
    "sys/class/dmi/id/product_name": "NUC8i3BEH\n",
    "sys/class/dmi/id/product_serial": "G6BE123\n",
  });
  expect(readBoard("generic", root)).toEqual({ model: "Intel NUC8i3BEH", serialNumber: "G6BE123" });
});

test("what a maker did not fill in is not shown as a serial number", () => {
  const id = "11112222333344445555666677778888";
  const root = machine({
    "sys/class/dmi/id/product_name": "System Product Name\n",
    "sys/class/dmi/id/product_serial": "To Be Filled By O.E.M.\n",
    "etc/machine-id": `${id}\n`,
  });
  const board = readBoard("generic", root);
  expect(board.model).toBe(`generic ${process.arch} machine`);
  expect(board.serialNumber).toMatch(/^[0-9a-f]{16}$/);
  expect(id).not.toContain(board.serialNumber);
  expect(readBoard("generic", root)).toEqual(board);
});

test("a machine that says nothing at all still has words for the operator", () => {
  expect(readBoard("generic", machine({})).serialNumber).toBe("unknown");
  expect(readBoard("rpi-3-b-plus", machine({})).model).toBe("Raspberry Pi 3 Model B+");
});

test("what firmware says is cut and made safe for a terminal", () => {
  const root = machine({
    "sys/class/dmi/id/product_name": `\u001b[2J${"x".repeat(300)}`,
    "sys/class/dmi/id/product_serial": "1\n2\u202e3",
  });
  const board = readBoard("generic", root);
  expect(board.model.length).toBe(100);
  expect(board.model).toStartWith("?[2Jxxx");
  expect(board.serialNumber).toBe("1?2?3");
});

test("the bridge's MAC address is locally administered, and the board's own", () => {
  const one = bridgeMac({ model: "m", serialNumber: "1" });
  expect(one).toMatch(/^02(:[0-9a-f]{2}){5}$/);
  expect(bridgeMac({ model: "m", serialNumber: "1" })).toBe(one);
  expect(bridgeMac({ model: "m", serialNumber: "2" })).not.toBe(one);
});
