/**
 * What every tunnel of a device needs on the board itself: the pump thread and the bridge. Both are made
 * again if they fail.
 */

import { messageOf } from "../../errors.ts";
import type { Log } from "../../log.ts";
import { PumpThread } from "../../tunnel/pump-thread.ts";
import { type BoardIdentity, bridgeMac } from "../identity/board.ts";
import { makeBridge, removeBridge } from "../net/bridge.ts";

/** Milliseconds that the removal of the bridge may take: the device is being stopped. */
const REMOVAL = 5000;

export class Prerequisites {
  readonly #stopping = new AbortController();
  readonly #identity: BoardIdentity;
  readonly #log: Log;
  /** Undefined: to be started. */
  #pumps: Promise<PumpThread> | undefined;
  /** Undefined: to be made. */
  #bridge: Promise<void> | undefined;

  /** @param identity of the board: the MAC address of the bridge follows from it. */
  constructor(identity: BoardIdentity, log: Log) {
    this.#identity = identity;
    this.#log = log;
  }

  /** Begin to make both: they do not depend on the network, and will be there when it is. */
  prepare(): void {
    void this.bridge();
    this.pumps().catch(() => {}); // the tunnel will try again, and report the failure
  }

  /**
   * The pump thread. It is started if there is none, or if the last one died.
   * @throws WaltError when it cannot be started.
   */
  pumps(): Promise<PumpThread> {
    this.#pumps ??= this.#startPumps();
    return this.#pumps;
  }

  /**
   * The bridge with the TAP of the virtual machine. It is made if there is none.
   * @throws WaltError when it cannot be made.
   */
  bridge(): Promise<void> {
    const { signal } = this.#stopping;
    this.#bridge ??= makeBridge(bridgeMac(this.#identity), { signal });
    const made = this.#bridge;
    made.catch((error: unknown) => {
      if (this.#bridge !== made || signal.aborted) return;
      this.#log.error(`the bridge could not be made: ${messageOf(error)}`, { event: "bridge-failed" });
      this.#bridge = undefined;
    });
    return made;
  }

  /** Stop the pump thread, and remove the bridge. Call it when no tunnel is left. It never rejects. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    const pumps = await this.#pumps?.catch(() => undefined);
    await pumps?.stop();
    if (this.#bridge === undefined) return;
    await this.#bridge.catch(() => {});
    try {
      await removeBridge({ timeout: REMOVAL });
    } catch (error) {
      this.#log.error(`the bridge could not be removed: ${messageOf(error)}`, { event: "bridge-failed" });
    }
  }

  async #startPumps(): Promise<PumpThread> {
    const lost = (why: string): void => {
      this.#log.error(why, { event: "pump-failed" });
      this.#pumps = undefined;
    };
    try {
      const pumps = await PumpThread.start();
      void pumps.failed.then((error) => lost(error.message));
      return pumps;
    } catch (error) {
      lost(`the pump thread could not be started: ${messageOf(error)}`);
      throw error;
    }
  }
}
