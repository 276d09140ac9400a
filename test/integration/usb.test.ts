/** The board's USB sockets are the node's: a real kernel's events and files, a real QEMU, devices plugged and pulled. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describeWith } from "../lab/need.ts";
import { UsbBoard } from "./usb-board.ts";

const NEEDS = {
  root: true,
  programs: ["qemu-system-x86_64", "apt-get", "dpkg-deb", "setpriv"],
  // The emulated board runs this machine's own programs.
  files: ["/lib64/ld-linux-x86-64.so.2", "/usr/lib/ipxe/ipxe.lkrn"],
};

/** The hubs of a Raspberry Pi 3 B+, and in the place of its network card a device that must stay where it is. */
const PI_3_B_PLUS = [
  ...["-device", "qemu-xhci,id=pi,p2=1,p3=1"],
  ...["-device", "usb-hub,bus=pi.0,port=1"],
  ...["-device", "usb-hub,bus=pi.0,port=1.1"],
  ...["-device", "usb-wacom-tablet,bus=pi.0,port=1.1.1,id=network-card"],
];

describeWith(NEEDS, "USB", () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "walt-usb-"));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test("what is plugged in at the start and later reaches the node, what is pulled leaves it, a mode switch is followed", async () => {
    const stick = join(folder, "stick.img");
    writeFileSync(stick, Buffer.alloc(1 << 20));
    await using board = await UsbBoard.start(
      folder,
      [process.execPath, join(import.meta.dir, "usb-runner.ts")],
      [
        ...PI_3_B_PLUS,
        ...["-device", "usb-kbd,bus=pi.0,port=1.2,id=keyboard"],
        ...["-drive", `if=none,id=stick,format=raw,file=${stick}`],
      ],
    );
    const { process: log } = board;
    /** Wait until the node has these products, and the status tells of these ports. */
    const has = async (products: string, status: string, after = 0): Promise<void> => {
      await log.waitFor(new RegExp(`node has: ${products}; status: ${status}\r\n`), {
        after,
        timeout: 120_000,
      });
    };
    await has("QEMU USB Keyboard", "1-1.2 0627:0001");

    let now = log.position;
    await board.plug({ driver: "usb-storage", drive: "stick", id: "stick", bus: "pi.0", port: "1.1.3" });
    await has("QEMU USB HARDDRIVE, QEMU USB Keyboard", "1-1.1.3 46f4:0001, 1-1.2 0627:0001", now);

    now = log.position;
    await board.pull("keyboard");
    await has("QEMU USB HARDDRIVE", "1-1.1.3 46f4:0001", now);

    // At once, as a device does that starts over as another one.
    now = log.position;
    await board.pull("stick");
    await board.plug({ driver: "usb-tablet", id: "tablet", bus: "pi.0", port: "1.1.3" });
    await has("QEMU USB Tablet", "1-1.1.3 0627:0001", now);

    // Behind a hub of the user's.
    now = log.position;
    await board.plug({ driver: "usb-hub", id: "hub", bus: "pi.0", port: "1.3" });
    await board.plug({ driver: "usb-mouse", id: "mouse", bus: "pi.0", port: "1.3.4" });
    await has("QEMU USB Mouse, QEMU USB Tablet", "1-1.1.3 0627:0001, 1-1.3.4 0627:0001", now);

    expect(log.output).not.toMatch(/Wacom|cannot be/);
  }, 300_000);
});
