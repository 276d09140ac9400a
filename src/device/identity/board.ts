/** Model and serial number of the board, which are shown to the operator who decides about its request. */

import { createHash } from "node:crypto";
import { join } from "node:path";
import { BOARDS, type Board } from "../../boards.ts";
import { codeOf } from "../../errors.ts";
import { readTextIfAny } from "../../linux/files.ts";
import { safeText } from "../../text.ts";

/** What identifies a board for people. */
export interface BoardIdentity {
  /** At most 100 characters, safe for a terminal. */
  model: string;
  /** At most 64 characters, safe for a terminal. */
  serialNumber: string;
}

/** Placeholders that firmware has when the maker of the board did not set a value. */
const NOTHING = new RegExp(
  "^(0*|none|n\\/a|default string|not specified|not applicable|to be filled by o\\.e\\.m\\.?|" +
    "system (product name|serial number)|unknown|123456789)$",
  "i",
);

/**
 * Read model and serial number: from the firmware's device tree on a Raspberry Pi, from DMI first on other
 * machines. Where both have no serial number, it is made from the machine-id, which stays the same until the
 * system is installed again.
 * @param root folder to read instead of `/`.
 */
export function readBoard(board: Board, root = "/"): BoardIdentity {
  const read = (path: string): string | undefined => {
    const text = readValue(join(root, path));
    return text === undefined || NOTHING.test(text) ? undefined : text;
  };
  // Strings of the device tree end with a zero byte (Devicetree Specification 2.2.4), which readValue
  // removes.
  const tree = {
    model: read("proc/device-tree/model"),
    serial: read("proc/device-tree/serial-number"),
  };
  const { model } = BOARDS[board];
  const dmi = model === undefined ? readDmi(read) : {};
  const fallback = model ?? `generic ${process.arch} machine`;
  return {
    model: safeText(dmi.model ?? tree.model ?? fallback, 100),
    serialNumber: safeText(dmi.serial ?? tree.serial ?? ofMachineId(read("etc/machine-id")), 64),
  };
}

/** What DMI says, which is the firmware's description of a PC. */
function readDmi(read: (path: string) => string | undefined): { model?: string; serial?: string } {
  const product = read("sys/class/dmi/id/product_name");
  const vendor = read("sys/class/dmi/id/sys_vendor");
  const serial = read("sys/class/dmi/id/product_serial");
  return {
    ...(product === undefined ? {} : { model: vendor === undefined ? product : `${vendor} ${product}` }),
    ...(serial === undefined ? {} : { serial }),
  };
}

/** A number made from the machine-id. The id itself must not be shown to others (machine-id(5)). */
function ofMachineId(id: string | undefined): string {
  if (id === undefined) return "unknown";
  return createHash("sha256").update(`walt-device:${id}`).digest("hex").slice(0, 16);
}

/** The content of a file; undefined when it is empty or cannot be read. */
function readValue(path: string): string | undefined {
  try {
    const text = readTextIfAny(path, 4096)?.replaceAll("\0", "").trim();
    return text === "" ? undefined : text;
  } catch (error) {
    // Some of these files exist but reading fails, such as with ENODEV, or only root may read them.
    if (codeOf(error) === undefined && !(error instanceof Error)) throw error;
    return undefined;
  }
}

/**
 * Name and MAC address of the node on a board, for a server that does not assign them. `walt server run`
 * would choose the same ones.
 * @param boardMac MAC address of the board: six pairs of hex digits with colons between them.
 */
export function nodeOf(boardMac: string): { node: string; mac: string } {
  const bytes = boardMac.split(":").slice(3);
  return { node: `vpn-${bytes.join("")}`, mac: ["52", "54", "00", ...bytes].join(":") };
}

/** A MAC address for the device's bridge: locally administered (IEEE 802), and the same after every boot. */
export function bridgeMac(identity: BoardIdentity): string {
  const digest = createHash("sha256").update(`walt-br:${identity.model}:${identity.serialNumber}`).digest();
  const bytes = [0x02, ...digest.subarray(0, 5)];
  return bytes.map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}
