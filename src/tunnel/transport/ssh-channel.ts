/**
 * One channel of an SSH connection as a stream, straight on the connection's socket: packets are opened and
 * sealed here, in the pump's thread. Messages of other channels go to `others`, if the connection may have
 * some. All else that the other end may say (RFC 4253, 4254) is answered here, too.
 */

import { readU32 } from "../../bytes.ts";
import type { End } from "../../end.ts";
import { messageOf } from "../../errors.ts";
import { at, EAGAIN, libc, type Memory } from "../../linux/libc.ts";
import { exitStatus } from "../../ssh/handshake/channel.ts";
import { type ConnectionState, WINDOW } from "../../ssh/handshake/connection-state.ts";
import { MESSAGE } from "../../ssh/handshake/message-numbers.ts";
import { DATA_HEADER, DATA_MAX, type Keys } from "../../ssh/handshake/packet-cipher.ts";
import { type Packets, Transport } from "../../ssh/handshake/transport.ts";
import { WireWriter } from "../../ssh/keys/wire.ts";
import { safeText } from "../../text.ts";
import { PacketInput } from "./packet-input.ts";
import { PacketOutput } from "./packet-output.ts";
import type { Stream } from "./stream.ts";

/** Bytes of the channel's window that are used up before it is opened again, about as OpenSSH does. */
const STEP = 98_304;
/** Bytes of a command's standard error. */
const WORDS_MAX = 400;
const U32_MAX = 0xffff_ffff;
const ADMINISTRATIVELY_PROHIBITED = 1;

