/**
 * Cuts the power of the node's USB ports for a moment, so that what is plugged in there starts anew. A hub
 * switches a port by a request to the hub (USB 2.0, 11.24.2), which a program sends through the hub's file in
 * /dev/bus/usb.
 */

import type { BoardRecord, UsbPorts } from "../../boards.ts";
import type { UsbPower } from "../../control/reboot.ts";
import { messageOf } from "../../errors.ts";
import { allocate, failure, libc, O_CLOEXEC, O_RDWR } from "../../linux/libc.ts";
import { readUsbDevice, USB_DEVICES } from "./devices.ts";
import { below } from "./ports.ts";
import { deviceFile } from "./steps.ts";

/** Milliseconds without power: capacitors of devices must be empty. */
const OFF = 2000;
/** Milliseconds that a hub may take for an answer. */
const ANSWER = 1000;

/**
 * USBDEVFS_CONTROL, and the bytes of its struct usbdevfs_ctrltransfer (linux/usbdevice_fs.h), on 64-bit
 * machines.
 */
const USBDEVFS_CONTROL = 0xc0185500;
const TRANSFER_SIZE = 24;

/** Requests to hubs and their parts (USB 2.0, tables 11-15, 11-16 and 11-17). */
const CLEAR_FEATURE = 1;
const SET_FEATURE = 3;
const GET_DESCRIPTOR = 6;
const PORT_POWER = 8;
const TO_PORT = 0x23;
const FROM_HUB = 0xa0;
/** Types of hub descriptors: USB 2.0, table 11-13, and USB 3.2, table 10-5. */
const HUB = 0x29;
const SUPERSPEED_HUB = 0x2a;
/** Bytes of a hub descriptor at most: 7 and two bits for each of 255 ports. */
const DESCRIPTOR_MAX = 71;

/** A control request (USB 2.0, 9.3). */
export interface ControlRequest {
  readonly type: number;
  readonly request: number;
  readonly value: number;
  readonly index: number;
  /** Bytes that the answer has at most. */
  readonly length: number;
}

/**
 * Send a request to the device behind a file of usbfs, and return the answer.
 * @throws WaltError with the reason.
 */
export type Control = (file: string, request: ControlRequest) => Uint8Array;

/** What `cyclePower` works on. */
export interface PowerOptions {
  readonly ports: UsbPorts;
  /** See `BoardRecord.usbSwitch`. */
  readonly usbSwitch: BoardRecord["usbSwitch"];
  /** Instead of /sys/bus/usb/devices. */
  readonly folder?: string;
  readonly control?: Control;
  /** Waits `ms` milliseconds. */
  readonly wait?: (ms: number) => Promise<unknown>;
}

/**
 * Switch the node's ports off and on again. Of several hubs, those that cannot do it leave the others alone.
 * @returns what was cycled, or why nothing was; undefined when the node has no USB ports.
 */
export async function cyclePower(o: PowerOptions): Promise<UsbPower | undefined> {
  const { external, own } = o.ports;
  if (external.length === 0) return undefined;
  const { control = usbfsControl, wait = Bun.sleep } = o;
  const missing = o.usbSwitch?.filter((port) => !external.includes(port)) ?? [];
  if (missing.length > 0)
    return { kept: `the board's sockets have one switch, and ${missing.join(", ")} is not the node's` };
  const off: { port: string; file: string; number: number }[] = [];
  const reasons: string[] = [];
  for (const port of external) {
    try {
      // A port that leads to a chip of the board itself, such as its network card, is never touched.
      if (own.some((one) => below(one, [port]))) throw new Error("a chip of the board is behind it");
      const { hub, number } = hubOf(port);
      const device = readUsbDevice(o.folder ?? USB_DEVICES, hub);
      if (device === undefined) throw new Error(`there is no hub ${hub}`);
      const file = deviceFile(device);
      const why = refusalOf(control, file);
      if (why !== undefined) throw new Error(why);
      control(file, request(CLEAR_FEATURE, number));
      off.push({ port, file, number });
    } catch (error) {
      reasons.push(`${port}: ${messageOf(error)}`);
    }
  }
  if (off.length > 0) await wait(OFF);
  const cycled: string[] = [];
  for (const { port, file, number } of off) {
    try {
      control(file, request(SET_FEATURE, number));
      cycled.push(port);
    } catch (error) {
      reasons.push(`${port} has no power now: ${messageOf(error)}`);
    }
  }
  const kept = reasons.join("; ").slice(0, 500);
  return { ...(cycled.length === 0 ? {} : { cycled }), ...(kept === "" ? {} : { kept }) };
}

/**
 * The hub that a port belongs to, by its name in /sys, and the port's number there. `1-2` is of the root hub
 * `usb1`.
 */
function hubOf(port: string): { hub: string; number: number } {
  const [, bus = "", parents = "", number = ""] = /^(\d+)-((?:\d+\.)*)(\d+)$/.exec(port) ?? [];
  return { hub: parents === "" ? `usb${bus}` : `${bus}-${parents.slice(0, -1)}`, number: Number(number) };
}

function request(what: number, port: number): ControlRequest {
  return { type: TO_PORT, request: what, value: PORT_POWER, index: port, length: 0 };
}

/** Why a hub does not switch its ports one by one; undefined if it does. @throws when it does not answer. */
function refusalOf(control: Control, file: string): string | undefined {
  const ask = (type: number): Uint8Array =>
    control(file, {
      type: FROM_HUB,
      request: GET_DESCRIPTOR,
      value: type << 8,
      index: 0,
      length: DESCRIPTOR_MAX,
    });
  let descriptor: Uint8Array;
  try {
    descriptor = ask(HUB);
  } catch {
    descriptor = ask(SUPERSPEED_HUB);
  }
  // The two lowest bits of wHubCharacteristics: 0 together, 1 one by one, 2 and 3 not at all (USB 2.0,
  // 11.23.2.1).
  const mode = (descriptor[3] ?? 2) & 3;
  if (mode === 1) return undefined;
  return mode === 0
    ? "its hub switches all ports together"
    : "its hub does not switch the power of its ports";
}

/** `Control` by the kernel. */
function usbfsControl(file: string, r: ControlRequest): Uint8Array {
  const fd = libc.open(Buffer.from(`${file}\0`), O_RDWR | O_CLOEXEC, 0);
  if (fd < 0) throw failure(`open ${file}`);
  try {
    const data = allocate(Math.max(1, r.length));
    const transfer = allocate(TRANSFER_SIZE);
    const view = new DataView(transfer.bytes.buffer);
    view.setUint8(0, r.type);
    view.setUint8(1, r.request);
    view.setUint16(2, r.value, true);
    view.setUint16(4, r.index, true);
    view.setUint16(6, r.length, true);
    view.setUint32(8, ANSWER, true);
    view.setBigUint64(16, BigInt(data.address), true);
    const got = libc.ioctl(fd, USBDEVFS_CONTROL, transfer.bytes);
    if (got < 0) throw failure(`ask the hub ${file}`);
    return data.bytes.slice(0, got);
  } finally {
    libc.close(fd);
  }
}
