/**
 * Requests for access that ended because no operator was there, so that one can answer later: by key, the
 * newest of each. In memory: a board that still asks is here again seconds after a restart. No I/O, time is given.
 */

import type { ListedRequest, PendingRequest } from "../api/events.ts";
import type { EnrolmentRequest } from "../enrolment/messages.ts";

/** Requests that are remembered at most. */
const MAX_REMEMBERED = 256;
/** ms for which a board that asks no more is remembered: a day. */
const MEMORY = 86_400_000;

export interface Remembered {
  shown: PendingRequest;
  request: EnrolmentRequest;
  source: string;
  /** How often it asked. */
  asked: number;
  /** ms */
  lastAskedAt: number;
  /** The operator who denied it, and when, ms; undefined when nobody has answered. */
  denied: { readonly by: string; readonly at: number } | undefined;
}

export class RememberedRequests {
  /** By fingerprint, the one that asked last at the end. */
  readonly #all = new Map<string, Remembered>();

  /** What is remembered of a key. */
  of(fingerprint: string): Remembered | undefined {
    return this.#all.get(fingerprint);
  }

  byId(id: string): Remembered | undefined {
    return [...this.#all.values()].find((one) => one.shown.id === id);
  }

  /**
   * A key asked. Of the source that has most of what is remembered, the key that asked longest ago makes room.
   * @param deniedBy the operator who denied it for as long as it is remembered; the one of before unless given.
   */
  note(
    shown: PendingRequest,
    request: EnrolmentRequest,
    source: string,
    now: number,
    deniedBy?: string,
  ): void {
    this.#forgetOld(now);
    const before = this.#all.get(shown.fingerprint);
    this.#all.delete(shown.fingerprint);
    if (this.#all.size >= MAX_REMEMBERED) this.#makeRoom();
    this.#all.set(shown.fingerprint, {
      shown,
      request,
      source,
      asked: (before?.asked ?? 0) + 1,
      lastAskedAt: now,
      denied: deniedBy === undefined ? before?.denied : { by: deniedBy, at: now },
    });
  }

  /** Forget a key, which was accepted, or waits for an operator now. */
  drop(fingerprint: string): void {
    this.#all.delete(fingerprint);
  }

  /** Those that an operator denied: monitors are not shown them. */
  denied(
    now: number,
  ): { readonly shown: PendingRequest; readonly by: string; readonly at: number; readonly until: number }[] {
    this.#forgetOld(now);
    return [...this.#all.values()].flatMap(({ shown, denied, lastAskedAt }) =>
      denied === undefined ? [] : [{ shown, ...denied, until: lastAskedAt + MEMORY }],
    );
  }

  /** The one that asked last at the end. */
  list(now: number): ListedRequest[] {
    this.#forgetOld(now);
    return [...this.#all.values()].map(({ shown, asked, lastAskedAt, denied }) => ({
      ...shown,
      expiresAt: new Date(lastAskedAt + MEMORY).toISOString(),
      state: denied === undefined ? "remembered" : "denied",
      asked,
      lastAskedAt: new Date(lastAskedAt).toISOString(),
    }));
  }

  #forgetOld(now: number): void {
    for (const [key, { lastAskedAt }] of this.#all) {
      if (now - lastAskedAt < MEMORY) return;
      this.#all.delete(key);
    }
  }

  #makeRoom(): void {
    const held = new Map<string, number>();
    for (const { source } of this.#all.values()) held.set(source, (held.get(source) ?? 0) + 1);
    const most = Math.max(...held.values());
    for (const [key, { source }] of this.#all) {
      if (held.get(source) !== most) continue;
      this.#all.delete(key);
      return;
    }
  }
}
