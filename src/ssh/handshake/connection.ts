/**
 * The server's part of ssh-connection (RFC 4254): several session channels on one connection, and a refusal
 * of everything else. It does no I/O. Every number that a client says is bounded here: packet size, window,
 * count of channels, count of what it is refused.
 */

import { safeText } from "../../text.ts";
import { WireReader, WireWriter } from "../keys/wire.ts";
import { Channel } from "./channel.ts";
import { ChannelTable } from "./channel-table.ts";
import { WINDOW } from "./connection-state.ts";
import { MESSAGE } from "./message-numbers.ts";
import { DATA_MAX, PACKET_MIN } from "./packet-cipher.ts";

/** What a client asked a channel for. A session without a command is a "shell". */
export type Request =
  | { kind: "exec"; command: string }
  | { kind: "shell" }
  | { kind: "subsystem"; name: string };

/** What came of a message. */
export type ConnectionEvent =
  | { kind: "request"; channel: Channel; request: Request }
  /** Something was refused; in words, with what the client said made safe. */
  | { kind: "refused"; what: string };

/** How much a client may ask for on one connection. */
export interface ChannelBounds {
  /** The least number of a channel here. */
  readonly first: number;
  /** Bytes of data in a packet, both ways. */
  readonly packet: number;
  /** Channels at once. */
  readonly channels: number;
  /** Channels in the connection's life: each can run a command. */
  readonly opened: number;
  /** Requests that are refused before the connection is ended. */
  readonly refusals: number;
}

/**
 * What an endpoint grants. A device has one channel at a time, and opens one; OpenSSH makes a handful of
 * requests that nobody grants.
 */
const BOUNDS: ChannelBounds = { first: 0, packet: DATA_MAX, channels: 8, opened: 64, refusals: 32 };
/** Reasons of SSH_MSG_CHANNEL_OPEN_FAILURE (RFC 4254 section 5.1). */
const PROHIBITED = 1;
const UNKNOWN_TYPE = 3;
const SHORTAGE = 4;
const KEEPALIVE = "keepalive@openssh.com";

/** What is refused on a channel, as the log calls it. */
const REFUSED: Readonly<Record<string, string>> = {
  "pty-req": "a terminal",
  "x11-req": "X11",
  "auth-agent-req@openssh.com": "an agent",
};

/** The client has asked too often: for what it may not have, or for sessions. */
export class TooMuchAsked extends Error {}

export class ServerChannels {
  readonly #channels: ChannelTable;
  #refusals = 0;
  #opened = 0;

  /**
   * @param send a message that answers the client's. @throws Error when it takes no answers.
   * @param wake called when a channel may have messages to send.
   * @param bounds how much the client may ask for.
   */
  constructor(
    readonly send: (payload: Uint8Array) => void,
    readonly wake: () => void,
    readonly bounds: ChannelBounds = BOUNDS,
  ) {
    this.#channels = new ChannelTable(wake, bounds.first);
  }

