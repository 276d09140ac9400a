/** Does what the state machine says: each action to its end, whose outcome is the next event. */

import type { DeviceStatus } from "../../api/device-status.ts";
import type { Log } from "../../log.ts";
import { endOf } from "../route/route-failure.ts";
import { type Event, initial, type State, step } from "./state.ts";

/** The hands of the supervisor: what each action does. They tell failures as events; what they throw becomes one. */
export interface Actions {
  perform(state: State, tell: (event: Event) => void): Promise<Event>;
  /** The connections to the proxies are open: what failed need not open them again. */
  proxiesAlive(): boolean;
}

export class Supervisor {
  #state: State;
  #since = new Date();

  constructor(
    o: Parameters<typeof initial>[0],
    readonly actions: Actions,
    readonly log: Log,
  ) {
    this.#state = initial(o);
  }

  get state(): State {
    return this.#state;
  }

  /** Since when it is in this stage. */
  get since(): Date {
    return this.#since;
  }

  /** Something happened besides the action that runs. */
  readonly tell = (event: Event): void => {
    const before = this.#state;
    this.#state = step(before, event);
    if (this.#state.stage !== before.stage) this.#since = new Date();
    // A machine that ended is told by its keeper.
    if (event.type !== "vm" || event.vm !== "waiting") this.#show(before);
  };

  vm(vm: DeviceStatus["vm"], error?: string): void {
    this.tell(error === undefined ? { type: "vm", vm } : { type: "vm", vm, error });
  }

  /** Until `signal` is aborted and the action that runs then has ended. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
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

  /** One line for each new stage and each new error. */
  #show(before: State): void {
    const { stage, detail, lastError, action } = this.#state;
    const waits = action.do === "wait" && before.action !== action;
    if (lastError !== null && (lastError !== before.lastError || waits)) {
      this.log.warn(lastError, action.do === "wait" ? { wait: action.ms } : {});
    }
    if ((stage !== before.stage || detail !== before.detail) && action.do !== "wait") {
      this.log.info(`${stage}: ${detail}`);
    }
  }
}
