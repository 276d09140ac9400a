/**
 * The server's SSH endpoint: who a connection is comes from its key, and what it may do from who it is. An enrolment key
 * may `enrol`; a registered device may `tunnel` and `renew`, and gets a tunnel in WalT's original framing when it asks for no
 * command; everything else is refused with a message.
 */

import type { ServerChannel, Session } from "ssh2";
import { formatEntrypoint, type HostPort, parseHostPort } from "../address.ts";
import { MAX_COMMAND, parseCommand } from "../enrolment/commands.ts";
import { messageOf, WaltError } from "../errors.ts";
import type { Log } from "../log.ts";
import { VPN_USER } from "../ssh/keys/certificate.ts";
import type { KeyPair, PublicKey } from "../ssh/keys/ed25519.ts";
import { overflows, type Peer, SshListener } from "../ssh/server/listener.ts";
import { safeText } from "../text.ts";
import type { Device } from "./registry.ts";

export type Identity = { kind: "enrolment" } | { kind: "device"; device: Device };

/** The channel of one exec, with what its server needs. */
export interface Channel {
  readonly stream: ServerChannel;
  /** The connection below: to be corked around writes, and asked before writing more. Of a tunnel it is frozen, to be taken. */
  readonly peer: Peer;
  /** Resolves when the channel or its connection is gone. */
  readonly closed: Promise<void>;
  /**
   * The connection waits for a person's answer: until the function returned is called, it is not ended to make room for
   * another one with the same key. Whoever holds bounds how many are held.
   */
  hold(): () => void;
  write(text: string): void;
  /** Send the exit status and close. */
  end(status: number): void;
  /** Say why on its standard error, and close with status 1. */
  fail(message: string): void;
}

export interface EndpointOptions {
  listen: HostPort;
  hostKey: KeyPair;
  log: Log;
  /** Who holds this key; undefined for nobody we know. */
  identify(key: PublicKey): Identity | undefined;
  enrol(channel: Channel, from: string): Promise<void>;
  renew(device: Device, channel: Channel): void;
  tunnel(device: Device, channel: Channel, via: string, from: string): Promise<void>;
  /** A session without a command: a tunnel in the original framing. */
  originalTunnel(device: Device, channel: Channel, from: string): Promise<void>;
  /** ms of silence after which a connection is taken for dead. */
  silence?: number;
  /** Connections with the enrolment key at once; 256 unless told. */
  enrolling?: number;
}

const LIMITS = {
  /** Connections at once. */
  connections: 2048,
  /** Of these with the enrolment key, which everybody may have: when one more comes the oldest goes. */
  enrolling: 256,
  /** Of one device: tunnel, renewal, and what an unnoticed break left behind. The oldest goes. */
  device: 8,
  /** Sessions of one connection; a device needs one at a time. */
  sessions: 8,
} as const;

export class Endpoint {
  /** Connections by the key that they came with: a device's id, or the enrolment key. In the order they came. */
  readonly #peers = new Map<number | "enrolment", Set<Peer>>();
  /** Connections that are not ended to make room for others, while a channel of theirs holds them. */
  readonly #held = new Map<Peer, number>();

  private constructor(
    readonly options: EndpointOptions,
    readonly listener: SshListener,
  ) {}

  /** @throws WaltError when the address cannot be listened on. */
  static async start(options: EndpointOptions): Promise<Endpoint> {
    const listener = await SshListener.start({
      listen: options.listen,
      hostKey: options.hostKey,
      log: options.log,
      maxConnections: LIMITS.connections,
      ...(options.silence === undefined ? {} : { silence: options.silence }),
      authorise: (user, offer) => {
        if (user !== VPN_USER) return `the user is not ${VPN_USER}`;
        if (offer.certificate !== undefined) return "certificates are for the proxies";
        return options.identify(offer.key) === undefined ? "unknown or revoked key" : undefined;
      },
      serve: (peer) => endpoint.#welcome(peer),
    });
    const endpoint = new Endpoint(options, listener);
    return endpoint;
  }

  get address(): HostPort {
    return this.listener.address;
  }

