/**
 * The orders that the server gives to a device over the control channel, each as the function that parses it.
 * An order is the command of an SSH session, as a JSON object. Fields that a newer version added are ignored.
 */

import { parseChanges } from "../config/settings.ts";
import { WaltError } from "../errors.ts";
import { Fields } from "../parse.ts";
import { VERSION } from "../version.ts";
import { ROUNDS_MAX } from "./hops.ts";
import { placeOf } from "./pieces.ts";

/** Bytes of an order, which is one message (MESSAGE_MAX of src/tunnel/send/channel-messages.ts). */
const ORDER_BYTES = 4096;
/** Bytes of an error in answer to an order. */
const REFUSAL_BYTES = 8192;
/** The last time of a Date, ms since 1970 (ECMA-262, "Time Values"). */
const TIME_MAX = 8.64e15;
/** Characters of an operator's name. */
const OPERATOR_MAX = 100;

/** The name of whoever asks, as the server knows it: for the device's log and for others at the same console. */
const by = (f: Fields): string => f.words("by", OPERATOR_MAX);

/** The place that the asker has seen all before: only what is behind it, as far as it is kept. */
const after = (f: Fields) => f.optional("after", (key) => placeOf(f.object(key)));

/** Devices behind one entrypoint that an order can tell of. */
const MAX_PEERS = 1_000_000;

const ORDERS = {
  /** Tell what is known of the board and the VM, as lines of JSON, until the asker leaves. */
  report: (f: Fields) => ({
    order: "report" as const,
    /** The server's time, ms since 1970, for the VM's clock. Servers of before do not tell it. */
    ...f.optional("now", (key) => f.integer(key, 0, TIME_MAX)),
  }),
  /** Come back with what is sent: the way to the supervisor and back. */
  echo: () => ({ order: "echo" as const }),
  /**
   * Take note of how many devices have their tunnels through the same entrypoint, this one included: when it is
   * lost, they must not all come back at once. The answer is empty.
   */
  peers: (f: Fields) => ({
    order: "peers" as const,
    count: f.integer("count", 1, MAX_PEERS),
    ...f.optional("turn", (key) => f.integer(key, 0, MAX_PEERS - 1)),
  }),
  /** Measure the round trip times to each proxy. */
  hops: (f: Fields) => ({ order: "hops" as const, rounds: f.integer("rounds", 1, ROUNDS_MAX) }),
  /** The VM's serial line. The answer is the VM's output as it is, in pieces, first what is kept. */
  console: (f: Fields) => ({
    order: "console" as const,
    ...after(f),
    /**
     * Read only; write, and be refused when somebody else does; write in place of whoever does; write, or read
     * only when somebody else writes.
     */
    mode: f.choice("mode", ["watch", "write", "take", "resume"]),
    by: by(f),
  }),
  /** Lines of a log, in pieces. */
  log: (f: Fields) => ({
    order: "log" as const,
    ...after(f),
    source: f.choice("source", ["vm", "board", "kernel"]),
    /** Go on with what is written later. */
    follow: f.boolean("follow"),
    /** How many lines of what was written before; all that there are unless it is given. */
    ...f.optional("lines", (key) => f.integer(key, 0, 1_000_000)),
  }),
  /** Restart the guest by its own means, the VM by force, or the whole board. */
  reboot: (f: Fields) => ({
    order: "reboot" as const,
    what: f.choice("what", ["guest", "vm", "board"]),
    by: by(f),
  }),
  /** End the VM and keep it off, or start it again. Off lasts until the supervisor's end. */
  power: (f: Fields) => ({ order: "power" as const, on: f.boolean("on"), by: by(f) }),
  /**
   * Try other settings, and keep them if a tunnel comes up with them. The answer is one line of JSON with the
   * `id` of the trial, whose outcome is in the reports. The trial begins once the answer was read.
   */
  set: (f: Fields) => ({
    order: "set" as const,
    changes: parseChanges(f.object("changes")),
    /** Seconds until a tunnel must be up. */
    within: f.integer("within", 5, 3600),
    by: by(f),
  }),
} as const;

export type OrderName = keyof typeof ORDERS;
export type Order = { [Name in OrderName]: ReturnType<(typeof ORDERS)[Name]> }[OrderName];
/** The order of this name. */
export type OrderOf<Name extends OrderName> = ReturnType<(typeof ORDERS)[Name]>;

/** Why an order is not carried out. */
export const REFUSALS = [
  /** The device's version does not know the order. */
  "unknown-order",
  /** The device knows the order, and a field of it is missing or wrong. */
  "malformed",
  /** It could not be done; the words say why. */
  "failed",
  /** A mistake in the device's program. */
  "internal",
] as const;
export type RefusalCode = (typeof REFUSALS)[number];

/** An order that is not carried out, as it travels from the device to the server. */
export class OrderRefused extends WaltError {
  /** @param version the device's version of walt. */
  constructor(
    readonly code: RefusalCode,
    message: string,
    readonly version: string = VERSION,
    hint?: string,
  ) {
    super(message, hint === undefined ? {} : { hint });
  }
}

/** @throws WaltError when it is too long. */
export function encodeOrder(order: Order): string {
  const text = JSON.stringify(order);
  const bytes = Buffer.byteLength(text);
  if (bytes <= ORDER_BYTES) return text;
  throw new WaltError(`the order has ${bytes} bytes, more than ${ORDER_BYTES}`, {
    hint: "Set the host keys of one proxy after the other, and of each only the key of type ssh-ed25519.",
  });
}

/** @throws OrderRefused. */
export function parseOrder(command: string): Order {
  return orderOf(() => Fields.parse(command, "order", ORDER_BYTES));
}

/** The order that fields make. @throws OrderRefused, also for what `fields` throws. */
export function orderOf(fields: () => Fields): Order {
  try {
    const f = fields();
    const name = f.words("order", 40);
    const parse = Object.entries(ORDERS).find(([known]) => known === name)?.[1];
    if (parse === undefined) throw new OrderRefused("unknown-order", `walt ${VERSION} has no \`${name}\``);
    return parse(f);
  } catch (error) {
    if (error instanceof OrderRefused || !(error instanceof WaltError)) throw error;
    throw new OrderRefused("malformed", error.message);
  }
}

export function encodeRefusal({ code, message, version, hint }: OrderRefused): string {
  return JSON.stringify({ code, error: message, version, ...(hint === undefined ? {} : { hint }) });
}

/** What a device said on standard error. A code that only a newer version knows is `failed`. */
export function parseRefusal(text: string): OrderRefused {
  try {
    const f = Fields.parse(text, "the device's answer", REFUSAL_BYTES);
    const code = f.words("code", 40);
    const hint = f.has("hint") ? f.words("hint", 1000) : undefined;
    const known = REFUSALS.find((one) => one === code) ?? "failed";
    return new OrderRefused(known, f.words("error", 2000), f.words("version", 40), hint);
  } catch {
    return new OrderRefused("failed", "the device did not do it, and did not say why", "unknown");
  }
}
