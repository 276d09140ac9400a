/**
 * The client's part of SSH up to a running command (RFC 4252, 4253, 4254), as far as the device needs it to reach WalT's server: one set of
 * algorithms, the host key pinned, one ed25519 key. From there on channel-stream.ts goes on, in the pump's thread.
 */

import { readU32, writeU32 } from "../../bytes.ts";
import { allocate } from "../../linux/libc.ts";
import { safeText } from "../../text.ts";
import { VPN_USER } from "../keys/certificate.ts";
import { KEY_TYPE, type KeyPair, sign } from "../keys/ed25519.ts";
import { WireReader, WireWriter } from "../keys/wire.ts";
import { type ConnectionState, WINDOW } from "./connection-state.ts";
import { type KexContext, KeyExchange, type NewKeys } from "./key-exchange.ts";
import { MESSAGE } from "./message-numbers.ts";
import {
  DATA_MAX,
  Opener,
  OVERHEAD,
  PACKET_MAX,
  PACKET_MIN,
  PAYLOAD,
  packetSize,
  Sealer,
} from "./packet-cipher.ts";

const VERSION = Buffer.from("SSH-2.0-walt");
/** Bytes before the server's first line has ended (RFC 4253 section 4.2 allows lines before it, and none above 255). */
const LINES_MAX = 8192;
/** Blocks of a packet that is not encrypted yet, and its least padding (RFC 4253 section 6). */
const BLOCK = 8;
const PADDING_MIN = 4;
const CHANNEL = 0;
/** What may come in between, once nobody else can put it there. */
const IDLE = new Set<number>([
  ...[MESSAGE.ignore, MESSAGE.unimplemented, MESSAGE.debug, MESSAGE.extInfo],
  ...[MESSAGE.authBanner, MESSAGE.globalRequest],
]);

/** Bytes as they come, one read after the other. */
export interface Wire {
  /** The next bytes. Rejects at the end. */
  read(): Promise<Uint8Array>;
  write(bytes: Uint8Array): void;
}

/** The server does not let this key in. */
export class KeyRefused extends Error {}
/** The server speaks, and says something that it may not, or no. */
export class HandshakeError extends Error {}

export class ClientHandshake {
  #have = Buffer.alloc(0);
  #keys: { opener: Opener; sealer: Sealer; keys: NewKeys } | undefined;
  /** Where packets are opened and made. */
  readonly #place = allocate(PACKET_MAX + OVERHEAD);
  readonly #sealed = allocate(PACKET_MAX + OVERHEAD);

  constructor(
    readonly wire: Wire,
    readonly hostKeys: readonly Uint8Array[],
    readonly key: KeyPair,
  ) {}

