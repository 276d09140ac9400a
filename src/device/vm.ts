/** The node: a VM in a QEMU that this process owns, with its serial console and its end. */

import { rmSync } from "node:fs";
import { messageOf, WaltError } from "../errors.ts";
import type { Log } from "../log.ts";
import { safeText } from "../text.ts";
import { checkMachine, type MachineOptions, qemuArguments } from "./machine.ts";
import { Qmp, type QmpEvent } from "./qmp.ts";

export { findAccelerator } from "./accelerator.ts";
export {
  type Accelerator,
  type Architecture,
  type Board,
  type MachineOptions,
  qemuArguments,
} from "./machine.ts";

/** Characters of the serial console that are kept. */
const CONSOLE = 65_536;

/** Characters of QEMU's own messages that are kept: for the reason when it ends. */
const COMPLAINTS = 4096;

/** How long QEMU may take until it answers on its socket, and until it has ended when told to, in ms. */
const STARTING = 15_000;
const ENDING = 5000;

export interface VmOptions extends MachineOptions {
  /** Called with each piece of the serial console, as it comes. It is the guest's: not safe for a terminal. */
  onConsole?: (text: string) => void;
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

export class Vm {
  /** In words why the VM is no more: it was stopped, rebooted (its owner starts it afresh), or died. Never rejects. */
  readonly ended: Promise<string>;
  readonly #child: Bun.Subprocess<"ignore", "pipe", "pipe">;
  readonly #socket: string;
  readonly #onConsole: ((text: string) => void) | undefined;
  #qmp: Qmp | undefined;
  #console = "";
  #complaints = "";
  #cause: string | undefined;
  #stopping = false;

  private constructor(o: VmOptions) {
    this.#socket = o.qmpSocket;
    this.#onConsole = o.onConsole;
    this.#child = Bun.spawn(qemuArguments(o), {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      detached: true, // ^C at a terminal is for its owner, which stops it in order
    });
    const outputs = Promise.all([
      read(this.#child.stdout, (text) => this.#said(text)),
      read(this.#child.stderr, (text) => {
        this.#complaints = (this.#complaints + text).slice(-COMPLAINTS);
      }),
    ]);
    this.ended = this.#child.exited.then(async () => {
      await outputs;
      this.#qmp?.close();
      rmSync(this.#socket, { force: true });
      return this.#reason();
    });
  }

  /**
   * Start QEMU; resolves when it runs the VM. A QEMU left over by an owner that was killed is ended first.
   * @throws WaltError when something it needs is missing (names the package), or with QEMU's words.
   */
  static async start(o: VmOptions, log: Log): Promise<Vm> {
    checkMachine(o.arch);
    await endLeftOver(o.qmpSocket, log);
    const vm = new Vm(o);
    log.debug("QEMU started", { pid: vm.pid, accel: o.accel, memory: o.memory, mac: o.mac });
    let reason: string | undefined;
    void vm.ended.then((words) => {
      reason = words;
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

  /** QEMU's process id. */
  get pid(): number {
    return this.#child.pid;
  }

  /** The end of the serial console, at most 64 Ki characters. The guest's own words: not safe for a terminal. */
  console(): string {
    return this.#console;
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

  #said(text: string): void {
    this.#console = (this.#console + text).slice(-CONSOLE);
    this.#onConsole?.(text);
  }

  #event({ name, data }: QmpEvent): void {
    if (name === "SHUTDOWN") this.#cause = CAUSES[String(data["reason"])];
  }

  #reason(): string {
    if (this.#stopping) return "stopped";
    const { signalCode, exitCode } = this.#child;
    const last = this.#complaints.trim().split("\n").at(-1) ?? "";
    const words = last === "" ? "" : `: ${safeText(last, 200)}`;
    if (signalCode !== null) return `QEMU was killed (${signalCode})${words}`;
    if (exitCode !== 0) return `QEMU ended (exit ${exitCode})${words}`;
    return this.#cause ?? `QEMU ended${words}`;
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
