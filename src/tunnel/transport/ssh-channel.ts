/**
 * One channel of an SSH connection as a stream, straight on the connection's socket: packets are opened and sealed here, in the pump's
 * thread. All else that the other end may say (RFC 4253, 4254) is answered here, too: it gets no other channel.
 */

import { readU32 } from "../../bytes.ts";
import type { End } from "../../end.ts";
import { messageOf } from "../../errors.ts";
import { at, EAGAIN, libc, type Memory } from "../../linux/libc.ts";
import { type ConnectionState, WINDOW } from "../../ssh/handshake/connection-state.ts";
import { type KexContext, KeyExchange, type NewKeys } from "../../ssh/handshake/key-exchange.ts";
import { FIRST_OF_CONNECTION, MESSAGE } from "../../ssh/handshake/message-numbers.ts";
import { DATA_HEADER, DATA_MAX, type Keys } from "../../ssh/handshake/packet-cipher.ts";
import { WireWriter } from "../../ssh/keys/wire.ts";
import { safeText } from "../../text.ts";
import { PacketInput } from "./packet-input.ts";
import { PacketOutput } from "./packet-output.ts";
import type { Stream } from "./stream.ts";

/** Bytes of the channel's window that are used up before it is opened again, about as OpenSSH does. */
const STEP = 98_304;
/** Bytes of a command's standard error. */
const WORDS_MAX = 400;
/** Answers that wait while keys are exchanged. */
const LATER_MAX = 64;
const U32_MAX = 0xffff_ffff;
const ADMINISTRATIVELY_PROHIBITED = 1;

export class ChannelStream implements Stream {
  end: End | undefined;
  rekeys = 0;
  heard = performance.now();
  readonly #session: KexContext;
  readonly #ours: number;
  readonly #theirs: number;
  readonly #dataMax: number;
  readonly #in: PacketInput;
  readonly #out: PacketOutput;
  #ourWindow: number;
  #theirWindow: number;
  /** Of the bytes both ways: from where new keys are asked for. */
  #keysUntil: number;
  /** From our KEXINIT to our NEWKEYS, in which nothing else may be said. */
  #exchange: KeyExchange | undefined;
  /** Their next keys, between our NEWKEYS and theirs. */
  #nextKeys: Keys | undefined;
  /** Answers that wait for the end of the exchange. */
  readonly #later: WireWriter[] = [];
  /** What came on standard error. */
  #words = "";
  /** They write no more on the channel; they have closed it or the connection; we have closed the channel. */
  #ended = false;
  #closed = false;
  #shut = false;

  constructor(
    readonly fd: number,
    state: ConnectionState,
    /** Bytes after which new keys are asked for. */
    readonly keysFor: number,
  ) {
    this.#session = state.session;
    this.#ours = state.ourChannel;
    this.#theirs = state.theirChannel;
    this.#dataMax = Math.min(DATA_MAX, state.theirPacket);
    this.#in = new PacketInput(fd, state.incoming, state.unread);
    this.#out = new PacketOutput(fd, state.outgoing);
    this.#ourWindow = state.ourWindow;
    this.#theirWindow = state.theirWindow;
    this.#keysUntil = keysFor;
  }

  get pending(): boolean {
    return this.#out.pending;
  }
  get blocked(): boolean {
    return this.#theirWindow === 0 || this.#exchange !== undefined || this.#shut;
  }
  get left(): number {
    return this.#out.left;
  }
  get more(): boolean {
    return this.#in.more || this.#over;
  }

