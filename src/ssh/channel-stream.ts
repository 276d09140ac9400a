/**
 * One channel of an SSH connection as a stream, straight on the connection's socket: packets are opened and sealed here, in the pump's
 * thread. All else that the other end may say (RFC 4253, 4254) is answered here, too: it gets no other channel.
 */

import { messageOf } from "../errors.ts";
import { allocate, at, EAGAIN, libc, type Memory } from "../linux/libc.ts";
import { Spares } from "../linux/spares.ts";
import { passing, STREAM_ROOM, type Stream } from "../linux/stream.ts";
import { safeText } from "../text.ts";
import type { ConnectionState } from "./connection-state.ts";
import {
  ECDH_INIT,
  ECDH_REPLY,
  KEXINIT,
  KeyExchange,
  NEWKEYS,
  type NewKeys,
  type Session,
} from "./key-exchange.ts";
import { Opener, OVERHEAD, PACKET_MAX, PAYLOAD, packetSize, putU32, Sealer, u32 } from "./packets.ts";
import { WireWriter } from "./wire.ts";

/** Bytes that are read at once. */
const INPUT = 131_072;
/** A packet that has not come whole. */
const PART = PACKET_MAX + OVERHEAD;
/** Bytes of data in one packet at most: OpenSSH takes no more. */
const DATA_MAX = 32_768;
/** type, channel, length of the data. */
const DATA_HEADER = 9;
/** Bytes that wait to be sent at most; of these, what is kept for answers. */
const OUTPUT = 6 * (DATA_MAX + DATA_HEADER + OVERHEAD) + 8192;
const ANSWERS = 8192;
/** No answer is longer: a key exchange's messages, sealed. */
const ANSWER_MAX = 2048;
/** The channel's window, bytes, as ssh2 has it; how much of it is used up before it is opened again, about as OpenSSH does. */
const WINDOW = 2 * 1024 * 1024;
const STEP = 98_304;
/** Characters of a command's standard error. */
const WORDS_MAX = 400;
const U32_MAX = 0xffff_ffff;

const DISCONNECT = 1;
const IGNORE = 2;
const UNIMPLEMENTED = 3;
const DEBUG = 4;
const GLOBAL_REQUEST = 80;
const REQUEST_SUCCESS = 81;
const REQUEST_FAILURE = 82;
const CHANNEL_OPEN = 90;
const OPEN_FAILURE = 92;
const WINDOW_ADJUST = 93;
const DATA = 94;
const EXTENDED_DATA = 95;
const EOF = 96;
const CLOSE = 97;
const CHANNEL_REQUEST = 98;
const CHANNEL_SUCCESS = 99;
const CHANNEL_FAILURE = 100;
const ADMINISTRATIVELY_PROHIBITED = 1;

/** What all streams of a thread use in turn (modules are per thread), made when first needed. */
interface Shared {
  /** What is read from a socket, behind what was left of the last time. */
  readonly input: Memory;
  /** A packet on its way to be sealed. */
  readonly packet: Memory;
  /** For packets that have not come whole, and for those that wait to be sent. */
  readonly parts: Spares;
  readonly outputs: Spares;
}
let own: Shared | undefined;
function shared(): Shared {
  own ??= {
    input: allocate(PART + INPUT),
    packet: allocate(DATA_MAX + DATA_HEADER + OVERHEAD),
    parts: new Spares(PART),
    outputs: new Spares(OUTPUT),
  };
  return own;
}

