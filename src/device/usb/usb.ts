/**
 * Passes the USB devices of the board on to the virtual machine, also when they are plugged in or out while
 * it runs.
 */

import type { UsbStatus } from "../../api/device-status.ts";
import type { UsbPorts } from "../../boards.ts";
import { messageOf } from "../../errors.ts";
import { type Uevent, Uevents } from "../../linux/uevent.ts";
import type { Log } from "../../log.ts";
import { USB_CONTROLLER } from "../vm/qemu-arguments.ts";
import { readUsbDevices, type UsbDevice } from "./devices.ts";
import { deviceFile, isQemuId, qemuId, type UsbStep, usbSteps, wanted } from "./steps.ts";

/**
 * Milliseconds between an event of the kernel and the look at /sys. A device that is plugged in causes
 * several events, and the kernel reads its descriptors in the meantime.
 */
const SETTLE = 50;
/** Milliseconds until a step that failed is tried again: the wait is doubled from the first to the last. */
const FIRST_RETRY = 500;
const LAST_RETRY = 30_000;
/** Milliseconds between two looks at /sys while the kernel's events cannot be received. */
const BLIND_LOOK = 2000;

/** A running virtual machine, as far as its USB devices are concerned. */
export interface UsbHost {
  /** Run a QMP command. @throws WaltError with QEMU's message. */
  command(name: string, args?: Record<string, unknown>): Promise<unknown>;
}

/** What is passed on. */
export interface UsbOptions {
  /** The ports whose devices the node gets. */
  readonly ports: UsbPorts;
  readonly log: Log;
  /** Called when the node may have other devices than before. */
  readonly changed?: () => void;
  /** All devices of the board, by default those in /sys; tests give others. */
  readonly devices?: () => UsbDevice[];
}

/**
 * Gives the virtual machine the devices that it should have.
 *
 * The kernel's events only say when to look. Which devices are plugged in is then read from /sys, and which
 * devices the machine has is asked of QEMU, so that an event that was lost does no lasting harm.
 */
export class Usb {
  readonly #uevents: Uevents | undefined;
  #vm: UsbHost | undefined;
  #passed: readonly UsbDevice[] = [];
  #looking = Promise.resolve();
  #lookAgain = false;
  #timer: Timer | undefined;
  /** When `#timer` fires, by `performance.now()`. It has no meaning without a timer. */
  #due = 0;
  #failedLooks = 0;
  /** Why a device cannot be passed on or taken away, by its name in QEMU: each reason is logged once. */
  readonly #refusals = new Map<string, string>();

  constructor(readonly options: UsbOptions) {
    if (options.ports.external.length === 0) return;
    this.#uevents = new Uevents({
      onEvent: (event) => this.onUevent(event),
      onSubscribed: () => this.#lookIn(0),
      onFailure: (why) => {
        options.log.debug(why, { event: "usb-failed" });
        this.#lookIn(BLIND_LOOK);
      },
    });
  }

  /** Handle an event of the kernel. Public for tests. */
  onUevent(event: Uevent): void {
    if (event.subsystem === "usb" && event.values.get("DEVTYPE") === "usb_device") this.#lookIn(SETTLE);
  }

  /**
   * Pass devices on to this machine from now on. It has none of them yet. Undefined stops passing them on.
   */
  use(vm: UsbHost | undefined): void {
    this.#vm = vm;
    this.#passed = [];
    this.options.changed?.();
    this.#failedLooks = 0;
    this.#refusals.clear();
    this.#forgetLook();
    if (vm !== undefined && this.options.ports.external.length > 0) this.#lookIn(0);
  }

  /** The devices that the virtual machine has now. */
  passed(): UsbStatus[] {
    return this.#passed.map(({ port, id, name }) => ({ port, id, name }));
  }

  /** Stop passing devices on. Resolves when no command to QEMU is under way any more. */
  async stop(): Promise<void> {
    this.#uevents?.stop();
    this.#vm = undefined;
    this.#forgetLook();
    await this.#looking;
  }

  /**
   * Look at /sys in `ms` milliseconds, or earlier if that was decided before: many events do not delay it for
   * ever.
   */
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

  /**
   * Look at /sys and do what is needed. One look follows the other: what changes during one is seen by the
   * next.
   */
  #look(): void {
    if (this.#lookAgain) return;
    this.#lookAgain = true;
    this.#looking = this.#looking.then(async () => {
      this.#lookAgain = false;
      const vm = this.#vm;
      if (vm === undefined) return;
      const good = await this.#reconcile(vm).catch((error: unknown) => {
        if (vm === this.#vm)
          this.options.log.debug(
            `cannot compare the USB devices with those of the virtual machine: ${messageOf(error)}`,
            { event: "usb-failed" },
          );
        return false;
      });
      if (vm !== this.#vm) return;
      this.#failedLooks = good ? 0 : this.#failedLooks + 1;
      if (!good) this.#lookIn(Math.min(LAST_RETRY, FIRST_RETRY * 2 ** Math.min(this.#failedLooks - 1, 10)));
    });
  }

  /**
   * Give the machine the devices that are plugged in, and take away the others. True when every step
   * succeeded.
   */
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
      this.options.changed?.();
    }
    return good;
  }

  /** Take one step, and log it. True when it succeeded. */
  async #perform(vm: UsbHost, step: UsbStep): Promise<boolean> {
    const { log } = this.options;
    const { qemuId: id } = step;
    try {
      if (step.do === "remove") {
        await vm.command("device_del", { id });
        log.info("a USB device was unplugged and taken from the node", {
          event: "usb-unplugged",
          device: id,
        });
        return true;
      }
      const bus = `${USB_CONTROLLER}.0`;
      await vm.command("device_add", { driver: "usb-host", hostdevice: deviceFile(step.device), id, bus });
      log.info("a USB device was passed on to the node", { event: "usb-plugged", ...fields(step.device) });
      return true;
    } catch (error) {
      const why = messageOf(error);
      if (this.#refusals.get(id) !== why && vm === this.#vm) {
        this.#refusals.set(id, why);
        const about = step.do === "add" ? fields(step.device) : { device: id };
        log.warn(`a USB device cannot be ${step.do === "add" ? "passed on" : "taken away"}: ${why}`, {
          event: "usb-failed",
          ...about,
        });
      }
      return false;
    }
  }
}

function fields({ port, id, name, bus, number }: UsbDevice) {
  return { port, id, name, device: `${bus}/${number}` };
}

/**
 * The names of USB devices in QEMU's answer to `qom-list /machine/peripheral`; none if it has another shape.
 */
export function parsePeripherals(answer: unknown): string[] {
  if (!Array.isArray(answer)) return [];
  return answer
    .map((entry: unknown) =>
      typeof entry === "object" && entry !== null && "name" in entry ? entry.name : undefined,
    )
    .filter((name) => typeof name === "string" && isQemuId(name))
    .map(String);
}
