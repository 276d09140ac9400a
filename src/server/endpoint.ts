/**
 * The server's SSH endpoint: who a connection is comes from its key, and what it may do from who it is. An enrolment key
 * may `enrol`; a registered device may `tunnel` and `renew`; everything else is refused with a message.
 */

import type { Socket } from "node:net";
import ssh2, { type AuthContext, type Connection, type ServerChannel, type Session } from "ssh2";
import { messageOf, WaltError } from "../errors.ts";
import type { Log } from "../log.ts";
import { formatHostPort, type HostPort, parseEntrypoint } from "../ssh/address.ts";
import { VPN_USER } from "../ssh/certificate.ts";
import { encodePrivateKey, fingerprint, type KeyPair, type PublicKey } from "../ssh/keys.ts";
import { SERVER_ALGORITHMS, verifyOffer } from "../ssh/serve.ts";
import { safeText } from "../text.ts";
import { VERSION } from "../version.ts";
import type { Device } from "./registry.ts";

export type Identity = { kind: "enrolment" } | { kind: "device"; device: Device };

/** The channel of one exec, with what its server needs. */
export interface Channel {
  readonly stream: ServerChannel;
  /** The connection's socket: ssh2 makes several small writes per packet, so writers cork it around theirs. */
  readonly socket: { cork(): void; uncork(): void };
  /** Resolves when the channel or its connection is gone. */
  readonly closed: Promise<void>;
  write(text: string): void;
  /** Send the exit status and close. */
  end(status: number): void;
  /** Say why on its standard error, and close with status 1. */
  fail(message: string): void;
}

export interface EndpointOptions {
  listen: HostPort | undefined;
  hostKey: KeyPair;
  log: Log;
  /** Who holds this key; undefined for nobody we know. */
  identify(key: PublicKey): Identity | undefined;
  enrol(channel: Channel, from: string): Promise<void>;
  renew(device: Device, channel: Channel): void;
  tunnel(device: Device, channel: Channel, via: string, from: string): Promise<void>;
}

const LIMITS = {
  /** Connections at once, and those of them that have not said who they are. */
  connections: 2048,
  strangers: 128,
  /** ms to authenticate. */
  grace: 20_000,
  /** Keys that one connection may offer. */
  offers: 6,
  /** Sessions of one connection; a device needs one at a time. */
  sessions: 8,
} as const;

/** ssh2 keeps its socket to itself; corking it is what makes it fast (docs/architecture.md). */
function socketOf(connection: Connection): Socket | undefined {
  return (connection as unknown as { _sock?: Socket })._sock;
}

export class Endpoint {
  readonly #live = new Set<Connection>();
  readonly #devices = new Map<number, Set<Connection>>();
  #strangers = 0;

  private constructor(
    readonly options: EndpointOptions,
    readonly server: ssh2.Server,
    readonly address: HostPort,
  ) {}

