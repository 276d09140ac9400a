/**
 * Checks the numbers in a client's channel messages before ssh2's server, which trusts them, acts on them.
 */

import type { Connection } from "ssh2";
import { messageOf, WaltError } from "../../errors.ts";
import { MESSAGE } from "../handshake/message-numbers.ts";

/**
 * Bytes. A client must take packets of at least this size. ssh2 cuts its data into pieces of the size that
 * the client says, and a size of 0 makes it loop for ever. RFC 4253 section 6.1 has everybody take 32 768.
 */
const PACKET_SIZE_MIN = 4096;
/** The greatest window that RFC 4254 section 5.2 allows, in bytes. */
const WINDOW_MAX = 2 ** 32 - 1;
/**
 * What a handler answers to make ssh2 drop the rest of the bytes that it was given: Protocol.parse counts up
 * to it.
 */
const DROP_THE_REST = Number.POSITIVE_INFINITY;

/** ssh2's Client of lib/server.js, as far as it is used. */
interface Inside {
  _protocol: { _onPayload(payload: Uint8Array): unknown };
  _chanMgr: { get(id: number): unknown };
}
/** ssh2's windows of one channel, as lib/Channel.js keeps them. */
interface Windows {
  incoming: { window: number };
  outgoing: { window: number };
}

/**
 * Put the checks in front of ssh2. Call it before keys are exchanged: in ssh2's `connection` event. `refused`
 * hears once why the connection must be ended; ssh2 gets nothing of that message, or of what follows it.
 * @throws TypeError when this version of ssh2 has another inside.
 */
export function guard(client: Connection, refused: (reason: string) => void): void {
  const { _protocol: protocol, _chanMgr: channels } = client as unknown as Inside;
  const handle = protocol?._onPayload;
  if (typeof handle !== "function" || typeof channels?.get !== "function") {
    throw new TypeError("this version of ssh2 has another inside: its messages cannot be checked");
  }
  let over = false;
  protocol._onPayload = (payload) => {
    if (over) return DROP_THE_REST;
    try {
      check(payload, (id) => windowsOf(channels.get(id)));
    } catch (error) {
      over = true;
      refused(messageOf(error));
      return DROP_THE_REST;
    }
    return handle(payload);
  };
}

/** @throws WaltError when a message says what no honest client says. */
function check(payload: Uint8Array, windowsBy: (channel: number) => Windows | undefined): void {
  const type = payload[0];
  if (type === MESSAGE.channelOpen) {
    // string: type of the channel; uint32: the client's number for it, its window (any is allowed), its
    // packet size.
    const size = u32(payload, 1 + 4 + u32(payload, 1) + 4 + 4);
    if (size < PACKET_SIZE_MIN) {
      throw new WaltError(`it takes packets of ${size} bytes only; ${PACKET_SIZE_MIN} are the least`);
    }
  } else if (type === MESSAGE.windowAdjust) {
    const windows = windowsBy(u32(payload, 1));
    if (windows !== undefined && windows.outgoing.window + u32(payload, 5) > WINDOW_MAX) {
      throw new WaltError("it opens its window beyond 2^32 - 1 bytes");
    }
  } else if (type === MESSAGE.data || type === MESSAGE.extendedData) {
    const windows = windowsBy(u32(payload, 1));
    const length = u32(payload, type === MESSAGE.data ? 5 : 9);
    if (windows === undefined) throw new WaltError("it sends data on a channel that it has not opened");
    if (length > windows.incoming.window) throw new WaltError("it sends more than its window");
    // ssh2 counts what comes on an open channel; not what it drops.
    if (type === MESSAGE.extendedData) windows.incoming.window -= length;
  }
}

/**
 * The windows of what ssh2 keeps under a channel's number: a channel, or a session with or without a channel.
 */
function windowsOf(kept: unknown): Windows | undefined {
  if (typeof kept !== "object" || kept === null) return undefined;
  const session = kept as { _chanInfo?: Windows };
  return session._chanInfo ?? (kept as Windows);
}

/** @throws WaltError when the message ends before. */
function u32(payload: Uint8Array, at: number): number {
  if (at + 4 > payload.length) throw new WaltError(`it sends a message ${payload[0]} that is too short`);
  return new DataView(payload.buffer, payload.byteOffset + at, 4).getUint32(0);
}