  /**
   * Everything up to a command that runs. What has come behind is in the state's `unread`; what comes still is the caller's to add.
   * @throws WrongHostKey, KeyRefused, HandshakeError, what the wire throws, Error for what is malformed.
   */
  async run(command: string): Promise<ConnectionState> {
    this.wire.write(Buffer.concat([VERSION, Buffer.from("\r\n")]));
    const serverVersion = await this.#line();
    const role = { end: "client", hostKeys: this.hostKeys } as const;
    const first: KexContext = { id: undefined, clientVersion: VERSION, serverVersion, role };
    const { hash } = await this.#exchange(new KeyExchange(first));
    await this.#authenticate(hash);
    return { session: { ...first, id: hash }, ...(await this.#open(command)) };
  }

  /** Give back what the keys take. The state has its own. */
  dispose(): void {
    this.#keys?.opener.free();
    this.#keys?.sealer.free();
    this.#place.bytes.fill(0);
  }

  async #exchange(exchange: KeyExchange): Promise<NewKeys> {
    this.#send(exchange.init);
    // Strictly in this order, or somebody has put something in between (OpenSSH's PROTOCOL section 1.9).
    exchange.begin(await this.#next(MESSAGE.kexInit));
    this.#send(exchange.ask());
    const keys = exchange.finish(await this.#next(MESSAGE.ecdhReply));
    this.#send(Buffer.of(MESSAGE.newKeys));
    await this.#next(MESSAGE.newKeys);
    this.#keys = { opener: new Opener(keys.incoming), sealer: new Sealer(keys.outgoing), keys };
    return keys;
  }

  async #authenticate(id: Uint8Array): Promise<void> {
    const { blob } = this.key.publicKey;
    const request = new WireWriter()
      .u8(MESSAGE.authRequest)
      .string(VPN_USER)
      .string("ssh-connection")
      .string("publickey")
      .u8(1)
      .string(KEY_TYPE)
      .string(blob)
      .bytes();
    const signed = sign(this.key, new WireWriter().string(id).raw(request).bytes());
    const signature = new WireWriter().string(KEY_TYPE).string(signed).bytes();
    // Both at once: that is a round trip less, and the server takes them one after the other.
    this.#send(new WireWriter().u8(MESSAGE.serviceRequest).string("ssh-userauth").bytes());
    this.#send(new WireWriter().raw(request).string(signature).bytes());
    await this.#next(MESSAGE.serviceAccept);
    const [type] = await this.#next(MESSAGE.authSuccess, MESSAGE.authFailure);
    if (type === MESSAGE.authFailure) throw new KeyRefused("the key is not accepted");
  }

  async #open(command: string): Promise<Omit<ConnectionState, "session">> {
    const open = new WireWriter()
      .u8(MESSAGE.channelOpen)
      .string("session")
      .u32(CHANNEL)
      .u32(WINDOW)
      .u32(DATA_MAX);
    this.#send(open.bytes());
    const confirmed = new WireReader((await this.#next(MESSAGE.openConfirmation)).subarray(1));
    if (confirmed.u32() !== CHANNEL) throw new HandshakeError("a channel that was not asked for");
    const theirChannel = confirmed.u32();
    let theirWindow = confirmed.u32();
    const theirPacket = confirmed.u32();
    if (theirPacket < PACKET_MIN) {
      throw new HandshakeError(`it takes packets of no more than ${theirPacket} bytes`);
    }
    const exec = new WireWriter()
      .u8(MESSAGE.channelRequest)
      .u32(theirChannel)
      .string("exec")
      .u8(1)
      .string(command);
    this.#send(exec.bytes());
    for (;;) {
      const message = await this.#next(MESSAGE.channelSuccess, MESSAGE.windowAdjust);
      if (message[0] === MESSAGE.channelSuccess) break;
      theirWindow = Math.min(0xffff_ffff, theirWindow + readU32(message, 5));
    }
    const known = this.#keys;
    if (known === undefined) throw new Error("no keys yet");
    const { opener, sealer, keys } = known;
    return {
      incoming: { key: keys.incoming.key, iv: opener.iv },
      outgoing: { key: keys.outgoing.key, iv: sealer.iv },
      ...{ ourChannel: CHANNEL, theirChannel, theirWindow, theirPacket },
      ourWindow: WINDOW,
      unread: this.#have,
    };
  }

  async #more(): Promise<void> {
    this.#have = Buffer.concat([this.#have, await this.wire.read()]);
  }

  /** The server's first line, without its end. */
  async #line(): Promise<Uint8Array> {
    for (let from = 0; ; ) {
      const end = this.#have.indexOf("\n", from);
      if (end < 0) {
        if (this.#have.length > LINES_MAX) throw new HandshakeError("what listens there is no SSH server");
        await this.#more();
        continue;
      }
      const line = this.#have.subarray(from, end);
      from = end + 1;
      if (!line.subarray(0, 8).equals(Buffer.from("SSH-2.0-"))) continue;
      this.#have = this.#have.subarray(from);
      return Uint8Array.from(line.at(-1) === 13 ? line.subarray(0, -1) : line);
    }
  }

  /** The payload of the next message, which has to be one of these; those that say nothing to us are passed over. */
  async #next(...wanted: number[]): Promise<Uint8Array> {
    for (;;) {
      const payload = await this.#packet();
      const type = payload[0] ?? 0;
      if (wanted.includes(type)) return payload;
      if (type === MESSAGE.disconnect) {
        const text = new WireReader(payload.subarray(5)).text();
        throw new HandshakeError(`it ended the connection: ${safeText(text, 100)}`);
      }
      if (this.#keys === undefined || !IDLE.has(type))
        throw new HandshakeError(`it answers with message ${type}`);
    }
  }

  async #packet(): Promise<Uint8Array> {
    const keys = this.#keys;
    for (;;) {
      const size = keys === undefined ? this.#plainSize() : packetSize(this.#have, 0, this.#have.length);
      if (size > 0 && this.#have.length >= size) {
        const packet = this.#have.subarray(0, size);
        this.#have = this.#have.subarray(size);
        if (keys === undefined) return packet.subarray(PAYLOAD, size - (packet[PAYLOAD - 1] ?? 0));
        this.#place.bytes.set(packet);
        keys.opener.open(this.#place, 0, size);
        return this.#place.bytes.slice(PAYLOAD, keys.opener.end);
      }
      await this.#more();
    }
  }

  /** Bytes of the packet that has begun to come, without encryption; 0 = that cannot be told yet. */
  #plainSize(): number {
    if (this.#have.length < PAYLOAD) return 0;
    const length = readU32(this.#have, 0);
    const padding = this.#have[PAYLOAD - 1] ?? 0;
    if (length > PACKET_MAX || padding < PADDING_MIN || length < padding + 2) {
      throw new HandshakeError("it sends a packet that cannot be");
    }
    return 4 + length;
  }

  #send(payload: Uint8Array): void {
    const { sealer } = this.#keys ?? {};
    this.#place.bytes.set(payload, PAYLOAD);
    if (sealer !== undefined) {
      const size = sealer.seal(this.#place, payload.length, this.#sealed, 0);
      this.wire.write(this.#sealed.bytes.slice(0, size));
      return;
    }
    const size = Math.ceil((PAYLOAD + payload.length + PADDING_MIN) / BLOCK) * BLOCK;
    const packet = new Uint8Array(size);
    writeU32(packet, 0, size - 4);
    packet[PAYLOAD - 1] = size - PAYLOAD - payload.length;
    packet.set(payload, PAYLOAD);
    this.wire.write(packet);
  }
}