export class ChannelStream implements Stream {
  end: End | undefined;
  heard = performance.now();
  readonly #transport: Transport;
  readonly #isServer: boolean;
  readonly #ours: number;
  readonly #theirs: number;
  readonly #dataMax: number;
  readonly #in: PacketInput;
  readonly #out: PacketOutput;
  #ourWindow: number;
  #theirWindow: number;
  /** Of the bytes both ways: from where new keys are asked for. */
  #keysUntil: number;
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
    /** Takes the messages of other channels. Undefined: the peer gets none. */
    readonly others?: (payload: Uint8Array) => void,
  ) {
    this.#isServer = state.session.role.end === "server";
    this.#ours = state.ourChannel;
    this.#theirs = state.theirChannel;
    this.#dataMax = Math.min(DATA_MAX, state.theirPacket);
    this.#in = new PacketInput(fd, state);
    try {
      this.#out = new PacketOutput(fd, state.outgoing);
    } catch (error) {
      this.#in.free();
      throw error;
    }
    this.#transport = new Transport(state.session, this.#packets());
    this.#ourWindow = state.ourWindow;
    this.#theirWindow = state.theirWindow;
    this.#keysUntil = keysFor;
  }

  get pending(): boolean {
    return this.#out.pending;
  }
  get blocked(): boolean {
    return this.#theirWindow === 0 || this.#transport.exchanging || this.#shut;
  }
  get rekeys(): number {
    return this.#transport.rekeys;
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

  send(payload: Uint8Array): boolean {
    if (!this.#mayAnswer || !this.#out.takes(payload.length)) return false;
    this.#out.send(payload);
    return true;
  }

  ask(): void {
    // As OpenSSH's ClientAliveInterval asks: whatever the answer is, it is one.
    if (!this.#mayAnswer) return;
    this.#out.send(new WireWriter().u8(MESSAGE.globalRequest).string("keepalive@openssh.com").u8(1).bytes());
    this.flush();
  }

  close(): boolean {
    if (!this.#shut && this.#mayAnswer) {
      this.#shut = true;
      if (this.#isServer) this.#out.send(exitStatus(this.#theirs, 0));
      this.#out.send(new WireWriter().u8(MESSAGE.eof).u32(this.#theirs).bytes());
      this.#out.send(new WireWriter().u8(MESSAGE.close).u32(this.#theirs).bytes());
    }
    // A client whose connection is closed before it has said its own end calls that an error.
    return this.flush() < 0 || (this.#shut && !this.pending && this.#closed);
  }

  free(): void {
    this.#in.free();
    this.#out.free();
  }

  /** Nothing more is to be read. */
  get #over(): boolean {
    return this.end !== undefined || (this.#shut ? this.#closed : this.#ended);
  }

  /** Something may be said besides data. */
  get #mayAnswer(): boolean {
    return this.#out.takesAnswer && !this.#transport.exchanging;
  }

  /** Bytes of data that the next packet may have. */
  get #room(): number {
    return this.#out.takesData ? Math.min(this.#dataMax, this.#theirWindow) : 0;
  }

  #sealData(length: number): void {
    this.#theirWindow -= length;
    this.#out.seal(MESSAGE.data, this.#theirs, length, length);
  }

  /** What the layer of key exchanges needs of these packets. */
  #packets(): Packets {
    const [input, output] = [this.#in, this.#out];
    return {
      get received() {
        return input.received;
      },
      get bytes() {
        return input.bytes + output.bytes;
      },
      send: (payload) => output.send(payload),
      rekeyIn: (keys, strict) => {
        input.rekey(keys, strict);
        if (++exchanges % SWEEP === 0) Bun.gc(true);
      },
      rekeyOut: (keys: Keys) => {
        output.rekey(keys);
        this.#keysUntil = input.bytes + output.bytes + this.keysFor;
      },
    };
  }

  /** @returns bytes of data that were put at `offset`. */
  #openAll(into: Memory, offset: number): number {
    let given = 0;
    let left = PACKETS_A_TURN;
    try {
      while (!this.#closed && left > 0 && this.#in.next()) {
        left--;
        given += this.#take(into, offset + given);
      }
    } catch (error) {
      this.end = { kind: "malformed", text: `the peer sent what is not SSH: ${messageOf(error)}` };
    }
    if (this.#ended && this.#words !== "") this.end ??= { kind: "refused", text: this.#words };
    if (this.end !== undefined || this.#closed) this.#in.drop();
    else if (left === 0) this.#in.putBack();
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
    if (used > this.#keysUntil && this.#mayAnswer) this.#transport.exchange();
  }

  /**
   * @returns bytes of data in the message that was opened, which were put at `offset`.
   * @throws Error when it may not come.
   */
  #take(into: Memory, offset: number): number {
    const { memory, start, end } = this.#in;
    const { bytes } = memory;
    const type = bytes[start] ?? 0;
    if (this.#transport.awaitsExchange) this.#transport.expect(type);
    const from = start + DATA_HEADER;
    if (this.others !== undefined && OF_CHANNELS.has(type)) {
      if (type === MESSAGE.channelOpen || number(bytes.subarray(start, end), 1) !== this.#ours) {
        this.others(Uint8Array.from(bytes.subarray(start, end)));
        return 0;
      }
    }
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
      default:
        if (SAY_NOTHING.has(type)) break;
        if (!this.#transport.take(payload)) throw new Error(`message ${type}`);
        if (this.#transport.disconnected === undefined) break;
        this.end = { kind: "closed-by-peer", text: "the peer ended the connection" };
        this.#ended = this.#closed = true;
    }
  }

  #answer(message: WireWriter): void {
    this.#transport.send(message.bytes());
  }

  #expectChannel(payload: Uint8Array): void {
    const channel = number(payload, 1);
    if (channel !== this.#ours) throw new Error(`a message for channel ${channel}`);
  }

  /**
   * Length of the data from `from` to `end` behind a header that ends with it; the window closes by so much.
   */
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
    if (this.#isServer || this.#words !== "") return;
    const first = payload.subarray(DATA_HEADER + 4, DATA_HEADER + 4 + WORDS_MAX);
    this.#words = safeText(new TextDecoder().decode(first), WORDS_MAX);
  }
}

/**
 * Of all connections of this thread. A key exchange leaves keys and buffers behind whose size the engine does
 * not know, so that it would let some 40 MB of them lie; and nothing else in this thread makes garbage.
 */
let exchanges = 0;
const SWEEP = 64;

/**
 * Packets that are opened in one turn, so that a peer that sends many tiny ones leaves time to the other links. Full
 * packets of one read are fewer, and so are those of a frame each.
 */
const PACKETS_A_TURN = 512;

/** Answers to what we ask, of which each says that the peer is there, and no more. */
const SAY_NOTHING = new Set<number>([
  ...[MESSAGE.requestSuccess, MESSAGE.requestFailure, MESSAGE.channelSuccess, MESSAGE.channelFailure],
]);

/** Messages that are for one channel, whose number is first in them; `channelOpen` begins one. */
const OF_CHANNELS = new Set<number>([
  ...[MESSAGE.channelOpen, MESSAGE.openConfirmation, MESSAGE.openFailure, MESSAGE.windowAdjust],
  ...[MESSAGE.data, MESSAGE.extendedData, MESSAGE.eof, MESSAGE.close],
  ...[MESSAGE.channelRequest, MESSAGE.channelSuccess, MESSAGE.channelFailure],
]);

/** @throws Error when the message is too short for it. */
function number(payload: Uint8Array, offset: number): number {
  if (offset + 4 > payload.length) throw new Error("a message that is too short");
  return readU32(payload, offset);
}

/** The flag behind the name of a request, which begins at `name`. */
function wantsReply(payload: Uint8Array, name: number): boolean {
  return payload[name + 4 + number(payload, name)] === 1;
}
