/**
 * A guard in front of ssh2's server, which trusts every number that a client says. It sees each message
 * before ssh2 does, ends connections that break the rules, and manages the windows of the channels itself.
 */

import type { Connection, ServerChannel } from "ssh2";
import { messageOf, WaltError } from "../errors.ts";
import { FIRST_OF_CONNECTION, MESSAGE } from "../ssh/handshake/message-numbers.ts";
import { TokenBucket } from "../token-bucket.ts";
import { ReceiveWindow } from "./receive-window.ts";
import { type Inside, insideOf, keptAs, numberOf } from "./ssh2-inside.ts";

/**
 * Bytes. A client must take packets of at least this size. ssh2 cuts its data into pieces of the size that
 * the client says, and a size of 0 makes it loop for ever. RFC 4253 section 6.1 has everybody take 32 768.
 */
const PACKET_SIZE_MIN = 4096;
/** The greatest window that RFC 4254 section 5.2 allows, in bytes. */
const WINDOW_MAX = 2 ** 32 - 1;
/**
 * Bytes that the client may send ahead in a session, which gives back what it gets: a device sends short
 * lines.
 */
const SESSION_WINDOW = 16 * 1024;
/**
 * Bytes that the client may send ahead on all forwarded channels together. Each gets half of what is left, so
 * that the first, usually the only one, gets 1 MiB: enough for 80 Mbit/s over a way of 100 ms.
 */
const FORWARDED_WINDOWS = 2 * 1024 * 1024;
/** Requests of a client that are refused before its connection is ended. */
const REFUSED_MAX = 32;
/** How often a client may ask for anything: channels, keepalives, new keys. A device does so every 5 s. */
const REQUESTS = { burst: 64, perSecond: 1 };
/** Messages that a client may send (RFC 4253 section 12, RFC 4252 section 6, RFC 4254 section 9). */
const ALLOWED: ReadonlySet<number> = new Set<number>([
  ...[MESSAGE.disconnect, MESSAGE.ignore, MESSAGE.unimplemented, MESSAGE.debug],
  ...[MESSAGE.serviceRequest, MESSAGE.extInfo, MESSAGE.kexInit, MESSAGE.authRequest],
  ...[MESSAGE.globalRequest, MESSAGE.requestSuccess, MESSAGE.requestFailure, MESSAGE.channelOpen],
  ...[MESSAGE.windowAdjust, MESSAGE.data, MESSAGE.extendedData, MESSAGE.eof, MESSAGE.close],
  MESSAGE.channelRequest,
]);
/**
 * What a handler answers to make ssh2 drop the rest of the bytes that it was given: Protocol.parse counts up
 * to it.
 */
const DROP_THE_REST = Number.POSITIVE_INFINITY;
/**
 * Reason of a refused channel: the client is not to blame (RFC 4254 section 5.1, SSH_OPEN_CONNECT_FAILED).
 */
const CONNECT_FAILED = 2;

export class Ssh2Guard {
  readonly #inside: Inside;
  /** Of the channels that the client has not closed, by our number. */
  readonly #windows = new Map<number, ReceiveWindow>();
  /** Bytes of window that no forwarded channel has. */
  #unused = FORWARDED_WINDOWS;
  #refused = 0;
  #over = false;
  readonly #requests = new TokenBucket(REQUESTS, performance.now());
  /** All windows in use: also of channels that are closed, while what came on them waits to be passed on. */
  readonly #inUse = new Set<ReceiveWindow>();

