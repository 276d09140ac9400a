/**
 * The server's SSH endpoint. The key of a connection identifies it and decides what it may run: the enrolment
 * key `enrol`, a device key `tunnel`, `lane` and `renew`, or a tunnel in the original framing by a session without a
 * command. Everything else is refused with a message.
 */

import { formatEntrypoint, type HostPort } from "../address.ts";
import { parseCommand } from "../enrolment/commands.ts";
import type { Log } from "../log.ts";
import { sourceOf } from "../source.ts";
import type { Channel } from "../ssh/handshake/channel.ts";
import type { Request } from "../ssh/handshake/connection.ts";
import { VPN_USER } from "../ssh/keys/certificate.ts";
import type { KeyPair, PublicKey } from "../ssh/keys/ed25519.ts";
import { SshListener } from "../ssh/server/listener.ts";
import type { LogLimiter } from "../ssh/server/log-limiter.ts";
import type { Owner, Peer, Released } from "../ssh/server/peer.ts";
import { explained, reasonOf } from "../system-error.ts";
import { safeText } from "../text.ts";
import type { Device } from "./registry.ts";

export type Identity = { kind: "enrolment" } | { kind: "device"; device: Device };

/**
 * A device's request for its tunnel. Nothing more is read from its connection until the request is granted or
 * refused.
 */
export interface TunnelRequest {
  /**
   * Take the connection, with the channel that goes on as a tunnel.
   * @param owner has it from now on.
   * @throws WaltError when it has ended meanwhile, or cannot be taken: to be told by `refuse`.
   */
  release(owner: Owner): Promise<Released>;
  /** Say why there is no tunnel. */
  refuse(message: string): void;
}

export interface EndpointOptions {
  listen: HostPort;
  /** By which the server proves itself, asked for each connection. */
  hostKey(): KeyPair;
  log: Log;
  /** Limits the log lines that peers cause. */
  logLimiter: LogLimiter;
  /** Who holds this key now; undefined for an unknown key. Called for each login and each command. */
  identify(key: PublicKey): Identity | undefined;
  /**
   * @param keep protects the connection from being ended to make room for another one with the same key,
   *   until the function that it returns is called. The caller limits how many connections are protected.
   */
  enrol(channel: Channel, from: string, keep: () => () => void): Promise<void>;
  renew(device: Device, channel: Channel): Promise<void>;
  tunnel(device: Device, request: TunnelRequest, via: string, from: string): Promise<void>;
  /** A further lane of the device's tunnel that has this name. */
  lane(device: Device, request: TunnelRequest, name: string, from: string): Promise<void>;
  /** A session without a command: a tunnel in the original framing. */
  originalTunnel(device: Device, request: TunnelRequest, from: string): Promise<void>;
  /** ms of silence after which a connection is taken for dead. */
  silence?: number;
  /** Connections with the enrolment key at once; 256 by default. */
  enrolling?: number;
}

const LIMITS = {
  /** Connections at once. */
  connections: 2048,
  /**
   * Connections with the enrolment key, which is public. At the limit the oldest is ended of the source that
   * has most.
   */
  enrolling: 256,
  /**
   * Connections of one device: the lanes of its tunnel, renewal, and broken ones that were not noticed yet. At
   * the limit the oldest is ended.
   */
  device: 12,
} as const;

export class Endpoint {
  /** Connections by their key: a device's id, or the enrolment key. The oldest is first. */
  readonly #peers = new Map<number | "enrolment", Set<Peer>>();
  /** Connections that are protected, and how often `keep` was called for each. */
  readonly #kept = new Map<Peer, number>();

  private constructor(
    readonly options: EndpointOptions,
    readonly listener: SshListener,
  ) {}

  /** @throws WaltError when the endpoint cannot listen on the address. */
  static async start(options: EndpointOptions): Promise<Endpoint> {
    const listener = await SshListener.start({
      listen: options.listen,
      hostKey: () => options.hostKey(),
      log: options.log,
      logLimiter: options.logLimiter,
      maxConnections: LIMITS.connections,
      ...(options.silence === undefined ? {} : { silence: options.silence }),
      authorise: (user, offer) => {
        if (user !== VPN_USER) return `the user is not ${VPN_USER}`;
        if (offer.certificate !== undefined) return "certificates are for the proxies";
        return options.identify(offer.key) === undefined ? "unknown or revoked key" : undefined;
      },
      entered: (peer) => endpoint.#welcome(peer),
      request: (peer, channel, request) => endpoint.#serve(peer, channel, request),
    });
    const endpoint = new Endpoint(options, listener);
    return endpoint;
  }

  get address(): HostPort {
    return this.listener.address;
  }

