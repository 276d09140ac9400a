/** The tunnels: for each node a TAP in walt-net, joined to the channel that its device opened. */

import { closeSync } from "node:fs";
import { ApiError } from "../api/api-error.ts";
import type { NodeState } from "../api/messages.ts";
import { type Answer, Asker } from "../control/asker.ts";
import type { Order } from "../control/orders.ts";
import type { End } from "../end.ts";
import { tunnelName } from "../enrolment/commands.ts";
import { messageOf, WaltError } from "../errors.ts";
import { openOffloadTap, openTap } from "../linux/tap.ts";
import type { Log } from "../log.ts";
import { encodeState } from "../ssh/handshake/connection-state.ts";
import type { Owner, Released } from "../ssh/server/peer.ts";
import { type LinkStats, SUMMED, type SummedName } from "../tunnel/counters.ts";
import { FRAMINGS, type FramingName } from "../tunnel/framing.ts";
import { LANES_MAX } from "../tunnel/message.ts";
import type { Lane, Link, MessageOutput, PumpThread } from "../tunnel/pump-thread.ts";
import { DeviceLimit } from "./device-limit.ts";
import type { TunnelRequest } from "./endpoint.ts";
import { BridgeFull } from "./net/surroundings.ts";
import type { WaltNet } from "./net/walt-net.ts";
import type { Device } from "./registry.ts";
import type { Present } from "./spread.ts";

/** Tunnels of one device: for each, programs are run that set its interface up. */
const OPENED = { burst: 32, perSecond: 1 };
/** Further lanes of one device: a refused one is asked for again. */
const LANES = { burst: 16, perSecond: 0.2 };
/**
 * Further lanes of all devices. With as many tunnels as a bridge has ports, 257 of the endpoint's connections are left.
 */
const LANES_OF_ALL = 768;

/** What is known of a node's tunnel. */
export interface TunnelInfo {
  state: NodeState;
  /** When this state began. */
  since: Date;
  /**
   * The entrypoint that the device uses, as the device says; "" in the original framing, which cannot tell
   * it.
   */
  via: string;
  framing: FramingName;
  /** The MTU that both ends agreed on, bytes; undefined until the tunnel is up. */
  mtu: number | undefined;
  stats: LinkStats | undefined;
  /** Why the device did not get a tunnel, and when; undefined once one is up. */
  problem?: { readonly at: Date; readonly text: string } | undefined;
}

/** Why a tunnel that was up went down, and for how long it was up, ms. */
export interface Over {
  end: End;
  lasted: number;
}

/** Counters over all tunnels of a device since the server's start. */
export type Totals = Record<SummedName | "tunnels", number>;

/** It owns the connection of its device, once that is released. */
interface Tunnel extends Owner {
  info: TunnelInfo;
  link: Link | undefined;
  /** Gives orders to the device; undefined in the original framing, and without a link. */
  asker: Asker | undefined;
  /** Its name, by which the device asks for further lanes; undefined until its connection is taken. */
  name: string | undefined;
  /** Its further lanes, and those that are being opened. */
  lanes: number;
  /** Why it is to end; it may have no link yet. */
  stopped: string | undefined;
}

export class Tunnels {
  readonly #limit = new DeviceLimit("tunnels", OPENED);
  readonly #laneLimit = new DeviceLimit("lanes", LANES);
  readonly #tunnels = new Map<number, Tunnel>();
  /** Further lanes of all tunnels, and those that are being opened. */
  #lanes = 0;
  /** Counters of the tunnels that have ended, and the number of tunnels that came up. */
  readonly #ended = new Map<number, Totals>();