  /**
   * Call it before keys are exchanged: in ssh2's `connection` event. `violated` hears once why the connection
   * must be ended; ssh2 gets nothing of that message, or of what follows it.
   */
  constructor(
    client: Connection,
    private readonly violated: (reason: string) => void,
  ) {
    this.#inside = insideOf(client);
    client.once("close", () => {
      this.#over = true;
    });
    const protocol = this.#inside._protocol;
    const handle = protocol._onPayload;
    protocol._onPayload = (payload) => {
      let result: unknown;
      if (!this.#over) this.#pass(payload, () => (result = handle(payload)));
      return this.#over ? DROP_THE_REST : result;
    };
    const confirm = protocol.channelOpenConfirm.bind(protocol);
    protocol.channelOpenConfirm = (theirs, ours, _window, packet) => {
      confirm(theirs, ours, this.#openWindow(ours), packet);
    };
    const fail = protocol.channelOpenFail.bind(protocol);
    protocol.channelOpenFail = (theirs, reason, text) => {
      fail(theirs, reason, text);
      if (reason !== CONNECT_FAILED) this.refused();
    };
  }

  /** Bytes that came on channels and were not passed on yet. */
  get held(): number {
    let sum = 0;
    for (const window of this.#inUse) sum += window.held;
    return sum;
  }

  /** Whether keys are exchanged: what is sent meanwhile waits in memory, and nothing bounds it. */
  get exchangingKeys(): boolean {
    return this.#inside._protocol._kexinit !== undefined;
  }

  /** The window of a channel that ssh2 has just opened. Release it once nothing is left of the channel. */
  window(channel: ServerChannel): ReceiveWindow {
    const window = this.#windows.get(numberOf(channel));
    if (window === undefined) throw new Error("a channel without a window");
    return window;
  }

  /** Something that the client asked for was refused. It may not go on like that for ever. */
  refused(): void {
    if (++this.#refused > REFUSED_MAX) this.#violate(`more than ${REFUSED_MAX} of its requests were refused`);
  }

  #violate(reason: string): void {
    if (this.#over) return;
    this.#over = true;
    this.violated(reason);
  }

  /** Check a message, and if it is allowed, have it handled. */
  #pass(payload: Uint8Array, handle: () => void): void {
    try {
      this.#check(payload);
    } catch (error) {
      this.#violate(messageOf(error));
      return;
    }
    const type = payload[0];
    if (type === MESSAGE.channelRequest) {
      const before = this.#kept(payload)?.running;
      handle();
      // Only what starts a session was granted.
      if (before !== false || this.#kept(payload)?.running !== true) this.refused();
    } else if (type === MESSAGE.close) {
      const id = u32(payload, 1);
      const idle = keptAs(this.#inside._chanMgr.get(id))?.running === false;
      handle();
      this.#closed(id, idle);
    } else {
      handle();
    }
  }

  /** @throws WaltError when a message says what no honest client says. */
  #check(payload: Uint8Array): void {
    const type = payload[0];
    if (type === undefined) return; // ssh2 skips it
    if (!ALLOWED.has(type)) throw new WaltError(`it sends a message ${type}, which no client sends`);
    if (type >= FIRST_OF_CONNECTION && !this.#inside.authenticated) {
      throw new WaltError(`it sends a message ${type} before it has authenticated`);
    }
    switch (type) {
      case MESSAGE.channelOpen: {
        this.#ask();
        // string: type of the channel; uint32: the client's number for it, its window (any is allowed), its
        // packet size.
        const size = u32(payload, 1 + 4 + u32(payload, 1) + 4 + 4);
        if (size < PACKET_SIZE_MIN) {
          throw new WaltError(`it takes packets of ${size} bytes only; ${PACKET_SIZE_MIN} are the least`);
        }
        return;
      }
      case MESSAGE.kexInit:
      case MESSAGE.globalRequest:
        this.#ask();
        return;
      case MESSAGE.windowAdjust: {
        const window = this.#kept(payload)?.halves.outgoing.window ?? 0;
        if (window + u32(payload, 5) > WINDOW_MAX) {
          throw new WaltError("it opens its window beyond 2^32 - 1 bytes");
        }
        return;
      }
      case MESSAGE.data:
      case MESSAGE.extendedData: {
        const length = u32(payload, type === MESSAGE.data ? 5 : 9);
        const window = this.#windows.get(u32(payload, 1));
        if (window === undefined) throw new WaltError("it sends data on a channel that is not open");
        if (!window.received(length)) throw new WaltError("it sends more than its window");
        return;
      }
      case MESSAGE.eof:
        this.#windows.get(u32(payload, 1))?.inputEnds();
        return;
      case MESSAGE.close:
      case MESSAGE.channelRequest:
        this.#kept(payload); // its number must be there, and not too high for ssh2
    }
  }

  /** @throws WaltError when the client asks for things too often. */
  #ask(): void {
    if (!this.#requests.take(performance.now())) throw new WaltError("it asks for something too often");
  }

  /**
   * What ssh2 keeps under the number that a message begins with. @throws WaltError when there can be no such
   * number.
   */
  #kept(payload: Uint8Array): ReturnType<typeof keptAs> {
    const id = u32(payload, 1);
    // ssh2 throws at the highest number; none was given out that is near it.
    if (id === WINDOW_MAX) throw new WaltError(`it speaks of a channel ${id}`);
    return keptAs(this.#inside._chanMgr.get(id));
  }

  /** The client may send on a new channel; how many bytes ahead. */
  #openWindow(ours: number): number {
    const kept = keptAs(this.#inside._chanMgr.get(ours));
    if (kept === undefined) throw new Error("ssh2 opens a channel that it does not keep");
    const { halves, session } = kept;
    // With this, ssh2 never opens the window itself: it would make it 2 MiB, and open it for bytes that still
    // wait.
    halves.incoming.window = Number.POSITIVE_INFINITY;
    const size = session ? SESSION_WINDOW : Math.floor(this.#unused / 2);
    if (!session) this.#unused -= size;
    const window = new ReceiveWindow(
      size,
      (bytes) => {
        const { id, state } = halves.outgoing;
        if (this.#over || (state !== "open" && state !== "eof")) return;
        this.#inside._protocol.channelWindowAdjust(id, bytes);
      },
      () => {
        this.#inUse.delete(window);
        if (!session) this.#unused += size;
      },
    );
    this.#windows.set(ours, window);
    this.#inUse.add(window);
    return size;
  }

  /**
   * The client has closed a channel. `idle`: it is a session in which no command ran, which ssh2 does not
   * forget.
   */
  #closed(id: number, idle: boolean): void {
    const window = this.#windows.get(id);
    this.#windows.delete(id);
    if (!idle) return;
    window?.free();
    const kept = keptAs(this.#inside._chanMgr.get(id));
    if (kept !== undefined) this.#inside._protocol.channelClose(kept.halves.outgoing.id);
    this.#inside._chanMgr.remove(id);
  }
}

/** @throws WaltError when the message ends before. */
function u32(payload: Uint8Array, at: number): number {
  if (at + 4 > payload.length) throw new WaltError(`it sends a message ${payload[0]} that is too short`);
  return new DataView(payload.buffer, payload.byteOffset + at, 4).getUint32(0);
}
