/** The two framings of a tunnel: how frames are told apart in the stream, with or without other messages. */

import { FRAME_MAX, HEADER, ORIGINAL_HEADER, ORIGINAL_MTU, originalMax } from "./message.ts";

/** What the code needs to know of a framing. */
export interface Framing {
  /**
   * True: the stream has messages of all types (message.ts), among them HELLO, PING and CLOSE. False: it has
   * nothing but frames, and the link is up at once.
   */
  readonly messages: boolean;
  /** Bytes in front of each frame. */
  readonly header: number;
  /** The largest MTU that a node may have, bytes. Undefined: what both ends agree on in HELLO. */
  readonly mtu: number | undefined;
  /** The most bytes of a frame. @param mtu of the node's network, bytes. */
  frameMax(mtu: number): number;
}

export const FRAMINGS = {
  /** The framing of this program: u8 type, u24 length, payload. */
  messages: { messages: true, header: HEADER, mtu: undefined, frameMax: () => FRAME_MAX },
  /** The framing of WalT's own VPN client and server: u16 length, frame. */
  original: { messages: false, header: ORIGINAL_HEADER, mtu: ORIGINAL_MTU, frameMax: originalMax },
} as const satisfies Record<string, Framing>;

export type FramingName = keyof typeof FRAMINGS;

/** The names, as the configuration has them. */
export const FRAMING_NAMES = Object.keys(FRAMINGS) as FramingName[];
