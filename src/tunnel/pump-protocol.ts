/**
 * What the main thread and the pump thread tell each other. Orders go to the pump thread as JSON, one in each
 * record of a SOCK_SEQPACKET socket, because poll(2) can wait for a socket. Events go to the main thread by
 * postMessage. Counters are in shared memory (counters.ts).
 */

import { readU32, writeU32 } from "../bytes.ts";
import type { End } from "../end.ts";
import type { FramingName } from "./framing.ts";
import type { GuardRules } from "./receive/guard.ts";
import { MESSAGE_MAX } from "./send/channel-messages.ts";

/** What the thread is given when it starts (workerData). */
export interface ThreadData {
  /** Tells the pump thread from other threads. */
  kind: "pump";
  /** File descriptor of the thread's end of the socket for orders. */
  orders: number;
  /** COUNTERS doubles for each of LINKS_MAX links. */
  stats: SharedArrayBuffer;
}

/** What the pump thread tells the main thread. `id` is the number of a link. */
export type ThreadEvent =
  /** The thread has started and takes orders. */
  | { kind: "ready" }
  /** The thread has its own copy of the state of the link's SSH connection (`AddOrder.ssh`). */
  | { kind: "state-read"; id: number }
  /** The link is up. `mtu` is what both ends agreed on, bytes. `lanes`: it may get further ones. */
  | { kind: "up"; id: number; mtu: number; lanes: boolean }
  /** A message of the connection that is for another channel than the tunnel's (RFC 4254). */
  | { kind: "message"; id: number; payload: Uint8Array }
  /** So many bytes of such messages from the main thread have left the thread's queue. */
  | { kind: "messages-left"; id: number; bytes: number }
  /** All links are ending, and use their TAPs no more: the answer to `stop-links`. */
  | { kind: "links-stopping" }
  /** The link is over. */
  | { kind: "ended"; id: number; end: End };

/** The most links that one thread may have at a time. */
export const LINKS_MAX = 4096;

/** The order to join a TAP to a stream. */
export interface AddOrder {
  kind: "add";
  /** Number of the link, never used twice. */
  id: number;
  /** Which place in the shared memory has the counters of the link: 0 to LINKS_MAX - 1. */
  slot: number;
  /** The link is a further lane of the tunnel whose first lane is the link with this number: it has no TAP. */
  first?: number;
  /** File descriptor of the TAP, non-blocking; -1 = none. */
  tap: number;
  /** File descriptor of the stream's socket, non-blocking. */
  stream: number;
  /** The largest MTU that this end can do, bytes. */
  mtu: number;
  /** A peer that sends nothing, or takes nothing, for this many ms counts as dead. */
  silence: number;
  /** What frames from the stream may be. */
  guard?: GuardRules;
  /** The TAP has a virtio-net header in front of each frame, both ways. */
  vnet: boolean;
  framing: FramingName;
  /** Which features to offer in HELLO: FEATURE_ bits of message.ts. */
  features: number;
  /**
   * Where in memory the state of an SSH connection is, as `encodeState` wrote it (`length` in bytes).
   * `stream` is then the socket of that connection. Without it the bytes of the socket are the stream.
   */
  ssh?: { address: number; length: number };
  /** MiB of that connection after which this end asks for new keys. */
  rekeyLimit?: number;
  /** The connection may have other channels: their messages go to the main thread. */
  channels?: boolean;
}

/** What the main thread orders. The peer is told the `text` of `stop-link` and of `stop-links`. */
export type Order =
  | AddOrder
  | { kind: "stop-link"; id: number; text: string }
  /** End all links, each with its TAP left open until it is over: to be answered by `links-stopping`. */
  | { kind: "stop-links"; text: string }
  | { kind: "stop" }
  /** Send a message of another channel of the link's connection. */
  | { kind: "message"; id: number; payload: Uint8Array };

/**
 * MiB after which this end asks for new keys, unless told otherwise: half of what RFC 4344, section 3.2,
 * allows for AES, that is half of 2^32 blocks of 16 bytes.
 */
export const REKEY_LIMIT = 32_768;

/** The most bytes of an order. The longest order is a `message`. */
export const ORDER_MAX = MESSAGE_MAX + 8;
/**
 * The most characters of the text of `stop-link`: if JSON escapes each of them (six bytes), the order still fits.
 */
export const TEXT_MAX = 300;

/** The first byte of a record with a message; the link's number (u32) and the payload follow. JSON begins with `{`. */
const MESSAGE_RECORD = 0;
const MESSAGE_HEADER = 5;

/** Encode an order as one record. */
export function encodeOrder(order: Order): Uint8Array {
  if (order.kind !== "message") return new TextEncoder().encode(JSON.stringify(order));
  const record = new Uint8Array(MESSAGE_HEADER + order.payload.length);
  record[0] = MESSAGE_RECORD;
  writeU32(record, 1, order.id);
  record.set(order.payload, MESSAGE_HEADER);
  return record;
}

/** Decode a record that `encodeOrder` made. It is not checked, as both ends are this program. */
export function decodeOrder(record: Uint8Array): Order {
  if (record[0] !== MESSAGE_RECORD) return JSON.parse(new TextDecoder().decode(record)) as Order;
  const payload = Uint8Array.from(record.subarray(MESSAGE_HEADER));
  return { kind: "message", id: readU32(record, 1), payload };
}
