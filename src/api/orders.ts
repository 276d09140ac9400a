/**
 * The messages of an order that an operator gives to a node's device, each as the function that parses it. The
 * answer is a stream of events; what the operator types goes to the device by requests of its own.
 */

import { type OrderName, orderOf } from "../control/orders.ts";
import type { Fields } from "../parse.ts";
import { safeText } from "../text.ts";
import { parseCode } from "./api-error.ts";

/** Bytes of input in one request. */
export const INPUT_MAX = 4096;
/** Bytes of the device's answer in one event. */
export const OUTPUT_MAX = 16_384;
const BASE64_MAX = (bytes: number): number => 4 * Math.ceil(bytes / 3);
const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/;

/** Orders that operators give. */
const FOR_OPERATORS: readonly OrderName[] = ["echo", "console", "log", "reboot", "power", "set"];

/** An order for the device of a node. Its `by` is what the command says of who gives it. */
export function parseOrderRequest(f: Fields) {
  const order = f.object("order");
  order.choice("order", FOR_OPERATORS);
  return { node: f.words("node"), order: orderOf(() => order) };
}

/** What happens to an order. */
export type OrderEvent = NonNullable<ReturnType<typeof parseOrderEvent>>;

export function parseOrderEvent(f: Fields) {
  switch (f.text("type", 20)) {
    case "begun":
      /** The device has begun. `session` names it in requests with input. */
      return { type: "begun" as const, session: f.text("session", 64, /^[0-9a-f]+$/) };
    case "output":
      return { type: "output" as const, bytes: base64(f, "bytes", OUTPUT_MAX) };
    case "done":
      return { type: "done" as const };
    case "failed":
      /** It ended without being done. */
      return {
        type: "failed" as const,
        code: parseCode(f),
        error: f.words("error", 2000),
        hint: f.orNull("hint", (key) => f.words(key, 1000)),
      };
    case "alive":
      return { type: "alive" as const };
    default:
      return undefined;
  }
}

/** Input for an order. */
export function parseInput(f: Fields) {
  return {
    session: f.text("session", 64, /^[0-9a-f]+$/),
    /** In base64. */
    bytes: f.text("bytes", BASE64_MAX(INPUT_MAX), BASE64),
    /** Nothing more comes. */
    end: f.boolean("end"),
  };
}

function base64(f: Fields, key: string, max: number): Buffer {
  return Buffer.from(f.text(key, BASE64_MAX(max), BASE64), "base64");
}

/** The words of an error for an event. */
export function failedEvent(code: string, error: string, hint?: string): object {
  return { type: "failed", code, error: safeText(error, 2000), hint: hint ?? null };
}
