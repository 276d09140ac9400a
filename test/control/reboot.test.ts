/** The answer to an order to reboot: what is printed is parsed as the same. */

import { expect, test } from "bun:test";
import { parseReboot, printReboot, type RebootOutcome } from "../../src/control/reboot.ts";

test.each<RebootOutcome>([
  { did: "rebooted" },
  { did: "rebooted", usb: { cycled: ["1-1.2", "1-1.3"] } },
  { did: "rebooted", usb: { kept: "1-1: a chip of the board is behind it" } },
  { did: "not-started", reason: "no QEMU" },
  { did: "no-reaction", seconds: 120 },
  { did: "not-running" },
  { did: "board-reboots" },
])("%j", (outcome) => {
  expect(parseReboot(printReboot(outcome))).toEqual(outcome);
});

test("what is no outcome is refused, and its words are made safe", () => {
  expect(() => parseReboot('{"did":"danced"}')).toThrow("did must be");
  expect(() => parseReboot("rebooted")).toThrow("not JSON");
  expect(parseReboot('{"did":"not-started","reason":"\\u001b[2J"}')).toEqual({
    did: "not-started",
    reason: "?[2J",
  });
});
