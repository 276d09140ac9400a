/**
 * What each end of an SSH connection says and hears besides authentication and channels (RFC 4253): version
 * lines, key exchanges, the first and later ones, and the messages that need no answer or only say that a
 * message is not known. It does no I/O.
 */

import { safeText } from "../../text.ts";
import { TokenBucket } from "../../token-bucket.ts";
import { WireReader, WireWriter } from "../keys/wire.ts";
import { type KexContext, KeyExchange, type NewKeys } from "./key-exchange.ts";
import { FIRST_OF_AUTHENTICATION, isKnown, MESSAGE } from "./message-numbers.ts";
import type { Keys } from "./packet-cipher.ts";
import type { PacketStream } from "./packet-stream.ts";

/** The packets below. */
export interface Packets {
  /** Number of the next packet that comes. */
  readonly received: number;
  /** Bytes of packets so far, both ways. */
  readonly bytes: number;
  /** @throws Error when too much waits to be sent. */
  send(payload: Uint8Array): void;
  /** Keys for what comes from the next packet on. @param strict packets are counted from 0 again. */
  rekeyIn(keys: Keys, strict: boolean): void;
  /** Keys for what is sent from the next packet on. */
  rekeyOut(keys: Keys): void;
}

/** What all later exchanges of a connection have in common. */
export type Session = KexContext & { readonly id: Uint8Array };

const VERSION = Buffer.from("SSH-2.0-walt");
/**
 * Bytes up to the end of the peer's version line, by which end hears it. A server may say other lines before
 * it, a client may not (RFC 4253 section 4.2).
 */
const LINES_MAX = { client: 8192, server: 255 } as const;
/** Key exchanges that the peer may begin. Each costs us about as much as 1 MiB of data. */
const EXCHANGES = { burst: 256, perSecond: 16 };
/** Bytes of packets, both ways, after which one more does not count: the least limit of either end is 1 MiB. */
const EXCHANGE_EARNED = 512 * 1024;
/** Messages that wait while keys are exchanged. */
const LATER_MAX = 64;

export class Transport {
  /** Finished key exchanges but the first. */
  rekeys = 0;
  /** What the peer said when it ended the connection, fit for a log. */
  disconnected: string | undefined;
  /** Messages that were answered UNIMPLEMENTED. */
  unimplemented = 0;
  #context: KexContext;
  /** Bytes of lines before the peer's version line. */
  #skipped = 0;
  /** Until the first exchange is over on both sides. */
  #first: boolean;
  /** From our KEXINIT to our NEWKEYS, in which nothing else may be sent. */
  #exchange: KeyExchange | undefined;
  /** Their next keys, between our NEWKEYS and theirs. */
  #nextKeys: Keys | undefined;
  /** What waits for the end of the exchange. */
  readonly #later: Uint8Array[] = [];
  /** Exchanges that the peer may still begin. */
  readonly #exchanges: TokenBucket;
  /** Bytes of packets until the peer began the last one. */
  #bytes = 0;

  /**
   * @param context without an id before the first key exchange.
   * @param now a clock in ms.
   */
  constructor(
    context: KexContext,
    readonly packets: Packets,
    readonly now: () => number = () => performance.now(),
  ) {
    this.#exchanges = new TokenBucket(EXCHANGES, now());
    this.#context = context;
    this.#first = context.id === undefined;
  }

  /** A connection from its first byte on: it says our version line. Next is `greet`. */
  static begin(role: KexContext["role"], packets: PacketStream): Transport {
    packets.raw(Buffer.concat([VERSION, Buffer.from("\r\n")]));
    const versions = { clientVersion: VERSION, serverVersion: VERSION };
    return new Transport({ id: undefined, strict: false, ...versions, role }, packets);
  }

