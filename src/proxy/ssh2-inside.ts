/**
 * What the relay uses of ssh2 that ssh2 does not promise to keep: the types, and the places in its source.
 * Whoever upgrades ssh2 compares these places first; `ssh2-check.ts` tries most of them whenever a relay
 * starts.
 */

import type { Connection, ServerChannel } from "ssh2";

/** The version that the guard was written against. */
export const SSH2_VERSION = "1.17.0";

/** Where in ssh2 the relay relies on what is not documented, and on what. */
export const PLACES: readonly string[] = [
  "lib/protocol/Protocol.js, onPayload: every message after the key exchange passes `_onPayload`, which is looked up when" +
    " a cipher is made; a handler that returns Infinity makes `parse` drop the rest of what came",
  "lib/protocol/Protocol.js, channelOpenConfirm, channelOpenFail, channelWindowAdjust, channelClose: methods that" +
    " lib/server.js calls by these names with these arguments, and that a property of the instance can replace",
  "lib/protocol/utils.js, sendPacket: while `_kexinit` is set, what is sent waits in memory; the `handshake` event tells" +
    " when it no longer is",
  "lib/server.js, Client: `_protocol`, `_chanMgr` and `authenticated`; the `connection` event comes before any message",
  "lib/server.js, CHANNEL_OPEN: what is kept under the channel's number, a Session or a Channel, is there before" +
    " `channelOpenConfirm`; a refusal by `reject()` has reason 2 (CONNECT_FAILED)",
  "lib/server.js, Session: `_channel` is unset until a command runs, `_chanInfo` holds the windows of its channel",
  "lib/server.js, CHANNEL_DATA and lib/Channel.js, windowAdjust: `incoming.window` is a number that ssh2 compares and" +
    " subtracts from, so that with Infinity it never opens the window itself",
  "lib/server.js, CHANNEL_CLOSE: a session without a channel is neither closed in return nor forgotten",
  "lib/Channel.js, _write: data is cut into pieces of `outgoing.packetSize`, and waits while `outgoing.window` is 0",
];

/** ssh2's Client of lib/server.js. */
export interface Inside {
  _protocol: Protocol;
  _chanMgr: { get(id: number): unknown; remove(id: number): void };
  authenticated: boolean;
}
export interface Protocol {
  _onPayload(payload: Uint8Array): unknown;
  /** The KEXINIT that was sent, while keys are exchanged. */
  _kexinit: unknown;
  channelOpenConfirm(theirs: number, ours: number, window: number, packet: number): void;
  channelOpenFail(theirs: number, reason: number, text?: string): void;
  channelWindowAdjust(theirs: number, bytes: number): void;
  channelClose(theirs: number): void;
}
/** The two halves of a channel, of lib/Channel.js. */
export interface Halves {
  incoming: { id: number; window: number };
  outgoing: { id: number; window: number; state: string };
}

export function insideOf(client: Connection): Inside {
  return client as unknown as Inside;
}

/**
 * What ssh2 keeps under a channel's number: a channel, or a session with or without a channel; else
 * undefined.
 */
export function keptAs(kept: unknown): { halves: Halves; session: boolean; running: boolean } | undefined {
  if (typeof kept !== "object" || kept === null) return undefined;
  const { _chanInfo: info, _channel: channel } = kept as { _chanInfo?: Halves; _channel?: unknown };
  if (info !== undefined) return { halves: info, session: true, running: channel !== undefined };
  return { halves: kept as Halves, session: false, running: true };
}

/** The number under which ssh2 keeps a channel. */
export function numberOf(channel: ServerChannel): number {
  return (channel as unknown as Halves).incoming.id;
}
