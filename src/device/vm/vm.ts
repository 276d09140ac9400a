/** The node: a virtual machine in a QEMU that is a child of this process. */

import { rmSync } from "node:fs";
import { messageOf, WaltError } from "../../errors.ts";
import { endGroup } from "../../linux/child.ts";
import { libc } from "../../linux/libc.ts";
import { paced } from "../../linux/output.ts";
import { started } from "../../linux/run.ts";
import type { Log } from "../../log.ts";
import { safeText } from "../../text.ts";
import type { SerialConsole } from "../console/serial-console.ts";
import { openSerialLine, type SerialLine } from "../console/serial-line.ts";
import { causeOf, type VmEnd } from "./end.ts";
import { checkMachine, type MachineOptions, qemuArguments } from "./qemu-arguments.ts";
import { Qmp, type QmpEvent } from "./qmp.ts";

export { findAccelerator } from "./kvm-probe.ts";
export {
  type Accelerator,
  type Architecture,
  type MachineOptions,
  qemuArguments,
} from "./qemu-arguments.ts";

/** Characters of QEMU's standard error that are kept, for the reason when QEMU ends. */
const STDERR_KEPT = 4096;

/**
 * Milliseconds that QEMU may take until it answers on its socket. A Raspberry Pi that is busy takes long to
 * read QEMU from its card.
 */
const STARTING = 60_000;
/** Milliseconds that QEMU may take to end after it was told to. */
const ENDING = 5000;
/** Milliseconds after QEMU's end in which what it has printed is read. */
const LAST_WORDS = 1000;

/** A virtual machine, from its start to its end. */
export class Vm {
  /**
   * Resolves to the reason when the virtual machine has ended. A reboot ends it too: its owner then starts a
   * new one. It never rejects.
   */
  readonly ended: Promise<VmEnd>;
  readonly #child: Bun.Subprocess<number, number, "pipe">;
  readonly #socket: string;
  #qmp: Qmp | undefined;
  #stderr = "";
  /** The first reason that QEMU told. Further events may follow while QEMU ends. */
  #cause: Pick<VmEnd, "kind" | "reason"> | undefined;
  /** Why this program stops it, in words; undefined unless it does. */
  #stopping: string | undefined;

