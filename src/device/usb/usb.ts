/** The board's USB devices in the virtual machine: what is plugged in, and what is plugged and pulled while it runs. */

import type { UsbStatus } from "../../api/types.ts";
import type { UsbPorts } from "../../boards.ts";
import { messageOf } from "../../errors.ts";
import { type Uevent, Uevents } from "../../linux/uevent.ts";
import type { Log } from "../../log.ts";
import { USB_CONTROLLER } from "../vm/qemu-arguments.ts";
import { readUsbDevices, type UsbDevice } from "./devices.ts";
import { deviceFile, isQemuId, qemuId, type UsbStep, usbSteps, wanted } from "./steps.ts";

/** ms between an event and the look at /sys: a device brings several events, and its descriptors are read meanwhile. */
const SETTLE = 50;
/** ms until what failed is tried again: doubled from the first to the last. */
const FIRST_RETRY = 500;
const LAST_RETRY = 30_000;
/** ms between looks while the kernel's events cannot be heard. */
const BLIND_LOOK = 2000;

/** A running virtual machine as far as its USB devices are concerned. */
export interface UsbHost {
  /** A QMP command. @throws WaltError with QEMU's words. */
  command(name: string, args?: Record<string, unknown>): Promise<unknown>;
}

export interface UsbOptions {
  readonly ports: UsbPorts;
  readonly log: Log;
  /** All devices of the board; a parameter for tests. */
  readonly devices?: () => UsbDevice[];
}

/**
 * Keeps the virtual machine's devices what they should be. Events only say when to look: what is plugged in is what /sys says
 * at that moment, and what the machine has is what QEMU says, so that nothing is missed for good.
 */
export class Usb {
  readonly #uevents: Uevents | undefined;
  #vm: UsbHost | undefined;
  #passed: readonly UsbDevice[] = [];
  #looking = Promise.resolve();
  #lookAgain = false;
  #timer: Timer | undefined;
  /** When the timer ends, by the clock of `performance`; only of use while there is one. */
  #due = 0;
  #failedLooks = 0;
  /** Why each device cannot be passed on, to be told once. */
  readonly #refusals = new Map<string, string>();

  constructor(readonly options: UsbOptions) {
    if (options.ports.external.length === 0) return;
    this.#uevents = new Uevents({
      onEvent: (event) => this.heard(event),
      onSubscribed: () => this.#lookIn(0),
      onFailure: (why) => {
        options.log.debug(why);
        this.#lookIn(BLIND_LOOK);
      },
    });
  }

  /** The kernel told of a device; for tests of their own too. */
  heard(event: Uevent): void {
    if (event.subsystem === "usb" && event.values.get("DEVTYPE") === "usb_device") this.#lookIn(SETTLE);
  }

  /** From now on devices are passed on to this machine, which has none so far; or to none. */
  use(vm: UsbHost | undefined): void {
    this.#vm = vm;
    this.#passed = [];
    this.#failedLooks = 0;
    this.#refusals.clear();
    this.#forgetLook();
    if (vm !== undefined && this.options.ports.external.length > 0) this.#lookIn(0);
  }

  /** What the virtual machine has now. */
  passed(): UsbStatus[] {
    return this.#passed.map(({ port, id, name }) => ({ port, id, name }));
  }

  /** Hear and do nothing more. */
  async stop(): Promise<void> {
    this.#uevents?.stop();
    this.#vm = undefined;
    this.#forgetLook();
    await this.#looking;
  }

  /** Look after `ms`, or earlier when that is decided already: events in a row do not put it off for ever. */
  #lookIn(ms: number): void {
    const due = performance.now() + ms;
    if (this.#vm === undefined || (this.#timer !== undefined && this.#due <= due)) return;
    clearTimeout(this.#timer);
    this.#due = due;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#look();
    }, ms);
  }

  #forgetLook(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** One look after the other: what happens during one is for the next. */
  #look(): void {
    if (this.#lookAgain) return;
    this.#lookAgain = true;
    this.#looking = this.#looking.then(async () => {
      this.#lookAgain = false;
      const vm = this.#vm;
      if (vm === undefined) return;
      const good = await this.#reconcile(vm).catch((error: unknown) => {
        if (vm === this.#vm) this.options.log.debug(`cannot look after USB devices: ${messageOf(error)}`);
        return false;
      });
      if (vm !== this.#vm) return;
      this.#failedLooks = good ? 0 : this.#failedLooks + 1;
      if (!good) this.#lookIn(Math.min(LAST_RETRY, FIRST_RETRY * 2 ** Math.min(this.#failedLooks - 1, 10)));
    });
  }

  /** Whether all went well. */
  async #reconcile(vm: UsbHost): Promise<boolean> {
    const { devices = readUsbDevices, ports } = this.options;
    const found = devices();
    const attached = new Set(parsePeripherals(await vm.command("qom-list", { path: "/machine/peripheral" })));
    let good = true;
    for (const step of usbSteps(found, [...attached], ports)) {
      if (vm !== this.#vm) return true;
      if (await this.#perform(vm, step)) {
        if (step.do === "add") attached.add(step.qemuId);
        else attached.delete(step.qemuId);
      } else good = false;
    }
    if (vm === this.#vm) {
      this.#passed = wanted(found, ports).filter((device) => attached.has(qemuId(device)));
      const ids = new Set(found.map(qemuId));
      for (const id of this.#refusals.keys()) if (!ids.has(id)) this.#refusals.delete(id);
    }
    return good;
  }

  async #perform(vm: UsbHost, step: UsbStep): Promise<boolean> {
    const { log } = this.options;
    const { qemuId: id } = step;
    try {
      if (step.do === "remove") {
        await vm.command("device_del", { id });
        log.info("a USB device was pulled", { device: id });
        return true;
      }
      const bus = `${USB_CONTROLLER}.0`;
      await vm.command("device_add", { driver: "usb-host", hostdevice: deviceFile(step.device), id, bus });
      log.info("a USB device goes to the node", fields(step.device));
      return true;
    } catch (error) {
      const why = messageOf(error);
      if (this.#refusals.get(id) !== why && vm === this.#vm) {
        this.#refusals.set(id, why);
        const about = step.do === "add" ? fields(step.device) : { device: id };
        log.warn(`a USB device cannot be ${step.do === "add" ? "passed on" : "taken away"}: ${why}`, about);
      }
      return false;
    }
  }
}

function fields({ port, id, name, bus, number }: UsbDevice) {
  return { port, id, name, device: `${bus}/${number}` };
}

/** Names of our devices in the answer to `qom-list /machine/peripheral`; of an answer of another shape none. */
export function parsePeripherals(answer: unknown): string[] {
  if (!Array.isArray(answer)) return [];
  return answer
    .map((entry: unknown) =>
      typeof entry === "object" && entry !== null && "name" in entry ? entry.name : undefined,
    )
    .filter((name) => typeof name === "string" && isQemuId(name))
    .map(String);
}
