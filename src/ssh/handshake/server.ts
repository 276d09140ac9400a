/**
 * A server's SSH connection as a machine without I/O: version lines, key exchange, authentication by key,
 * session channels.
 *
 * `push` what came, then call `next` until it gives no event; send what `output` gives, whenever `wake` was
 * called and after `next`. No call throws for what the peer sent: whatever is malformed, out of order or too
 * much makes the event "ended", which is the last. Then `output` may hold a farewell, and all that is left is
 * `stop`. What a call throws is a mistake of its caller's.
 */

import type { End } from "../../end.ts";
import { messageOf } from "../../errors.ts";
import type { PublicKey } from "../keys/ed25519.ts";
import { WireReader, WireWriter } from "../keys/wire.ts";
import { type Attempt, type Authorise, attempt, REQUEST_MAX, type SignedOffer } from "./authentication.ts";
import type { Channel } from "./channel.ts";
import { type ConnectionEvent, ServerChannels, TooMuchAsked } from "./connection.ts";
import type { ConnectionState } from "./connection-state.ts";
import { FIRST_OF_CONNECTION, MESSAGE } from "./message-numbers.ts";
import { PACKET_MAX } from "./packet-cipher.ts";
import { PacketStream } from "./packet-stream.ts";
import { Transport } from "./transport.ts";

export interface ServerOptions {
  /** The host key's 32-byte seed. */
  hostSeed: Uint8Array;
  authorise: Authorise;
  /** Called when there may be something to send although nothing came. */
  wake: () => void;
}

export type ServerEvent =
  | ConnectionEvent
  /** The client has proven to hold a key: its channels come from now on. */
  | { kind: "entered"; offer: SignedOffer }
  /** A user or key that may not come in; strings as the client said them. */
  | { kind: "key-refused"; user: string; reason: string; key?: PublicKey }
  | { kind: "ended"; end: End };

/**
 * Longest packet before somebody has authenticated: a request with the longest certificate, or a KEXINIT, of
 * which OpenSSH 10's has some 2 KiB.
 */
const PACKET_MAX_BEFORE = REQUEST_MAX + 256;
/** Refused keys and methods on one connection. OpenSSH's MaxAuthTries is 6, probes not counted. */
const ATTEMPTS_MAX = 12;
/** Bytes that wait to be sent before nothing more is looked at, and no channel sends. */
export const OUTPUT_MAX = 16_384;
/** Messages that are looked at before others have their turn: some ms at most. */
const MESSAGES_A_TURN = 256;
/** SSH_DISCONNECT_PROTOCOL_ERROR, SSH_DISCONNECT_BY_APPLICATION */
const PROTOCOL_ERROR = 2;
const BY_APPLICATION = 11;

type Phase = "version" | "keys" | "service" | "authentication" | "channels" | "over";

export class ServerConnection {
  readonly #o: ServerOptions;
  readonly #packets = new PacketStream(PACKET_MAX_BEFORE);
  readonly #transport: Transport;
  readonly #channels: ServerChannels;
  #phase: Phase = "version";
  #attempts = 0;
  /** Messages that may still be looked at in this turn. */
  #left = MESSAGES_A_TURN;

  constructor(o: ServerOptions) {
    this.#o = o;
    this.#transport = Transport.begin({ end: "server", hostSeed: o.hostSeed }, this.#packets);
    this.#channels = new ServerChannels((payload) => this.#transport.send(payload), o.wake);
  }

  /** Bytes that came and were not looked at. */
  get unread(): number {
    return this.#packets.unread;
  }

  /** What came has to wait until more of the output has left. */
  get stalled(): boolean {
    return this.#packets.waiting >= OUTPUT_MAX && this.unread > 0;
  }

  /** This turn is over although more has come: others come first, then `turn` begins the next one. */
  get tired(): boolean {
    return this.#left <= 0 && this.unread > 0 && this.#phase !== "over";
  }

  /** A turn of this connection begins: `next` looks at a bounded number of messages in it. */
  turn(): void {
    this.#left = MESSAGES_A_TURN;
  }

