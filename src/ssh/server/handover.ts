/**
 * Taking a connection away from ssh2's server, once it has authenticated a client and opened a channel: from then on its packets are opened and
 * sealed elsewhere (channel-stream.ts). ssh2 offers no way to do that; what is used of its inside is all here, and looked at before use.
 */

import type { Socket } from "node:net";
import type { Connection, ServerChannel } from "ssh2";
import { WaltError } from "../../errors.ts";
import { release } from "../../linux/fd-socket.ts";
import type { ConnectionState } from "../handshake/connection-state.ts";
import { IV_LENGTH, KEY_LENGTH, PACKET_MIN } from "../handshake/packet-cipher.ts";

/** ssh2's Protocol (lib/protocol/Protocol.js), as far as it is used. */
interface Protocol {
  _onPayload(payload: Uint8Array): unknown;
  _decipher: Decipher;
  _cipher: { _encKey: Uint8Array; _encIV: Uint8Array };
  /** Set while keys are exchanged. */
  _kexinit: unknown;
  _kex: { sessionID: Uint8Array };
  /** First lines of both ends. */
  _identRaw: Uint8Array;
  _remoteIdentRaw: Uint8Array;
}
interface Decipher {
  _decipherKey: Uint8Array;
  _decipherIV: Uint8Array;
  decrypt(data: Uint8Array, from: number, to: number): number | undefined;
  free(): void;
}
/** ssh2's Channel (lib/Channel.js), as far as it is used. */
interface Channel {
  incoming: { id: number; window: number };
  outgoing: { id: number; window: number; packetSize: number; state: string };
}

/** Bytes that may come while it is frozen: the socket is paused, so that it is what was read already, 512 KB at most. */
const UNREAD_MAX = 1 << 20;
/** ms for what ssh2 has written to leave. */
const PATIENCE = 10_000;

export class Handover {
  readonly #protocol: Protocol;
  #decipher: Decipher | undefined;
  readonly #unread: Uint8Array[] = [];
  #unreadBytes = 0;

  /** Call before keys are exchanged: in ssh2's `connection` event. */
  constructor(
    connection: Connection,
    readonly socket: Socket,
  ) {
    this.#protocol = (connection as unknown as { _protocol: Protocol })._protocol;
    const handle = this.#protocol._onPayload;
    // A handler that returns false makes ssh2 go on with the next packet from the beginning, so with the decipher of that moment.
    this.#protocol._onPayload = (payload) => {
      const result = handle(payload);
      return this.frozen ? false : result;
    };
  }

  get frozen(): boolean {
    return this.#decipher !== undefined;
  }

  /** Call while ssh2 handles a packet: what comes behind it is kept as it is, and ssh2 hears nothing more. */
  freeze(): void {
    if (this.frozen) return;
    const protocol = this.#protocol;
    this.#decipher = protocol._decipher;
    this.#unreadBytes = 0;
    const keep: Decipher = {
      _decipherKey: new Uint8Array(),
      _decipherIV: new Uint8Array(),
      decrypt: (data, from, to) => {
        this.#unread.push(data.slice(from, to));
        this.#unreadBytes += to - from;
        if (this.#unreadBytes > UNREAD_MAX) this.socket.destroy();
        return undefined; // all of it is taken
      },
      free: () => {},
    };
    protocol._decipher = keep;
    this.socket.pause();
  }

  /** Let ssh2 hear again, first what was kept. */
  thaw(): void {
    if (this.#decipher === undefined) return;
    this.#protocol._decipher = this.#decipher;
    this.#decipher = undefined;
    for (const bytes of this.#unread.splice(0)) this.socket.emit("data", Buffer.from(bytes));
    // There may have been another command among it, for which it is frozen again.
    if (!this.frozen) this.socket.resume();
  }

  /**
   * Take the connection, which must be frozen. ssh2 sees its socket closed then; the connection itself stays open, as the file
   * descriptor that is returned.
   * @throws WaltError when it has ended meanwhile, or cannot be taken as it is.
   */
  async take(channel: ServerChannel, hostSeed: Uint8Array): Promise<{ fd: number; state: ConnectionState }> {
    await this.#written();
    const { incoming, outgoing } = channel as unknown as Channel;
    const protocol = this.#protocol;
    const decipher = this.#decipher;
    if (decipher === undefined || this.socket.destroyed || outgoing.state !== "open") {
      throw new WaltError("the connection ended before its tunnel began");
    }
    if (this.socket.writableLength > 0) throw new WaltError("it takes nothing of what it is sent");
    if (protocol._kexinit !== undefined) throw new WaltError("it wants new keys before its tunnel began");
    if (outgoing.packetSize < PACKET_MIN) {
      throw new WaltError(`it takes packets of no more than ${outgoing.packetSize} bytes`, {
        hint: `${PACKET_MIN} are the least.`,
      });
    }
    const known = {
      session: {
        id: bytesOf(protocol._kex.sessionID),
        clientVersion: bytesOf(protocol._remoteIdentRaw),
        serverVersion: bytesOf(protocol._identRaw),
        role: { end: "server" as const, hostSeed },
      },
      incoming: keysOf(decipher._decipherKey, decipher._decipherIV),
      outgoing: keysOf(protocol._cipher._encKey, protocol._cipher._encIV),
      ourChannel: numberOf(incoming.id),
      theirChannel: numberOf(outgoing.id),
      ourWindow: numberOf(incoming.window),
      theirWindow: numberOf(outgoing.window),
      theirPacket: numberOf(outgoing.packetSize),
    };
    // What Bun has read and not shown yet comes to `decrypt` of freeze().
    const fd = release(this.socket);
    const unread = Buffer.concat(this.#unread.splice(0));
    this.socket.destroy();
    return { fd, state: { ...known, unread } };
  }

  /** Everything that ssh2 has written is on its way. */
  async #written(): Promise<void> {
    const { socket } = this;
    const late = performance.now() + PATIENCE;
    while (socket.writableLength > 0 && !socket.destroyed && performance.now() < late) {
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }
}

/** Of another version of ssh2 there may be something else. */
function bytesOf(value: unknown, length?: number): Uint8Array {
  if (value instanceof Uint8Array && (length === undefined || value.length === length)) {
    return Uint8Array.from(value);
  }
  throw new TypeError("this version of ssh2 keeps its state elsewhere");
}

/** ssh2 lets a client's window grow beyond what RFC 4254 section 5.2 allows. */
function numberOf(value: unknown): number {
  if (typeof value === "number") return Math.min(value, 0xffff_ffff);
  throw new TypeError("this version of ssh2 keeps its state elsewhere");
}

function keysOf(key: unknown, iv: unknown): { key: Uint8Array; iv: Uint8Array } {
  return { key: bytesOf(key, KEY_LENGTH), iv: bytesOf(iv, IV_LENGTH) };
}
