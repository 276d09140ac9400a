/**
 * What the main thread and the pump thread say to each other: orders as lines of JSON down a record socket, events up by
 * postMessage, counters in shared memory (counters.ts).
 */

import type { End } from "../end.ts";
import type { FramingName } from "./framing.ts";

/** Handed to the thread when it is started. */
export interface ThreadData {
  kind: "pump";
  /** The thread's end of the record socket. */
  orders: number;
  /** COUNTERS doubles for each of LINKS_MAX links. */
  stats: SharedArrayBuffer;
}

/** What the thread tells, by postMessage. */
export type ThreadEvent =
  | { kind: "ready" }
  /** The state of the link's SSH connection is no longer needed where it lies. */
  | { kind: "read"; id: number }
  | { kind: "up"; id: number; mtu: number }
  | { kind: "ended"; id: number; end: End };

/** Links at a time in one thread. */
export const LINKS_MAX = 4096;

export interface AddOrder {
  kind: "add";
  id: number;
  /** The link's place in the shared memory. */
  slot: number;
  tap: number;
  stream: number;
  /** Bytes. */
  mtu: number;
  /** ms. */
  silence: number;
  /** The one source MAC that frames from the stream may have. */
  guard?: string;
  /** Frames of the TAP come and go with a virtio-net header. */
  vnet: boolean;
  framing: FramingName;
  /** What to say in HELLO, FEATURE_ bits of message.ts. */
  features: number;
  /** Where the state of an SSH connection lies whose socket `stream` is; without it the socket is the stream. */
  ssh?: { address: number; length: number };
  /** MiB of that connection after which we ask for new keys. */
  rekeyLimit?: number;
}

/** What the main thread wants. `text` is told to the peer. */
export type Order = AddOrder | { kind: "close"; id: number; text: string } | { kind: "stop" };

/** MiB of one pair of keys: half of what RFC 4344 section 3.2 allows for AES, 2^32 blocks. */
export const REKEY_LIMIT = 32_768;

/** Bytes of an order at most. The longest is `close`, whose text is cut. */
export const ORDER_MAX = 2048;
/** Characters of a close's text: with every one escaped (six bytes) it fits into an order. */
export const TEXT_MAX = 300;

/** The order as one record. */
export function encodeOrder(order: Order): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(order));
}

/** The order in a record that `encodeOrder` made: both ends are this program, so it is not looked at again. */
export function decodeOrder(record: Uint8Array): Order {
  return JSON.parse(new TextDecoder().decode(record)) as Order;
}
