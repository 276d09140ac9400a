/** The kernel's events: their format, and a real socket that hears them. */

import { expect, test } from "bun:test";
import { join } from "node:path";
import { parseUevent, Uevents } from "../../src/linux/uevent.ts";
import { Lab } from "../lab/lab.ts";
import { describeWith, LAB } from "../lab/need.ts";

const message = (...parts: string[]): Uint8Array =>
  new TextEncoder().encode(parts.map((p) => `${p}\0`).join(""));

const ADD = [
  "add@/devices/platform/soc/3f980000.usb/usb1/1-1/1-1.2",
  "ACTION=add",
  "DEVPATH=/devices/platform/soc/3f980000.usb/usb1/1-1/1-1.2",
  "SUBSYSTEM=usb",
  "MAJOR=189",
  "MINOR=4",
  "DEVNAME=bus/usb/001/005",
  "DEVTYPE=usb_device",
  "PRODUCT=781/5567/126",
  "TYPE=0/0/0",
  "BUSNUM=001",
  "DEVNUM=005",
  "SEQNUM=1042",
];

test("an event is taken apart", () => {
  const event = parseUevent(message(...ADD));
  expect([event?.action, event?.path, event?.subsystem]).toEqual([
    "add",
    "/devices/platform/soc/3f980000.usb/usb1/1-1/1-1.2",
    "usb",
  ]);
  expect(event?.values.get("DEVNUM")).toBe("005");
});

test("what is no event of the kernel is refused", () => {
  const others = [
    new Uint8Array(),
    message(""),
    message("libudev", "\u00fe\u00ed", "ACTION=add"),
    message(...ADD).subarray(0, -1), // cut off
    message(...ADD.filter((part) => !part.startsWith("ACTION="))),
    message("add@/devices/a", "ACTION=remove", "DEVPATH=/devices/a"),
    message(...ADD, "no value"),
    message(...ADD, `X=${"x".repeat(8192)}`),
    message("add@devices/a", "ACTION=add", "DEVPATH=devices/a"),
  ];
  for (const other of others) expect(parseUevent(other)).toBeUndefined();
});

describeWith(LAB, "a socket for the kernel's events", () => {
  test("hears of an interface that comes and goes, and of what was lost it says that it was", async () => {
    await using lab = await Lab.create();
    const host = await lab.host("board");
    const listener = host.spawn([process.execPath, join(import.meta.dir, "uevent-runner.ts")]);
    await listener.waitFor(/fresh 1\n/);
    await host.ip("tuntap add walt-test mode tap");
    await listener.waitFor(/add net \/devices\/virtual\/net\/walt-test\n/);
    await host.ip("link delete walt-test");
    await listener.waitFor(/remove net \/devices\/virtual\/net\/walt-test\n/);

    // More events than the socket holds, while nobody reads.
    listener.write("for i in $(seq 5000); do echo change > /sys/class/net/lo/uevent; done\n");
    await listener.waitFor(/fresh 2\n/);
    await host.ip("tuntap add walt-after mode tap");
    await listener.waitFor(/add net \/devices\/virtual\/net\/walt-after\n/);
    await listener.closeInput();
    expect(await listener.exited).toBe(0); // nothing is left that would keep it alive
  }, 120_000);
});

test("it can be stopped at any time", async () => {
  const uevents = new Uevents({ onEvent() {}, onSubscribed() {}, onFailure() {} });
  uevents.stop();
  const other = Promise.withResolvers<void>();
  const second = new Uevents({ onEvent() {}, onSubscribed: other.resolve, onFailure: other.reject });
  await other.promise;
  second.stop();
  second.stop();
});
