/** What came of an order to reboot, or to switch the power, in words. */

import type { RebootOutcome, UsbPower } from "../../control/reboot.ts";
import type { Outcome } from "./_side-by-side.ts";

/** What came of it, in words. */
export function outcomeOf(outcome: RebootOutcome): Outcome {
  switch (outcome.did) {
    case "powered-on":
      return { text: "the virtual machine is switched on" };
    case "powered-off":
      return { text: "the virtual machine is switched off" };
    case "rebooted":
      return { text: `rebooted${usbWords(outcome.usb)}` };
    case "board-reboots":
      return { text: "the board reboots" };
    case "not-started":
      return { text: `ended, and does not start again: ${outcome.reason}`, status: 1 };
    case "no-reaction":
      return {
        text: `the guest did not react in ${outcome.seconds} s; \`--hard\` ends it without asking`,
        status: 1,
      };
    case "not-running":
      return { text: "no virtual machine is running", status: 1 };
  }
}

/** What was done to the power of the node's USB ports, in words. */
function usbWords(usb: UsbPower | undefined): string {
  const parts = [
    ...(usb?.cycled === undefined ? [] : [`the power of USB ${usb.cycled.join(", ")} was cut and is back`]),
    ...(usb?.kept === undefined ? [] : [`the power of USB was not cut: ${usb.kept}`]),
  ];
  return parts.map((part) => `; ${part}`).join("");
}
