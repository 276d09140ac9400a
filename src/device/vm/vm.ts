/** The node: a VM in a QEMU that this process owns, with its serial console and its end. */

import { rmSync } from "node:fs";
import { messageOf, WaltError } from "../../errors.ts";
import { libc } from "../../linux/libc.ts";
import type { Log } from "../../log.ts";
import { safeText } from "../../text.ts";
import type { SerialConsole } from "../console/ring.ts";
import { openSerialLine, type SerialLine } from "../console/serial-line.ts";
import { checkMachine, type MachineOptions, qemuArguments } from "./qemu-arguments.ts";
import { Qmp, type QmpEvent } from "./qmp.ts";

export { findAccelerator } from "./kvm-probe.ts";
export {
  type Accelerator,
  type Architecture,
  type MachineOptions,
  qemuArguments,
} from "./qemu-arguments.ts";

/** Characters of QEMU's own messages that are kept: for the reason when it ends. */
const COMPLAINTS = 4096;

/** How long QEMU may take until it answers on its socket (a busy Pi reads it from its card), and to end when told to, ms. */
const STARTING = 60_000;
const ENDING = 5000;

/** How a life of the machine ended. */
export interface VmEnd {
  /** In words. */
  readonly reason: string;
  /** The node itself asked for it, by a reboot or a power-off: nothing is wrong. */
  readonly orderly: boolean;
}

/** Why QEMU ended, by the reason in its SHUTDOWN event (ShutdownCause in qapi/run-state.json). */
const CAUSES: Record<string, string> = {
  "guest-reset": "the node rebooted",
  "guest-shutdown": "the node powered itself off",
  "guest-panic": "the node's kernel panicked",
  "host-qmp-quit": "stopped",
  "host-signal": "QEMU was told to end by a signal",
  "host-error": "QEMU met an error",
};
const ORDERLY = ["guest-reset", "guest-shutdown"];

export class Vm {
  /** Why the VM is no more: it was stopped, rebooted (its owner starts it afresh), or died. Never rejects. */
  readonly ended: Promise<VmEnd>;
  readonly #child: Bun.Subprocess<number, number, "pipe">;
  readonly #socket: string;
  #qmp: Qmp | undefined;
  #complaints = "";
  /** The first that was told: QEMU's end may have further events. */
  #cause: VmEnd | undefined;
  #stopping = false;

