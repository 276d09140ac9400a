/**
 * Where requests for access and the operators' answers meet. A request is told to all monitors; the first
 * answer wins; without a monitor it is denied, and remembered for an answer that comes later. A request that
 * waits keeps its place until it is answered, its time is over, or its device goes away: no other request takes
 * it. No I/O: monitors are functions, time is given.
 */

import { ApiError } from "../api/api-error.ts";
import type { ListedRequest, MonitorEvent, Outcome, PendingRequest } from "../api/events.ts";
import type { Block, BlockInfo } from "../api/messages.ts";
import type { DenialReason, EnrolmentRequest, Grant } from "../enrolment/messages.ts";
import { sourceOf } from "../source.ts";
import { fingerprint, shortCode } from "../ssh/keys/ed25519.ts";
import { BlockedSources } from "./blocked-sources.ts";
import { alike, CLAIMS, type Claim, sameClaim, warningText } from "./claims.ts";
import { type Remembered, RememberedRequests } from "./remembered-requests.ts";
import { RequestLimits } from "./request-limits.ts";

/** Requests that ended without being accepted and are remembered, to warn of one that resembles them. */
const MAX_ENDED = 64;
/** ms between two reports about requests that were denied because of the limits. */
const REPORT_INTERVAL = 10_000;
/** Addresses that such a report names. */
const REPORT_ADDRESSES = 3;

export interface AccessRequestsOptions {
  /** ms after which an unanswered request is denied. */
  answerTimeout: number;
  /** Whether requests that no operator saw are remembered. */
  remember: boolean;
  /**
   * Register the device and give it its first credentials. Throws when it cannot; then nothing is stored.
   * @param name what its node is to be called; undefined: the server chooses.
   */
  accept(request: EnrolmentRequest, by: string, name: string | undefined): Grant;
  /**
   * For the journal: a key asks that is not known yet, or a request is denied.
   * @param by the operator who denied it; undefined when nobody answered in time.
   */
  record(kind: "enrolment-requested" | "enrolment-denied", request: PendingRequest, by?: string): void;
  /** Requests of this key, or from this source, are not shown any more. */
  blocked(block: Block, shown: PendingRequest, by: string): void;
  /** They are shown again. @param what fingerprint of the key, or the source. */
  lifted(block: Block, what: string, by: string): void;
  /** So many more requests, from these addresses, were denied because of the limits; at most once in 10 s. */
  overloaded(denied: number, from: readonly string[]): void;
  /** ms since the epoch. */
  now(): number;
  /** Run something after so many ms; returns its cancellation. */
  after(ms: number, what: () => void): () => void;
}

export type Decision = { granted: Grant } | { denied: DenialReason };

/** One request, for the connection that it came by. */
export interface Ticket {
  /** "" of a request that was denied at once. */
  readonly id: string;
  /** Whether it waits for an operator, or was denied at once. */
  readonly waits: boolean;
  readonly decision: Promise<Decision>;
  /** The device went away. */
  withdraw(): void;
}

/** An operator's answer. */
export interface Answer {
  accept: boolean;
  /** Fingerprint of the key that the operator was shown: an id alone could be another request's by now. */
  fingerprint: string;
  /** Who gave it. */
  by: string;
  /** What the node of an accepted device is to be called; undefined: the server chooses. */
  name?: string | undefined;
  /** Of a denial: no monitor is to be shown this key again, or what comes from its source for an hour. */
  block?: Block | undefined;
}

interface Waiting {
  shown: PendingRequest;
  request: EnrolmentRequest;
  source: string;
  /** Whether it was not remembered already when it began to wait. */
  isNew: boolean;
  /** Claims that another key makes too, of which `shown` warns already. */
  warned: Set<Claim>;
  /** Settles the ticket of the connection that the device has now. */
  settle(decision: Decision): void;
  cancelTimer(): void;
}

export class AccessRequests {
  readonly #monitors = new Map<symbol, (event: MonitorEvent) => void>();
  readonly #waiting = new Map<string, Waiting>();
  readonly #limits = new RequestLimits();
  readonly #remembered = new RememberedRequests();
  readonly #blocked = new BlockedSources();
  /** Of requests that are remembered: a flood of new keys does not push out those of honest boards. */
  readonly #memoryLimits = new RequestLimits();
  /** What ended within the last `answerTimeout` without being accepted, oldest first. */
  #ended: { shown: PendingRequest; at: number; outcome: Outcome }[] = [];
  #next = 1;
  #refused = { denied: 0, from: new Set<string>(), reporting: false };