  constructor(
    readonly pumps: Pick<PumpThread, "add" | "stopLinks">,
    readonly net: WaltNet,
    /** ms of silence after which a device is taken for dead. */
    readonly silence: number,
    /** The log for lines that a device causes. */
    readonly logOf: (device: Device) => Log,
    /** The name of a device's node now: it may have changed since its tunnel was opened. */
    readonly nameOf: (device: Device) => string,
    /** A tunnel came up or went down. */
    readonly changed: (device: Device, state: NodeState, via: string, over?: Over) => void,
    /** Why a device's tunnel that is up stays when another one of it is asked for; undefined if it ends. */
    readonly keeps: (device: Device) => string | undefined = () => undefined,
    /** The functions that open TAPs, which needs root; tests pass others. */
    readonly taps = { openTap, openOffloadTap },
    /** ms that a device waits for its refusal: so it asks no more often. */
    readonly patience = 10_000,
    /** Further lanes of all devices at most. */
    readonly lanesOfAll = LANES_OF_ALL,
  ) {}

  info(device: Device): TunnelInfo | undefined {
    const tunnel = this.#tunnels.get(device.id);
    if (tunnel === undefined) return undefined;
    return { ...tunnel.info, stats: tunnel.link?.stats() };
  }

  isUp({ id }: Pick<Device, "id">): boolean {
    return this.#tunnels.get(id)?.info.state === "up";
  }

  /** Those of the devices whose tunnels are up, with their entrypoints. */
  present(devices: readonly Device[]): Present[] {
    return devices.flatMap((device) => {
      const info = this.#tunnels.get(device.id)?.info;
      return info?.state === "up" ? [{ device, via: info.via }] : [];
    });
  }

  /** Counters over all tunnels of a device, including the one that is up. */
  totals(device: Device): Totals {
    const totals = { ...this.#endedOf(device) };
    const stats = this.#tunnels.get(device.id)?.link?.stats();
    if (stats !== undefined) for (const name of SUMMED) totals[name] += stats[name];
    return totals;
  }

  #endedOf({ id }: Device): Totals {
    const totals = this.#ended.get(id) ?? zeroTotals();
    this.#ended.set(id, totals);
    return totals;
  }

  /**
   * Join a device's channel to walt-net. An earlier tunnel of the device ends first.
   * @param via the entrypoint; undefined: the channel carries frames in the original framing.
   */
  async open(device: Device, request: TunnelRequest, via: string | undefined, from: string): Promise<void> {
    try {
      this.#limit.take(device);
    } catch (error) {
      request.refuse(messageOf(error));
      return;
    }
    const kept = this.#tunnels.get(device.id);
    const refusal = kept?.info.state === "up" ? this.keeps(device) : undefined;
    if (kept !== undefined && refusal !== undefined) {
      // If the other one ends meanwhile, the tunnel is free.
      const isFree = await Promise.race([kept.ended.then(() => true), Bun.sleep(this.patience)]);
      if (isFree !== true) {
        request.refuse(refusal);
        return;
      }
    }
    const before = this.#tunnels.get(device.id);
    const { promise: ended, resolve } = Promise.withResolvers<void>();
    const tunnel: Tunnel = {
      info: {
        state: "down",
        since: before?.info.since ?? new Date(),
        via: via ?? "",
        framing: via === undefined ? "original" : "messages",
        mtu: undefined,
        stats: undefined,
      },
      link: undefined,
      asker: undefined,
      name: undefined,
      lanes: 0,
      stopped: undefined,
      ended,
      stop: (reason) => {
        tunnel.stopped ??= reason;
        tunnel.link?.stop(reason);
      },
    };
    // From here on a stop of this tunnel counts, even before it has a link.
    this.#tunnels.set(device.id, tunnel);
    try {
      before?.stop("a newer connection of this device took its place");
      await before?.ended;
      if (tunnel.stopped === undefined) await this.#carry(device, request, tunnel, from);
      else request.refuse(tunnel.stopped);
    } catch (error) {
      this.logOf(device).error("cannot join a device to walt-net", {
        event: "tunnel-failed",
        node: device.node,
        reason: messageOf(error),
      });
      const text =
        error instanceof BridgeFull
          ? error.message
          : "the server could not make this node's network interface; its log tells why";
      tunnel.info = { ...tunnel.info, problem: { at: new Date(), text } };
      request.refuse(text);
    } finally {
      resolve();
    }
  }