  private constructor(o: MachineOptions, line: SerialLine) {
    this.#socket = o.qmpSocket;
    this.#child = Bun.spawn(qemuArguments(o), {
      stdio: [line.theirs, line.theirs, "pipe"],
      detached: true, // ^C at a terminal is for its owner, which stops it in order
    });
    const complaints = read(this.#child.stderr, (text) => {
      this.#complaints = (this.#complaints + text).slice(-COMPLAINTS);
    });
    this.ended = this.#child.exited.then(async () => {
      await Promise.all([complaints, line.closed]);
      this.#qmp?.close();
      rmSync(this.#socket, { force: true });
      return this.#end();
    });
  }

  /**
   * Start QEMU; resolves when it runs the VM. A QEMU left over by an owner that was killed is ended first.
   * @throws WaltError when something it needs is missing (names the package), or with QEMU's words.
   */
  static async start(o: MachineOptions, console: SerialConsole, log: Log): Promise<Vm> {
    checkMachine(o.arch);
    await endLeftOver(o.qmpSocket, log);
    const vm = await Vm.#spawn(o, console);
    log.debug("QEMU started", { pid: vm.pid, accel: o.accel, memory: o.memory, mac: o.mac });
    let reason: string | undefined;
    void vm.ended.then((end) => {
      reason = end.reason;
    });
    const deadline = performance.now() + STARTING;
    try {
      while (vm.#qmp === undefined) {
        if (reason !== undefined) throw new WaltError(`the VM did not start: ${reason}`);
        if (performance.now() > deadline) throw new WaltError(`QEMU does not answer after ${STARTING} ms`);
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
      line.close();
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
   * A QMP command to the running VM.
   * @throws WaltError with QEMU's words.
   */
  async command(name: string, args: Record<string, unknown> = {}): Promise<unknown> {
    if (this.#qmp === undefined) throw new WaltError(`QEMU is gone: cannot ${name}`);
    return await this.#qmp.execute(name, args);
  }

  /** End it: QEMU is asked to quit, and killed when it does not within 5 s. Resolves when it is gone. */
  async stop(): Promise<void> {
    this.#stopping = true;
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), ENDING);
    // Without its socket QEMU takes SIGTERM as well. The answer to "quit" may be lost in its end.
    if (this.#qmp === undefined) this.#child.kill("SIGTERM");
    else this.#qmp.execute("quit").catch(() => this.#child.kill("SIGTERM"));
    await this.ended;
    clearTimeout(timer);
  }

  #event({ name, data }: QmpEvent): void {
    const reason = String(data["reason"]);
    const words = CAUSES[reason];
    if (name === "SHUTDOWN" && words !== undefined) {
      this.#cause ??= { reason: words, orderly: ORDERLY.includes(reason) };
    } else if (name === "GUEST_PANICKED") {
      this.#cause ??= { reason: CAUSES["guest-panic"] ?? "", orderly: false };
    } else if (name === "STOP" && !this.#stopping) {
      void this.#halted();
    }
  }

  /** QEMU halts a machine that its processor's emulation or KVM cannot go on with, and would leave it like that. */
  async #halted(): Promise<void> {
    const answer = await this.command("query-status").catch(() => undefined);
    const status =
      typeof answer === "object" && answer !== null && "status" in answer ? answer.status : "gone";
    // A panic ends QEMU anyhow, and its halt has told so by an event of its own.
    this.#cause ??= { reason: `QEMU halted the machine (${safeText(String(status))})`, orderly: false };
    await this.command("quit").catch(() => undefined);
  }

  #end(): VmEnd {
    if (this.#stopping) return { reason: "stopped", orderly: false };
    const { signalCode, exitCode } = this.#child;
    const last = this.#complaints.trim().split("\n").at(-1) ?? "";
    const words = last === "" ? "" : `: ${safeText(last, 200)}`;
    const fault = (reason: string): VmEnd => ({ reason, orderly: false });
    if (signalCode !== null) return fault(`QEMU was killed (${signalCode})${words}`);
    if (exitCode !== 0) return fault(`QEMU ended (exit ${exitCode})${words}`);
    return this.#cause ?? fault(`QEMU ended${words}`);
  }
}

/** Read a stream of text to its end; a stream that breaks has ended. */
async function read(stream: ReadableStream<Uint8Array>, take: (text: string) => void): Promise<void> {
  const decoder = new TextDecoder();
  try {
    for await (const chunk of stream) take(decoder.decode(chunk, { stream: true }));
  } catch {
    // the process is gone, and its end is told by `exited`
  }
}

/**
 * A QEMU that outlived its owner (`kill -9`) holds the TAP: it listens on the same socket, and is told to quit.
 * @throws WaltError when it has an owner: QEMU greets one client at a time, so that it does not answer us.
 */
async function endLeftOver(socket: string, log: Log): Promise<void> {
  let old: Qmp | undefined;
  try {
    old = await Qmp.connect(socket, undefined, 2000);
  } catch (error) {
    throw new WaltError(`${socket} is in use: ${messageOf(error)}`, {
      hint: "Does another `walt device run` run here? Each device has one VM.",
      cause: error,
    });
  }
  if (old !== undefined) {
    const { closed } = old;
    log.warn("a QEMU was left over and is ended", { socket });
    const timer = setTimeout(() => old.close(), ENDING);
    await old.execute("quit").catch(() => undefined);
    await closed;
    clearTimeout(timer);
  }
  rmSync(socket, { force: true });
}