  /**
   * Take a message of the client's, 80 or above.
   * @throws Error when it is malformed or may not come; the connection is to be ended then.
   */
  take(payload: Uint8Array): ConnectionEvent | undefined {
    if (this.#channels.take(payload)) return undefined;
    const reader = new WireReader(payload.subarray(1));
    switch (payload[0]) {
      case MESSAGE.globalRequest:
        return this.#global(reader);
      case MESSAGE.channelOpen:
        return this.#open(reader);
      case MESSAGE.channelRequest:
        return this.#request(reader);
      case MESSAGE.requestSuccess:
      case MESSAGE.requestFailure:
        return undefined; // the answer to a question whether it is there
      default:
        throw new Error(`message ${payload[0]}, which nobody asked for`);
    }
  }

  /** Count one more thing that is refused. @throws TooMuchAsked */
  refuse(): void {
    if (++this.#refusals > this.bounds.refusals) {
      throw new TooMuchAsked(`more than ${this.bounds.refusals} requests that are refused`);
    }
  }

  /** The next message that a channel has to send. */
  produce(): Uint8Array | undefined {
    return this.#channels.produce();
  }

  /** Ask for a sign of life: whatever the answer is, it is one. */
  ask(): void {
    this.send(new WireWriter().u8(MESSAGE.globalRequest).string(KEEPALIVE).u8(1).bytes());
  }

  /** Why a channel cannot have the connection for itself, in words; undefined when it can. */
  notAlone(channel: Channel): string | undefined {
    if (!channel.isOpen) return "the channel has ended";
    if (this.#channels.size > 1) return "a tunnel wants a connection of its own, without other channels";
    return undefined;
  }

  /** Open a channel's window as far as a tunnel has it. */
  widen(channel: Channel): void {
    const message = channel.widen(WINDOW);
    if (message !== undefined) this.send(message);
  }

  /** The connection is over. */
  stop(): void {
    this.#channels.stop();
  }

  #global(reader: WireReader): ConnectionEvent | undefined {
    const name = reader.text();
    const wantsReply = reader.u8() !== 0;
    if (wantsReply) this.send(Buffer.of(MESSAGE.requestFailure));
    if (name === KEEPALIVE) return undefined;
    this.refuse();
    // OpenSSH's client says so when it starts its session: it is no request that could be granted.
    if (name === "no-more-sessions@openssh.com") return undefined;
    return { kind: "refused", what: `global request ${safeText(name)}` };
  }

  #open(reader: WireReader): ConnectionEvent | undefined {
    const type = reader.text();
    const theirs = reader.u32();
    const window = reader.u32();
    const packet = reader.u32();
    const refused = (what: string, reason: number, text: string): ConnectionEvent => {
      const failure = new WireWriter().u8(MESSAGE.openFailure).u32(theirs).u32(reason);
      this.send(failure.string(text).string("").bytes());
      this.refuse();
      return { kind: "refused", what };
    };
    if (type === "direct-tcpip") {
      const to = `${safeText(reader.text())}:${reader.u32()}`;
      return refused(`forwarding to ${to}`, PROHIBITED, "nothing is forwarded here");
    }
    if (type === "direct-streamlocal@openssh.com") {
      return refused("forwarding to a UNIX socket", PROHIBITED, "nothing is forwarded here");
    }
    if (type !== "session") return refused(`a channel ${safeText(type)}`, UNKNOWN_TYPE, "only sessions");
    reader.end();
    const { channels, opened } = this.bounds;
    if (this.#channels.size >= channels) {
      return refused("one more session", SHORTAGE, `a connection has ${channels} sessions at most`);
    }
    if (packet < PACKET_MIN) {
      const text = `packets of ${packet} bytes are too small: ${PACKET_MIN} are the least`;
      return refused(`a session with ${text}`, PROHIBITED, text);
    }
    if (++this.#opened > opened) throw new TooMuchAsked(`more than ${opened} sessions`);
    const ours = this.#channels.free();
    const channel = new Channel(ours, theirs, window, Math.min(packet, this.bounds.packet), this.wake);
    this.#channels.add(channel);
    const confirmation = new WireWriter().u8(MESSAGE.openConfirmation).u32(theirs).u32(ours);
    this.send(confirmation.u32(channel.windows.ourWindow).u32(this.bounds.packet).bytes());
    return undefined;
  }

  #request(reader: WireReader): ConnectionEvent | undefined {
    const channel = this.#channels.get(reader.u32());
    const type = reader.text();
    const wantsReply = reader.u8() !== 0;
    const request = channel.isOpen && !channel.begun ? requestOf(type, reader) : undefined;
    if (wantsReply && !channel.oursClosed) {
      const answer = request === undefined ? MESSAGE.channelFailure : MESSAGE.channelSuccess;
      this.send(new WireWriter().u8(answer).u32(channel.theirs).bytes());
    }
    if (request !== undefined) {
      channel.begin();
      return { kind: "request", channel, request };
    }
    // Many a client offers its environment unasked: that is ignored without a word.
    if (type === "env") return undefined;
    this.refuse();
    return { kind: "refused", what: REFUSED[type] ?? `channel request ${safeText(type)}` };
  }
}

function requestOf(type: string, reader: WireReader): Request | undefined {
  switch (type) {
    case "exec":
      return { kind: "exec", command: reader.string().toString() };
    case "shell":
      return { kind: "shell" };
    case "subsystem":
      return { kind: "subsystem", name: reader.string().toString() };
    default:
      return undefined;
  }
}