  /** @throws WaltError when the address cannot be listened on. */
  static async start(options: EndpointOptions): Promise<Endpoint> {
    const { host, port } = options.listen ?? { host: "::", port: 0 };
    const server = new ssh2.Server({
      hostKeys: [encodePrivateKey(options.hostKey)],
      algorithms: SERVER_ALGORITHMS,
      ident: `walt_${VERSION}`,
      keepaliveInterval: 15_000,
      keepaliveCountMax: 3,
    } as ssh2.ServerConfig);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.once("error", (error: Error) =>
      reject(
        new WaltError(`cannot listen on ${formatHostPort({ host, port })}: ${messageOf(error)}`, {
          hint: "Another program may use the port, or the address is not this machine's; set server.listen.",
        }),
      ),
    );
    server.listen(port, host, resolve);
    await promise;
    const bound = server.address();
    const endpoint = new Endpoint(options, server, {
      host,
      port: typeof bound === "object" && bound !== null ? bound.port : port,
    });
    server.on("error", (error: Error) => options.log.error("endpoint", { reason: messageOf(error) }));
    server.on("connection", (connection, info) => endpoint.#connected(connection, addressOf(info.ip)));
    return endpoint;
  }

  /** End all connections of a device, at once. */
  cutOff(deviceId: number): void {
    for (const connection of this.#devices.get(deviceId) ?? []) hangUp(connection);
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.server.close(() => resolve()));
    for (const connection of this.#live) hangUp(connection);
    await closed;
  }

  #connected(connection: Connection, from: string): void {
    const { log } = this.options;
    if (this.#live.size >= LIMITS.connections || this.#strangers >= LIMITS.strangers) {
      log.warn("too many connections; this one is refused", {
        from,
        open: this.#live.size,
        strangers: this.#strangers,
      });
      hangUp(connection);
      return;
    }
    let identity: Identity | undefined;
    let offers = 0;
    let stranger = true;
    this.#live.add(connection);
    this.#strangers++;
    const known = (): void => {
      if (stranger) this.#strangers--;
      stranger = false;
      clearTimeout(grace);
    };
    const grace = setTimeout(() => {
      log.debug("no authentication in time", { from });
      hangUp(connection);
    }, LIMITS.grace);

    connection.on("error", (error: Error) =>
      log.debug("connection error", { from, reason: messageOf(error) }),
    );
    connection.on("close", () => {
      known();
      this.#live.delete(connection);
      if (identity?.kind === "device") this.#devices.get(identity.device.id)?.delete(connection);
    });
    connection.on("authentication", (ctx: AuthContext) => {
      if (ctx.method === "none") return ctx.reject(["publickey"]);
      if (++offers > LIMITS.offers) {
        hangUp(connection);
        return;
      }
      const offer = ctx.method === "publickey" && ctx.username === VPN_USER ? verifyOffer(ctx) : undefined;
      const who =
        offer === undefined || offer.kind === "refused" || offer.certificate !== undefined
          ? undefined
          : this.options.identify(offer.key);
      if (offer === undefined || offer.kind === "refused" || who === undefined) {
        const key = offer === undefined || offer.kind === "refused" ? undefined : fingerprint(offer.key);
        log.info("a connection is refused", {
          from,
          user: safeText(ctx.username, 32),
          method: ctx.method,
          key,
          reason:
            offer?.kind === "refused"
              ? offer.reason
              : key === undefined
                ? "not the user and method of the VPN"
                : "unknown or revoked key",
        });
        return ctx.reject(["publickey"]);
      }
      if (offer.kind === "signed") {
        identity = who;
        known();
        if (who.kind === "device") {
          const { id } = who.device;
          const set = this.#devices.get(id) ?? new Set<Connection>();
          this.#devices.set(id, set.add(connection));
        }
      }
      ctx.accept();
    });
    connection.on("ready", () => {
      if (identity === undefined) return hangUp(connection);
      this.#serve(connection, identity, from);
    });
  }

  #serve(connection: Connection, identity: Identity, from: string): void {
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
      this.#session(session, connection, identity, from, refuse);
    });
  }

  #session(
    session: Session,
    connection: Connection,
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
      connection.once("close", resolve);
      let ended = false;
      const end = (status: number): void => {
        if (ended) return;
        ended = true;
        try {
          stream.exit(status);
          stream.end();
          stream.close();
        } catch {
          // the connection went away first
        }
      };
      const write = (text: string): void => {
        if (!ended && stream.writable) stream.write(text);
      };
      return {
        stream,
        socket: socketOf(connection) ?? { cork: () => {}, uncork: () => {} },
        closed,
        write,
        end,
        fail: (message) => {
          if (!ended && stream.writable) stream.stderr.write(`walt: ${message}\r\n`);
          end(1);
        },
      };
    };
    const only = `this key may run: ${identity.kind === "device" ? "tunnel via=…, renew" : "enrol"}`;
    session.on("exec", (accept, _reject, info) => {
      const channel = open(accept());
      const command = info.command.length <= 4096 ? info.command : "";
      const [verb = "", argument, ...more] = command.split(" ");
      const run = async (): Promise<void> => {
        if (identity.kind === "enrolment" && command === "enrol") return options.enrol(channel, from);
        if (identity.kind === "device" && command === "renew") return options.renew(identity.device, channel);
        if (identity.kind === "device" && verb === "tunnel" && more.length === 0) {
          return options.tunnel(identity.device, channel, entrypointOf(argument), from);
        }
        refuse(`command ${safeText(command)}`);
        channel.fail(`the command ${JSON.stringify(safeText(command))} is not allowed; ${only}`);
      };
      run().catch((error: unknown) => {
        options.log.warn("a command failed", { from, command: safeText(command), reason: messageOf(error) });
        channel.fail(error instanceof WaltError ? error.message : "internal error; the server's log has it");
      });
    });
    session.on("shell", (accept) => {
      refuse("a shell");
      open(accept()).fail(`there is no shell here; ${only}`);
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

/** The argument of `tunnel`: `via=<entrypoint>`, as `formatEntrypoint` writes it. */
function entrypointOf(argument: string | undefined): string {
  const text = /^via=(.+)$/.exec(argument ?? "")?.[1];
  if (text === undefined) throw new WaltError("the command is `tunnel via=<entrypoint>`");
  parseEntrypoint(text);
  return text;
}

/** A peer's address; of an IPv4 peer on an IPv6 socket the IPv4 address. */
function addressOf(ip: string): string {
  return safeText(ip.replace(/^::ffff:(?=\d+\.)/, ""));
}

/** End a connection now, whatever the peer does. */
function hangUp(connection: Connection): void {
  try {
    connection.end();
  } catch {
    // it had not even begun
  }
  const socket = socketOf(connection);
  if (socket !== undefined) setTimeout(() => socket.destroy(), 100).unref();
}
