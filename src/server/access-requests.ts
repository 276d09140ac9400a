/**
 * Where requests for access and the operators' monitors meet. A request is told to all monitors; the first answer wins;
 * without a monitor it is denied. No I/O: monitors are functions, time is given.
 */

import { ApiError } from "../api/api-error.ts";
import type { MonitorEvent, Outcome, PendingRequest } from "../api/events.ts";
import type { DenialReason, EnrolmentRequest, Grant } from "../enrolment/messages.ts";
import { fingerprint, shortCode } from "../ssh/keys/ed25519.ts";

/** Requests that may wait at once; more are told to come back. */
const MAX_PENDING = 64;

export interface AccessRequestsOptions {
  /** ms after which an unanswered request is denied. */
  answerTimeout: number;
  /** Register the device and give it its first credentials. */
  accept(request: EnrolmentRequest, by: string): Grant;
  now(): number;
  /** Run something after so many ms; returns its cancellation. */
  after(ms: number, what: () => void): () => void;
}

export type Decision = { granted: Grant } | { denied: DenialReason };

/** One request on the desk. */
export interface Ticket {
  readonly id: string;
  readonly decision: Promise<Decision>;
  /** The device went away. */
  withdraw(): void;
}

interface Waiting {
  shown: PendingRequest;
  request: EnrolmentRequest;
  settle(decision: Decision): void;
  cancelTimer(): void;
}

export class AccessRequests {
  readonly #monitors = new Map<symbol, (event: MonitorEvent) => void>();
  readonly #waiting = new Map<string, Waiting>();
  #next = 1;

  constructor(readonly options: AccessRequestsOptions) {}

  get monitors(): number {
    return this.#monitors.size;
  }

  get pending(): PendingRequest[] {
    return [...this.#waiting.values()].map((w) => w.shown);
  }

  /** A monitor begins to watch: it is told all that waits. The function returned ends its watch. */
  watch(tell: (event: MonitorEvent) => void): () => void {
    const key = Symbol("monitor");
    this.#monitors.set(key, tell);
    for (const request of this.pending) tell({ type: "request", request });
    return () => {
      if (!this.#monitors.delete(key) || this.#monitors.size > 0) return;
      for (const id of [...this.#waiting.keys()])
        this.#end(id, { denied: "nobody-watching" }, "denied", "nobody");
    };
  }

  /** Tell all monitors. */
  tell(event: MonitorEvent): void {
    for (const tell of this.#monitors.values()) tell(event);
  }

  /** A device asks. A second request with the same key takes the place of the first. */
  ask(request: EnrolmentRequest, address: string, warning?: string): Ticket {
    const id = String(this.#next++);
    const print = fingerprint(request.publicKey);
    for (const [other, waiting] of this.#waiting) {
      if (waiting.shown.fingerprint === print)
        this.#end(other, { denied: "busy" }, "withdrawn", "a newer request of the same device");
    }
    const denied =
      this.#monitors.size === 0 ? "nobody-watching" : this.#waiting.size >= MAX_PENDING ? "busy" : undefined;
    if (denied !== undefined) return { id, decision: Promise.resolve({ denied }), withdraw: () => {} };

    const now = this.options.now();
    const shown: PendingRequest = {
      id,
      mac: request.mac,
      model: request.model,
      serialNumber: request.serialNumber,
      address,
      fingerprint: print,
      code: shortCode(request.publicKey),
      receivedAt: new Date(now).toISOString(),
      expiresAt: new Date(now + this.options.answerTimeout).toISOString(),
      ...(warning === undefined ? {} : { warning }),
    };
    const { promise, resolve } = Promise.withResolvers<Decision>();
    const cancelTimer = this.options.after(this.options.answerTimeout, () =>
      this.#end(id, { denied: "timeout" }, "expired", "nobody"),
    );
    this.#waiting.set(id, { shown, request, settle: resolve, cancelTimer });
    this.tell({ type: "request", request: shown });
    return {
      id,
      decision: promise,
      withdraw: () => this.#end(id, { denied: "busy" }, "withdrawn", "the device"),
    };
  }

  /**
   * An operator's answer.
   * @returns the node's name when accepted.
   * @throws ApiError when the request does not wait (any more); WaltError when the device cannot be registered.
   */
  answer(id: string, accept: boolean, by: string): string | undefined {
    const waiting = this.#waiting.get(id);
    if (waiting === undefined) {
      throw new ApiError(
        "not-waiting",
        `request ${id} does not wait for an answer any more`,
        "Another monitor answered it, its time was over, or the device went away.",
      );
    }
    if (!accept) {
      this.#end(id, { denied: "operator" }, "denied", by);
      return undefined;
    }
    const granted = this.options.accept(waiting.request, by);
    this.#end(id, { granted }, "accepted", by, granted.node);
    return granted.node;
  }

  #end(id: string, decision: Decision, outcome: Outcome, by: string, node?: string): void {
    const waiting = this.#waiting.get(id);
    if (waiting === undefined) return;
    this.#waiting.delete(id);
    waiting.cancelTimer();
    waiting.settle(decision);
    this.tell({
      type: "answered",
      id,
      outcome,
      by,
      ...(node === undefined ? {} : { node }),
      ...("denied" in decision ? { reason: decision.denied } : {}),
    });
  }
}
