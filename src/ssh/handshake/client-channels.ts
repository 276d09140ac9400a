/**
 * The part of ssh-connection (RFC 4254) of an end that asks: it opens session channels, each for one command,
 * and refuses whatever the other end asks for. It does no I/O.
 */

import { safeText } from "../../text.ts";
import { WireReader, WireWriter } from "../keys/wire.ts";
import { CHANNEL_WINDOW, Channel } from "./channel.ts";
import { ChannelTable } from "./channel-table.ts";
import type { ChannelBounds } from "./connection.ts";
import { MESSAGE } from "./message-numbers.ts";
import { PACKET_MIN } from "./packet-cipher.ts";

/** The other end does not open a session, or does not run the command. */
export class SessionRefused extends Error {
  /** @param stage what was refused: a session, or the command in it. */
  constructor(
    readonly stage: "session" | "command",
    message: string,
  ) {
    super(message);
  }
}

/** So many sessions are open already as there may be, of whoever's. */
export class TooManySessions extends Error {}

/** The connection ended before the answer. */
export class SessionLost extends Error {}

interface Opening {
  /** Undefined for a spare session. */
  command: string | undefined;
  /** Set once the session is open. */
  channel: Channel | undefined;
  readonly done: PromiseWithResolvers<Channel>;
}

/** Sessions that may be open or opening at once. */
export const SESSIONS_MAX = 16;
/** Characters of the other end's reason. */
const REASON_MAX = 200;
const PROHIBITED = 1;

export class ClientChannels {
  readonly #channels: ChannelTable;
  /** Sessions for which an answer is awaited, by their number here. */
  readonly #openings = new Map<number, Opening>();
  /**
   * A session for the next command, opened once a command was answered: the next one then takes one round
   * trip instead of two.
   */
  #spare: Opening | undefined;
  #over = false;

  /**
   * @param send sends a message at once.
   * @param wake called when a channel may have messages to send.
   * @param bounds the least number of a channel here, and bytes of data in a packet, both ways.
   */
  constructor(
    readonly send: (payload: Uint8Array) => void,
    readonly wake: () => void,
    readonly bounds: Pick<ChannelBounds, "first" | "packet">,
  ) {
    this.#channels = new ChannelTable(wake, bounds.first);
  }

  /**
   * Run a command in a session of its own. Resolves when it runs.
   * @throws SessionRefused, TooManySessions, SessionLost.
   */
  open(command: string): Promise<Channel> {
    if (this.#over) return Promise.reject(new SessionLost("the connection has ended"));
    if (this.#spare === undefined && this.#isFull)
      return Promise.reject(
        new TooManySessions(`${SESSIONS_MAX} sessions are open, as many as there may be`),
      );
    const opening = this.#spare ?? this.#begin();
    this.#spare = undefined;
    opening.command = command;
    this.#ask(opening);
    return opening.done.promise;
  }

  get #isFull(): boolean {
    const waiting = [...this.#openings.values()].filter((one) => one.channel === undefined).length;
    return this.#channels.size + waiting >= SESSIONS_MAX;
  }

  /** Open a session. */
  #begin(): Opening {
    const ours = this.#channels.free((number) => this.#openings.has(number));
    const opening: Opening = { command: undefined, channel: undefined, done: Promise.withResolvers() };
    this.#openings.set(ours, opening);
    const message = new WireWriter().u8(MESSAGE.channelOpen).string("session").u32(ours);
    this.send(message.u32(CHANNEL_WINDOW).u32(this.bounds.packet).bytes());
    return opening;
  }

  /** Ask for the command of a session, once there are both. */
  #ask({ command, channel }: Opening): void {
    if (command === undefined || channel === undefined) return;
    channel.begin();
    const exec = new WireWriter().u8(MESSAGE.channelRequest).u32(channel.theirs).string("exec").u8(1);
    this.send(exec.string(command).bytes());
  }

