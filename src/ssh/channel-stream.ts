/**
 * One channel of an SSH connection as a stream, straight on the connection's socket: packets are opened and sealed here, in the pump's
 * thread. All else that the other end may say (RFC 4253, 4254) is answered here, too: it gets no other channel.
 */

import { messageOf } from "../errors.ts";
import { allocate, at, EAGAIN, libc, type Memory } from "../linux/libc.ts";
import { passing, STREAM_ROOM, type Stream } from "../linux/stream.ts";
import { safeText } from "../text.ts";
import type { ConnectionState } from "./connection-state.ts";
import { Opener, OVERHEAD, PACKET_MAX, PAYLOAD, packetSize, Sealer } from "./packets.ts";
import { ECDH_INIT, ECDH_REPLY, KEXINIT, NEWKEYS, type NewKeys, Rekey, type Session } from "./rekey.ts";
import { WireWriter } from "./wire.ts";

/** Bytes that are read at once. */
const INPUT = 131_072;
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
/** Bytes of one key pair at most, half of what RFC 4344 section 3.2 allows for AES: 2^32 blocks. */
const KEYS_FOR = 2 ** 35;
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
  input: Memory;
  /** A packet on its way to be sealed. */
  packet: Memory;
  /** Buffers for what waits to be sent, that hold nothing. */
  outputs: Memory[];
}
let own: Shared | undefined;
function shared(): Shared {
  own ??= {
    input: allocate(INPUT + PACKET_MAX + OVERHEAD),
    packet: allocate(DATA_MAX + DATA_HEADER + OVERHEAD),
    outputs: [],
  };
  return own;
}
const SPARES = 4;

