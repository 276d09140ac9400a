/** The power of nodes' virtual machines, as a switch with power over Ethernet has it: a port for each node. */

import type { Answer } from "../control/asker.ts";
import type { OrderOf } from "../control/orders.ts";
import { parseReboot } from "../control/reboot.ts";
import type { Report } from "../control/report.ts";
import { messageOf, WaltError } from "../errors.ts";
import { LineCutter } from "../linux/lines.ts";
import { within } from "../linux/sleep.ts";
import type { Device } from "./registry.ts";
import { PORTS, type Port } from "./snmp/mib.ts";

/** Who gives the orders, for journal and log. */
const BY = "WalT, by SNMP";
/** ms that a device may take until it begins with an order: whoever asks by SNMP does not wait for long. */
const PATIENCE = 2000;
/** Bytes of a device's answer. */
const ANSWER_MAX = 4096;

export interface PowerSwitchParts {
  /** The devices that are not revoked, and the known addresses of their nodes by MAC address. */
  devices(): readonly Device[];
  address(device: Device): string | null;
  isUp(device: Device): boolean;
  report(device: Device): Report | undefined;
  give(device: Device, order: OrderOf<"power">): Promise<Answer>;
  /** Notes for the journal that a device has begun with an order. */
  record(device: Device, order: OrderOf<"power">): void;
  /** An order was begun, and could not be carried out. */
  failed(device: Device, reason: string): void;
}

export class PowerSwitch {
  /** What was ordered and is not in a report yet, by the device's number. */
  readonly #wanted = new Map<number, boolean>();

  constructor(readonly parts: PowerSwitchParts) {}

  ports(): Port[] {
    const { parts } = this;
    return this.#devices().map((device) => ({
      number: device.id,
      name: device.node,
      mac: device.mac,
      address: parts.address(device),
      up: parts.isUp(device),
      power: this.#power(device),
    }));
  }

  /**
   * Switch a port. Resolves when its device has begun with it.
   * @throws WaltError when there is no node, or its device cannot be asked.
   */
  async set(port: number, on: boolean): Promise<void> {
    const device = this.#devices().find(({ id }) => id === port);
    if (device === undefined) throw new WaltError(`there is no node at port ${port}`);
    const order = { order: "power", on, by: BY } as const;
    const late = new WaltError(`the device of ${device.node} has not answered within ${PATIENCE} ms`);
    const answer = await within(PATIENCE, this.parts.give(device, order), late);
    this.#wanted.set(device.id, on);
    try {
      this.parts.record(device, order);
    } catch (error) {
      answer.close(); // what cannot be in the journal is not done
      throw error;
    }
    void outcomeOf(answer).then((reason) => {
      if (reason === undefined) return;
      this.#wanted.delete(device.id);
      this.parts.failed(device, reason);
    });
  }

  /** Those that have a port. */
  #devices(): Device[] {
    return this.parts.devices().filter(({ id }) => id <= PORTS);
  }

  #power(device: Device): boolean {
    const state = this.parts.report(device)?.vm.state;
    const reported = state !== "off" && state !== "powered-off";
    const wanted = this.#wanted.get(device.id);
    if (wanted === reported) this.#wanted.delete(device.id);
    return wanted ?? reported;
  }
}

/** Why an order was not carried out; undefined when it was. */
async function outcomeOf(answer: Answer): Promise<string | undefined> {
  try {
    const lines = new LineCutter(ANSWER_MAX);
    for (let bytes = await answer.read(); bytes !== undefined; bytes = await answer.read()) {
      const [line] = lines.push(bytes);
      if (line === undefined) continue;
      const outcome = parseReboot(line);
      if (outcome.did === "powered-on" || outcome.did === "powered-off") return undefined;
      return outcome.did === "not-started" ? outcome.reason : outcome.did;
    }
    await answer.done;
    return "the device answered nothing";
  } catch (error) {
    return messageOf(error);
  } finally {
    answer.close();
  }
}