  /**
   * Take the peer's version line from the packets that it began with, and ask for keys.
   * @returns false when the line has not come whole.
   * @throws Error when the peer does not speak SSH 2.0.
   */
  greet(packets: PacketStream): boolean {
    const { role } = this.#context;
    for (;;) {
      const line = packets.line(LINES_MAX[role.end] - this.#skipped);
      if (line === undefined) return false;
      if (line.subarray(0, 8).equals(Buffer.from("SSH-2.0-"))) {
        const theirs = role.end === "server" ? { clientVersion: line } : { serverVersion: line };
        this.#context = { ...this.#context, ...theirs };
        this.exchange();
        return true;
      }
      if (role.end === "server") throw new Error("it does not speak SSH 2.0");
      this.#skipped += line.length + 1;
    }
  }

  /** @throws Error before the first key exchange is over. */
  get session(): Session {
    const { id } = this.#context;
    if (id === undefined) throw new Error("no key exchange yet");
    return { ...this.#context, id };
  }

  /** Nothing may be sent but by `send`, which lets it wait. */
  get exchanging(): boolean {
    return this.#exchange !== undefined;
  }

  /** The peer has begun an exchange and not finished it: it may say nothing else (RFC 4253 section 7.1). */
  get awaitsExchange(): boolean {
    return this.#exchange?.begun === true || this.#nextKeys !== undefined;
  }

  /** The first key exchange is over, on both sides. */
  get ready(): boolean {
    return !this.#first;
  }

  /** Ask for keys, unless an exchange is going on. */
  exchange(): void {
    if (this.#exchange !== undefined || this.#nextKeys !== undefined) return;
    this.#exchange = new KeyExchange(this.#context);
    this.packets.send(this.#exchange.init);
  }

  /** Send a message, after the key exchange that is going on. @throws Error when too many wait. */
  send(payload: Uint8Array): void {
    if (this.#exchange === undefined) this.packets.send(payload);
    else if (this.#later.push(payload) > LATER_MAX)
      throw new Error("more questions than it takes answers to");
  }

  /** @throws Error when a message of this type may not come now. */
  expect(type: number): void {
    if (this.#first) {
      // Strictly in this order, or somebody has put something in between (OpenSSH's PROTOCOL section 1.9).
      if (type !== this.#nextOfFirst && type !== MESSAGE.disconnect) {
        throw new Error(`message ${type} in the first key exchange`);
      }
    } else if (this.awaitsExchange && !ofExchange(type)) {
      throw new Error(`message ${type} in a key exchange`);
    }
  }

  /**
   * Take a message, which is one to `expect`, if it is for this layer.
   * @returns false when it is for another one, or known and not wanted here.
   * @throws Error when it is malformed, or may not come now.
   */
  take(payload: Uint8Array): boolean {
    const type = payload[0] ?? 0;
    this.expect(type);
    switch (type) {
      case MESSAGE.disconnect:
        this.disconnected = disconnectText(payload);
        return true;
      case MESSAGE.ignore:
      case MESSAGE.unimplemented:
      case MESSAGE.debug:
      case MESSAGE.extInfo:
        return true;
      case MESSAGE.kexInit:
        this.#begin(payload);
        return true;
      case MESSAGE.ecdhInit:
      case MESSAGE.ecdhReply:
        this.#finish(payload);
        return true;
      case MESSAGE.newKeys:
        this.#renew();
        return true;
      default:
        if (isKnown(type)) return false;
        this.unimplemented++;
        // RFC 4253 section 11.4: the number of the packet that it came in.
        this.send(
          new WireWriter()
            .u8(MESSAGE.unimplemented)
            .u32((this.packets.received - 1) >>> 0)
            .bytes(),
        );
        return true;
    }
  }

  get #nextOfFirst(): number {
    if (this.#nextKeys !== undefined) return MESSAGE.newKeys;
    if (this.#exchange?.begun !== true) return MESSAGE.kexInit;
    return this.#context.role.end === "server" ? MESSAGE.ecdhInit : MESSAGE.ecdhReply;
  }

  #begin(payload: Uint8Array): void {
    if (this.#exchange === undefined) this.#allow();
    const exchange = this.#exchange ?? new KeyExchange(this.#context);
    // Ours goes out first: what follows may already need it.
    if (this.#exchange === undefined) this.packets.send(exchange.init);
    this.#exchange = exchange;
    exchange.begin(payload);
    if (this.#context.role.end === "client") this.packets.send(exchange.ask());
  }

  /** The peer begins an exchange. @throws Error when it does so too often. */
  #allow(): void {
    const { bytes } = this.packets;
    const earned = bytes - this.#bytes >= EXCHANGE_EARNED;
    this.#bytes = bytes;
    if (!earned && !this.#exchanges.take(this.now())) throw new Error("it asks for new keys too often");
  }

  #finish(payload: Uint8Array): void {
    const exchange = this.#exchange;
    if (exchange === undefined) throw new Error("a key exchange that nobody began");
    let keys: NewKeys;
    if (payload[0] === MESSAGE.ecdhInit) {
      const answer = exchange.answer(payload);
      this.packets.send(answer.reply);
      keys = answer;
    } else {
      keys = exchange.finish(payload);
    }
    this.packets.send(Buffer.of(MESSAGE.newKeys));
    this.packets.rekeyOut(keys.outgoing);
    this.#nextKeys = keys.incoming;
    this.#exchange = undefined;
    const { id } = this.#context;
    if (id === undefined) this.#context = { ...this.#context, id: keys.hash, strict: exchange.strict };
    for (const message of this.#later.splice(0)) this.packets.send(message);
  }

  #renew(): void {
    if (this.#nextKeys === undefined) throw new Error("new keys that nobody asked for");
    this.packets.rekeyIn(this.#nextKeys, this.#context.strict);
    this.#nextKeys = undefined;
    if (!this.#first) this.rekeys++;
    this.#first = false;
  }
}

/**
 * Whether a message may come between KEXINIT and NEWKEYS (RFC 4253 section 7.1). A second KEXINIT is none of
 * them.
 */
function ofExchange(type: number): boolean {
  return type <= MESSAGE.debug || (type > MESSAGE.kexInit && type < FIRST_OF_AUTHENTICATION);
}

/** The reason of a DISCONNECT, which need not be well-formed. */
function disconnectText(payload: Uint8Array): string {
  try {
    return safeText(new WireReader(payload.subarray(5)).text(), 100);
  } catch {
    return "";
  }
}
