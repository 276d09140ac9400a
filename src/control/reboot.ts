/** What came of an order to reboot, or to switch the power, as the device answers it: one line of JSON. */

import { Fields } from "../parse.ts";

/** What a hard reboot did to the power of the node's USB ports. */
export interface UsbPower {
  /** Ports that were off and are on again. */
  readonly cycled?: readonly string[];
  /** Why others were not. */
  readonly kept?: string;
}

/** What came of it. Programs decide by `did`. */
export type RebootOutcome =
  /** The virtual machine ended, and runs again. Devices of before say nothing of USB. */
  | { readonly did: "rebooted"; readonly usb?: UsbPower }
  /** It ended, but does not start again now; `reason` says why. The device tries it again later. */
  | { readonly did: "not-started"; readonly reason: string }
  /** The guest did not end within so many seconds. It runs as before; should it end later, it is started again. */
  | { readonly did: "no-reaction"; readonly seconds: number }
  /** There is no virtual machine whose guest could be asked. */
  | { readonly did: "not-running" }
  /** The virtual machine runs. */
  | { readonly did: "powered-on" }
  /** It has ended, and stays so. */
  | { readonly did: "powered-off" }
  /** The board's init was told to reboot the board. */
  | { readonly did: "board-reboots" };

const DID = [
  ...["rebooted", "not-started", "no-reaction", "not-running"],
  ...["powered-on", "powered-off", "board-reboots"],
] as RebootOutcome["did"][];

/** The line, without its end. */
export function printReboot(outcome: RebootOutcome): string {
  return JSON.stringify(outcome);
}

/** Parse the line. @throws WaltError when it is something else, perhaps of a newer version. */
export function parseReboot(line: string): RebootOutcome {
  const f = Fields.parse(line, "the device's answer");
  const did = f.choice("did", DID);
  if (did === "not-started") return { did, reason: f.words("reason", 1000) };
  if (did === "no-reaction") return { did, seconds: f.integer("seconds", 0, 1e6) };
  if (did === "rebooted") return { did, ...f.optional("usb", (key) => usbPower(f.object(key))) };
  return { did };
}

/** Ports that are told of. */
const MAX_PORTS = 64;

function usbPower(f: Fields): UsbPower {
  return {
    ...f.optional("cycled", (key) => f.wordList(key, MAX_PORTS, MAX_PORTS)),
    ...f.optional("kept", (key) => f.words(key, 500)),
  };
}
