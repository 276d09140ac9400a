/**
 * What a monitor shows and asks, as a small machine: events, typed lines and the time in, text and answers
 * out. No I/O.
 *
 * An answer names what it is for: the operator types the first characters of the code that the device shows.
 * So it cannot hit another request that took the place of this one on the screen.
 */

import type { MonitorEvent, PendingRequest } from "../../api/events.ts";
import { SHOWN_NOTICES } from "../../api/notice.ts";
import { codeBegins } from "../../enrolment/typed-code.ts";
import { plainText } from "../../text.ts";
import { parseAnswer, type Wishes } from "./_typed-answer.ts";

export type Action =
  | { print: string }
  | { prompt: string }
  /** Words about what was typed, for the place below the table. */
  | { say: string }
  | { answer: GivenAnswer };

/** An answer for the server. */
export interface GivenAnswer extends Wishes {
  id: string;
  fingerprint: string;
  accept: boolean;
}

/** ms that a request has been on the screen before an answer to it counts: nobody reads faster. */
export const READING_TIME = 500;
/** ms for which a request that is gone makes its code still ambiguous: it may be the one that was meant. */
const GONE_TIME = 10_000;
/** Requests that are gone and remembered. */
const MAX_GONE = 64;
/** Rows of a list. */
const MAX_ROWS = 20;

const OUTCOMES = {
  accepted: "accepted",
  denied: "denied",
  expired: "denied: nobody answered in time",
  withdrawn: "withdrawn",
} as const;

export interface ScreenOptions {
  /** Width of the terminal. */
  columns: number;
  /** Whether the terminal shows colours. */
  colours: boolean;
  /** Whether what waits stands in a table (_monitor-table.ts): then it is told once, and nothing is asked. */
  table?: boolean;
}

/** An answer, without the request that it is for. */
export type Decision = Omit<GivenAnswer, "id" | "fingerprint">;

interface Shown {
  request: PendingRequest;
  /** When it was shown, or last changed. */
  at: number;
}

export class MonitorScreen {
  /** By id, in the order in which they came. */
  readonly #waiting = new Map<string, Shown>();
  /** Requests whose answer of ours is on its way. */
  readonly #answered = new Map<string, PendingRequest>();
  #gone: Shown[] = [];
  /** When a line was last complained about. */
  #complained = Number.NEGATIVE_INFINITY;

  constructor(readonly options: ScreenOptions) {}

