/** `walt node console` */

import { ApiError } from "../../api/api-error.ts";
import { type ConsolePlace, consolePlace } from "../../control/orders.ts";
import { usageError, WaltError } from "../../errors.ts";
import { sleep } from "../../linux/sleep.ts";
import { command, untilStopped } from "../_command.ts";
import { operator, serverOptions, withServer } from "../_server.ts";
import { ESCAPES_HELP, Escapes } from "./_escapes.ts";
import { giveOrder, type OrderInput } from "./_orders.ts";
import { PlainOutput, printed } from "./_output.ts";

/** ms until a lost connection is tried again. */
const RETRY = 1000;
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
    const mode = args.watch ? "watch" : args.take ? "take" : "write";
    const isRaw = process.stdout.isTTY || args.raw === true;
    try {
      await withServer(args, (api) => {
        const session = new Session(isRaw, keyboard);
        const attach = (): Promise<void> =>
          giveOrder(api, args.node, session.order(mode), {
            output: (bytes) => session.show(bytes),
            begun: (input) => keyboard.connect(input),
            signal,
          });
        return stayAttached(attach, session, signal);
      });
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      keyboard.stop();
    }
    if (leave.signal.aborted) say("Left the console.");
  },
});

/** Attach, and again whenever the way to the console was lost. @throws as the first attempt, or what cannot mend itself. */
async function stayAttached(
  attach: () => Promise<void>,
  session: Session,
  signal: AbortSignal,
): Promise<void> {
  let isLost = false;
  while (!signal.aborted) {
    try {
      await attach();
    } catch (error) {
      if (signal.aborted || !session.wasAttached || !mendsItself(error)) throw error;
    }
    const before = isLost;
    isLost = !session.lost();
    if (!(before && isLost)) say("The way to the console is lost; it is tried again. ~. leaves.");
    await sleep(RETRY, signal);
  }
}

/** Whether to wait helps: the tunnel or the server is away. */
function mendsItself(error: unknown): boolean {
  return error instanceof ApiError ? error.code === "node-down" : error instanceof WaltError;
}

/** What was shown, over several connections. */
class Session {
  /** Where in the console's output the next byte is; undefined before the first one. */
  #place: ConsolePlace | undefined;
  /** The beginning of an answer, until its first line is complete. */
  #head: Buffer | undefined = Buffer.alloc(0);
  readonly #plain = new PlainOutput();

  constructor(
    readonly isRaw: boolean,
    readonly keyboard: Keyboard,
  ) {}

  get wasAttached(): boolean {
    return this.#place !== undefined;
  }

  order(mode: "watch" | "write" | "take") {
    this.#head = Buffer.alloc(0);
    const after = this.#place === undefined ? {} : { after: this.#place };
    return { order: "console" as const, mode, by: operator(), ...after };
  }

  /** The connection has ended. @returns whether it had begun. */
  lost(): boolean {
    return this.#head === undefined;
  }

  async show(bytes: Uint8Array): Promise<void> {
    let output = bytes;
    if (this.#head !== undefined) {
      this.#head = Buffer.concat([this.#head, bytes]);
      const end = this.#head.indexOf("\n");
      if (end < 0) return;
      output = this.#head.subarray(end + 1);
      this.#place = consolePlace(this.#head.toString("utf8", 0, end));
      this.#head = undefined;
      this.keyboard.start();
    }
    const place = this.#place;
    if (place !== undefined) this.#place = { ...place, position: place.position + output.length };
    await printed(this.isRaw ? output : this.#plain.take(output));
  }
}

/** The user's keyboard, or what is piped into the command. */
class Keyboard {
  readonly #terminal = process.stdin.isTTY && process.stdout.isTTY;
  readonly #escapes = new Escapes();
  #input: OrderInput | undefined;
  #started = false;

  constructor(
    readonly leave: () => void,
    readonly types: boolean,
  ) {}

  /** What is typed goes here from now on. */
  connect(input: OrderInput): void {
    this.#input = input;
  }

  /** Begin to read. Again: does nothing. */
  start(): void {
    if (this.#started || !(this.types || this.#terminal)) return;
    this.#started = true;
    if (this.#terminal) {
      say("Attached to the console; ~. leaves, ~? helps.");
      process.stdin.setRawMode(true);
    }
    process.once("exit", () => this.stop());
    process.stdin.on("error", this.leave); // the terminal is gone
    process.stdin.on("data", (bytes: Buffer) => this.#take(bytes));
  }

  stop(): void {
    if (this.#started && this.#terminal) process.stdin.setRawMode(false);
    process.stdin.pause();
  }

  #take(bytes: Buffer): void {
    const typed = this.#terminal ? this.#escapes.type(bytes) : { bytes, asks: "nothing" };
    const room = this.#input !== undefined && this.#input.waiting + typed.bytes.length <= TYPED_AHEAD;
    if (this.types && room && typed.bytes.length > 0) this.#input?.type(typed.bytes);
    if (typed.asks === "help") process.stderr.write(`\r\n${ESCAPES_HELP}\r\n`);
    if (typed.asks === "leave") this.leave();
  }
}

function say(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\n[${text}]\r\n`);
}
