/** What this board is, as far as the machine tells: shown to the operator who decides about its request. */

import { createHash } from "node:crypto";
import { join } from "node:path";
import { BOARDS, type Board } from "../../boards.ts";
import { codeOf } from "../../errors.ts";
import { readTextIfAny } from "../../linux/files.ts";
import { safeText } from "../../text.ts";

export interface BoardIdentity {
  /** At most 100 characters, safe for a terminal. */
  model: string;
  /** At most 64 characters, safe for a terminal. */
  serialNumber: string;
}

/** What firmware says where its maker wrote nothing in. */
const NOTHING =
  /^(0*|none|n\/a|default string|not specified|not applicable|to be filled by o\.e\.m\.?|system (product name|serial number)|unknown|123456789)$/i;

/**
 * Model and serial number: the firmware's device tree on a Raspberry Pi, DMI on others, and where they say nothing a
 * number that stays the same on this installation.
 * @param root folder that stands for `/`.
 */
export function readBoard(board: Board, root = "/"): BoardIdentity {
  const read = (path: string): string | undefined => {
    const text = told(join(root, path));
    return text === undefined || NOTHING.test(text) ? undefined : text;
  };
  // Strings of the device tree end with a zero byte (Devicetree Specification 2.2.4).
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

function readDmi(read: (path: string) => string | undefined): { model?: string; serial?: string } {
  const product = read("sys/class/dmi/id/product_name");
  const vendor = read("sys/class/dmi/id/sys_vendor");
  const serial = read("sys/class/dmi/id/product_serial");
  return {
    ...(product === undefined ? {} : { model: vendor === undefined ? product : `${vendor} ${product}` }),
    ...(serial === undefined ? {} : { serial }),
  };
}

/** machine-id(5) asks not to show the id itself. */
function ofMachineId(id: string | undefined): string {
  if (id === undefined) return "unknown";
  return createHash("sha256").update(`walt-device:${id}`).digest("hex").slice(0, 16);
}

function told(path: string): string | undefined {
  try {
    const text = readTextIfAny(path, 4096)?.replaceAll("\0", "").trim();
    return text === "" ? undefined : text;
  } catch (error) {
    // Some of these files exist but give errors, such as ENODEV, or are for root only.
    if (codeOf(error) === undefined && !(error instanceof Error)) throw error;
    return undefined;
  }
}

/** Name and MAC address of the node of a board whose server gives none: as `walt server run` would choose them. */
export function nodeOf(boardMac: string): { node: string; mac: string } {
  const bytes = boardMac.split(":").slice(3);
  return { node: `vpn-${bytes.join("")}`, mac: ["52", "54", "00", ...bytes].join(":") };
}

/** A MAC address for the board's bridge: locally administered, the same after every boot. */
export function bridgeMac(identity: BoardIdentity): string {
  const digest = createHash("sha256").update(`walt-br:${identity.model}:${identity.serialNumber}`).digest();
  const bytes = [0x02, ...digest.subarray(0, 5)];
  return bytes.map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}