  read(into: Memory, offset: number, room: number, now: number): number {
    if (this.#over) return 0;
    // All that comes fits where it is wanted: a packet is longer than its data.
    const n = this.#in.fill(room);
    if (n < 0) return n;
    if (n === 0) {
      this.#closed = true;
      return 0;
    }
    const before = this.#in.bytes;
    const given = this.#openAll(into, offset);
    // Only what was opened is the peer's: anybody on the way can send bytes.
    if (this.#in.bytes > before) this.heard = now;
    this.#sayWhatIsDue();
    const broken = this.flush();
    // The end, if it is that, is told next time.
    if (given > 0) return given;
    return this.#over ? 0 : broken < 0 ? broken : -EAGAIN;
  }

  writev(_vector: Memory, words: Uint32Array, first: number, count: number): number {
    const broken = this.flush();
    if (broken < 0) return broken;
    if (this.pending || this.blocked) return -EAGAIN;
    const out = this.#out;
    const to = out.data;
    let taken = 0;
    /** Of the packet that is being filled. */
    let length = 0;
    let room = this.#room;
    for (let i = first; i < first + count && room > 0; i++) {
      const word = 4 * i;
      const from = (words[word] ?? 0) + (words[word + 1] ?? 0) * 0x1_0000_0000;
      const size = words[word + 2] ?? 0;
      for (let done = 0; done < size && room > 0; ) {
        const n = Math.min(room - length, size - done);
        libc.memcpy(at(to + length), at(from + done), n);
        done += n;
        taken += n;
        length += n;
        if (length < room) continue;
        this.#sealData(length);
        length = 0;
        room = this.#room;
      }
    }
    if (length > 0) this.#sealData(length);
    const failed = this.flush();
    return failed < 0 ? failed : taken;
  }

  flush(): number {
    const n = this.#out.flush();
    if (n > 0) this.#sayWhatIsDue(); // there may have been no room for it before
    return Math.min(0, n);
  }

  ask(): void {
    // As OpenSSH's ClientAliveInterval asks: whatever the answer is, it is one.
    if (!this.#mayAnswer) return;
    this.#out.answer(new WireWriter().u8(MESSAGE.globalRequest).string("keepalive@openssh.com").u8(1));
    this.flush();
  }

  close(): boolean {
    if (!this.#shut && this.#mayAnswer) {
      this.#shut = true;
      if (this.#session.role.end === "server") this.#sayStatus();
      this.#out.answer(new WireWriter().u8(MESSAGE.eof).u32(this.#theirs));
      this.#out.answer(new WireWriter().u8(MESSAGE.close).u32(this.#theirs));
    }
    // A client whose connection is closed before it has said its own end calls that an error.
    return this.flush() < 0 || (this.#shut && !this.pending && this.#closed);
  }

  dispose(): void {
    this.#in.dispose();
    this.#out.dispose();
  }

  /** Nothing more is to be read. */
  get #over(): boolean {
    return this.end !== undefined || (this.#shut ? this.#closed : this.#ended);
  }

  /** Something may be said besides data. */
  get #mayAnswer(): boolean {
    return this.#out.takesAnswer && this.#exchange === undefined;
  }

  /** Bytes of data that the next packet may have. */
  get #room(): number {
    return this.#out.takesData ? Math.min(this.#dataMax, this.#theirWindow) : 0;
  }

  #sealData(length: number): void {
    this.#theirWindow -= length;
    this.#out.seal(MESSAGE.data, this.#theirs, length, length);
  }

  #sayStatus(): void {
    const status = new WireWriter().u8(MESSAGE.channelRequest).u32(this.#theirs);
    this.#out.answer(status.string("exit-status").u8(0).u32(0));
  }

  /** @returns bytes of data that were put at `offset`. */
  #openAll(into: Memory, offset: number): number {
    let given = 0;
    try {
      while (!this.#closed && this.#in.next()) given += this.#take(into, offset + given);
    } catch (error) {
      this.end = { kind: "malformed", text: `the peer sent what is not SSH: ${messageOf(error)}` };
    }
    if (this.#ended && this.#words !== "") this.end ??= { kind: "refused", text: this.#words };
    if (this.end !== undefined || this.#closed) this.#in.drop();
    else this.#in.keep();
    return given;
  }

  /** Open the window again, ask for new keys. */
  #sayWhatIsDue(): void {
    if (this.#shut) return;
    if (this.#ourWindow <= WINDOW - STEP && this.#mayAnswer) {
      this.#out.seal(MESSAGE.windowAdjust, this.#theirs, WINDOW - this.#ourWindow, 0);
      this.#ourWindow = WINDOW;
    }
    const used = this.#in.bytes + this.#out.bytes;
    if (used <= this.#keysUntil || !this.#mayAnswer || this.#nextKeys !== undefined) return;
    const exchange = new KeyExchange(this.#session);
    this.#out.answer(new WireWriter().raw(exchange.init));
    this.#exchange = exchange;
  }

  /** @returns bytes of data in the message that was opened, which were put at `offset`. @throws Error when it may not come. */
  #take(into: Memory, offset: number): number {
    const { memory, start, end } = this.#in;
    const { bytes } = memory;
    const type = bytes[start] ?? 0;
    const exchanging = this.#exchange?.begun === true || this.#nextKeys !== undefined;
    if (exchanging && !ofExchange(type)) throw new Error(`message ${type} in a key exchange`);
    const from = start + DATA_HEADER;
    if (type === MESSAGE.data) {
      const length = this.#dataLength(bytes, start, from, end);
      if (this.#ended) throw new Error("data after its end");
      libc.memcpy(at(into.address + offset), at(memory.address + from), length);
      return length;
    }
    if (type === MESSAGE.windowAdjust) {
      if (from > end || readU32(bytes, start + 1) !== this.#ours) throw new Error("room for another channel");
      this.#theirWindow = Math.min(U32_MAX, this.#theirWindow + readU32(bytes, start + 5));
    } else {
      this.#obey(type, bytes.subarray(start, end));
    }
    return 0;
  }

  /** Any other message. */
  #obey(type: number, payload: Uint8Array): void {
    switch (type) {
      case MESSAGE.extendedData:
        this.#hear(payload);
        break;
      case MESSAGE.eof:
      case MESSAGE.close:
        this.#expectChannel(payload);
        this.#ended = true;
        this.#closed ||= type === MESSAGE.close;
        break;
      case MESSAGE.channelRequest:
        this.#expectChannel(payload);
        if (wantsReply(payload, 5))
          this.#answer(new WireWriter().u8(MESSAGE.channelFailure).u32(this.#theirs));
        break;
      case MESSAGE.globalRequest:
        if (wantsReply(payload, 1)) this.#answer(new WireWriter().u8(MESSAGE.requestFailure));
        break;
      case MESSAGE.channelOpen:
        this.#refuse(payload);
        break;
      case MESSAGE.kexInit:
        this.#begin(payload);
        break;
      case MESSAGE.ecdhInit:
      case MESSAGE.ecdhReply:
        this.#finish(payload);
        break;
      case MESSAGE.newKeys:
        this.#renew();
        break;
      case MESSAGE.disconnect:
        this.end = { kind: "closed-by-peer", text: "the peer ended the connection" };
        this.#ended = this.#closed = true;
        break;
      default:
        if (!SAY_NOTHING.has(type)) throw new Error(`message ${type}`);
    }
  }

  /** In a key exchange that has begun on our side it has to wait (RFC 4253 section 7.1). @throws Error when too many wait. */
  #answer(message: WireWriter): void {
    if (this.#exchange === undefined) this.#out.answer(message);
    else if (this.#later.push(message) > LATER_MAX)
      throw new Error("more questions than it takes answers to");
  }

  #expectChannel(payload: Uint8Array): void {
    const channel = number(payload, 1);
    if (channel !== this.#ours) throw new Error(`a message for channel ${channel}`);
  }

  /** Length of the data from `from` to `end` behind a header that ends with it; the window closes by so much. */
  #dataLength(bytes: Uint8Array, start: number, from: number, end: number): number {
    if (from > end || readU32(bytes, start + 1) !== this.#ours) throw new Error("data for another channel");
    const length = readU32(bytes, from - 4);
    if (length !== end - from) throw new Error("data of another length than it says");
    if (length > this.#ourWindow) throw new Error("more than its window");
    this.#ourWindow -= length;
    return length;
  }

  #refuse(payload: Uint8Array): void {
    const sender = 5 + number(payload, 1); // behind the kind of channel
    const refusal = new WireWriter().u8(MESSAGE.openFailure).u32(number(payload, sender));
    this.#answer(
      refusal.u32(ADMINISTRATIVELY_PROHIBITED).string("this connection has its channel").string(""),
    );
  }

  /** A command's standard error: why it ends. */
  #hear(payload: Uint8Array): void {
    this.#dataLength(payload, 0, DATA_HEADER + 4, payload.length);
    // Clients have nothing to say there, and of a server the first words are enough.
    if (this.#session.role.end === "server" || this.#words !== "") return;
    const first = payload.subarray(DATA_HEADER + 4, DATA_HEADER + 4 + WORDS_MAX);
    this.#words = safeText(new TextDecoder().decode(first), WORDS_MAX);
  }

  #begin(payload: Uint8Array): void {
    const exchange = this.#exchange ?? new KeyExchange(this.#session);
    if (this.#exchange === undefined) this.#out.answer(new WireWriter().raw(exchange.init));
    this.#exchange = exchange;
    exchange.begin(payload);
    if (this.#session.role.end === "client") this.#out.answer(new WireWriter().raw(exchange.ask()));
  }

  #finish(payload: Uint8Array): void {
    const exchange = this.#exchange;
    if (exchange === undefined) throw new Error("a key exchange that nobody began");
    let keys: NewKeys;
    if (payload[0] === MESSAGE.ecdhInit) {
      const answer = exchange.answer(payload);
      this.#out.answer(new WireWriter().raw(answer.reply));
      keys = answer;
    } else {
      keys = exchange.finish(payload);
    }
    this.#out.answer(new WireWriter().u8(MESSAGE.newKeys));
    this.#out.rekey(keys.outgoing);
    this.#nextKeys = keys.incoming;
    this.#exchange = undefined;
    for (const message of this.#later.splice(0)) this.#out.answer(message);
    this.#keysUntil = this.#in.bytes + this.#out.bytes + this.keysFor;
  }

  #renew(): void {
    if (this.#nextKeys === undefined) throw new Error("new keys that nobody asked for");
    this.#in.rekey(this.#nextKeys);
    this.#nextKeys = undefined;
    this.rekeys++;
    if (++exchanges % SWEEP === 0) Bun.gc(true);
  }
}

/**
 * Of all connections of this thread. A key exchange leaves keys and buffers behind whose size the engine does not know, so that it would
 * let some 40 MB of them lie; and nothing else in this thread makes garbage.
 */
let exchanges = 0;
const SWEEP = 64;

/** Messages that need no answer. */
const SAY_NOTHING = new Set<number>([
  ...[MESSAGE.ignore, MESSAGE.unimplemented, MESSAGE.debug],
  ...[MESSAGE.requestSuccess, MESSAGE.requestFailure, MESSAGE.channelSuccess, MESSAGE.channelFailure],
]);

/** Whether a message may come between KEXINIT and NEWKEYS (RFC 4253 section 7.1). A second KEXINIT is none of them. */
function ofExchange(type: number): boolean {
  return type <= MESSAGE.debug || (type > MESSAGE.kexInit && type < FIRST_OF_CONNECTION);
}

/** @throws Error when the message is too short for it. */
function number(payload: Uint8Array, offset: number): number {
  if (offset + 4 > payload.length) throw new Error("a message that is too short");
  return readU32(payload, offset);
}

/** The flag behind the name of a request, which begins at `name`. */
function wantsReply(payload: Uint8Array, name: number): boolean {
  return payload[name + 4 + number(payload, name)] === 1;
}