  async #carry(device: Device, request: TunnelRequest, tunnel: Tunnel, from: string): Promise<void> {
    const name = tapName(device);
    const { openTap, openOffloadTap } = this.taps;
    const { framing } = tunnel.info;
    const tap = FRAMINGS[framing].messages ? openOffloadTap(name) : openTap(name);
    let taken: Released;
    let joined = false;
    try {
      await this.net.addPort(name, device.mac);
      joined = true;
      taken = await request.release(tunnel);
    } catch (error) {
      closeSync(tap.fd);
      if (!joined) throw error;
      // The client caused this: it has disconnected, or cannot be served.
      this.logOf(device).info("no tunnel", {
        event: "tunnel-failed",
        node: device.node,
        from,
        reason: messageOf(error),
      });
      tunnel.info = { ...tunnel.info, problem: { at: new Date(), text: messageOf(error) } };
      request.refuse(messageOf(error));
      return;
    }
    if (tunnel.stopped !== undefined) {
      for (const fd of [tap.fd, taken.fd]) closeSync(fd);
      return;
    }
    tunnel.name = tunnelName(taken.state.session.id);
    const { messages } = FRAMINGS[framing];
    const askerOf = (out: MessageOutput): Asker => {
      tunnel.asker = new Asker(out);
      return tunnel.asker;
    };
    const link = this.pumps.add({
      tap: tap.fd,
      offload: tap.offload,
      stream: taken.fd,
      ssh: encodeState(taken.state),
      mtu: FRAMINGS[framing].mtu ?? this.net.mtu,
      silence: this.silence,
      framing,
      guard: this.net.rulesFor(device),
      ...(messages ? { channels: askerOf } : {}),
    });
    const end = await this.#live(device, tunnel, link, from);
    const { state, since, via } = tunnel.info;
    tunnel.info = { ...tunnel.info, state: "down", since: new Date() };
    const node = this.nameOf(device);
    this.logOf(device).info("tunnel down", { event: "tunnel-down", node, from, reason: end.text });
    if (state !== "up" || this.#tunnels.get(device.id) !== tunnel) return;
    this.changed({ ...device, node }, "down", via, { end, lasted: Date.now() - since.getTime() });
  }

  /** Run a tunnel until it ends. */
  async #live(device: Device, tunnel: Tunnel, link: Link, from: string): Promise<End> {
    tunnel.link = link;
    void link.up.then((mtu) => {
      if (mtu < this.net.mtu) this.#lower(device, mtu);
      tunnel.info = { ...tunnel.info, state: "up", since: new Date(), mtu };
      this.#endedOf(device).tunnels++;
      const { via, framing } = tunnel.info;
      this.logOf(device).info("tunnel up", { event: "tunnel-up", node: device.node, from, via, framing });
      this.changed(device, "up", tunnel.info.via);
    });
    const end = await link.ended;
    const [totals, stats] = [this.#endedOf(device), link.stats()];
    for (const name of SUMMED) totals[name] += stats[name];
    tunnel.link = tunnel.asker = undefined;
    return end;
  }

