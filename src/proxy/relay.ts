/**
 * `walt proxy run`: what a proxy's sshd does for WalT VPN, for machines without one. Devices log in with a
 * certificate or with the enrolment key, may open the one address of the next hop, and a session echoes.
 * Everything else is refused.
 */

import type { HostPort } from "../address.ts";
import { FairSet } from "../fair-set.ts";
import type { Log } from "../log.ts";
import type { GoodOffer } from "../ssh/handshake/authentication.ts";
import { refusalOf, VPN_PRINCIPAL, VPN_USER } from "../ssh/keys/certificate.ts";
import { fingerprint, type KeyPair, type PublicKey, sameKey } from "../ssh/keys/ed25519.ts";
import { safeText } from "../text.ts";
import { BoundedLog } from "./bounded-log.ts";
import { Guest } from "./guest.ts";
import { SshListener } from "./listener.ts";
import { MemoryBudget } from "./memory-budget.ts";
import type { Peer } from "./peer.ts";
import { checkSsh2 } from "./ssh2-check.ts";

export interface RelayOptions {
  listen: HostPort;
  /** The only address that is let through to. */
  next: HostPort;
  /** One, and during a rotation of the server's two; so of the enrolment keys. */
  cas: readonly PublicKey[];
  enrolments: readonly PublicKey[];
  hostKey: KeyPair;
  log: Log;
  /** Connections of devices at most; 256 unless told. */
  maxConnections?: number;
  /** ms until a connection must have authenticated; 20 000 unless told. */
  grace?: number;
  /** Bytes that may wait in all connections together; 128 MiB unless told. */
  memory?: number;
}

/**
 * Connections of one device at most. It needs one; others are what breaks that nobody noticed left behind.
 */
const MAX_OF_DEVICE = 8;
/**
 * For every so many connections that devices may have, one more with the enrolment key is taken, which
 * everybody may have, and one that has not authenticated.
 */
const STRANGERS_PART = 4;

export class Relay {
  private constructor(
    private readonly listener: SshListener,
    private readonly log: BoundedLog,
  ) {}

  /**
   * @throws WaltError when the port cannot be had, or this ssh2 is not the one that the relay was written
   * for.
   */
  static async start(o: RelayOptions): Promise<Relay> {
    await checkSsh2();
    const most = o.maxConnections ?? 256;
    const strangers = Math.max(1, Math.floor(most / STRANGERS_PART));
    const devices = new FairSet<Peer>(most, MAX_OF_DEVICE);
    const enrolling = new FairSet<Peer>(strangers);
    const log = new BoundedLog(o.log);
    try {
      const listener = await SshListener.start({
        ...{ listen: o.listen, hostKey: o.hostKey, log, maxPending: strangers, grace: o.grace ?? 20_000 },
        memory: new MemoryBudget(o.memory ?? 128 * 1024 * 1024),
        authorise: (user, offer) => refusal(user, offer, o),
        serve: (peer, offer) => {
          const isDevice = offer.certificate !== undefined;
          const among = isDevice ? devices : enrolling;
          const evicted = among.add(peer, isDevice ? fingerprint(offer.key) : peer.source);
          peer.socket.once("close", () => among.delete(peer));
          welcome(peer, offer);
          new Guest(peer, o.next).serve();
          evicted?.stop(
            isDevice
              ? "there are too many connections of devices"
              : "there are too many connections with the enrolment key",
          );
        },
      });
      return new Relay(listener, log);
    } catch (error) {
      log.stop();
      throw error;
    }
  }

  /** Where it listens: with the port that it was given when 0 was asked for. */
  get address(): HostPort {
    return this.listener.address;
  }

  /** Connections that are open. */
  get connections(): number {
    return this.listener.connections;
  }

  /** Stop listening and end every connection. */
  async stop(): Promise<void> {
    await this.listener.stop();
    this.log.stop();
  }
}

/** Say in the log which client has come, and later that it has gone. */
function welcome({ log, socket }: Peer, { certificate, key }: GoodOffer): void {
  const who = certificate === undefined ? "enrolment key" : safeText(certificate.keyId, 40);
  if (certificate !== undefined) log.isDevice(who);
  log.info("connected", { event: "connection-accepted", who, key: fingerprint(key) });
  socket.once("close", () => log.info("disconnected", { event: "connection-ended", who }));
}

/** Why a user may not log in with a key; undefined if it may. */
function refusal(user: string, offer: GoodOffer, o: RelayOptions): string | undefined {
  if (user !== VPN_USER) return `the user is not ${VPN_USER}`;
  if (offer.certificate === undefined) {
    const good = o.enrolments.some((key) => sameKey(offer.key, key));
    return good ? undefined : "neither a certificate nor the enrolment key";
  }
  const now = Math.floor(Date.now() / 1000);
  const { certificate } = offer;
  const refusals = o.cas.map((ca) => refusalOf(certificate, { ca, principal: VPN_PRINCIPAL, now }));
  return refusals.includes(undefined) ? undefined : refusals[0];
}