  private constructor(o: MachineOptions, line: SerialLine) {
    this.#socket = o.qmpSocket;
    const command = qemuArguments(o);
    this.#child = started(command[0] ?? "", () =>
      Bun.spawn(command, {
        stdio: [line.theirs, line.theirs, "pipe"],
        // Ctrl-C at the terminal must not end QEMU: this process ends it, in the right order.
        detached: true,
        lazy: true, // else Bun reads, and keeps, all that comes
      }),
    );
    const allStderr = read(this.#child.stderr, (text) => {
      this.#stderr = (this.#stderr + text).slice(-STDERR_KEPT);
    });
    this.ended = this.#child.exited.then(async () => {
      endGroup(this.#child);
      // Not for long: a process that has left the group may keep both open.
      await Promise.race([Promise.all([allStderr, line.ended]), Bun.sleep(LAST_WORDS)]);
      line.stop();
      this.#qmp?.stop();
      rmSync(this.#socket, { force: true });
      return this.#end();
    });
  }

  /**
   * Start QEMU; resolves when it runs the virtual machine. A QEMU that was left over by a device that was
   * killed is ended first.
   * @param signal gives it up.
   * @throws WaltError when a file is missing (with the command that installs it), or with QEMU's message.
   */
  static async start(o: MachineOptions, console: SerialConsole, log: Log, signal?: AbortSignal): Promise<Vm> {
    checkMachine(o.arch);
    await endLeftOver(o.qmpSocket, log);
    const vm = await Vm.#spawn(o, console);
    log.debug("QEMU started", {
      event: "detail",
      pid: vm.pid,
      accel: o.accel,
      memory: o.memory,
      mac: o.nodeMac,
    });
    let reason: string | undefined;
    void vm.ended.then((end) => {
      reason = end.reason;
    });
    const deadline = performance.now() + STARTING;
    try {
      while (vm.#qmp === undefined) {
        signal?.throwIfAborted();
        if (reason !== undefined) throw new WaltError(`the virtual machine did not start: ${reason}`);
        if (performance.now() > deadline) throw new WaltError(`QEMU did not answer within ${STARTING} ms`);
        vm.#qmp = await Qmp.connect(o.qmpSocket, (event) => vm.#event(event)).catch(() => undefined);
        if (vm.#qmp === undefined) await Bun.sleep(20); // QEMU has not made its socket yet
      }
    } catch (error) {
      await vm.stop();
      throw error;
    }
    return vm;
  }

  static async #spawn(o: MachineOptions, console: SerialConsole): Promise<Vm> {
    const line = await openSerialLine(console);
    try {
      return new Vm(o, line);
    } catch (error) {
      line.stop();
      throw error;
    } finally {
      libc.close(line.theirs);
    }
  }

  /** QEMU's process id. */
  get pid(): number {
    return this.#child.pid;
  }

  /**
   * Run a QMP command.
   * @throws WaltError with QEMU's message, or when QEMU has ended.
   */
  async command(name: string, args: Record<string, unknown> = {}): Promise<unknown> {
    if (this.#qmp === undefined) throw new WaltError(`cannot run the QMP command ${name}: QEMU has ended`);
    return await this.#qmp.execute(name, args);
  }

  /**
   * Press the power button, as it were. It resolves at once; whether the guest reacts, `ended` tells.
   *
   * The guest gets an event of ACPI on a PC, and on arm64 that of a key at a GPIO pin (QEMU: virt_powerdown_req in
   * hw/arm/virt.c). Linux passes it on to systemd-logind or acpid. Nothing reacts to it in firmware, in iPXE and in a guest without these programs.
   * @throws WaltError when QEMU has ended.
   */
  async powerDown(): Promise<void> {
    await this.command("system_powerdown");
  }

  /**
   * End the virtual machine: QEMU is told to quit, and killed after 5 s. Resolves when it has ended.
   * @param why in words, for the reason of the end.
   */
  async stop(why = ""): Promise<void> {
    this.#stopping ??= why;
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), ENDING);
    // QEMU ends by SIGTERM, too, which is used before it has its socket. It may end before it answers "quit";
    // SIGTERM then does no harm.
    if (this.#qmp === undefined) this.#child.kill("SIGTERM");
    else this.#qmp.execute("quit").catch(() => this.#child.kill("SIGTERM"));
    await this.ended;
    clearTimeout(timer);
  }

  #event({ name, data }: QmpEvent): void {
    if (name === "SHUTDOWN") {
      this.#cause ??= causeOf(String(data["reason"]));
    } else if (name === "GUEST_PANICKED") {
      this.#cause ??= causeOf("guest-panic");
    } else if (name === "STOP" && this.#stopping === undefined) {
      void this.#halted();
    }
  }

  /**
   * QEMU halts a machine when KVM or the emulation of its processor cannot continue, and leaves it halted.
   * Quit instead, so that the owner can start it again.
   */
  async #halted(): Promise<void> {
    const answer = await this.command("query-status").catch(() => undefined);
    const status =
      typeof answer === "object" && answer !== null && "status" in answer ? answer.status : "gone";
    // After a panic of the guest's kernel, `#cause` is set already: QEMU reports a panic by another event.
    this.#cause ??= { kind: "halted", reason: `QEMU halted the machine (${safeText(String(status))})` };
    await this.command("quit").catch(() => undefined);
  }

  #end(): VmEnd {
    const { signalCode, exitCode } = this.#child;
    const signal = signalCode === null ? null : String(signalCode);
    const last = this.#stderr.trim().split("\n").at(-1) ?? "";
    const words = last === "" ? "" : `: ${safeText(last, 200)}`;
    const end = (kind: VmEnd["kind"], reason: string): VmEnd => ({ kind, reason, exitCode, signal });
    if (this.#stopping !== undefined)
      return end("stopped", this.#stopping === "" ? "stopped" : `stopped: ${this.#stopping}`);
    if (signal !== null) return end("killed", `QEMU was killed (${signal})${words}`);
    if (exitCode !== 0) return end("exited", `QEMU ended (exit ${exitCode})${words}`);
    return this.#cause === undefined
      ? end("exited", `QEMU ended${words}`)
      : end(this.#cause.kind, this.#cause.reason);
  }
}

/** Read a stream of text until it ends or breaks. */
async function read(stream: ReadableStream<Uint8Array>, take: (text: string) => void): Promise<void> {
  const decoder = new TextDecoder();
  try {
    for await (const chunk of paced(stream)) take(decoder.decode(chunk, { stream: true }));
  } catch {
    // The process has ended, which `exited` reports.
  }
}

/**
 * End a QEMU that is left over from a device that was killed (`kill -9`): it still uses the TAP. It listens
 * on the same socket, by which it is told to quit.
 * @throws WaltError when another device uses that QEMU. QEMU serves one client at a time, so that it does not
 *   answer us.
 */
async function endLeftOver(socket: string, log: Log): Promise<void> {
  let old: Qmp | undefined;
  try {
    old = await Qmp.connect(socket, undefined, 2000);
  } catch (error) {
    throw new WaltError(`${socket} is in use: ${messageOf(error)}`, {
      hint: "Is another `walt device run` running on this machine? A device has one virtual machine.",
      cause: error,
    });
  }
  if (old !== undefined) {
    log.warn("a QEMU was left over from an earlier run and is being ended", {
      event: "vm-left-over",
      socket,
    });
    const timer = setTimeout(() => old.stop(), ENDING);
    await old.execute("quit").catch(() => undefined);
    await old.ended;
    clearTimeout(timer);
  }
  rmSync(socket, { force: true });
}