export class ChannelStream implements Stream {
  more = false;
  problem: string | undefined;
  heard: number | undefined;
  readonly #session: Session;
  readonly #ours: number;
  readonly #theirs: number;
  readonly #dataMax: number;
  readonly #keysFor: number;
  #opener: Opener;
  #sealer: Sealer;
  #ourWindow: number;
  #theirWindow: number;
  /** What came and was not opened yet. */
  #unread: Uint8Array | undefined;
  /** Packets that wait to be sent: from `#sent` to `#end`. */
  #output: Memory | undefined;
  #sent = 0;
  #end = 0;
  /** Bytes each way since the last keys. */
  #used = 0;
  /** From our KEXINIT to our NEWKEYS, in which nothing else may be said. */
  #rekey: Rekey | undefined;
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
    keysFor = KEYS_FOR,
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
    if (state.unread.length > 0) this.#unread = state.unread;
    this.more = this.#unread !== undefined;
  }

  get pending(): boolean {
    return this.#sent < this.#end;
  }
  get blocked(): boolean {
    return this.#theirWindow === 0 || this.#rekey !== undefined || this.#shut;
  }
  get stalled(): boolean {
    return this.#end + ANSWER_MAX > OUTPUT;
  }

  read(into: Memory, offset: number, room: number, now: number): number {
    if (this.problem !== undefined) return 0;
    const { input } = shared();
    const { bytes } = input;
    let end = 0;
    if (this.#unread !== undefined) {
      bytes.set(this.#unread);
      end = this.#unread.length;
    }
    if (!this.more) {
      const n = libc.read(this.fd, at(input.address + end), INPUT);
      if (n < 0) return -passing();
      if (n === 0) {
        this.#closed = true;
        return 0;
      }
      this.heard = now;
      end += n;
    }
    this.more = false;
    let start = 0;
    let given = 0;
    try {
      while (!this.#ended || this.#shut) {
        const size = packetSize(bytes, start, end);
        if (size === 0 || end - start < size) break;
        if (given + size > room || this.stalled) {
          this.more = true;
          break;
        }
        const payload = this.#opener.open(bytes, start, size);
        start += size;
        this.#used += size;
        given += this.#take(payload, into.bytes, offset + given);
      }
    } catch (error) {
      this.problem = `the peer sent what is not SSH: ${messageOf(error)}`;
    }
    this.#unread = start < end ? bytes.slice(start, end) : undefined;
    if (this.#ourWindow <= WINDOW - STEP && !this.#shut) this.#open();
    if (this.#used > this.#keysFor && !this.#shut) this.#renew();
    const broken = this.flush();
    if (this.#ended && this.#words !== "") this.problem ??= this.#words;
    const over = this.problem !== undefined || (this.#shut ? this.#closed : this.#ended);
    if (given > 0) {
      this.more ||= over;
      return given;
    }
    return over ? 0 : broken < 0 ? broken : -EAGAIN;
  }

  writev(_vector: Memory, words: Uint32Array, first: number, count: number): number {
    const broken = this.flush();
    if (broken < 0) return broken;
    if (this.pending || this.blocked) return -EAGAIN;
    const { packet } = shared();
    const { bytes } = packet;
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
        this.#sealData(bytes, length);
        length = 0;
        room = this.#room;
      }
    }
    if (length > 0) this.#sealData(bytes, length);
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
    if (this.#sent === this.#end) this.dispose();
    return n;
  }

  ask(): void {
    // As OpenSSH's ClientAliveInterval asks: whatever the answer is, it is one.
    if (!this.stalled && this.#rekey === undefined) {
      this.#answer(new WireWriter().u8(GLOBAL_REQUEST).string("keepalive@openssh.com").u8(1));
      this.flush();
    }
  }

  shut(): boolean {
    if (!this.#shut && !this.stalled && this.#rekey === undefined) {
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

  /** Give the buffer back, and what waits in it up. */
  dispose(): void {
    if (this.#output !== undefined && shared().outputs.length < SPARES) shared().outputs.push(this.#output);
    this.#output = undefined;
    this.#sent = this.#end = 0;
  }

  /** Bytes of data that the next packet may have. */
  get #room(): number {
    const full = this.#end + DATA_MAX + DATA_HEADER + OVERHEAD > OUTPUT - ANSWERS;
    return full ? 0 : Math.min(this.#dataMax, this.#theirWindow);
  }

  #sealData(packet: Uint8Array, length: number): void {
    packet[PAYLOAD] = DATA;
    putU32(packet, PAYLOAD + 1, this.#theirs);
    putU32(packet, PAYLOAD + 5, length);
    this.#theirWindow -= length;
    this.#seal(packet, DATA_HEADER + length);
  }

  #answer(message: WireWriter): void {
    const payload = message.bytes();
    const { packet } = shared();
    packet.bytes.set(payload, PAYLOAD);
    this.#seal(packet.bytes, payload.length);
  }

  #seal(packet: Uint8Array, length: number): void {
    this.#output ??= shared().outputs.pop() ?? allocate(OUTPUT);
    const size = this.#sealer.seal(packet, length, this.#output.bytes, this.#end);
    this.#end += size;
    this.#used += size;
  }

  /** Open the window again. */
  #open(): void {
    if (this.stalled || this.#rekey !== undefined) return;
    this.#answer(
      new WireWriter()
        .u8(WINDOW_ADJUST)
        .u32(this.#theirs)
        .u32(WINDOW - this.#ourWindow),
    );
    this.#ourWindow = WINDOW;
  }

  /** @returns bytes of data in this message, which were put at `offset`. @throws Error when it may not come. */
  #take(payload: Uint8Array, into: Uint8Array, offset: number): number {
    const type = payload[0] ?? 0;
    const exchanging = this.#rekey?.begun === true || this.#nextKeys !== undefined;
    if (exchanging && type > DEBUG && (type < KEXINIT || type >= GLOBAL_REQUEST)) {
      throw new Error(`message ${type} in a key exchange`); // RFC 4253 section 7.1
    }
    if (type === DATA) {
      const length = this.#dataLength(payload, DATA_HEADER);
      if (this.#shut) return 0;
      into.set(payload.subarray(DATA_HEADER, DATA_HEADER + length), offset);
      return length;
    }
    switch (type) {
      case WINDOW_ADJUST:
        this.#expectChannel(payload);
        this.#theirWindow = Math.min(U32_MAX, this.#theirWindow + u32(payload, 5));
        break;
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
        this.#opener = this.#nextKeys;
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
    return 0;
  }

  #expectChannel(payload: Uint8Array): void {
    if (u32(payload, 1) !== this.#ours) throw new Error(`a message for channel ${u32(payload, 1)}`);
  }

  /** Length of the data behind a header that ends with it; the window closes by so much. */
  #dataLength(payload: Uint8Array, header: number): number {
    this.#expectChannel(payload);
    const length = u32(payload, header - 4);
    if (length !== payload.length - header) throw new Error("data of another length than it says");
    if (length > this.#ourWindow) throw new Error("more than its window");
    this.#ourWindow -= length;
    return length;
  }

  #refuse(payload: Uint8Array): void {
    const sender = 5 + u32(payload, 1); // behind the kind of channel
    this.#answer(
      new WireWriter()
        .u8(OPEN_FAILURE)
        .u32(u32(payload, sender))
        .u32(ADMINISTRATIVELY_PROHIBITED)
        .string("this connection has its channel")
        .string(""),
    );
  }

  /** A command's standard error: why it ends. */
  #hear(payload: Uint8Array): void {
    this.#dataLength(payload, DATA_HEADER + 4);
    const text = new TextDecoder().decode(payload.subarray(DATA_HEADER + 4));
    this.#words = safeText(this.#words + text, WORDS_MAX);
  }

  /** Ask for new keys. */
  #renew(): void {
    if (this.stalled || this.#rekey !== undefined || this.#nextKeys !== undefined) return;
    this.#used = 0;
    const rekey = new Rekey(this.#session);
    this.#answer(new WireWriter().raw(rekey.init));
    this.#rekey = rekey;
  }

  #begin(payload: Uint8Array): void {
    if (this.#rekey?.begun === true || this.#nextKeys !== undefined) throw new Error("a second key exchange");
    this.#used = 0;
    const rekey = this.#rekey ?? new Rekey(this.#session);
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
    this.#sealer = new Sealer(keys.outgoing);
    this.#nextKeys = new Opener(keys.incoming);
    this.#rekey = undefined;
  }
}

/** @throws Error when the message is too short for it. */
function u32(bytes: Uint8Array, offset: number): number {
  if (offset + 4 > bytes.length) throw new Error("a message that is too short");
  return (
    (((bytes[offset] ?? 0) << 24) |
      ((bytes[offset + 1] ?? 0) << 16) |
      ((bytes[offset + 2] ?? 0) << 8) |
      (bytes[offset + 3] ?? 0)) >>>
    0
  );
}

function putU32(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value >>> 24;
  bytes[offset + 1] = value >>> 16;
  bytes[offset + 2] = value >>> 8;
  bytes[offset + 3] = value;
}

/** The flag behind the name of a request, which begins at `name`. */
function wantsReply(payload: Uint8Array, name: number): boolean {
  return payload[name + 4 + u32(payload, name)] === 1;
}