  /**
   * End all connections of a device, in this turn of the event loop. Tunnels are not ended here, because they
   * still send a CLOSE.
   */
  stopConnections(deviceId: number): void {
    for (const peer of [...(this.#peers.get(deviceId) ?? [])]) {
      if (!peer.isReleased) peer.stop("the device was revoked");
    }
  }

  async stop(): Promise<void> {
    await this.listener.stop();
  }

  #welcome(peer: Peer): void {
    const identity = this.#identityOf(peer);
    if (identity === undefined) return;
    const [key, most] =
      identity.kind === "device"
        ? ([identity.device.id, LIMITS.device] as const)
        : (["enrolment", this.options.enrolling ?? LIMITS.enrolling] as const);
    peer.who = identity.kind === "device" ? identity.device.node : "enrolment key";
    const peers = this.#peers.get(key) ?? new Set<Peer>();
    this.#peers.set(key, peers.add(peer));
    void peer.ended.then(() => {
      peers.delete(peer);
      if (peers.size === 0 && this.#peers.get(key) === peers) this.#peers.delete(key);
    });
    const left = [...peers].filter((one) => !this.#kept.has(one));
    for (let surplus = peers.size - most; surplus > 0 && left.length > 0; surplus--) {
      const [old] = left.splice(oldestOfMost(left), 1);
      old?.stop(`more than ${most} connections with this key`);
    }
  }

  /** Protect a connection until the returned function is called. */
  #keep(peer: Peer): () => void {
    this.#kept.set(peer, (this.#kept.get(peer) ?? 0) + 1);
    let kept = true;
    return () => {
      if (!kept) return;
      kept = false;
      const left = (this.#kept.get(peer) ?? 1) - 1;
      if (left === 0) this.#kept.delete(peer);
      else this.#kept.set(peer, left);
    };
  }

  /**
   * Who a connection is now. If its key was revoked since its last command, the connection is ended.
   */
  #identityOf(peer: Peer): Identity | undefined {
    const identity = peer.offer === undefined ? undefined : this.options.identify(peer.offer.key);
    if (identity === undefined) peer.stop("unknown or revoked key");
    return identity;
  }

  #serve(peer: Peer, channel: Channel, request: Request): void {
    const identity = this.#identityOf(peer);
    if (identity === undefined) return;
    const from = peer.from.host;
    const command = request.kind === "exec" ? request.command : "";
    this.#run(peer, channel, request, identity, from).catch((error: unknown) => {
      peer.note("a command failed", {
        event: "command-failed",
        from,
        command: safeText(command),
        reason: reasonOf(error),
      });
      const words = explained(error)?.message;
      channel.exit(1, words ?? "internal error; the server's log has it");
    });
  }

  async #run(
    peer: Peer,
    channel: Channel,
    request: Request,
    identity: Identity,
    from: string,
  ): Promise<void> {
    const { options } = this;
    const refuse = (what: string, message: string): void => {
      const may = identity.kind === "device" ? "tunnel via=…, lane tunnel=…, renew" : "enrol";
      peer.note("refused", { event: "request-refused", who: peer.who, from, what });
      channel.exit(1, `${message}; this key may run: ${may}`);
    };
    if (request.kind === "subsystem") {
      refuse(`subsystem ${safeText(request.name)}`, "there are no subsystems here");
    } else if (request.kind === "shell") {
      if (identity.kind !== "device") return refuse("a shell", "there is no shell here");
      await options.originalTunnel(identity.device, tunnelRequest(peer, channel), from);
    } else {
      const command = parseCommand(request.command);
      if (identity.kind === "enrolment" && command?.name === "enrol") {
        return options.enrol(channel, from, () => this.#keep(peer));
      }
      if (identity.kind === "device" && command?.name === "renew") {
        return options.renew(identity.device, channel);
      }
      if (identity.kind === "device" && command?.name === "tunnel") {
        const via = formatEntrypoint(command.via);
        return options.tunnel(identity.device, tunnelRequest(peer, channel), via, from);
      }
      if (identity.kind === "device" && command?.name === "lane") {
        return options.lane(identity.device, tunnelRequest(peer, channel), command.tunnel, from);
      }
      const said = safeText(request.command);
      refuse(`command ${said}`, `the command ${JSON.stringify(said)} is not allowed`);
    }
  }
}

/** The place of the oldest connection among those of the source that has most. @param peers the oldest first. */
function oldestOfMost(peers: readonly Peer[]): number {
  const sources = peers.map((peer) => sourceOf(peer.from.host));
  const counts = new Map<string, number>();
  for (const source of sources) counts.set(source, (counts.get(source) ?? 0) + 1);
  const most = Math.max(...counts.values());
  return sources.findIndex((source) => counts.get(source) === most);
}

/** Hold the connection until it is released or refused. */
function tunnelRequest(peer: Peer, channel: Channel): TunnelRequest {
  peer.hold();
  return {
    release: (owner) => peer.release(channel, owner),
    refuse: (message) => {
      channel.exit(1, message);
      peer.resume();
    },
  };
}
