/**
 * Who may use the VPN: whose a key is, how a device is accepted and what its node is called, which
 * certificate it gets, and how it is revoked.
 */

import { ApiError } from "../api/api-error.ts";
import type { InvitationInfo, parseExpected, parseNewToken } from "../api/messages.ts";
import type { EnrolmentRequest, Grant } from "../enrolment/messages.ts";
import { newToken } from "../enrolment/token.ts";
import { messageOf, WaltError } from "../errors.ts";
import type { Log } from "../log.ts";
import { fingerprint, type PublicKey, parsePublicKey, shortCode } from "../ssh/keys/ed25519.ts";
import { admit, grant } from "./credentials.ts";
import { DeviceLimit } from "./device-limit.ts";
import type { Endpoint, Identity } from "./endpoint.ts";
import { acceptedBy, type Invitation, type Invited, validity } from "./invitations.ts";
import type { ServerKeys } from "./keys.ts";
import type { nodeAddresses, WaltNet } from "./net/walt-net.ts";
import type { Device, Registry } from "./registry.ts";
import type { Tunnels } from "./tunnels.ts";

type NewToken = ReturnType<typeof parseNewToken>;
type Expected = ReturnType<typeof parseExpected>;

/**
 * Certificates of one device: each is a signature and a write to the disk. With the shortest validity, 10 s, a
 * device renews every 5 s.
 */
const CERTIFICATES = { burst: 32, perSecond: 0.5 };

export class Devices {
  readonly #certificates = new DeviceLimit("certificates", CERTIFICATES);

  constructor(
    readonly registry: Registry,
    readonly keys: ServerKeys,
    readonly net: Pick<WaltNet, "setNodes">,
    /** Where nodes have addresses of their own: those that there are. */
    readonly addresses: () => ReturnType<typeof nodeAddresses>,
    /** Validity of a certificate, ms. */
    readonly validity: number,
    readonly log: Log,
  ) {}

  /** Whose a key is; undefined for one that may not connect. */
  identify(key: PublicKey): Identity | undefined {
    if (this.keys.has("enrolment", key)) return { kind: "enrolment" };
    const device = this.registry.byKey(key);
    return device === undefined || device.revokedAt !== null ? undefined : { kind: "device", device };
  }

  /**
   * Register a device that an operator has accepted, and give it its first certificate: both, or neither. A
   * device that came in meanwhile by an invitation stays what it is.
   * @param name what its node is to be called; by default the server chooses.
   * @throws WaltError when its node cannot have the name, the server's clock was never set, or the device was
   *   revoked. Then nothing is stored.
   */
  accept(request: EnrolmentRequest, by: string, name?: string): Grant {
    const known = this.registry.byKey(request.publicKey);
    if (known?.revokedAt != null) {
      throw new WaltError(`this device was ${known.node}, which was revoked`, {
        hint: "`walt vpn restore` accepts its key again; `walt device forget` on the device lets it ask with a new one.",
      });
    }
    if (known !== undefined) return this.grant(known);
    const given = this.#admit(request, by, name);
    this.#announce(nodeOf(given), request, by);
    return given;
  }

