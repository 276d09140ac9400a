/**
 * A client of SSH whose every message the test makes: it exchanges keys by itself, and says nothing else
 * unless it is told. No I/O.
 */

import { PacketStream } from "../../../src/ssh/handshake/packet-stream.ts";
import { Transport } from "../../../src/ssh/handshake/transport.ts";
import { KEY_TYPE, type KeyPair, type PublicKey, sign } from "../../../src/ssh/keys/ed25519.ts";
import { WireWriter } from "../../../src/ssh/keys/wire.ts";

const VERSION = "SSH-2.0-hand";

export class Speaker {
  readonly packets = new PacketStream();
  transport: Transport | undefined;
  /** All messages that came, key exchanges and all. */
  readonly heard: Buffer[] = [];

  constructor(readonly hostKey: PublicKey) {
    this.packets.raw(Buffer.from(`${VERSION}\r\n`));
  }

  /** Take what the server sent. @throws Error when it is not what a server may send. */
  hear(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.packets.push(bytes);
    if (this.transport === undefined) {
      const serverVersion = this.packets.line(255);
      if (serverVersion === undefined) return;
      const role = { end: "client", hostKeys: [this.hostKey.blob] } as const;
      const context = {
        id: undefined,
        strict: false,
        clientVersion: Buffer.from(VERSION),
        serverVersion,
        role,
      };
      this.transport = new Transport(context, this.packets);
      this.transport.exchange();
    }
    for (let payload = this.packets.next(); payload !== undefined; payload = this.packets.next()) {
      const message = Buffer.from(payload);
      this.heard.push(message);
      this.transport.expect(message[0] ?? 0);
      this.transport.take(message);
    }
  }

  get id(): Uint8Array {
    return this.transport?.ready ? this.transport.session.id : Buffer.alloc(0);
  }

  send(...payloads: Uint8Array[]): this {
    for (const payload of payloads) this.packets.send(payload);
    return this;
  }

  /** What is to be sent to the server. */
  output(): Uint8Array {
    return this.packets.output();
  }

  /** Messages of these types that came since the last call, any type if none is said; they are forgotten. */
  take(...types: number[]): Buffer[] {
    const all = this.heard.splice(0);
    return types.length === 0 ? all : all.filter((message) => types.includes(message[0] ?? 0));
  }
}

/** Messages by name. */
export const say = {
  service: (name = "ssh-userauth"): Buffer => new WireWriter().u8(5).string(name).bytes(),
  none: (user = "walt-vpn"): Buffer =>
    new WireWriter().u8(50).string(user).string("ssh-connection").string("none").bytes(),
  password: (): Buffer =>
    new WireWriter()
      .u8(50)
      .string("walt-vpn")
      .string("ssh-connection")
      .string("password")
      .u8(0)
      .string("x")
      .bytes(),
  probe: (key: PublicKey, user = "walt-vpn"): Buffer => request(user, KEY_TYPE, key.blob, 0).bytes(),
  /** @param id the session's; `blob` and `algo` in the place of the key's. */
  proof: (
    key: KeyPair,
    id: Uint8Array,
    { user = "walt-vpn", algo = KEY_TYPE, blob = key.publicKey.blob as Uint8Array, by = key } = {},
  ): Buffer => {
    const asked = request(user, algo, blob, 1).bytes();
    const signed = sign(by, new WireWriter().string(id).raw(asked).bytes());
    const signature = new WireWriter().string(KEY_TYPE).string(signed).bytes();
    return new WireWriter().raw(asked).string(signature).bytes();
  },
  open: (sender = 7, window = 1 << 21, packet = 32_768, type = "session"): Buffer =>
    new WireWriter().u8(90).string(type).u32(sender).u32(window).u32(packet).bytes(),
  request: (channel: number, type: string, reply = true, more = new WireWriter()): Buffer =>
    new WireWriter()
      .u8(98)
      .u32(channel)
      .string(type)
      .u8(reply ? 1 : 0)
      .raw(more.bytes())
      .bytes(),
  exec: (channel: number, command: string): Buffer =>
    say.request(channel, "exec", true, new WireWriter().string(command)),
  global: (name: string, reply = true): Buffer =>
    new WireWriter()
      .u8(80)
      .string(name)
      .u8(reply ? 1 : 0)
      .bytes(),
  data: (channel: number, bytes: string | Uint8Array): Buffer =>
    new WireWriter().u8(94).u32(channel).string(bytes).bytes(),
  stderr: (channel: number, bytes: string): Buffer =>
    new WireWriter().u8(95).u32(channel).u32(1).string(bytes).bytes(),
  adjust: (channel: number, bytes: number): Buffer => new WireWriter().u8(93).u32(channel).u32(bytes).bytes(),
  eof: (channel: number): Buffer => new WireWriter().u8(96).u32(channel).bytes(),
  close: (channel: number): Buffer => new WireWriter().u8(97).u32(channel).bytes(),
  disconnect: (text: string): Buffer => new WireWriter().u8(1).u32(11).string(text).string("").bytes(),
};

function request(user: string, algo: string, blob: Uint8Array, signed: 0 | 1): WireWriter {
  const head = new WireWriter().u8(50).string(user).string("ssh-connection").string("publickey");
  return head.u8(signed).string(algo).string(blob);
}
