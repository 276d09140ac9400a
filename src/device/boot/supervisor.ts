/**
 * The supervisor: it performs the actions of the state machine one after the other, and passes it their
 * outcomes as events.
 */

import type { DeviceStatus } from "../../api/device-status.ts";
import { Pace } from "../../linux/pace.ts";
import type { Log } from "../../log.ts";
import { endOf } from "../route/route-failure.ts";
import { type Event, initial, type State, step } from "./state.ts";

/** The I/O of the actions. */
export interface Actions {
  /**
   * Perform the action of `state`.
   * @param tell passes on events that happen during the action.
   * @returns the outcome.
   * @throws anything: the supervisor makes a `failed` event of it.
   */
  perform(state: State, tell: (event: Event) => void): Promise<Event>;
  /** Whether the connections to the proxies are open, so that the next attempt can use them. */
  proxiesAlive(): boolean;
}

export class Supervisor {
  #state: State;
  #since = new Date();

  /** @param o see `initial`. */
  constructor(
    o: Parameters<typeof initial>[0],
    readonly actions: Actions,
    readonly log: Log,
    /** Called after each event. */
    readonly changed: (state: State) => void = () => {},
  ) {
    this.#state = initial(o);
  }

  get state(): State {
    return this.#state;
  }

  /** When the current stage began. */
  get since(): Date {
    return this.#since;
  }

  /** Take an event: an outcome, or something that happened during the action. */
  readonly tell = (event: Event): void => {
    const before = this.#state;
    this.#state = step(before, event);
    if (this.#state.stage !== before.stage) this.#since = new Date();
    // When a virtual machine has ended, its keeper logs that.
    if (event.type !== "vm" || event.vm !== "waiting") this.#show(before, event);
    this.changed(this.#state);
  };

  /** Take a new status of the virtual machine. @param error why it is not running, in words. */
  vm(vm: DeviceStatus["vm"], error?: string): void {
    this.tell(error === undefined ? { type: "vm", vm } : { type: "vm", vm, error });
  }

  /** Run until `signal` is aborted. Resolves once the current action has ended; its outcome is ignored. */
  async run(signal: AbortSignal): Promise<void> {
    for (const pace = new Pace(); !signal.aborted; await pace.turn(signal)) {
      const event = await this.#perform();
      if (!signal.aborted) this.tell(event);
    }
  }

  async #perform(): Promise<Event> {
    try {
      return await this.actions.perform(this.#state, this.tell);
    } catch (error) {
      const { actions } = this;
      return { type: "failed", end: endOf(error), proxies: actions.proxiesAlive() };
    }
  }

  /** Log one line for each new stage and each new error. */
  #show(before: State, event: Event): void {
    const { stage, detail, lastError, action } = this.#state;
    const waits = action.do === "wait" && before.action !== action;
    if (lastError !== null && (lastError !== before.lastError || waits)) {
      const kind = "end" in event ? event.end.kind : undefined;
      const wait = action.do === "wait" ? action.ms : undefined;
      this.log.warn(lastError, { event: "failure", kind, wait });
    }
    if ((stage !== before.stage || detail !== before.detail) && action.do !== "wait") {
      this.log.info(`${stage}: ${detail}`, { event: "stage", stage });
    }
  }
}
