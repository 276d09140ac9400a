/**
 * How long a device waits before it connects again. Many devices lose the same proxy or server at the same
 * moment; each takes a turn of its own to come back, so that they come one after the other.
 */

import { withJitter } from "../../linux/sleep.ts";

/** The devices with tunnels through the same entrypoint. */
export interface Peers {
  /** How many they are, this one included. */
  readonly count: number;
  /** Which of them this one is, from 0; undefined when the server did not say. */
  readonly turn?: number | undefined;
}

/** What a wait depends on. */
export interface Wait {
  /** How long a single device would wait, ms, without the jitter. 0: do not wait. */
  readonly ms: number;
  /** The connections to the proxies stay: only the server is to be connected to. */
  readonly keepProxies: boolean;
  /** What the server last said of the devices behind the same entrypoint. */
  readonly peers: Peers;
  /**
   * A tunnel was up, and since then no wait has closed the connections to proxies: all its peers may have lost
   * theirs at the same moment.
   */
  readonly lost: boolean;
  /** A proxy closed the connection before the login, as sshd does when too many come at once (MaxStartups). */
  readonly dropped: boolean;
}

/** How many may come at once, and how many in a second where there are more. */
interface Pace {
  readonly atOnce: number;
  readonly perSecond: number;
}

/**
 * OpenSSH drops connections while 10 have not logged in (MaxStartups 10:30:100). A login takes about 0.5 s, and
 * may take 0.8 s at this pace.
 */
const PROXY: Pace = { atOnce: 10, perSecond: 12 };
/** The server lets 128 of one address, such as a proxy's, log in at once (src/ssh/server/listener.ts). */
const SERVER: Pace = { atOnce: 100, perSecond: 100 };
/** ms within which a device that was dropped tries again, at least. */
const DROPPED = 2000;

/** How long to wait, ms. @param random a number from 0 to 1. */
export function waitTime(o: Wait, random: () => number = Math.random): number {
  const { ms, lost, dropped } = o;
  if (ms === 0) return 0;
  const { count, turn } = o.peers;
  const { atOnce, perSecond } = o.keepProxies ? SERVER : PROXY;
  if (count <= atOnce) return withJitter(ms, random) + (dropped ? random() * DROPPED : 0);
  /** ms in which all peers have their turns. */
  const span = (1000 * count) / perSecond;
  if (dropped) return ms + random() * Math.max(span, DROPPED);
  // Without jitter, each keeps the turn that it has: after a long outage they come one after the other, too.
  return lost ? ms + (turn === undefined ? random() : turn / count) * span : Math.max(ms, span);
}
