/**
 * What around walt-net harms it while the daemon runs: a network with the same addresses, a firewall that drops
 * the bridge's frames, a bridge that is nearly full. It is looked at from the start on, after changes of
 * addresses and routes, and every minute, as a firewall does not tell of its changes.
 */

import type { Trouble } from "../../api/messages.ts";
import type { Config } from "../../config/schema.ts";
import { thisMachine } from "../../doctor/this-machine.ts";
import { messageOf, WaltError } from "../../errors.ts";
import { ipJson } from "../../linux/ip.ts";
import { IPV4_CHANGES, Subscription } from "../../linux/netlink.ts";
import type { Log } from "../../log.ts";
import { type Collision, collisionCure, collisionOf, collisionText, freeNetwork } from "./collision.ts";
import { filterCure, filterOf, filterText, letPass, letPassNoMore } from "./filter.ts";

/** ms between two looks without a change, and after a change, of which more may come. */
const MINUTE = 60_000;
const SOON = 1000;

/** Ports of a Linux bridge (BR_MAX_PORTS of net/bridge/br_private.h, less the one that is never given). */
export const PORTS_MAX = 1023;
/** Tunnels from which on it is said that the bridge is nearly full. */
const PORTS_MANY = 900;

type Network = Config["server.network"];

/** @throws WaltError when ip(8) cannot tell. */
async function look(
  bridge: string,
  own: string,
): Promise<{ collision: Collision | undefined; free: string | undefined }> {
  const [addresses, routes] = await Promise.all([ipJson(["-4", "address"]), ipJson(["-4", "route"])]);
  const [there, ways] = [addresses, routes].map((one) => (Array.isArray(one) ? (one as unknown[]) : []));
  return {
    collision: collisionOf(own, bridge, there ?? [], ways ?? []),
    free: freeNetwork(bridge, there ?? [], ways ?? []),
  };
}

/**
 * To be called before a managed walt-net is made. A route to a larger network is no reason to refuse.
 * @throws WaltError when another network of the machine has addresses of it.
 */
export async function refuseCollision({ bridge, address }: Network): Promise<void> {
  const { collision, free } = await look(bridge, address);
  if (collision === undefined || collision.isWiderRoute) return;
  throw new WaltError(collisionText(address, bridge, collision), { hint: collisionCure(free) });
}

export class Surroundings {
  #troubles: readonly Trouble[] = [];
  #timer: Timer | undefined;
  #isLooking = false;
  #again = false;
  #stopped = false;
  /** Whether a rule of ours is in the firewall. */
  #hasRule = false;
  readonly #stop = new AbortController();
  readonly #machine = thisMachine(this.#stop.signal);
  readonly #changes: Subscription;

  /** @param tunnels how many there are. */
  constructor(
    readonly network: Network,
    readonly log: Log,
    readonly tunnels: () => number,
  ) {
    this.#changes = new Subscription(IPV4_CHANGES, {
      onMessage: () => this.#in(SOON),
      onSubscribed: () => this.#in(0),
      onFailure: (reason) => this.log.debug("changes are not told", { event: "detail", reason }),
    });
  }

  /** What is wrong, as of the last look. */
  get troubles(): readonly Trouble[] {
    return this.#troubles;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.#changes.stop();
    if (this.#hasRule) await letPassNoMore(this.#machine, this.network.bridge);
    this.#stop.abort();
  }

  #in(ms: number): void {
    if (this.#stopped) return;
    this.#again ||= this.#isLooking && ms < MINUTE;
    if (this.#isLooking) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#look(), ms);
  }

  async #look(): Promise<void> {
    this.#isLooking = true;
    this.#again = false;
    const found = (
      await Promise.all([this.#collision(), this.#filter(), this.#ports()].map((one) => one.catch(failed)))
    ).filter((one) => one !== undefined);
    this.#isLooking = false;
    if (this.#stopped) return;
    this.#tell(found);
    this.#in(this.#again ? SOON : MINUTE);
  }

  /** Say what is new, and what is over. */
  #tell(found: readonly Trouble[]): void {
    const isAmong = (list: readonly Trouble[], { text }: Trouble): boolean =>
      list.some((one) => one.text === text);
    for (const one of found) {
      if (isAmong(this.#troubles, one)) continue;
      this.log.error(one.text, { event: "walt-net-trouble", trouble: one.kind, cure: one.cure });
    }
    for (const one of this.#troubles) {
      if (isAmong(found, one)) continue;
      this.log.info(`over: ${one.text}`, { event: "walt-net-trouble-over", trouble: one.kind });
    }
    this.#troubles = found;
  }

  async #collision(): Promise<Trouble | undefined> {
    const { managed, bridge, address } = this.network;
    if (!managed) return undefined;
    const { collision, free } = await look(bridge, address);
    if (collision === undefined) return undefined;
    return { kind: "collision", text: collisionText(address, bridge, collision), cure: collisionCure(free) };
  }

  async #filter(): Promise<Trouble | undefined> {
    const { managed, bridge } = this.network;
    const { is, shown } = await filterOf(this.#machine, bridge);
    if (is !== "drops") return undefined;
    // The bridge is ours, and so is what is said of it.
    if (managed && (await letPass(this.#machine, bridge))) {
      this.#hasRule = true;
      const text = `the firewall dropped the frames of ${bridge}; a rule that accepts them was added`;
      this.log.warn(text, { event: "bridge-rule-added", bridge, reason: shown });
      return undefined;
    }
    return { kind: "filter", text: filterText(bridge), cure: filterCure(bridge) };
  }

  #ports(): Promise<Trouble | undefined> {
    return Promise.resolve(portsTrouble(this.tunnels(), this.network.bridge));
  }
}

/** What is said of so many tunnels; undefined while there is room. */
export function portsTrouble(tunnels: number, bridge: string): Trouble | undefined {
  if (tunnels < PORTS_MANY) return undefined;
  const cure = `A Linux bridge has ${PORTS_MAX} ports: more nodes need another server (docs/scale.md).`;
  const text =
    tunnels >= PORTS_MAX
      ? `${bridge} is full: no tunnel of another node can come up`
      : `${bridge} is nearly full: ${PORTS_MANY} or more of its ${PORTS_MAX} ports are taken`;
  return { kind: "ports", text, cure };
}

/** What cannot be looked at is taken for whole; the doctor says more. */
function failed(): undefined {
  return undefined;
}

/** The bridge has no port left. */
export class BridgeFull extends WaltError {}

/** Why a port could not be added, in words; the error itself if the bridge is not full. @param ports it has. */
export function portError(error: unknown, bridge: string, ports: number): WaltError {
  if (ports < PORTS_MAX) return error instanceof WaltError ? error : new WaltError(messageOf(error));
  return new BridgeFull(`the server's bridge ${bridge} is full: a Linux bridge has ${PORTS_MAX} ports`, {
    hint: "More nodes need another server (docs/scale.md).",
    cause: error,
  });
}