  /**
   * Add a further lane to a device's tunnel. Resolves when it has ended, or was refused.
   * @param name of the tunnel.
   */
  async addLane(device: Device, request: TunnelRequest, name: string, from: string): Promise<void> {
    const tunnel = this.#tunnels.get(device.id);
    const link = tunnel?.link;
    try {
      this.#laneLimit.take(device);
      if (tunnel?.name !== name || tunnel.info.state !== "up" || link === undefined)
        throw new WaltError("the tunnel of this lane is not up");
      if (tunnel.lanes >= LANES_MAX - 1) throw new WaltError(`a tunnel has at most ${LANES_MAX} lanes`);
      if (this.#lanes >= this.lanesOfAll)
        throw new WaltError(`the server has ${this.#lanes} further lanes already, as many as it takes`);
    } catch (error) {
      request.refuse(messageOf(error));
      return;
    }
    tunnel.lanes++;
    this.#lanes++;
    const ended = Promise.withResolvers<void>();
    let lane: Lane | undefined;
    let stopped: string | undefined;
    const stop = (reason: string): void => {
      stopped ??= reason;
      lane?.stop(reason);
    };
    const owner = { ended: ended.promise, stop };
    const log = this.logOf(device);
    const { node } = device;
    try {
      const taken = await request.release(owner);
      lane = link.addLane({ stream: taken.fd, ssh: encodeState(taken.state) });
      if (stopped !== undefined) lane.stop(stopped);
      void lane.up.then(() => log.info("lane up", { event: "lane-up", node, from }));
      const { text } = await lane.ended;
      log.info("lane down", { event: "lane-down", node, from, reason: text });
    } catch (error) {
      // The client caused this: it has disconnected, or cannot be served.
      log.info("no lane", { event: "lane-down", node, from, reason: messageOf(error) });
      request.refuse(messageOf(error));
    } finally {
      tunnel.lanes--;
      this.#lanes--;
      ended.resolve();
    }
  }

  #lower(device: Device, mtu: number): void {
    // This fails if the tunnel has ended.
    const failed = (error: unknown): void =>
      this.logOf(device).debug("the MTU stays", {
        event: "detail",
        node: device.node,
        reason: messageOf(error),
      });
    this.net.lowerPort(tapName(device), mtu).catch(failed);
  }

  /**
   * Give an order to a device over its tunnel. Resolves when the device has begun with it.
   * @throws ApiError when no tunnel is up, or the device cannot be asked; OrderRefused; SessionLost.
   */
  async give(device: Device, order: Order): Promise<Answer> {
    const { node } = device;
    const tunnel = this.#tunnels.get(device.id);
    if (tunnel?.info.state !== "up")
      throw new ApiError("node-down", `the tunnel of ${node} is down: its board cannot be asked`);
    if (tunnel.asker === undefined)
      throw new ApiError(
        "not-able",
        `the board of ${node} speaks WalT's original framing, in which it cannot be asked`,
      );
    return await tunnel.asker.give(order);
  }

  /** Tunnels that have a TAP. */
  get count(): number {
    return this.#tunnels.values().reduce((sum, { link }) => sum + (link === undefined ? 0 : 1), 0);
  }

  /**
   * End all tunnels, and resolve as `stop`. Their TAPs are removed at once: one by one the kernel takes 20 s
   * for a thousand.
   */
  async stopAll(reason: string): Promise<void> {
    for (const tunnel of this.#tunnels.values()) tunnel.stopped ??= reason;
    const areMany = this.count > 1;
    await this.pumps.stopLinks(reason);
    // If that fails they are removed one by one.
    if (areMany) await this.net.removePorts().catch(() => {});
    await this.stop(reason);
  }

  /** End a device's tunnel, or all; resolves when the devices were told, and TAPs and connections are gone. */
  async stop(reason: string, device?: Device): Promise<void> {
    const tunnels = device === undefined ? [...this.#tunnels.values()] : [this.#tunnels.get(device.id)];
    for (const tunnel of tunnels) tunnel?.stop(reason);
    await Promise.all(tunnels.map((tunnel) => tunnel?.ended));
  }
}

function zeroTotals(): Totals {
  const counters = SUMMED.map((name) => [name, 0] as const);
  return { tunnels: 0, ...Object.fromEntries(counters) } as Totals;
}

/**
 * The name of the node's TAP: at most 15 characters (linux/if.h, IFNAMSIZ). A default name is short enough.
 */
function tapName({ defaultName }: Device): string {
  return `tap-${defaultName}`.slice(0, 15);
}
