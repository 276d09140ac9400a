/**
 * Who may use the VPN: whose a key is, how a device is accepted, which certificate it gets, and how it is
 * revoked.
 */

import { ApiError } from "../api/api-error.ts";
import type { EnrolmentRequest, Grant } from "../enrolment/messages.ts";
import { messageOf } from "../errors.ts";
import type { Log } from "../log.ts";
import { fingerprint, type PublicKey, sameKey, shortCode } from "../ssh/keys/ed25519.ts";
import { admit, grant } from "./credentials.ts";
import type { Endpoint, Identity } from "./endpoint.ts";
import type { ServerKeys } from "./keys.ts";
import type { WaltNet } from "./net/walt-net.ts";
import type { Device, Registry } from "./registry.ts";
import type { Tunnels } from "./tunnels.ts";

export class Devices {
  constructor(
    readonly registry: Registry,
    readonly keys: Pick<ServerKeys, "ca" | "enrolment">,
    readonly net: Pick<WaltNet, "setNames">,
    /** Validity of a certificate, ms. */
    readonly validity: number,
    readonly log: Log,
  ) {}

  /** Whose a key is; undefined for one that may not connect. */
  identify(key: PublicKey): Identity | undefined {
    if (sameKey(key, this.keys.enrolment.publicKey)) return { kind: "enrolment" };
    const device = this.registry.byKey(key);
    return device === undefined || device.revokedAt !== null ? undefined : { kind: "device", device };
  }

  /**
   * Register a device that an operator has accepted, and give it its first certificate: both, or neither.
   * @throws WaltError when there is no name left for its node, or the server's clock was never set.
   */
  accept(request: EnrolmentRequest, by: string): Grant {
    const given = admit(this.registry, this.keys.ca, request, by, this.validity, new Date());
    this.log.info("device accepted", {
      event: "device-accepted",
      node: given.node,
      board: request.mac,
      code: shortCode(request.publicKey),
      fingerprint: fingerprint(request.publicKey),
      by,
    });
    try {
      this.net.setNames(nodeNames(this.registry));
    } catch (error) {
      // It is accepted all the same: its node has no name in DHCP until the next device is accepted.
      this.log.error("the DHCP server was not told the node's name", {
        event: "dhcp-names-failed",
        reason: messageOf(error),
      });
    }
    return given;
  }

  /** The next certificate of a registered device. */
  grant(device: Device): Grant {
    return grant(this.registry, this.keys.ca, device, this.validity, new Date());
  }

  /**
   * Revoke the device of a node: its key is refused from now on, and its connections end.
   * @throws ApiError when there is no such node.
   */
  revoke(
    node: string,
    by: string,
    live: { tunnels: Pick<Tunnels, "stop">; endpoint: Pick<Endpoint, "stopConnections"> },
  ): void {
    const device = this.registry.byNode(node);
    if (device === undefined) {
      throw new ApiError(
        "unknown-node",
        `there is no node ${JSON.stringify(node)}`,
        "`walt vpn list` shows the nodes.",
      );
    }
    this.registry.revoke(device, new Date());
    // The tunnel has a moment to tell the device why. All other connections of the device end now.
    void live.tunnels.stop("this node was revoked", device);
    live.endpoint.stopConnections(device.id);
    this.net.setNames(nodeNames(this.registry));
    this.log.info("device revoked", { event: "device-revoked", node, by });
  }
}

/** The names of the nodes by their MAC addresses, for walt-net's DHCP. */
export function nodeNames(registry: Registry): Map<string, string> {
  return new Map(registry.active().map((device) => [device.mac, device.node]));
}
