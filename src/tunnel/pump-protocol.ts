/** What the main thread and the pump thread say to each other: records down a socket, events up, counters in shared memory. */

import { HEADER, REASON_MAX, writeClose } from "./message.ts";

/** The reasons of a link that ended because nothing came from the peer any more, or nothing went there. */
export const SILENCE = /^the peer was silent for|^the stream took nothing for/;

/** Handed to the thread when it is started. */
export interface ThreadData {
  kind: "pump";
  /** The thread's end of the record socket. */
  control: number;
  /** COUNTERS doubles for each of LINKS_MAX links. */
  stats: SharedArrayBuffer;
}

/** What the thread tells, by postMessage. */
export type ThreadEvent =
  | { kind: "ready" }
  /** The state of the link's SSH connection is no longer needed where it lies. */
  | { kind: "read"; id: number }
  | { kind: "up"; id: number; mtu: number }
  | { kind: "ended"; id: number; reason: string };

/** Links at a time in one thread. */
export const LINKS_MAX = 4096;

/** Doubles of a link's place in the shared memory. */
export const COUNTERS = 18;
export const COUNTER = {
  framesIn: 0,
  framesOut: 1,
  bytesIn: 2,
  bytesOut: 3,
  dropped: 4,
  refused: 5,
  rtt: 6,
  marked: 7,
  queued: 8,
  queueDelay: 9,
  window: 10,
  rate: 11,
  minRtt: 12,
  inFlight: 13,
  pings: 14,
  late: 15,
  loss: 16,
  rekeys: 17,
} as const;

export interface AddOrder {
  kind: "add";
  id: number;
  /** The link's place in the shared memory. */
  slot: number;
  tap: number;
  stream: number;
  mtu: number;
  silence: number;
  guard: Uint8Array | undefined;
  /** Frames of the TAP come and go with a virtio-net header. */
  vnet: boolean;
  /** The stream carries frames in the original framing, no messages. */
  original: boolean;
  /** What to say in HELLO, FEATURE_ bits of message.ts. */
  features: number;
  /** Where the state of an SSH connection lies whose socket `stream` is; undefined: the socket is the stream. */
  ssh?: { address: number; length: number } | undefined;
  /** MiB of that connection after which we ask for new keys. */
  rekeyLimit?: number;
}

/** What the main thread wants. */
export type Order = AddOrder | { kind: "close"; id: number; reason: string } | { kind: "stop" };

/** MiB of one pair of keys: half of what RFC 4344 section 3.2 allows for AES, 2^32 blocks. */
export const REKEY_LIMIT = 32_768;

const KINDS = ["add", "close", "stop"] as const;
const VNET = 1;
const ORIGINAL = 2;
const SSH = 48;
const REASON = 64;
/** Bytes of every record: twelve numbers of 32 bits, an address (a double) and its length, then a reason as the CLOSE message that carries it. */
export const RECORD = REASON + HEADER + REASON_MAX;

/** @returns RECORD bytes: kind, id, slot, tap, stream, mtu, silence, guarded, MAC (6 bytes, 2 unused), vnet and original (bits), features, address and length of SSH's state (8 and 4 bytes), its limit, reason. */
export function encodeOrder(order: Order, record: Uint8Array): void {
  const view = new DataView(record.buffer, record.byteOffset, RECORD);
  record.fill(0);
  view.setInt32(0, KINDS.indexOf(order.kind), true);
  if (order.kind === "stop") return;
  view.setInt32(4, order.id, true);
  if (order.kind === "close") {
    writeClose(record, REASON, order.reason);
    return;
  }
  const numbers = [order.slot, order.tap, order.stream, order.mtu, order.silence, order.guard ? 1 : 0];
  for (const [i, n] of numbers.entries()) view.setInt32(8 + 4 * i, n, true);
  if (order.guard !== undefined) record.set(order.guard, 32);
  view.setInt32(40, (order.vnet ? VNET : 0) | (order.original ? ORIGINAL : 0), true);
  view.setUint32(44, order.features, true);
  view.setFloat64(SSH, order.ssh?.address ?? 0, true);
  view.setUint32(SSH + 8, order.ssh?.length ?? 0, true);
  view.setUint32(SSH + 12, order.rekeyLimit ?? REKEY_LIMIT, true);
}

function sshAt(view: DataView): AddOrder["ssh"] {
  const length = view.getUint32(SSH + 8, true);
  return length === 0 ? undefined : { address: view.getFloat64(SSH, true), length };
}

/** The order in a record of `encodeOrder`. */
export function decodeOrder(record: Uint8Array): Order {
  const view = new DataView(record.buffer, record.byteOffset, RECORD);
  const int = (index: number) => view.getInt32(4 * index, true);
  const id = int(1);
  switch (KINDS[int(0)]) {
    case "add":
      return {
        kind: "add",
        id,
        slot: int(2),
        tap: int(3),
        stream: int(4),
        mtu: int(5),
        silence: int(6),
        guard: int(7) === 0 ? undefined : record.slice(32, 38),
        vnet: (int(10) & VNET) !== 0,
        original: (int(10) & ORIGINAL) !== 0,
        features: view.getUint32(44, true),
        ssh: sshAt(view),
        rekeyLimit: view.getUint32(SSH + 12, true),
      };
    case "close": {
      const length = view.getUint8(REASON + 3);
      const reason = record.subarray(REASON + HEADER, REASON + HEADER + length);
      return { kind: "close", id, reason: new TextDecoder().decode(reason) };
    }
    case "stop":
      return { kind: "stop" };
    default:
      throw new RangeError(`no such order: ${int(0)}`);
  }
}
