/**
 * Both ends of a connection after a handshake that never was; and a client whose every message the test
 * makes.
 */

import { expect } from "bun:test";
import { randomBytes } from "node:crypto";
import { allocate, libc } from "../../../src/linux/libc.ts";
import type { ConnectionState } from "../../../src/ssh/handshake/connection-state.ts";
import {
  Opener,
  OVERHEAD,
  PACKET_MAX,
  PAYLOAD,
  packetSize,
  Sealer,
} from "../../../src/ssh/handshake/packet-cipher.ts";
import { generateKey, seedOf } from "../../../src/ssh/keys/ed25519.ts";
import { WireWriter } from "../../../src/ssh/keys/wire.ts";
import { readNow, writeNow } from "../rig.ts";

export const WINDOW = 2 << 20;
/** The channel's number at the server and at the client. */
export const SERVER = 3;
export const CLIENT = 8;
const hostKey = generateKey("host");

/** What both ends know; `more` is the server's. */
export function states(
  more: Partial<ConnectionState> = {},
): [server: ConnectionState, client: ConnectionState] {
  const keys = (): { key: Uint8Array; iv: Uint8Array } => ({ key: randomBytes(16), iv: randomBytes(12) });
  const [up, down] = [keys(), keys()];
  const versions = { clientVersion: Buffer.from("SSH-2.0-a"), serverVersion: Buffer.from("SSH-2.0-b") };
  const session = { id: randomBytes(32), strict: true, ...versions };
  const windows = {
    received: 3,
    ourWindow: WINDOW,
    theirWindow: WINDOW,
    theirPacket: 32_768,
    unread: new Uint8Array(),
  };
  const server = { end: "server", hostSeed: seedOf(hostKey) } as const;
  const client = { end: "client", hostKeys: [hostKey.publicKey.blob] } as const;
  return [
    {
      session: { ...session, role: server },
      ...{ incoming: up, outgoing: down, ourChannel: SERVER, theirChannel: CLIENT },
      ...windows,
      ...more,
    },
    {
      session: { ...session, role: client },
      ...{ incoming: down, outgoing: up, ourChannel: CLIENT, theirChannel: SERVER },
      ...windows,
    },
  ];
}

/** Packets by hand, with the keys of one end. */
export class HandEnd {
  #sealer: Sealer;
  #opener: Opener;
  readonly #place = allocate(PACKET_MAX + OVERHEAD);
  readonly #out = allocate(PACKET_MAX + OVERHEAD);
  #have = Buffer.alloc(0);

  constructor(
    readonly fd: number,
    readonly state: ConnectionState,
  ) {
    this.#sealer = new Sealer(state.outgoing);
    this.#opener = new Opener(state.incoming);
  }

  sealed(payload: Uint8Array): Uint8Array {
    this.#place.bytes.set(payload, PAYLOAD);
    return this.#out.bytes.slice(0, this.#sealer.seal(this.#place, payload.length, this.#out, 0));
  }

  /** Put bytes on the wire as they are. */
  raw(bytes: Uint8Array): void {
    expect(writeNow(this.fd, bytes)).toBe(bytes.length);
  }

  send(payload: Uint8Array): void {
    this.raw(this.sealed(payload));
  }

  /** New keys for what is sent, and for what comes, from here on. */
  rekey({ incoming, outgoing }: Pick<ConnectionState, "incoming" | "outgoing">): void {
    this.#sealer = new Sealer(outgoing);
    this.#opener = new Opener(incoming);
  }

  /** All messages that have come, up to NEWKEYS. */
  heard(): Buffer[] {
    for (let bytes = readNow(this.fd); bytes !== undefined && bytes.length > 0; bytes = readNow(this.fd)) {
      this.#have = Buffer.concat([this.#have, bytes]);
    }
    const found: Buffer[] = [];
    for (;;) {
      const size = packetSize(this.#have, 0, this.#have.length);
      if (size === 0 || this.#have.length < size) return found;
      this.#place.bytes.set(this.#have.subarray(0, size));
      this.#have = this.#have.subarray(size);
      this.#opener.open(this.#place, 0, size);
      const payload = Buffer.from(this.#place.bytes.slice(PAYLOAD, this.#opener.end));
      found.push(payload);
      if (payload[0] === 21) return found;
    }
  }

  close(): void {
    libc.close(this.fd);
  }
}

export const data = (bytes: Uint8Array, channel = SERVER): Buffer =>
  new WireWriter().u8(94).u32(channel).string(bytes).bytes();
