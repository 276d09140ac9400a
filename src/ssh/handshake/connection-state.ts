/**
 * All that there is to know of an SSH connection with one open channel, to go on with it elsewhere: in
 * another thread.
 */

import { allocate, type Memory } from "../../linux/libc.ts";
import { WireReader, WireWriter } from "../keys/wire.ts";
import type { PacketState } from "./packet-stream.ts";
import type { Session } from "./transport.ts";

export interface ConnectionState extends PacketState {
  readonly session: Session;
  /** The channel's number as each end has it. */
  readonly ourChannel: number;
  readonly theirChannel: number;
  /** Bytes of data that they may still send, and we. */
  readonly ourWindow: number;
  readonly theirWindow: number;
  /** Bytes of data that they take in one packet. */
  readonly theirPacket: number;
}

/** Bytes of a tunnel's window when it is fully open, as OpenSSH has it. */
export const WINDOW = 2 * 1024 * 1024;

const SERVER = 1;
/** Bytes of an ed25519 key in wire encoding (ed25519.ts). */
const BLOB_LENGTH = 51;

/** As bytes at an address, by which another thread of this process finds them. They hold keys. */
export function encodeState(s: ConnectionState): Memory {
  const { id, strict, clientVersion, serverVersion, role } = s.session;
  const server = role.end === "server";
  const bytes = new WireWriter()
    .string(id)
    .u8(strict ? 1 : 0)
    .string(clientVersion)
    .string(serverVersion)
    .u8(server ? SERVER : 0)
    .string(server ? role.hostSeed : Buffer.concat(role.hostKeys))
    .u32(s.received)
    .string(s.incoming.key)
    .string(s.incoming.iv)
    .string(s.outgoing.key)
    .string(s.outgoing.iv)
    .u32(s.ourChannel)
    .u32(s.theirChannel)
    .u32(s.ourWindow)
    .u32(s.theirWindow)
    .u32(s.theirPacket)
    .string(s.unread)
    .bytes();
  const memory = allocate(bytes.length);
  memory.bytes.set(bytes);
  return memory;
}

/** What `encodeState` made. */
export function decodeState(bytes: Uint8Array): ConnectionState {
  const r = new WireReader(bytes);
  const state = {
    session: {
      id: r.string(),
      strict: r.u8() === 1,
      clientVersion: r.string(),
      serverVersion: r.string(),
      role:
        r.u8() === SERVER
          ? { end: "server" as const, hostSeed: r.string() }
          : { end: "client" as const, hostKeys: cut(r.string()) },
    },
    received: r.u32(),
    incoming: { key: r.string(), iv: r.string() },
    outgoing: { key: r.string(), iv: r.string() },
    ourChannel: r.u32(),
    theirChannel: r.u32(),
    ourWindow: r.u32(),
    theirWindow: r.u32(),
    theirPacket: r.u32(),
    unread: r.string(),
  };
  r.end();
  return state;
}

/** Ed25519 keys in wire encoding, one behind the other. */
function cut(bytes: Buffer): Buffer[] {
  const keys: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += BLOB_LENGTH) keys.push(bytes.subarray(at, at + BLOB_LENGTH));
  return keys;
}
