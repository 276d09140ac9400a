/** `walt node console` */

import type { OrderOf } from "../../control/orders.ts";
import { usageError } from "../../errors.ts";
import { command, untilStopped } from "../_command.ts";
import { operator, serverOptions, withServer } from "../_server.ts";
import { showContinued } from "./_continued.ts";
import { ESCAPES_HELP, Escapes } from "./_escapes.ts";
import type { OrderInput } from "./_orders.ts";
import { PlainOutput, printed } from "./_output.ts";

/** Bytes that may be typed before the console takes them; further ones are lost. */
const TYPED_AHEAD = 65_536;

export default command({
  name: "walt node console",
  description: "Attach to a node's serial console. It shows the last output first; ~. leaves, ~? helps",
  examples: [
    "walt node console lab-3",
    "walt node console lab-3 --take",
    "walt node console lab-3 --watch | grep --line-buffered login",
  ],
  args: {
    node: { type: "positional", required: true, description: "The node's name" },
    watch: { type: "boolean", description: "Look on without typing" },
    take: { type: "boolean", description: "Type in place of whoever is typing, who can then only look on" },
    raw: { type: "boolean", description: "Pass on the guest's escapes although the output is no terminal" },
    ...serverOptions,
  },
  async run(args) {
    if (args.watch && args.take) throw usageError("--watch and --take exclude each other");
    const leave = new AbortController();
    const signal = AbortSignal.any([leave.signal, untilStopped()]);
    const keyboard = new Keyboard(() => leave.abort(), !args.watch);
    const isRaw = keyboard.isTerminal || args.raw === true;
    const plain = new PlainOutput();
    let mode: OrderOf<"console">["mode"] = args.watch ? "watch" : args.take ? "take" : "write";
    try {
      await showContinued((use) => withServer(args, use), args.node, {
        order: (after) => ({ order: "console", mode, by: operator(), ...(after && { after }) }),
        show: async ({ bytes, writes }) => {
          mode = writes ? "resume" : "watch";
          keyboard.start();
          await printed(isRaw ? bytes : plain.take(bytes));
        },
        begun: (input) => keyboard.connect(input),
        lost: () => say("The way to the console is lost; it is tried again. ~. leaves."),
        goesOn: true,
        signal,
      });
    } finally {
      keyboard.stop();
    }
    if (leave.signal.aborted) say("Left the console.");
  },
});

/** The user's keyboard, or what is piped into the command. */
class Keyboard {
  readonly isTerminal = process.stdin.isTTY && process.stdout.isTTY;
  readonly #escapes = new Escapes();
  #input: OrderInput | undefined;
  #started = false;
  /** What is piped in has ended. */
  #ended = false;

  constructor(
    readonly leave: () => void,
    readonly types: boolean,
  ) {}

  /** What is typed goes here from now on. */
  connect(input: OrderInput): void {
    this.#input = input;
    if (this.#ended) input.end();
  }

  /** Begin to read. Again: does nothing. */
  start(): void {
    if (this.#started || !(this.types || this.isTerminal)) return;
    this.#started = true;
    if (this.isTerminal) {
      say("Attached to the console; ~. leaves, ~? helps.");
      process.stdin.setRawMode(true);
    }
    process.once("exit", () => this.stop());
    process.stdin.on("error", this.leave); // the terminal is gone
    process.stdin.on("end", () => this.#end());
    process.stdin.on(
      "data",
      (bytes: Buffer) => void (this.isTerminal ? this.#key(bytes) : this.#pipe(bytes)),
    );
  }

  stop(): void {
    if (this.#started && this.isTerminal) process.stdin.setRawMode(false);
    process.stdin.pause();
  }

  /** What is typed faster than the console takes it is lost, as on a real one. */
  #key(bytes: Buffer): void {
    const typed = this.#escapes.type(bytes);
    const room = this.#input !== undefined && this.#input.waiting + typed.bytes.length <= TYPED_AHEAD;
    if (this.types && room && typed.bytes.length > 0) void this.#input?.type(typed.bytes);
    if (typed.asks === "help") process.stderr.write(`\r\n${ESCAPES_HELP}\r\n`);
    if (typed.asks === "leave") this.leave();
  }

  /** What is piped in waits until there is room. */
  async #pipe(bytes: Buffer): Promise<void> {
    process.stdin.pause();
    await this.#input?.type(bytes);
    process.stdin.resume();
  }

  #end(): void {
    this.#ended = true;
    if (this.isTerminal) this.leave();
    else this.#input?.end();
  }
}

function say(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\n[${text}]\r\n`);
}