  #openSpare(): void {
    if (this.#spare !== undefined || this.#isFull) return;
    const spare = this.#begin();
    spare.done.promise.catch(() => {}); // nobody may ever want it
    this.#spare = spare;
  }

  #forget(ours: number, opening: Opening, why: Error): void {
    this.#openings.delete(ours);
    if (this.#spare === opening) this.#spare = undefined;
    opening.done.reject(why);
  }

  /**
   * Take a message of the other end's, 90 or above.
   * @throws Error when it is malformed or may not come; the connection is to be ended then.
   */
  take(payload: Uint8Array): void {
    if (this.#channels.take(payload)) return;
    const reader = new WireReader(payload.subarray(1));
    switch (payload[0]) {
      case MESSAGE.openConfirmation:
        this.#confirmed(reader);
        break;
      case MESSAGE.openFailure:
        this.#refused(reader);
        break;
      case MESSAGE.channelSuccess:
      case MESSAGE.channelFailure:
        this.#answered(reader.u32(), payload[0] === MESSAGE.channelSuccess);
        break;
      case MESSAGE.channelRequest:
        this.#request(reader);
        break;
      case MESSAGE.channelOpen: {
        reader.string();
        const refusal = new WireWriter().u8(MESSAGE.openFailure).u32(reader.u32()).u32(PROHIBITED);
        this.send(refusal.string("only this end opens channels").string("").bytes());
        break;
      }
      default:
        throw new Error(`message ${payload[0]}, which nobody asked for`);
    }
  }

  /** The next message that a channel has to send. */
  produce(): Uint8Array | undefined {
    return this.#channels.produce();
  }

  /** The connection is over. */
  stop(): void {
    this.#over = true;
    for (const { done } of this.#openings.values())
      done.reject(new SessionLost("the connection ended before the answer"));
    this.#openings.clear();
    this.#channels.stop();
  }

  #confirmed(reader: WireReader): void {
    const ours = reader.u32();
    const opening = this.#openings.get(ours);
    if (opening === undefined || opening.channel !== undefined)
      throw new Error(`an answer for channel ${ours}, which is not being opened`);
    const [theirs, window, packet] = [reader.u32(), reader.u32(), reader.u32()];
    if (packet < PACKET_MIN) throw new Error(`it takes packets of no more than ${packet} bytes`);
    const channel = new Channel(ours, theirs, window, Math.min(packet, this.bounds.packet), this.wake, true);
    opening.channel = channel;
    void channel.ended.then(() => this.#lost(ours, opening));
    this.#channels.add(channel);
    this.#ask(opening);
  }

  #refused(reader: WireReader): void {
    const ours = reader.u32();
    const opening = this.#openings.get(ours);
    if (opening === undefined || opening.channel !== undefined)
      throw new Error(`a refusal for channel ${ours}, which is not being opened`);
    reader.u32();
    this.#forget(ours, opening, new SessionRefused("session", safeText(reader.text(), REASON_MAX)));
  }

  #answered(ours: number, runs: boolean): void {
    const opening = this.#openings.get(ours);
    const channel = opening?.channel;
    if (opening?.command === undefined || channel === undefined)
      throw new Error(`an answer for channel ${ours}, which asked nothing`);
    this.#openings.delete(ours);
    if (runs) {
      opening.done.resolve(channel);
      this.#openSpare();
    } else {
      channel.close();
      opening.done.reject(new SessionRefused("command", "it does not run the command"));
    }
  }

  /** The channel was closed: if its command was not answered, it will not be. */
  #lost(ours: number, opening: Opening): void {
    if (this.#openings.get(ours) !== opening) return;
    this.#forget(ours, opening, new SessionRefused("command", "it closed the session without an answer"));
  }

  #request(reader: WireReader): void {
    const channel = this.#channels.get(reader.u32());
    const type = reader.text();
    const wantsReply = reader.u8() !== 0;
    if (type === "exit-status") channel.exitStatus = reader.u32();
    if (wantsReply) this.send(new WireWriter().u8(MESSAGE.channelFailure).u32(channel.theirs).bytes());
  }
}