  #admit(request: EnrolmentRequest, by: string, name?: string): Grant {
    const { registry } = this;
    return registry.atomically(() => {
      const given = admit(registry, this.keys, request, by, this.validity, new Date(), name);
      const { mac, model, serialNumber, publicKey } = request;
      const details = { code: shortCode(publicKey), board: mac, model, serialNumber };
      registry.journal.order({ kind: "device-accepted", device: registry.byKey(publicKey), details }, by);
      const addresses = this.addresses();
      if (addresses !== undefined && registry.assignAddresses(...addresses).includes(nodeOf(given))) {
        throw new WaltError(
          `walt-net has no address left for one more node: all from ${addresses[0]} are taken`,
          {
            hint: "Set a larger network as `server.network.address`. Nothing was stored.",
          },
        );
      }
      return given;
    });
  }

  /** A device was accepted: for the log, and for DHCP. */
  #announce(node: string, request: EnrolmentRequest, by: string): void {
    this.log.info("device accepted", {
      event: "device-accepted",
      node,
      board: request.mac,
      code: shortCode(request.publicKey),
      fingerprint: fingerprint(request.publicKey),
      by,
    });
    this.#tellNet();
  }

  /**
   * Tell walt-net which nodes there are. If that fails, what is stored holds all the same: DHCP has the names
   * once the next device is accepted or revoked.
   */
  #tellNet(): void {
    try {
      this.net.setNodes(this.registry.active());
    } catch (error) {
      this.log.error("the DHCP server was not told the nodes' names", {
        event: "dhcp-names-failed",
        reason: messageOf(error),
      });
    }
  }

  /**
   * Accept a device that is invited: by the token that it carries, else by what it says of its board.
   * @returns undefined, and why not, when it is not.
   * @throws WaltError as `accept`. Then the invitation is as it was.
   */
  acceptInvited(request: EnrolmentRequest): { granted: Grant } | { warnings: string[] } {
    const { invitations } = this.registry;
    const now = new Date();
    const ofToken = request.token === undefined ? undefined : invitations.byToken(request.token);
    const worth = ofToken === undefined ? "not known to this server" : validity(ofToken, now);
    const invitation = worth === "valid" ? ofToken : invitations.byBoard(request, now);
    if (invitation === undefined) {
      return { warnings: request.token === undefined ? [] : [`the token on its card is ${worth}`] };
    }
    const by = acceptedBy(invitation);
    const granted = this.registry.atomically(() =>
      invitations.use(invitation) ? this.#admit(request, by) : undefined,
    );
    if (granted === undefined) return { warnings: ["the token on its card is used up"] };
    this.#announce(nodeOf(granted), request, by);
    return { granted };
  }

  invitations(): InvitationInfo[] {
    const now = new Date();
    return this.registry.invitations.list().map((one) => shown(one, now));
  }

  /** @throws ApiError when there are too many. */
  addToken({ uses, expires, note, by }: NewToken): InvitationInfo & { token: string } {
    const token = newToken();
    return { ...this.#invite({ token }, { uses, expires, note, by }), token };
  }

  /** @throws ApiError when there are too many. */
  expect({ mac, serialNumber, expires, note, by }: Expected): InvitationInfo {
    return this.#invite({ mac, serialNumber }, { uses: 1, expires, note, by });
  }

  #invite(invited: Invited, o: NewToken): InvitationInfo {
    const now = new Date();
    const expires = new Date(now.getTime() + o.expires);
    const { invitations, journal } = this.registry;
    const added = this.registry.atomically(() => {
      const one = invitations.add(invited, { ...o, expires, now });
      const { id, kind, mac, serialNumber, uses, expiresAt, note } = one;
      const details = { invitation: id, invited: kind, mac, serialNumber, uses, expires: expiresAt, note };
      journal.order({ kind: "invitation-added", details }, o.by);
      return one;
    });
    this.log.info(added.kind === "token" ? "a token was made" : "a board is expected", {
      event: "invitation-added",
      invitation: added.id,
      kind: added.kind,
      mac: added.mac ?? undefined,
      serialNumber: added.serialNumber ?? undefined,
      uses: added.uses,
      expires: added.expiresAt,
      by: o.by,
    });
    return shown(added, now);
  }

  /** @throws ApiError when there is no such one, or it is withdrawn already. */
  withdraw(kind: Invitation["kind"], id: number, by: string): void {
    const { invitations, journal } = this.registry;
    this.registry.atomically(() => {
      invitations.withdraw(kind, id, new Date());
      journal.order({ kind: "invitation-withdrawn", details: { invitation: id, invited: kind } }, by);
    });
    this.log.info("an invitation was withdrawn", {
      event: "invitation-withdrawn",
      invitation: id,
      kind,
      by,
    });
  }

  /** The next certificate of a registered device. @throws WaltError when it asks too often. */
  grant(device: Device): Grant {
    this.#certificates.take(device);
    return grant(this.registry, this.keys, device, this.validity, new Date());
  }

  /**
   * Give a node another name. Its addresses stay; DHCP has the new name at once, and its device is told with
   * the next certificate.
   * @throws ApiError when there is no such node, or it cannot have the name.
   */
  rename(node: string, name: string, by: string): void {
    const device = this.byNode(node);
    if (name === node) return;
    const { registry } = this;
    registry.atomically(() => {
      registry.rename(device, name);
      const renamed = { id: device.id, node: name };
      registry.journal.order({ kind: "node-renamed", device: renamed, details: { was: node } }, by);
    });
    this.#tellNet();
    this.log.info("node renamed", { event: "node-renamed", node: name, was: node, by });
  }

  /**
   * Write a note about a node. @param note "" removes it.
   * @throws ApiError when there is no such node.
   */
  setNote(node: string, note: string, by: string): void {
    const device = this.byNode(node);
    const { registry } = this;
    registry.atomically(() => {
      registry.setNote(device, note);
      registry.journal.order({ kind: "node-noted", device, details: { note } }, by);
    });
    this.log.info("a note was written", { event: "node-noted", node, note, by });
  }

  /**
   * Say which board is a node's.
   * @returns the device, as it is now. @throws ApiError when there is no such node.
   */
  setBoard(node: string, mac: string, by: string): Device {
    const device = this.byNode(node);
    const { registry } = this;
    registry.atomically(() => {
      registry.setBoardMac(device, mac);
      const details = { board: mac, was: device.boardMac };
      registry.journal.order({ kind: "node-board", device, details }, by);
    });
    this.log.info("an operator said which board is a node's", {
      event: "node-board",
      node,
      board: mac,
      was: device.boardMac,
      by,
    });
    return { ...device, boardMac: mac };
  }

  /** What to do when the device of this key confirms that it has stored what it is given now. */
  confirmation(key: PublicKey): () => void {
    const { prints } = this.keys;
    return () => {
      const device = this.registry.byKey(key);
      if (device !== undefined) this.registry.confirmKeys(device, prints);
    };
  }

  /** The device of a node. @throws ApiError when there is no such node. */
  byNode(node: string): Device {
    const device = this.registry.byNode(node);
    if (device !== undefined) return device;
    throw new ApiError(
      "unknown-node",
      `there is no node ${JSON.stringify(node)}`,
      "`walt node show` shows the nodes.",
    );
  }

  /**
   * Revoke the device of a node: its key is refused from now on, and its connections end.
   * @param reenrol it is told to forget its key and ask again, when it asks; it may be revoked already.
   * @returns until when its certificate passes the proxies, ISO 8601; null when it does not any more.
   * @throws ApiError when there is no such node.
   */
  revoke(
    node: string,
    by: string,
    live: { tunnels: Pick<Tunnels, "stop">; endpoint: Pick<Endpoint, "stopConnections"> },
    reenrol = false,
  ): string | null {
    const device = (reenrol ? this.#lastRevoked(node) : undefined) ?? this.byNode(node);
    const now = new Date();
    const details = reenrol ? { reenrol: "ordered" } : {};
    this.registry.atomically(() => {
      this.registry.revoke(device, new Date(device.revokedAt ?? now), reenrol);
      this.registry.journal.order({ kind: "device-revoked", device, details }, by);
    });
    // The tunnel has a moment to tell the device why. All other connections of the device end now.
    void live.tunnels.stop("this node was revoked", device);
    live.endpoint.stopConnections(device.id);
    this.#tellNet();
    this.log.info("device revoked", { event: "device-revoked", node, ...details, by });
    const { certificateExpires } = device;
    return certificateExpires > now.toISOString() ? certificateExpires : null;
  }

  /**
   * Accept the key of a revoked device again: it is the same node as before.
   * @throws ApiError when there is no such revoked device, it was told to forget its key, or another device has
   *   become the node.
   */
  restore(node: string, print: string, by: string): void {
    const device = this.#revoked(node, print);
    const { registry } = this;
    if (device.reenrol === "told")
      throw new ApiError(
        "failed",
        `the board of ${node} was told to forget this key, so that it cannot be restored`,
        "The board asks for access with a new key: `walt vpn requests`, `walt vpn accept`.",
      );
    registry.atomically(() => {
      registry.restore(device);
      const addresses = this.addresses();
      if (addresses !== undefined && registry.assignAddresses(...addresses).includes(device.node))
        throw new ApiError("failed", `walt-net has no address left for ${node}; nothing was changed`);
      registry.journal.order({ kind: "device-restored", device }, by);
    });
    this.#tellNet();
    this.log.info("device restored", { event: "device-restored", node, by });
  }

  /**
   * Forget a revoked device.
   * @throws ApiError when there is no such revoked device, or its certificate still passes the proxies: their
   *   lists of revoked keys need it.
   */
  remove(node: string, print: string, by: string): void {
    const device = this.#revoked(node, print);
    const { registry } = this;
    if (device.certificateExpires > new Date().toISOString())
      throw new ApiError(
        "failed",
        `the certificate of ${node} passes the proxies until ${device.certificateExpires}`,
        "Until then `walt vpn setup-proxy` needs its key for the proxies' lists of revoked keys. Remove it later.",
      );
    const code = shortCode(parsePublicKey(device.publicKey, `registry: key of ${node}`));
    registry.atomically(() => {
      registry.remove(device);
      registry.journal.order({ kind: "device-removed", device, details: { code } }, by);
    });
    this.log.info("device removed", { event: "device-removed", node, code, by });
  }

  /** The device that was a node last; undefined if there is one that is not revoked, or none. */
  #lastRevoked(node: string): Device | undefined {
    if (this.registry.byNode(node) !== undefined) return undefined;
    const revoked = this.registry.list().filter((one) => one.node === node && one.revokedAt !== null);
    return revoked.toSorted((a, b) => (a.revokedAt ?? "").localeCompare(b.revokedAt ?? "")).at(-1);
  }

  /** The revoked device with this node and key. @throws ApiError when there is none. */
  #revoked(node: string, print: string): Device {
    const named = this.registry.list().filter((one) => one.node === node && one.revokedAt !== null);
    const device = named.find(
      ({ publicKey }) => fingerprint(parsePublicKey(publicKey, `registry: key of ${node}`)) === print,
    );
    if (device !== undefined) return device;
    throw new ApiError(
      "unknown-node",
      `no revoked device is the node ${JSON.stringify(node)} with this key`,
      "`walt vpn list --all` shows the devices.",
    );
  }
}

/** What the node of a grant is called. */
function nodeOf({ node, name = node }: Grant): string {
  return name;
}

function shown(one: Invitation, now: Date): InvitationInfo {
  const { withdrawnAt: _, ...rest } = one;
  return { ...rest, state: validity(one, now) };
}