export class ChannelStream implements Stream {
  problem: string | undefined;
  rekeys = 0;
  heard = performance.now();
  readonly #session: Session;
  readonly #ours: number;
  readonly #theirs: number;
  readonly #dataMax: number;
  readonly #keysFor: number;
  #opener: Opener;
  #sealer: Sealer;
  #ourWindow: number;
  #theirWindow: number;
  /** The first bytes of a packet that has not come whole. */
  #part: Memory | undefined;
  #partLength = 0;
  /** What had come before we took the connection, and was not looked at yet. */
  #unread: Uint8Array;
  /** Packets that wait to be sent: from `#sent` to `#end`. */
  #output: Memory | undefined;
  #sent = 0;
  #end = 0;
  /** Bytes each way since the last keys. */
  #used = 0;
  /** From our KEXINIT to our NEWKEYS, in which nothing else may be said. */
  #rekey: KeyExchange | undefined;
  /** Their next keys, between our NEWKEYS and theirs. */
  #nextKeys: Opener | undefined;
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
    keysFor: number,
  ) {
    this.#keysFor = keysFor;
    this.#session = state.session;
    this.#ours = state.ourChannel;
    this.#theirs = state.theirChannel;
    this.#dataMax = Math.min(DATA_MAX, state.theirPacket);
    this.#opener = new Opener(state.incoming);
    this.#sealer = new Sealer(state.outgoing);
    this.#ourWindow = state.ourWindow;
    this.#theirWindow = state.theirWindow;
    this.#unread = state.unread;
  }

  get pending(): boolean {
    return this.#sent < this.#end;
  }
  get blocked(): boolean {
    return this.#theirWindow === 0 || this.#rekey !== undefined || this.#shut;
  }
  get more(): boolean {
    return this.#unread.length > 0 || this.#over;
  }

  read(into: Memory, offset: number, room: number, now: number): number {
    if (this.#over) return 0;
    const { input } = shared();
    const kept = this.#partLength;
    if (this.#part !== undefined) libc.memcpy(at(input.address), at(this.#part.address), kept);
    // All that comes fits where it is wanted: a packet is longer than its data.
    const n = this.#fill(input, kept, Math.min(INPUT, room - kept));
    if (n < 0) return n;
    if (n === 0) {
      this.#closed = true;
      return 0;
    }
    this.heard = now;
    const given = this.#openAll(input, kept + n, into, offset);
    if (!this.#shut) this.#sayMore();
    const sent = this.flush();
    // The end, if it is that, is told next time.
    if (given > 0) return given;
    return this.#over ? 0 : sent < 0 ? sent : -EAGAIN;
  }

  writev(_vector: Memory, words: Uint32Array, first: number, count: number): number {
    const broken = this.flush();
    if (broken < 0) return broken;
    if (this.pending || this.blocked) return -EAGAIN;
    const { packet } = shared();
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
        libc.memcpy(at(packet.address + PAYLOAD + DATA_HEADER + length), at(from + done), n);
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
    const sent = this.flush();
    return sent < 0 ? sent : taken;
  }

  flush(): number {
    const output = this.#output;
    if (output === undefined) return 0;
    const n = libc.write(this.fd, at(output.address + this.#sent), this.#end - this.#sent);
    if (n < 0) {
      const code = passing();
      return code === EAGAIN ? 0 : -code;
    }
    this.#sent += n;
    if (this.#sent === this.#end) this.#giveOutput();
    return n;
  }

  ask(): void {
    // As OpenSSH's ClientAliveInterval asks: whatever the answer is, it is one.
    if (this.#mayAnswer) {
      this.#answer(new WireWriter().u8(GLOBAL_REQUEST).string("keepalive@openssh.com").u8(1));
      this.flush();
    }
  }

  shut(): boolean {
    if (!this.#shut && this.#mayAnswer) {
      this.#shut = true;
      if (this.#session.role.end === "server") this.#exitStatus();
      this.#answer(new WireWriter().u8(EOF).u32(this.#theirs));
      this.#answer(new WireWriter().u8(CLOSE).u32(this.#theirs));
    }
    const broken = this.flush();
    if (!this.#shut || this.pending) return broken < 0;
    // A client whose connection is closed before it has said its own end calls that an error.
    return this.#closed || this.read(shared().packet, 0, STREAM_ROOM, 0) !== -EAGAIN;
  }

  #exitStatus(): void {
    const status = new WireWriter().u8(CHANNEL_REQUEST).u32(this.#theirs).string("exit-status").u8(0).u32(0);
    this.#answer(status);
  }

  get closing(): boolean {
    return this.#shut;
  }

  dispose(): void {
    this.#giveOutput();
    this.#keep(shared().input, 0, 0);
    this.#sealer.free();
    this.#opener.free();
    this.#nextKeys?.free();
  }

  /** Nothing more is to be read. */
  get #over(): boolean {
    return this.problem !== undefined || (this.#shut ? this.#closed : this.#ended);
  }

  /** Something may be said besides data. */
  get #mayAnswer(): boolean {
    return this.#end + ANSWER_MAX <= OUTPUT && this.#rekey === undefined;
  }

  /** Bytes of data that the next packet may have. */
  get #room(): number {
    const full = this.#end + DATA_MAX + DATA_HEADER + OVERHEAD > OUTPUT - ANSWERS;
    return full ? 0 : Math.min(this.#dataMax, this.#theirWindow);
  }

  /** As read(2), -errno on failure. */
  #fill(input: Memory, offset: number, most: number): number {
    const { length } = this.#unread;
    if (length === 0) {
      const n = libc.read(this.fd, at(input.address + offset), most);
      return n < 0 ? -passing() : n;
    }
    const n = Math.min(length, most);
    input.bytes.set(this.#unread.subarray(0, n), offset);
    this.#unread = this.#unread.subarray(n);
    return n;
  }

  /** Open the packets in `input`, and keep the last one if it is not whole. @returns bytes of data that were put at `offset`. */
  #openAll(input: Memory, end: number, into: Memory, offset: number): number {
    let start = 0;
    let given = 0;
    try {
      while (!this.#over) {
        const size = packetSize(input.bytes, start, end);
        if (size === 0 || end - start < size) break;
        this.#opener.open(input, start, size);
        given += this.#take(input, start + PAYLOAD, this.#opener.end, into, offset + given);
        start += size;
        this.#used += size;
      }
    } catch (error) {
      this.problem = `the peer sent what is not SSH: ${messageOf(error)}`;
    }
    if (this.#ended && this.#words !== "") this.problem ??= this.#words;
    this.#keep(input, start, this.#over ? start : end);
    return given;
  }

  /** Keep what has come of a packet. */
  #keep(input: Memory, start: number, end: number): void {
    const { parts } = shared();
    this.#partLength = end - start;
    if (end > start) {
      this.#part ??= parts.take();
      libc.memcpy(at(this.#part.address), at(input.address + start), end - start);
    } else if (this.#part !== undefined) {
      parts.give(this.#part);
      this.#part = undefined;
    }
  }

  /** Open the window again, ask for new keys: what is due. */
  #sayMore(): void {
    if (this.#ourWindow <= WINDOW - STEP && this.#mayAnswer) {
      this.#sealWords(WINDOW_ADJUST, WINDOW - this.#ourWindow, 0);
      this.#ourWindow = WINDOW;
    }
    if (this.#used <= this.#keysFor || !this.#mayAnswer || this.#nextKeys !== undefined) return;
    const rekey = new KeyExchange(this.#session);
    this.#answer(new WireWriter().raw(rekey.init));
    this.#rekey = rekey;
  }

  /** What waits to be sent is given up. */
  #giveOutput(): void {
    if (this.#output !== undefined) shared().outputs.give(this.#output);
    this.#output = undefined;
    this.#sent = this.#end = 0;
  }

  /** Data that stand in the packet already. */
  #sealData(length: number): void {
    this.#theirWindow -= length;
    this.#sealWords(DATA, length, length);
  }

  /** A message of type, channel and a number, and so many bytes behind. It makes no garbage, as WireWriter does: these are many. */
  #sealWords(type: number, value: number, more: number): void {
    const { bytes } = shared().packet;
    bytes[PAYLOAD] = type;
    putU32(bytes, PAYLOAD + 1, this.#theirs);
    putU32(bytes, PAYLOAD + 5, value);
    this.#seal(DATA_HEADER + more);
  }

  /** @throws Error when the peer takes no answers: it asks without end. */
  #answer(message: WireWriter): void {
    const payload = message.bytes();
    if (this.#end + payload.length + OVERHEAD > OUTPUT)
      throw new Error("more questions than it takes answers to");
    shared().packet.bytes.set(payload, PAYLOAD);
    this.#seal(payload.length);
  }

  #seal(length: number): void {
    const { packet, outputs } = shared();
    this.#output ??= outputs.take();
    const size = this.#sealer.seal(packet, length, this.#output, this.#end);
    this.#end += size;
    this.#used += size;
  }

  /** @returns bytes of data in the message from `start` to `end`, which were put at `offset`. @throws Error when it may not come. */
  #take(input: Memory, start: number, end: number, into: Memory, offset: number): number {
    const { bytes } = input;
    const type = bytes[start] ?? 0;
    const exchanging = this.#rekey?.begun === true || this.#nextKeys !== undefined;
    if (exchanging && type > DEBUG && (type < KEXINIT || type >= GLOBAL_REQUEST)) {
      throw new Error(`message ${type} in a key exchange`); // RFC 4253 section 7.1
    }
    const from = start + DATA_HEADER;
    if (type === DATA) {
      const length = this.#dataLength(bytes, start, from, end);
      if (this.#shut) return 0;
      libc.memcpy(at(into.address + offset), at(input.address + from), length);
      return length;
    }
    if (type === WINDOW_ADJUST) {
      if (from > end || u32(bytes, start + 1) !== this.#ours) throw new Error("room for another channel");
      this.#theirWindow = Math.min(U32_MAX, this.#theirWindow + u32(bytes, start + 5));
    } else {
      this.#obey(type, bytes.subarray(start, end));
    }
    return 0;
  }

  /** Any other message. */
  #obey(type: number, payload: Uint8Array): void {
    switch (type) {
      case EXTENDED_DATA:
        this.#hear(payload);
        break;
      case EOF:
      case CLOSE:
        this.#expectChannel(payload);
        this.#ended = true;
        this.#closed ||= type === CLOSE;
        break;
      case CHANNEL_REQUEST:
        this.#expectChannel(payload);
        if (wantsReply(payload, 5)) this.#answer(new WireWriter().u8(CHANNEL_FAILURE).u32(this.#theirs));
        break;
      case GLOBAL_REQUEST:
        if (wantsReply(payload, 1)) this.#answer(new WireWriter().u8(REQUEST_FAILURE));
        break;
      case CHANNEL_OPEN:
        this.#refuse(payload);
        break;
      case KEXINIT:
        this.#begin(payload);
        break;
      case ECDH_INIT:
      case ECDH_REPLY:
        this.#exchange(payload);
        break;
      case NEWKEYS:
        if (this.#nextKeys === undefined) throw new Error("new keys that nobody asked for");
        this.#opener.free();
        this.#opener = this.#nextKeys;
        this.rekeys++;
        this.#nextKeys = undefined;
        break;
      case DISCONNECT:
        this.problem = "the peer ended the connection";
        this.#ended = this.#closed = true;
        break;
      case IGNORE:
      case UNIMPLEMENTED:
      case DEBUG:
      case REQUEST_SUCCESS:
      case REQUEST_FAILURE:
      case CHANNEL_SUCCESS:
      case CHANNEL_FAILURE:
        break;
      default:
        throw new Error(`message ${type}`);
    }
  }

  #expectChannel(payload: Uint8Array): void {
    const channel = number(payload, 1);
    if (channel !== this.#ours) throw new Error(`a message for channel ${channel}`);
  }

  /** Length of the data from `from` to `end` behind a header that ends with it; the window closes by so much. */
  #dataLength(bytes: Uint8Array, start: number, from: number, end: number): number {
    if (from > end || u32(bytes, start + 1) !== this.#ours) throw new Error("data for another channel");
    const length = u32(bytes, from - 4);
    if (length !== end - from) throw new Error("data of another length than it says");
    if (length > this.#ourWindow) throw new Error("more than its window");
    this.#ourWindow -= length;
    return length;
  }

  #refuse(payload: Uint8Array): void {
    const sender = 5 + number(payload, 1); // behind the kind of channel
    this.#answer(
      new WireWriter()
        .u8(OPEN_FAILURE)
        .u32(number(payload, sender))
        .u32(ADMINISTRATIVELY_PROHIBITED)
        .string("this connection has its channel")
        .string(""),
    );
  }

  /** A command's standard error: why it ends. */
  #hear(payload: Uint8Array): void {
    this.#dataLength(payload, 0, DATA_HEADER + 4, payload.length);
    const text = new TextDecoder().decode(payload.subarray(DATA_HEADER + 4));
    this.#words = safeText(this.#words + text, WORDS_MAX);
  }

  #begin(payload: Uint8Array): void {
    if (this.#rekey?.begun === true || this.#nextKeys !== undefined) throw new Error("a second key exchange");
    this.#used = 0;
    const rekey = this.#rekey ?? new KeyExchange(this.#session);
    if (this.#rekey === undefined) this.#answer(new WireWriter().raw(rekey.init));
    this.#rekey = rekey;
    rekey.begin(payload);
    if (this.#session.role.end === "client") this.#answer(new WireWriter().raw(rekey.ask()));
  }

  #exchange(payload: Uint8Array): void {
    const rekey = this.#rekey;
    if (rekey === undefined) throw new Error("a key exchange that nobody began");
    let keys: NewKeys;
    if (payload[0] === ECDH_INIT) {
      const answer = rekey.answer(payload);
      this.#answer(new WireWriter().raw(answer.reply));
      keys = answer;
    } else {
      keys = rekey.finish(payload);
    }
    this.#answer(new WireWriter().u8(NEWKEYS));
    this.#sealer.free();
    this.#sealer = new Sealer(keys.outgoing);
    this.#nextKeys = new Opener(keys.incoming);
    this.#rekey = undefined;
  }
}

/** @throws Error when the message is too short for it. */
function number(payload: Uint8Array, offset: number): number {
  if (offset + 4 > payload.length) throw new Error("a message that is too short");
  return u32(payload, offset);
}

/** The flag behind the name of a request, which begins at `name`. */
function wantsReply(payload: Uint8Array, name: number): boolean {
  return payload[name + 4 + number(payload, name)] === 1;
}
