/**
 * The client's part of SSH up to a running command (RFC 4252, 4253, 4254), as far as the device needs it to
 * reach WalT's server: one set of algorithms, the host key pinned, one ed25519 key. From there on
 * ssh-channel.ts of the tunnel goes on, in the pump's thread.
 */

import { readU32 } from "../../bytes.ts";
import { safeText } from "../../text.ts";
import { VPN_USER } from "../keys/certificate.ts";
import { KEY_TYPE, type KeyPair, sign } from "../keys/ed25519.ts";
import { WireReader, WireWriter } from "../keys/wire.ts";
import { type ConnectionState, WINDOW } from "./connection-state.ts";
import { KeyExchange, type NewKeys } from "./key-exchange.ts";
import { MESSAGE } from "./message-numbers.ts";
import { DATA_MAX, PACKET_MIN } from "./packet-cipher.ts";
import { PacketStream } from "./packet-stream.ts";

const VERSION = Buffer.from("SSH-2.0-walt");
/**
 * Bytes before the server's first line has ended (RFC 4253 section 4.2 allows lines before it, and none above
 * 255).
 */
const LINES_MAX = 8192;
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
  readonly #packets = new PacketStream();
  /** The first key exchange is over. */
  #secured = false;

  constructor(
    readonly wire: Wire,
    readonly hostKeys: readonly Uint8Array[],
    readonly key: KeyPair,
  ) {}

  /**
   * Everything up to a command that runs. What has come behind is in the state's `unread`; what comes still
   * is the caller's to add.
   * @throws WrongHostKey, KeyRefused, HandshakeError, what the wire throws, Error for what is malformed.
   */
  async run(command: string): Promise<ConnectionState> {
    this.wire.write(Buffer.concat([VERSION, Buffer.from("\r\n")]));
    const serverVersion = await this.#line();
    const role = { end: "client", hostKeys: this.hostKeys } as const;
    const versions = { clientVersion: VERSION, serverVersion };
    const exchange = new KeyExchange({ id: undefined, strict: false, ...versions, role });
    const { hash } = await this.#exchange(exchange);
    await this.#authenticate(hash);
    const session = { id: hash, strict: exchange.strict, ...versions, role };
    return { session, ...(await this.#open(command)) };
  }

  /** Give back what the keys take. The state has its own. */
  dispose(): void {
    this.#packets.dispose();
  }

  async #exchange(exchange: KeyExchange): Promise<NewKeys> {
    this.#send(exchange.init);
    // Strictly in this order, or somebody has put something in between (OpenSSH's PROTOCOL section 1.9).
    exchange.begin(await this.#next(MESSAGE.kexInit));
    this.#send(exchange.ask());
    const keys = exchange.finish(await this.#next(MESSAGE.ecdhReply));
    this.#send(Buffer.of(MESSAGE.newKeys));
    await this.#next(MESSAGE.newKeys);
    this.#packets.rekeyOut(keys.outgoing);
    this.#packets.rekeyIn(keys.incoming, exchange.strict);
    this.#secured = true;
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
    return {
      ...this.#packets.release(),
      ...{ ourChannel: CHANNEL, theirChannel, theirWindow, theirPacket },
      ourWindow: WINDOW,
    };
  }

  /** The server's version line, without its end. It may be preceded by others. */
  async #line(): Promise<Uint8Array> {
    for (let left = LINES_MAX; ; ) {
      let line: Buffer | undefined;
      try {
        line = this.#packets.line(left);
      } catch {
        throw new HandshakeError("what listens there is no SSH server");
      }
      if (line?.subarray(0, 8).equals(Buffer.from("SSH-2.0-"))) return line;
      if (line === undefined) this.#packets.push(await this.wire.read());
      else left -= line.length + 1;
    }
  }

  /**
   * The payload of the next message, which has to be one of these; those that say nothing to us are passed
   * over.
   */
  async #next(...wanted: number[]): Promise<Uint8Array> {
    for (;;) {
      const payload = await this.#packet();
      const type = payload[0] ?? 0;
      if (wanted.includes(type)) return payload;
      if (type === MESSAGE.disconnect) {
        const text = new WireReader(payload.subarray(5)).text();
        throw new HandshakeError(`it ended the connection: ${safeText(text, 100)}`);
      }
      if (!this.#secured || !IDLE.has(type)) throw new HandshakeError(`it answers with message ${type}`);
    }
  }

  async #packet(): Promise<Uint8Array> {
    for (;;) {
      const payload = this.#opened();
      if (payload !== undefined) return Uint8Array.from(payload);
      this.#packets.push(await this.wire.read());
    }
  }

  #opened(): Uint8Array | undefined {
    try {
      return this.#packets.next();
    } catch (error) {
      throw this.#secured ? error : new HandshakeError("it sends a packet that cannot be");
    }
  }

  #send(payload: Uint8Array): void {
    this.#packets.send(payload);
    this.wire.write(this.#packets.output());
  }
}
