/**
 * The open channels of one connection by their numbers here, and the messages of RFC 4254 that both ends take
 * in the same way: data, windows, ends. It does no I/O.
 */

import { readU32 } from "../../bytes.ts";
import { WireReader } from "../keys/wire.ts";
import type { Channel } from "./channel.ts";
import { MESSAGE } from "./message-numbers.ts";

/** Bytes of data in front of which `data` and `extendedData` have their header. */
const HEADER = { data: 9, extended: 13 } as const;

export class ChannelTable {
  readonly #channels = new Map<number, Channel>();

  /**
   * @param wake called when a channel may have messages to send.
   * @param first the least number that a channel gets.
   */
  constructor(
    readonly wake: () => void,
    readonly first = 0,
  ) {}

  get size(): number {
    return this.#channels.size;
  }

  /** A number that no channel has. @param taken whether it is taken all the same. */
  free(taken: (number: number) => boolean = () => false): number {
    let number = this.first;
    while (this.#channels.has(number) || taken(number)) number++;
    return number;
  }

  add(channel: Channel): void {
    this.#channels.set(channel.ours, channel);
  }

  /** @throws Error when there is none of this number that the other end may speak of. */
  get(number: number): Channel {
    const channel = this.#channels.get(number);
    if (channel === undefined || channel.theirsClosed)
      throw new Error(`a message for channel ${number}, which is not open`);
    return channel;
  }

  /**
   * Take a message if it is one of those.
   * @returns whether it was. @throws Error when it is malformed or may not come.
   */
  take(payload: Uint8Array): boolean {
    const reader = new WireReader(payload.subarray(1));
    switch (payload[0]) {
      case MESSAGE.windowAdjust:
        this.get(reader.u32()).adjust(reader.u32());
        return true;
      case MESSAGE.data:
        this.#data(payload, HEADER.data);
        return true;
      case MESSAGE.extendedData:
        this.#data(payload, HEADER.extended);
        return true;
      case MESSAGE.eof:
        this.get(reader.u32()).receiveEof();
        return true;
      case MESSAGE.close:
        this.#close(this.get(reader.u32()));
        return true;
      default:
        return false;
    }
  }

  /** The next message that a channel has to send. */
  produce(): Uint8Array | undefined {
    for (const channel of this.#channels.values()) {
      const message = channel.produce();
      if (channel.isClosed) this.#channels.delete(channel.ours);
      if (message === undefined) continue;
      // The others come first next time: none waits behind one that has much to say.
      if (this.#channels.delete(channel.ours)) this.#channels.set(channel.ours, channel);
      return message;
    }
    return undefined;
  }

  /** The connection is over. */
  stop(): void {
    for (const channel of this.#channels.values()) channel.stop();
    this.#channels.clear();
  }

  #close(channel: Channel): void {
    channel.receiveClose();
    if (channel.isClosed) this.#channels.delete(channel.ours);
    else this.wake();
  }

  #data(payload: Uint8Array, header: number): void {
    if (payload.length < header) throw new Error("a message that is too short");
    const channel = this.get(readU32(payload, 1));
    if (readU32(payload, header - 4) !== payload.length - header) {
      throw new Error("data of another length than it says");
    }
    channel.receive(payload.subarray(header), header === HEADER.data);
  }
}