  constructor(readonly options: AccessRequestsOptions) {}

  get monitors(): number {
    return this.#monitors.size;
  }

  get pending(): PendingRequest[] {
    return [...this.#waiting.values()].map((w) => w.shown);
  }

  /** What waits, then what is remembered, each with the warnings about the others. */
  list(): ListedRequest[] {
    const waiting = [...this.#waiting.values()].map(({ shown }) => ({
      ...shown,
      state: "waiting" as const,
      asked: 1,
      lastAskedAt: shown.receivedAt,
    }));
    const remembered = this.#remembered.list(this.options.now());
    const all = [...waiting, ...remembered];
    return [
      ...waiting,
      ...remembered.map((one) => ({ ...one, warnings: [...one.warnings, ...alike(one, all)] })),
    ];
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
    for (const tell of [...this.#monitors.values()]) tell(event);
  }

  /**
   * A device asks. The key of a request is proven by its signature: a second request with the same key is the
   * same device on a new connection, and keeps the id and the place of the first.
   * @param address of the last proxy, as the server sees it
   * @param warnings for the operator, shown with the request
   */
  ask(request: EnrolmentRequest, address: string, warnings: readonly string[] = []): Ticket {
    const now = this.options.now();
    const source = sourceOf(address);
    const print = fingerprint(request.publicKey);
    const remembered = this.#remembered.of(print);
    if (this.#blocked.has(source, now)) return deniedAtOnce("operator");
    const denied = remembered?.denied !== undefined;
    const later = denied || this.#monitors.size === 0;
    // A key that describes its board in other words is another request: an answer to the first is not for it.
    const known = later && remembered !== undefined && sameBoard(remembered.request, request);
    const shown: PendingRequest = {
      id: known ? remembered.shown.id : String(this.#next++),
      mac: request.mac,
      model: request.model,
      serialNumber: request.serialNumber,
      address,
      fingerprint: print,
      code: shortCode(request.publicKey),
      receivedAt: new Date(now).toISOString(),
      expiresAt: new Date(now + this.options.answerTimeout).toISOString(),
      warnings: [...warnings],
    };
    if (later) {
      const { remember } = this.options;
      this.#remember({ shown, request, source });
      if (remember && remembered === undefined && this.#remembered.of(print) !== undefined)
        this.options.record("enrolment-requested", shown);
      return deniedAtOnce(denied ? "operator" : "nobody-watching");
    }
    const before = [...this.#waiting.values()].find((one) => one.shown.fingerprint === print);
    if (before !== undefined) {
      if (before.shown.address === address && sameBoard(before.request, request)) return this.#rejoin(before);
      const why = "the device, which asks again in other words";
      this.#end(before.shown.id, { denied: "busy" }, "withdrawn", why);
    }
    if (!this.#limits.enter(source, now)) {
      this.#report(address);
      return deniedAtOnce("busy");
    }
    this.#remembered.drop(print);
    const isNew = remembered === undefined;
    if (isNew) this.options.record("enrolment-requested", shown);
    const { id } = shown;
    const waiting: Waiting = {
      shown,
      request,
      source,
      isNew,
      warned: new Set(),
      settle: () => {},
      cancelTimer: this.options.after(this.options.answerTimeout, () =>
        this.#end(id, { denied: "timeout" }, "expired", "nobody"),
      ),
    };
    const alike = this.#warn(waiting, now);
    this.#waiting.set(id, waiting);
    for (const one of [waiting, ...alike]) this.tell({ type: "request", request: one.shown });
    return this.#ticket(waiting);
  }

  /** The device of this key was accepted in another way: no operator needs to answer it any more. */
  forget(print: string): void {
    this.#remembered.drop(print);
    const waiting = [...this.#waiting.values()].find((one) => one.shown.fingerprint === print);
    if (waiting === undefined) return;
    this.#end(waiting.shown.id, { denied: "busy" }, "withdrawn", "the device, which was accepted in advance");
  }

  /**
   * An operator's answer.
   * @returns the node's name when accepted.
   * @throws ApiError when the request does not wait (any more), or is of another key than the operator was shown.
   * @throws WaltError when the device cannot be registered. Then it still waits.
   */
  answer(id: string, answer: Answer): string | undefined {
    const { accept, fingerprint: print, by, name } = answer;
    const waiting = this.#waiting.get(id);
    const remembered = this.#remembered.byId(id);
    const shown = (waiting ?? remembered)?.shown;
    if (shown === undefined) {
      throw new ApiError(
        "not-waiting",
        `request ${id} does not wait for an answer any more`,
        "Another monitor answered it, its time was over, or the device went away.",
      );
    }
    if (shown.fingerprint !== print) {
      throw new ApiError(
        "not-waiting",
        `request ${id} is of another key than the one that was answered; nothing was done`,
        `It is of the key ${shown.fingerprint}, with the short code ${shown.code}.`,
      );
    }
    if (!accept) {
      this.options.record("enrolment-denied", shown, by);
      const { source, request } = waiting ?? remembered ?? {};
      if (answer.block !== undefined && source !== undefined && request !== undefined)
        this.#block(answer.block, { shown, source, request }, by);
    }
    if (waiting === undefined) return this.#answerLater(remembered, answer);
    if (!accept) {
      this.#end(id, { denied: "operator" }, "denied", by);
      return undefined;
    }
    const granted = this.options.accept(waiting.request, by, name);
    const node = granted.name ?? granted.node;
    this.#end(id, { granted }, "accepted", by, node);
    return node;
  }

  /** A key is blocked as a request that was denied later is: it stays in the list, and can still be accepted. */
  #block(
    block: Block,
    { shown, source, request }: Pick<Waiting, "shown" | "source" | "request">,
    by: string,
  ): void {
    const now = this.options.now();
    if (block === "source") this.#blocked.block(source, by, now);
    else this.#remembered.note(shown, request, source, now, by);
    this.options.blocked(block, shown, by);
    if (block === "key") return;
    for (const other of [...this.#waiting.values()])
      if (other.source === source && other.shown !== shown)
        this.#end(other.shown.id, { denied: "operator" }, "denied", by);
  }

  /** Keys and sources whose requests no monitor is shown. */
  blocks(): BlockInfo[] {
    const now = this.options.now();
    const times = (at: number, until: number): Pick<BlockInfo, "at" | "until"> => ({
      at: new Date(at).toISOString(),
      until: new Date(until).toISOString(),
    });
    const keys = this.#remembered.denied(now).map(({ shown: { code, fingerprint, mac }, by, at, until }) => ({
      ...{ kind: "key" as const, what: fingerprint, code, mac, by, ...times(at, until) },
    }));
    const sources = this.#blocked.list(now).map(({ source, by, at, until }) => ({
      ...{ kind: "source" as const, what: source, code: null, mac: null, by, ...times(at, until) },
    }));
    return [...keys, ...sources];
  }

  /** Show again what was blocked. @param what fingerprint of the key, or the source. @throws ApiError if it is not. */
  lift(block: Block, what: string, by: string): void {
    const remembered = block === "key" ? this.#remembered.of(what) : undefined;
    const isBlocked =
      block === "key" ? remembered?.denied !== undefined : this.#blocked.lift(what, this.options.now());
    if (!isBlocked) {
      throw new ApiError(
        "not-blocked",
        `the ${block} ${what} is not blocked`,
        "It was lifted already, or its time is over. `walt vpn block list` shows what is blocked.",
      );
    }
    if (remembered !== undefined) remembered.denied = undefined;
    this.options.lifted(block, what, by);
  }

  /** The answer to a request whose device asks again in a while. */
  #answerLater(remembered: Remembered | undefined, { accept, by, name }: Answer): string | undefined {
    if (remembered === undefined) return undefined;
    if (!accept) {
      remembered.denied = { by, at: this.options.now() };
      return undefined;
    }
    const granted = this.options.accept(remembered.request, by, name);
    this.#remembered.drop(remembered.shown.fingerprint);
    return granted.name ?? granted.node;
  }

