/** A server's connection without a socket, and a client by hand at its other end. */

import type { Channel } from "../../../src/ssh/handshake/channel.ts";
import { ServerConnection, type ServerEvent } from "../../../src/ssh/handshake/server.ts";
import { generateKey, sameKey, seedOf } from "../../../src/ssh/keys/ed25519.ts";
import { Speaker, say } from "./speaker.ts";

export const hostKey = generateKey("host");
export const clientKey = generateKey("client");
const hostSeed = seedOf(hostKey);

/** A server that lets `clientKey` in. */
export function serverConnection(wake = (): void => {}): ServerConnection {
  return new ServerConnection({
    hostSeed,
    authorise: (user, { key, certificate }) => {
      if (user !== "walt-vpn") return "another user";
      if (certificate !== undefined) return "certificates are for the proxies";
      return sameKey(key, clientKey.publicKey) ? undefined : "an unknown key";
    },
    wake,
  });
}

/**
 * A client's wire to a server in memory.
 * @param push takes what the client says
 * @param said what the server says to all that was pushed; nothing: the client waits on
 */
export function playedWire(push: (bytes: Uint8Array) => void, said: () => Uint8Array) {
  const waiting: PromiseWithResolvers<Uint8Array>[] = [];
  const serve = (): void => {
    const output = said();
    if (output.length > 0) waiting.shift()?.resolve(output);
  };
  return {
    read: () => {
      const next = Promise.withResolvers<Uint8Array>();
      waiting.push(next);
      queueMicrotask(serve);
      return next.promise;
    },
    write: (bytes: Uint8Array) => push(Uint8Array.from(bytes)),
  };
}

export class Pair {
  readonly server: ServerConnection;
  readonly client = new Speaker(hostKey.publicKey);
  readonly events: ServerEvent[] = [];
  /** Bytes that the server has sent. */
  sent = 0;
  wakes = 0;
  /** The client takes nothing of what it is sent. */
  deaf = false;

  constructor() {
    this.server = serverConnection(() => this.wakes++);
  }

  /** Bytes go both ways until neither end has any left. */
  move(): this {
    for (let quiet = false; !quiet; ) {
      const up = this.client.output();
      if (up.length > 0) this.server.push(up);
      const down = this.#serve();
      if (!this.deaf) this.client.hear(down);
      quiet = up.length === 0 && down.length === 0 && this.client.packets.waiting === 0;
    }
    return this;
  }

  /** Bytes to the server as they are. */
  raw(bytes: Uint8Array): this {
    this.server.push(bytes);
    this.client.hear(this.#serve());
    return this;
  }

  #serve(): Uint8Array {
    const parts: Uint8Array[] = [];
    for (;;) {
      this.server.turn();
      const { stalled } = this.server;
      const event = this.server.next();
      if (event !== undefined) this.events.push(event);
      const output = this.server.output();
      parts.push(output);
      this.sent += output.length;
      if (event === undefined && output.length === 0 && !stalled && !this.server.tired)
        return Buffer.concat(parts);
    }
  }

  /** Up to keys. */
  keys(): this {
    this.move();
    this.client.take();
    return this;
  }

  /** Up to the service of authentication. */
  service(): this {
    this.keys().client.send(say.service());
    this.move().client.take();
    return this;
  }

  /** Up to a client that is in. */
  login(): this {
    this.service().client.send(say.proof(clientKey, this.client.id));
    this.move().client.take();
    this.events.splice(0);
    return this;
  }

  /**
   * A channel with a command, as the server's side has it. Its number is that of the count of channels
   * before.
   */
  exec(command = "enrol", window = 1 << 21, packet = 32_768, number = 0): Channel {
    this.client.send(say.open(7 + number, window, packet), say.exec(number, command));
    this.move();
    const event = this.events.splice(0).find((one) => one.kind === "request");
    if (event?.kind !== "request") throw new Error("no command came");
    return event.channel;
  }

  /** Why the server has ended the connection; undefined while it has not. */
  get end(): string | undefined {
    const event = this.events.find((one) => one.kind === "ended");
    return event?.kind === "ended" ? `${event.end.kind}: ${event.end.text}` : undefined;
  }

  send(...payloads: Uint8Array[]): this {
    this.client.send(...payloads);
    return this.move();
  }
}
