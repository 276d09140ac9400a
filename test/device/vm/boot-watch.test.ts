/** A virtual machine whose network boot does not come to an end is noticed by what its console shows. */

import { expect, test } from "bun:test";
import { BootWatch, IN_VAIN } from "../../../src/device/vm/boot-watch.ts";
import { parseNetbootLine } from "../../../src/device/vm/netboot.ts";

const ASKS = "walt: asking DHCP as walt.node.qemu-arm-64\r";

function watch() {
  const stuck: string[] = [];
  const clock = { now: 0, changes: 0 };
  const changed = (): void => void clock.changes++;
  const boot = new BootWatch({ stuck: (why) => stuck.push(why), changed, now: () => clock.now });
  boot.started();
  /** A round of the script at this time. */
  const round = (at: number): void => {
    clock.now = at;
    boot.line(ASKS);
  };
  return { boot, stuck, round, clock };
}

test("a machine that asks in vain for long, with the tunnel up, is told of once", () => {
  const { boot, stuck, round } = watch();
  boot.tunnel(true);
  round(0);
  round(IN_VAIN - 1);
  expect(stuck).toEqual([]);
  round(IN_VAIN);
  round(IN_VAIN + 1);
  expect(stuck).toEqual(["it has asked for its boot files in vain for 10 min 0 s"]);
  boot.started();
  round(IN_VAIN + 2);
  expect(stuck).toHaveLength(1);
});

test("time without the tunnel does not count, and neither does a guest that runs", () => {
  const { boot, stuck, round } = watch();
  round(0);
  round(2 * IN_VAIN);
  boot.tunnel(true);
  round(2 * IN_VAIN + 1);
  round(3 * IN_VAIN);
  boot.tunnel(false);
  boot.tunnel(true);
  round(3 * IN_VAIN + 2);
  boot.line("Linux version 6.12");
  round(4 * IN_VAIN + 1);
  expect(stuck).toEqual([]);
});

test.each([
  "\u001b[2J\u001b[01;01H\u001b[01;01HUEFI Interactive Shell v2.2",
  "No bootable device.  Retrying in 60 seconds.",
])("firmware that has given up: %j", (line) => {
  const { boot, stuck } = watch();
  boot.line(line);
  expect(stuck).toEqual(["its firmware found nothing to boot"]);
});

test("what DHCP gave is known until the next machine starts", () => {
  const { boot, clock } = watch();
  for (let i = 0; i < 2; i++) boot.line("walt: DHCP answered 192.168.152.7 lab-7\r");
  expect(clock.changes).toBe(1);
  expect(boot.dhcp).toEqual({ address: "192.168.152.7", name: "lab-7" });
  boot.started();
  expect(boot.dhcp).toBeUndefined();
  expect(parseNetbootLine("walt: DHCP answered 192.168.152.7 ")).toMatchObject({ name: "" });
  expect(parseNetbootLine("walt: DHCP answered ")).toBeUndefined();
  expect(parseNetbootLine("node login: ")).toBeUndefined();
});