  #remember({ shown, request, source }: Pick<Waiting, "shown" | "request" | "source">): void {
    if (!this.options.remember) return;
    const now = this.options.now();
    if (this.#remembered.of(shown.fingerprint) === undefined) {
      if (!this.#memoryLimits.enter(source, now)) return;
      this.#memoryLimits.leave(source);
    }
    this.#remembered.note(shown, request, source, now);
  }

  /** A new ticket for what waits; the one before it, if any, must have been settled. */
  #ticket(waiting: Waiting): Ticket {
    const { promise: decision, resolve } = Promise.withResolvers<Decision>();
    waiting.settle = resolve;
    const { id } = waiting.shown;
    return {
      id,
      waits: true,
      decision,
      // Not when the device has come back on another connection meanwhile.
      withdraw: () => {
        if (waiting.settle === resolve) this.#end(id, { denied: "busy" }, "withdrawn", "the device");
      },
    };
  }

  #rejoin(waiting: Waiting): Ticket {
    waiting.settle({ denied: "busy" });
    return this.#ticket(waiting);
  }

  /**
   * Warn of the new request, and of those that wait, where two keys claim the same MAC address or serial
   * number. Each request gets at most one warning of each kind.
   * @returns those that waited already and have a warning more.
   */
  #warn(added: Waiting, now: number): Set<Waiting> {
    const changed = new Set<Waiting>();
    this.#ended = this.#ended.filter((one) => now - one.at < this.options.answerTimeout);
    for (const claim of CLAIMS) {
      const others = [...this.#waiting.values()].filter((one) => sameClaim(claim, added.shown, one.shown));
      const ended = this.#ended.findLast((one) => sameClaim(claim, added.shown, one.shown));
      const [first] = others;
      if (first !== undefined) warn(added, claim, `${first.shown.code}, which waits,`);
      else if (ended !== undefined)
        warn(added, claim, `${ended.shown.code}, which was ${ended.outcome} a short while ago,`);
      for (const other of others)
        if (warn(other, claim, `${added.shown.code}, which waits,`)) changed.add(other);
    }
    return changed;
  }

  /** Count a request that the limits denied, and tell of it now or with others in a while. */
  #report(address: string): void {
    this.#refused.denied++;
    if (this.#refused.from.size < REPORT_ADDRESSES) this.#refused.from.add(address);
    if (!this.#refused.reporting) this.#tellRefused();
  }

  #tellRefused(): void {
    const { denied, from } = this.#refused;
    this.#refused = { denied: 0, from: new Set(), reporting: denied > 0 };
    if (denied === 0) return;
    this.tell({ type: "overload", denied, from: [...from] });
    this.options.overloaded(denied, [...from]);
    this.options.after(REPORT_INTERVAL, () => this.#tellRefused());
  }

  #end(id: string, decision: Decision, outcome: Outcome, by: string, node?: string): void {
    const waiting = this.#waiting.get(id);
    if (waiting === undefined) return;
    this.#waiting.delete(id);
    this.#limits.leave(waiting.source);
    if (outcome !== "accepted") {
      this.#ended = [...this.#ended, { shown: waiting.shown, at: this.options.now(), outcome }].slice(
        -MAX_ENDED,
      );
    }
    if (outcome === "expired" || ("denied" in decision && decision.denied === "nobody-watching"))
      this.#remember(waiting);
    if (outcome === "expired" && waiting.isNew) this.options.record("enrolment-denied", waiting.shown);
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

/** The ticket of a request that is denied at once. */
function deniedAtOnce(denied: DenialReason): Ticket {
  return { id: "", waits: false, decision: Promise.resolve({ denied }), withdraw: () => {} };
}

function sameBoard(a: EnrolmentRequest, b: EnrolmentRequest): boolean {
  return a.mac === b.mac && a.model === b.model && a.serialNumber === b.serialNumber;
}

/** @returns whether the request had no warning of this kind yet. */
function warn(waiting: Waiting, claim: Claim, other: string): boolean {
  if (waiting.warned.has(claim)) return false;
  waiting.warned.add(claim);
  const text = warningText(claim, other);
  waiting.shown = { ...waiting.shown, warnings: [...waiting.shown.warnings, text] };
  return true;
}
