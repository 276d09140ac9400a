/**
 * Sends notices to an address, each as JSON by a POST of its own, one after the other. What cannot be sent is
 * tried again, within bounds of number and time.
 */

import { messageOf } from "../errors.ts";
import { sleep, withJitter } from "../linux/sleep.ts";
import type { Log } from "../log.ts";

/** Notices that wait at most; and for how long each is tried, ms. */
const MOST = 100;
const LONGEST = 3_600_000;
/** ms for one attempt. */
const PATIENCE = 10_000;
/** ms after the first failure; doubled with each, up to the last. */
const FIRST_WAIT = 1000;
const LAST_WAIT = 300_000;
/** Bytes of a body. A notice's texts are shorter. */
const MAX_BODY = 4096;

interface Waiting {
  readonly body: string;
  readonly until: number;
}

/** Statuses of HTTP after which another attempt may help. */
const isTransient = (status: number): boolean => status >= 500 || status === 408 || status === 429;

export class Webhook {
  readonly #queue: Waiting[] = [];
  readonly #stop = new AbortController();
  #failures = 0;
  #lost = 0;
  #work: Promise<void> | undefined;

  /**
   * @param log never gets more of the address than its host: the rest may be secret.
   * @param waits ms after failures; tests give shorter ones.
   */
  constructor(
    readonly url: string,
    readonly log: Log,
    readonly waits = { first: FIRST_WAIT, last: LAST_WAIT, longest: LONGEST, patience: PATIENCE },
  ) {}

  /** Send a message soon. When too many wait, the oldest one is lost. */
  send(message: object): void {
    const body = JSON.stringify(message);
    if (body.length > MAX_BODY || this.#stop.signal.aborted) return;
    this.#queue.push({ body, until: performance.now() + this.waits.longest });
    // The first one is being sent.
    if (this.#queue.length > MOST) {
      this.#queue.splice(1, 1);
      this.#lost++;
    }
    this.#work ??= this.#send().finally(() => {
      this.#work = undefined;
    });
  }

  /** Send nothing more. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#work;
  }

  async #send(): Promise<void> {
    const { signal } = this.#stop;
    for (let next = this.#queue[0]; next !== undefined && !signal.aborted; next = this.#queue[0]) {
      const problem = await this.#attempt(next.body);
      if (signal.aborted) return;
      if (problem === undefined) {
        this.#queue.shift();
        this.#worked();
        continue;
      }
      this.#failures++;
      const isLost = problem.final || performance.now() > next.until;
      if (isLost) {
        this.#queue.shift();
        this.#lost++;
      }
      if (isLost || this.#failures === 1) this.#failed(problem.reason);
      if (isLost) continue;
      const { first, last } = this.waits;
      await sleep(withJitter(Math.min(last, first * 2 ** Math.min(20, this.#failures - 1))), signal);
    }
  }

  async #attempt(body: string): Promise<{ reason: string; final: boolean } | undefined> {
    try {
      const signal = AbortSignal.any([this.#stop.signal, AbortSignal.timeout(this.waits.patience)]);
      const headers = { "content-type": "application/json" };
      const response = await fetch(this.url, { method: "POST", headers, body, redirect: "manual", signal });
      await response.body?.cancel();
      if (response.ok) return undefined;
      return { reason: `status ${response.status}`, final: !isTransient(response.status) };
    } catch (error) {
      return { reason: messageOf(error).replaceAll(this.url, new URL(this.url).host), final: false };
    }
  }

  #worked(): void {
    if (this.#failures > 0) this.log.info("notices are sent again", { event: "notify-works" });
    this.#failures = 0;
  }

  #failed(reason: string): void {
    const host = new URL(this.url).host;
    const fields = { event: "notify-failed", host, reason, lost: this.#lost || undefined } as const;
    this.log.warn("a notice cannot be sent", fields);
    this.#lost = 0;
  }
}
