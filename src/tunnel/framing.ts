/** The two framings of a tunnel: how frames are told apart in the stream, and what else is said there. One record each. */

import { FRAME_MAX, HEADER, ORIGINAL_HEADER, ORIGINAL_MTU, originalMax } from "./message.ts";

export interface Framing {
  /** Messages of all types (message.ts), among them HELLO, PING and CLOSE; else frames alone, and the link is up at once. */
  readonly messages: boolean;
  /** Bytes in front of each frame. */
  readonly header: number;
  /** The largest MTU that a node can be given, bytes; undefined: what both ends agree on in HELLO. */
  readonly mtu: number | undefined;
  /** Longest frame, bytes, at this MTU. */
  frameMax(mtu: number): number;
}

export const FRAMINGS = {
  /** WalT VPN's own: u8 type, u24 length, payload. */
  messages: { messages: true, header: HEADER, mtu: undefined, frameMax: () => FRAME_MAX },
  /** That of WalT's own VPN client and server: u16 length, frame. */
  original: { messages: false, header: ORIGINAL_HEADER, mtu: ORIGINAL_MTU, frameMax: originalMax },
} as const satisfies Record<string, Framing>;

export type FramingName = keyof typeof FRAMINGS;

/** As the configuration lists them. */
export const FRAMING_NAMES = Object.keys(FRAMINGS) as FramingName[];