  /** End all connections of a device, at once. */
  cutOff(deviceId: number): void {
    for (const peer of this.#peers.get(deviceId) ?? []) peer.end("the device was revoked");
  }

  async close(): Promise<void> {
    await this.listener.close();
  }

  #welcome(peer: Peer): void {
    // Asked again: the key may have been revoked between its proof and now.
    const identity = peer.offer === undefined ? undefined : this.options.identify(peer.offer.key);
    if (identity === undefined) {
      peer.end("unknown or revoked key");
      return;
    }
    const [key, most] =
      identity.kind === "device"
        ? ([identity.device.id, LIMITS.device] as const)
        : (["enrolment", this.options.enrolling ?? LIMITS.enrolling] as const);
    const peers = this.#peers.get(key) ?? new Set<Peer>();
    this.#peers.set(key, peers.add(peer));
    void peer.gone.then(() => {
      peers.delete(peer);
      if (peers.size === 0 && this.#peers.get(key) === peers) this.#peers.delete(key);
    });
    // One that ends may take its time: then it is ended again, and so are those behind it.
    const surplus = Math.max(0, peers.size - most);
    for (const old of [...peers].filter((one) => !this.#held.has(one)).slice(0, surplus)) {
      old.end(`more than ${most} connections with this key`);
    }
    this.#serve(peer, identity, parseHostPort(peer.address, 0).host);
  }

  /** @returns what releases it; a second call of that does nothing. */
  #hold(peer: Peer): () => void {
    this.#held.set(peer, (this.#held.get(peer) ?? 0) + 1);
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      const left = (this.#held.get(peer) ?? 1) - 1;
      if (left === 0) this.#held.delete(peer);
      else this.#held.set(peer, left);
    };
  }

  #serve(peer: Peer, identity: Identity, from: string): void {
    const connection = peer.client;
    const { log } = this.options;
    const who = identity.kind === "device" ? identity.device.node : "enrolment key";
    const refuse = (what: string): void => log.warn("refused", { who, from, what });
    let sessions = 0;
    connection.on("request", (_accept, reject, name) => {
      refuse(`global request ${safeText(name)}`);
      reject?.();
    });
    connection.on("tcpip", (_accept, reject, info) => {
      refuse(`forwarding to ${safeText(info.destIP)}:${info.destPort}`);
      reject();
    });
    connection.on("openssh.streamlocal", (_accept, reject) => {
      refuse("forwarding to a UNIX socket");
      reject();
    });
    connection.on("session", (accept, reject) => {
      if (sessions >= LIMITS.sessions) {
        refuse("one more session");
        return reject();
      }
      sessions++;
      const session = accept();
      session.on("close", () => sessions--);
      this.#session(session, peer, identity, from, refuse);
    });
  }

  #session(
    session: Session,
    peer: Peer,
    identity: Identity,
    from: string,
    refuse: (what: string) => void,
  ): void {
    const { options } = this;
    const open = (stream: ServerChannel): Channel => {
      stream.on("error", (error: Error) =>
        options.log.debug("channel error", { from, reason: messageOf(error) }),
      );
      const { promise: closed, resolve } = Promise.withResolvers<void>();
      stream.once("close", resolve);
      peer.client.once("close", resolve);
      peer.socket.on("data", () => {
        if (overflows(stream)) peer.end("it sends more than its window");
      });
      let ended = false;
      const end = (status: number): void => {
        if (ended) return;
        ended = true;
        peer.thaw();
        peer.cork();
        try {
          stream.exit(status);
          stream.end();
          stream.close();
        } catch {
          // the connection went away first
        }
      };
      const write = (text: string): void => {
        peer.cork();
        if (!ended && stream.writable) stream.write(text);
      };
      return {
        stream,
        peer,
        closed,
        hold: () => this.#hold(peer),
        write,
        end,
        fail: (message) => {
          peer.cork();
          if (!ended && stream.writable) stream.stderr.write(`walt: ${message}\r\n`);
          end(1);
        },
      };
    };
    const only = `this key may run: ${identity.kind === "device" ? "tunnel via=…, renew" : "enrol"}`;
    const serve = (channel: Channel, command: string, run: () => Promise<void>): void => {
      run().catch((error: unknown) => {
        options.log.warn("a command failed", { from, command: safeText(command), reason: messageOf(error) });
        channel.fail(error instanceof WaltError ? error.message : "internal error; the server's log has it");
      });
    };
    session.on("exec", (accept, _reject, info) => {
      const channel = open(accept());
      const text = info.command.length <= MAX_COMMAND ? info.command : "";
      serve(channel, text, async () => {
        const command = parseCommand(text);
        if (identity.kind === "enrolment" && command?.name === "enrol") return options.enrol(channel, from);
        if (identity.kind === "device" && command?.name === "renew")
          return options.renew(identity.device, channel);
        if (identity.kind === "device" && command?.name === "tunnel") {
          peer.freeze();
          return options.tunnel(identity.device, channel, formatEntrypoint(command.via), from);
        }
        refuse(`command ${safeText(text)}`);
        channel.fail(`the command ${JSON.stringify(safeText(text))} is not allowed; ${only}`);
      });
    });
    session.on("shell", (accept) => {
      const channel = open(accept());
      if (identity.kind === "device") {
        peer.freeze();
        serve(channel, "(none)", () => options.originalTunnel(identity.device, channel, from));
        return;
      }
      refuse("a shell");
      channel.fail(`there is no shell here; ${only}`);
    });
    session.on("subsystem", (accept, _reject, info) => {
      refuse(`subsystem ${safeText(info.name)}`);
      open(accept()).fail(`there are no subsystems here; ${only}`);
    });
    const no =
      (what: string) =>
      (_accept: unknown, reject?: () => void): void => {
        refuse(what);
        reject?.();
      };
    session.on("pty", no("a terminal"));
    session.on("x11", no("X11"));
    session.on("auth-agent", no("an agent"));
    // An environment is offered by many a client unasked: ignored without a word.
    session.on("env", (_accept, reject) => reject?.());
  }
}