  push(bytes: Uint8Array): void {
    if (this.#phase !== "over") this.#packets.push(bytes);
  }

  /**
   * Look at what came until there is something to tell. Undefined: nothing, until more comes, output leaves,
   * or the next turn begins.
   */
  next(): ServerEvent | undefined {
    try {
      while (this.#phase !== "over" && this.#packets.waiting < OUTPUT_MAX) {
        if (this.#phase === "version") {
          if (!this.#transport.greet(this.#packets)) return undefined;
          this.#phase = "keys";
        }
        if (this.#left <= 0) return undefined;
        const payload = this.#packets.next();
        if (payload === undefined) return undefined;
        this.#left--;
        const event = this.#take(payload);
        if (event !== undefined) return event;
      }
      return undefined;
    } catch (error) {
      const kind = error instanceof TooMuchAsked ? "excess" : "malformed";
      return this.#fail({ kind, text: messageOf(error) });
    }
  }

  /** All that is to be sent now, also by the channels; no more than some 50 kB at once. Empty: nothing. */
  output(): Uint8Array {
    while (this.#mayProduce()) {
      const message = this.#channels.produce();
      if (message === undefined) break;
      this.#packets.send(message);
    }
    return this.#packets.output();
  }

  /** Ask for a sign of life, if there is room for it. */
  ask(): void {
    if (this.#mayProduce()) this.#channels.ask();
  }

  /**
   * The channel shall have the connection for itself: open its window as far as a tunnel has it. Call `next`
   * no more; `release` once all of the output has left.
   * @returns undefined, or why it cannot be, in words.
   */
  prepare(channel: Channel): string | undefined {
    const why = this.#phase === "channels" ? this.#channels.notAlone(channel) : "the connection has ended";
    if (why === undefined) this.#channels.widen(channel);
    return why;
  }

  /**
   * All that whoever goes on with the one channel needs to know. What was pushed and not looked at is in it.
   */
  release(channel: Channel): ConnectionState {
    if (this.#packets.waiting > 0) throw new Error("not prepared to be released");
    const state = {
      session: this.#transport.session,
      ...this.#packets.release(),
      ...{ ourChannel: channel.ours, theirChannel: channel.theirs, theirPacket: channel.theirPacket },
      ...channel.windows,
    };
    this.stop();
    return state;
  }

  /**
   * End the connection, and forget everything but the output: what reads or writes a channel is told that it
   * is over.
   * @param reason is told to the peer; undefined: nothing is.
   */
  stop(reason?: string): void {
    if (reason !== undefined) this.#farewell(BY_APPLICATION, reason);
    this.#phase = "over";
    this.#packets.free();
    this.#channels.stop();
  }

  #mayProduce(): boolean {
    const { waiting } = this.#packets;
    return this.#phase === "channels" && !this.#transport.exchanging && waiting < OUTPUT_MAX;
  }

  #take(payload: Uint8Array): ServerEvent | undefined {
    const transport = this.#transport;
    const type = payload[0] ?? 0;
    const before = transport.unimplemented;
    if (transport.take(payload)) {
      if (transport.disconnected !== undefined) {
        this.#phase = "over";
        return { kind: "ended", end: { kind: "closed-by-peer", text: transport.disconnected } };
      }
      if (transport.unimplemented > before) this.#channels.refuse();
      if (this.#phase === "keys" && transport.ready) this.#phase = "service";
      return undefined;
    }
    if (type === MESSAGE.serviceRequest && this.#phase === "service") return this.#serve(payload);
    if (type === MESSAGE.authRequest && this.#phase === "authentication") return this.#authenticate(payload);
    if (this.#phase === "channels") {
      if (type >= FIRST_OF_CONNECTION) return this.#channels.take(payload);
      // RFC 4252 section 5.1: requests behind the one that succeeded are ignored.
      if (type === MESSAGE.authRequest) {
        this.#channels.refuse();
        return undefined;
      }
    }
    throw new Error(`message ${type} in the phase ${this.#phase}`);
  }

  #serve(payload: Uint8Array): undefined {
    const reader = new WireReader(payload.subarray(1));
    const name = reader.text();
    reader.end();
    if (name !== "ssh-userauth") throw new Error("a service that is not ssh-userauth");
    this.#phase = "authentication";
    this.#transport.send(new WireWriter().u8(MESSAGE.serviceAccept).string(name).bytes());
  }

  #authenticate(payload: Uint8Array): ServerEvent | undefined {
    const made: Attempt = attempt(payload, this.#transport.session.id, this.#o.authorise);
    if (made.kind !== "in" && made.kind !== "probe" && ++this.#attempts > ATTEMPTS_MAX + 1) {
      return this.#fail({ kind: "excess", text: "too many attempts" });
    }
    this.#transport.send(made.reply);
    if (made.kind === "in") {
      this.#phase = "channels";
      this.#packets.max = PACKET_MAX;
      return { kind: "entered", offer: made.offer };
    }
    if (made.kind !== "refused") return undefined;
    const { reply: _, ...refused } = made;
    return { ...refused, kind: "key-refused" };
  }

  #fail(end: End): ServerEvent {
    this.#farewell(PROTOCOL_ERROR, end.text);
    return { kind: "ended", end };
  }

  #farewell(code: number, text: string): void {
    if (this.#phase === "over") return;
    // In the middle of a key exchange it may not be said.
    if (this.#transport.ready && !this.#transport.exchanging) {
      const message = new WireWriter().u8(MESSAGE.disconnect).u32(code).string(text).string("");
      this.#packets.send(message.bytes());
    }
    this.#phase = "over";
  }
}