  /** @param now ms since the epoch, here and below */
  event(event: MonitorEvent, now: number): Action[] {
    switch (event.type) {
      case "watching":
        return [
          this.#line(
            now,
            "Waiting for devices that ask for access. `CODE as NAME` also names the node. ^C ends.",
          ),
        ];
      case "request":
        return this.#asked(event.request, now);
      case "answered": {
        const own = this.#answered.get(event.id);
        const other = this.#waiting.get(event.id)?.request;
        const request = own ?? other;
        if (request === undefined) return [];
        this.#answered.delete(event.id);
        this.#waiting.delete(event.id);
        this.#gone = [...this.#gone, { request, at: now }].slice(-MAX_GONE);
        return [this.#line(now, outcome(event, request, own !== undefined)), ...this.#rest()];
      }
      case "overload": {
        const from = event.from.map((one) => plainText(one)).join(", ");
        const what = event.denied === 1 ? "1 more request was" : `${event.denied} more requests were`;
        return [this.#line(now, `${what} denied: too many at once, from ${from}`), ...this.#prompt()];
      }
      case "node": {
        const via = event.via === "" ? "" : `, through ${plainText(event.via, 300)}`;
        const state = event.state === "up" ? `up${via}` : "down";
        return [this.#line(now, `node ${event.node} is ${state}`), ...this.#prompt()];
      }
      case "key-shared": {
        const macs = event.boards.map((mac) => `MAC ${mac}`).join(" and ");
        const text = `node ${event.node}: two devices use this key: ${macs}; walt node show says what to do`;
        return [this.#line(now, text), ...this.#prompt()];
      }
      case "notice":
        // The others are shown in words of their own.
        return SHOWN_NOTICES.has(event.notice.event)
          ? [this.#line(now, event.notice.text), ...this.#prompt()]
          : [];
      case "alive":
        return [];
    }
  }

  /** A line that the operator typed. */
  line(text: string, now: number): Action[] {
    const answer = parseAnswer(text);
    if (answer.kind === "nothing") return this.#waiting.size === 0 ? [] : this.#rest();
    if (this.#waiting.size === 0) return this.#complain("No device is waiting.", now);
    if (answer.kind === "wrong") return this.#complain(answer.why, now);
    if (answer.kind === "deny-only-one") {
      const [only, ...more] = this.#waiting.values();
      if (only === undefined || more.length > 0)
        return this.#complain("Several devices are waiting: type `deny` and the code of one.", now);
      return this.#answer(only, { accept: false }, now);
    }
    const fits = [...this.#waiting.values()].filter((one) => begins(one, answer.code));
    const codes = new Set(fits.map((one) => one.request.code));
    const gone = this.#gone.filter((one) => begins(one, answer.code) && elapsed(one.at, now) < GONE_TIME);
    for (const one of gone) codes.add(one.request.code);
    const [first] = fits;
    const said = plainText(text);
    if (codes.size > 1) {
      const list = [...codes].slice(0, 5).join(", ");
      return this.#complain(`"${said}" fits several (${list}): type more of the code.`, now);
    }
    if (first === undefined) {
      const why =
        gone.length > 0
          ? `${gone[0]?.request.code ?? ""} does not wait any more: nothing was done.`
          : `No device that waits has a code that begins like "${said}".`;
      return this.#complain(why, now);
    }
    const { kind: _, code: __, ...decision } = answer;
    return this.#answer(first, decision, now);
  }

  /** What waits, in the order of the table. */
  get rows(): PendingRequest[] {
    return this.#sorted().map(({ request }) => request);
  }

  /** An answer to the request that the operator has chosen in the table. */
  decide(id: string, decision: Decision, now: number): Action[] {
    const shown = this.#waiting.get(id);
    return shown === undefined ? [] : this.#answer(shown, decision, now);
  }

  /** An answer that the server did not take: it tells why. */
  failed(id: string, message: string, now: number): Action[] {
    const request = this.#answered.get(id);
    this.#answered.delete(id);
    // It still waits: had it been ended, we would have been told.
    if (request !== undefined) this.#waiting.set(id, { request, at: now });
    return [this.#line(now, plainText(message, 600)), ...this.#rest()];
  }

  /** The connection to the server is lost: what waited there waits no more. */
  lost(): void {
    this.#waiting.clear();
    this.#answered.clear();
    this.#gone = [];
  }

  #asked(request: PendingRequest, now: number): Action[] {
    if (this.#answered.has(request.id)) return [];
    const before = this.#waiting.get(request.id);
    this.#waiting.set(request.id, { request, at: now });
    if (before !== undefined) {
      const news = request.warnings.filter((one) => !before.request.warnings.includes(one));
      const lines = news.map((one) =>
        this.#line(now, `${this.#warning()} for ${request.code}: ${plainText(one, 300)}`),
      );
      return [...lines, ...this.#prompt()];
    }
    if (this.options.table)
      return [this.#line(now, `${request.code} (${request.mac}) asks for access to the VPN`)];
    if (this.#waiting.size === 1) {
      return [this.#line(now, "A device asks for access to the VPN:"), ...this.#rest()];
    }
    const alike = this.#sorted()
      .filter((one) => sameClaims(one.request, request))
      .slice(0, MAX_ROWS);
    return [
      this.#line(now, `One more device asks for access; ${this.#waiting.size} are waiting:`),
      { print: alike.flatMap((one) => this.row(one.request)).join("\n") },
      ...this.#prompt(),
    ];
  }

  #answer(shown: Shown, decision: Decision, now: number): Action[] {
    const { request } = shown;
    if (elapsed(shown.at, now) < READING_TIME) {
      return this.#complain(
        `Not counted: ${request.code} had not been on the screen for half a second. Look, and type it again.`,
        now,
      );
    }
    this.#waiting.delete(request.id);
    this.#answered.set(request.id, request);
    const { id, fingerprint } = request;
    return [{ answer: { id, fingerprint, ...decision } }, ...this.#rest()];
  }

  /** What is wrong with a line: not more often than it can be read, however fast lines come. */
  #complain(why: string, now: number): Action[] {
    if (elapsed(this.#complained, now) < READING_TIME) return [];
    this.#complained = now;
    return this.options.table ? [{ say: why }] : [{ print: why }, ...this.#prompt()];
  }

  /** What waits, with the question. */
  #rest(): Action[] {
    if (this.options.table) return [];
    const rows = this.#sorted();
    const [first] = rows;
    if (first === undefined) return [];
    if (rows.length === 1) return [{ print: this.block(first.request) }, ...this.#prompt()];
    const hidden = rows.length - MAX_ROWS;
    const lines = [
      `${rows.length} devices are waiting:`,
      ...rows.slice(0, MAX_ROWS).flatMap((one) => this.row(one.request)),
      ...(hidden > 0 ? [`  and ${hidden} more`] : []),
    ];
    return [{ print: lines.join("\n") }, ...this.#prompt()];
  }

  #prompt(): Action[] {
    if (this.#waiting.size === 0 || this.options.table) return [];
    return [
      {
        prompt:
          this.#waiting.size === 1
            ? 'Accept? Type the first 3 characters of the code on the device ("n" denies): '
            : "Accept which? Type the first 3 characters of its code (`deny CODE` denies): ",
      },
    ];
  }

  /** Requests in the order in which they came, those that claim the same beside each other. */
  #sorted(): Shown[] {
    const left = [...this.#waiting.values()];
    const sorted: Shown[] = [];
    for (let first = left.shift(); first !== undefined; first = left.shift()) {
      const { request } = first;
      const alike = left.filter((one) => sameClaims(one.request, request));
      sorted.push(first, ...alike);
      for (const one of alike) left.splice(left.indexOf(one), 1);
    }
    return sorted;
  }

  /**
   * One request, for a person who has to decide: the code first, and apart from what the device says about
   * itself.
   */
  block(r: PendingRequest): string {
    const width = Math.max(8, Math.min(40, this.options.columns - 18));
    return [
      "",
      `  short code     ${this.#bold(r.code)}   (the device shows the same)`,
      "",
      `  MAC address    ${r.mac}`,
      `  model          ${plainText(r.model, width)}`,
      `  serial number  ${plainText(r.serialNumber, width)}`,
      `  came from      ${plainText(r.address, 60)}`,
      `  key            ${r.fingerprint}`,
      ...this.#warnings(r),
      "",
    ].join("\n");
  }

  /** One request on one line of the terminal, and its warnings below. */
  row(r: PendingRequest): string[] {
    const rest = `  ${r.mac}  ${plainText(r.model, 26).padEnd(26)}  ${plainText(r.serialNumber, 16)}`;
    const width = Math.max(0, this.options.columns - 1 - 2 - r.code.length);
    return [`  ${this.#bold(r.code)}${rest.slice(0, width).trimEnd()}`, ...this.#warnings(r)];
  }

  #warnings(r: PendingRequest): string[] {
    return r.warnings.map((one) => `  ${this.#warning()}  ${plainText(one, 300)}`);
  }

  #warning(): string {
    return this.options.colours ? "\u001b[1;31mWARNING\u001b[0m" : "WARNING";
  }

  #bold(text: string): string {
    return this.options.colours ? `\u001b[1m${text}\u001b[0m` : text;
  }

  #line(now: number, text: string): Action {
    return { print: `${timeOfDay(now)} ${text}` };
  }
}

/** ms from `at` to `now`; a clock that was set back in between says nothing, and nobody is to wait for it. */
export function elapsed(at: number, now: number): number {
  return now < at ? Number.POSITIVE_INFINITY : now - at;
}

/** `14:05:07`, local time. */
function timeOfDay(now: number): string {
  const date = new Date(now);
  const parts = [date.getHours(), date.getMinutes(), date.getSeconds()];
  return parts.map((part) => String(part).padStart(2, "0")).join(":");
}

function begins({ request }: Shown, code: string): boolean {
  return codeBegins(request.code, code);
}

/** Whether it is the same request, or two that claim the same board. */
function sameClaims(a: PendingRequest, b: PendingRequest): boolean {
  return a.id === b.id || a.mac === b.mac || (a.serialNumber !== "" && a.serialNumber === b.serialNumber);
}

function outcome(
  event: Extract<MonitorEvent, { type: "answered" }>,
  request: PendingRequest,
  own: boolean,
): string {
  const what = `${request.code} (${request.mac}) ${OUTCOMES[event.outcome]}`;
  if (own && event.node !== undefined) return `${what}: it becomes node ${event.node}`;
  const by = own || event.outcome === "expired" ? "" : ` by ${plainText(event.by, 60)}`;
  return `${what}${by}${event.node === undefined ? "" : ` as node ${event.node}`}`;
}
