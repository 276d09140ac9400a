/**
 * What waits, as a table at the bottom of the terminal: keys, events and the time in, lines and answers out. No
 * I/O. What a request is answered with, and whether it was on the screen for long enough, is decided by
 * MonitorScreen.
 */

import type { PendingRequest } from "../../api/events.ts";
import { MAX_NOTE } from "../../api/messages.ts";
import { messageOf } from "../../errors.ts";
import { parseNodeName } from "../../node-name.ts";
import { plainText } from "../../text.ts";
import { type Action, type Decision, elapsed, type MonitorScreen, READING_TIME } from "./_monitor-screen.ts";

/** A key that was pressed. */
export interface Key {
  /** `up`, `down`, `pageup`, `pagedown`, `return`, `escape`, `backspace`; of others it does not matter. */
  readonly name: string;
  /** The character, if it is a printable one. */
  readonly text: string;
}

/** Characters that may be typed into a line. */
const MAX_TYPED = 240;
/** Lines of the terminal that are left for what happens. */
const LEFT_FOR_EVENTS = 4;
/** Lines below the table: the keys, what was wrong, and what is typed. */
const BELOW = 4;

type Mode =
  | { readonly kind: "list" | "filter" }
  /** One request, with what can be done about it, since it is shown so (ms). */
  | { readonly kind: "one" | "source"; readonly id: string; readonly at: number }
  | { readonly kind: "name"; readonly id: string }
  | { readonly kind: "note"; readonly id: string; readonly name: string };

const LIST: Mode = { kind: "list" };

export class MonitorTable {
  #mode: Mode = LIST;
  /** The id of the line that is chosen. It is another line's only when the operator moves. */
  #chosen: string | undefined;
  #typed = "";
  #filter = "";
  #said = "";
  /** What was being done about a device when the connection was lost, and what was typed there. */
  #left:
    | { readonly mode: Extract<Mode, { id: string }>; readonly key: string; readonly typed: string }
    | undefined;
  /** Whether the connection was lost, and no request is here again. */
  #isLost = false;
  /** Keys before this time (ms) are for what was on the screen before. */
  #from = Number.NEGATIVE_INFINITY;

  constructor(readonly screen: MonitorScreen) {}

  /** Keys of the next moment do not count. */
  quiet(now: number): void {
    this.#from = now + READING_TIME;
  }

  /** Words for the line below the table. */
  say(text: string): void {
    this.#said = text;
  }

  /** The connection is lost: what is typed is kept for when these devices ask again. To be called before the screen's. */
  lost(): void {
    this.#isLost = true;
    if (!("id" in this.#mode)) return;
    const { id } = this.#mode;
    const key = this.screen.rows.find((one) => one.id === id)?.fingerprint;
    if (key !== undefined) this.#left = { mode: this.#mode, key, typed: this.#typed };
    this.#mode = LIST;
    this.#typed = "";
  }

  /** To be called after each event: what does not wait any more is not acted upon. */
  settle(now: number): void {
    const { rows } = this.screen;
    const ids = new Set(rows.map(({ id }) => id));
    if (ids.size > 0) this.#isLost = false;
    if (ids.size === 0 && !this.#isLost) {
      this.#typed = "";
      this.#filter = "";
    }
    if (this.#chosen !== undefined && !ids.has(this.#chosen)) this.#chosen = undefined;
    if ("id" in this.#mode && !ids.has(this.#mode.id)) {
      this.#mode = LIST;
      this.#typed = "";
      this.#said = "That device does not wait any more.";
      this.quiet(now);
    }
    const again = rows.find(({ fingerprint }) => fingerprint === this.#left?.key);
    if (this.#left === undefined || again === undefined || this.#mode !== LIST) return;
    const { mode, typed } = this.#left;
    this.#left = undefined;
    // Whoever has begun something else meanwhile is not interrupted.
    if (this.#typed !== "") return;
    this.#mode = "at" in mode ? { ...mode, id: again.id, at: now } : { ...mode, id: again.id };
    this.#typed = typed;
    this.quiet(now);
  }

  /** @param now ms since the epoch. */
  key(key: Key, now: number): Action[] {
    if (this.screen.rows.length === 0) return [];
    const left = this.#from - now;
    if (left > 0 && left <= READING_TIME) return [];
    this.#said = "";
    switch (this.#mode.kind) {
      case "list":
        return this.#listKey(key, now);
      case "filter":
        if (key.name === "escape") this.#filter = "";
        if (key.name === "escape" || key.name === "return") this.#mode = LIST;
        else this.#filter = edited(this.#filter, key);
        return [];
      case "one":
        return this.#oneKey(this.#mode, key, now);
      case "source":
        return this.#sourceKey(this.#mode, key, now);
      case "name":
      case "note":
        return this.#wishKey(this.#mode, key, now);
    }
  }

  #listKey(key: Key, now: number): Action[] {
    const { name, text } = key;
    const rows = this.#filtered();
    const at = rows.findIndex(({ id }) => id === this.#chosen);
    const move = (by: number): void => {
      const from = at < 0 ? (by > 0 ? -1 : rows.length) : at;
      this.#chosen = rows[Math.max(0, Math.min(rows.length - 1, from + by))]?.id;
    };
    if (name === "up") move(-1);
    else if (name === "down") move(1);
    else if (name === "pageup") move(-10);
    else if (name === "pagedown") move(10);
    else if (name === "escape") [this.#typed, this.#filter, this.#chosen] = ["", "", undefined];
    else if (name === "return" && this.#typed.trim() !== "") {
      const typed = this.#typed;
      this.#typed = "";
      return this.screen.line(typed, now);
    } else if (name === "return") {
      if (at >= 0 && this.#chosen !== undefined) this.#mode = { kind: "one", id: this.#chosen, at: now };
    } else if (text === "/" && this.#typed === "") this.#mode = { kind: "filter" };
    else this.#typed = edited(this.#typed, key);
    return [];
  }

  #oneKey({ id, at }: { id: string; at: number }, { name, text }: Key, now: number): Action[] {
    if (name === "escape") {
      this.#mode = LIST;
      return [];
    }
    // A key that comes with the one that opened this was not meant for it.
    if (elapsed(at, now) < READING_TIME) return [];
    switch (text.toLowerCase()) {
      case "a":
        this.#mode = { kind: "name", id };
        this.#typed = "";
        return [];
      case "d":
        return this.#decide(id, { accept: false }, now);
      case "b":
        return this.#decide(id, { accept: false, block: "key" }, now);
      case "s":
        this.#mode = { kind: "source", id, at: now };
        return [];
      default:
        return [];
    }
  }

  #sourceKey({ id, at }: { id: string; at: number }, { text }: Key, now: number): Action[] {
    if (elapsed(at, now) < READING_TIME) return [];
    if (text.toLowerCase() === "y") return this.#decide(id, { accept: false, block: "source" }, now);
    this.#mode = { kind: "one", id, at: now };
    return [];
  }

  /** The name, and then the note, of a device that is to be accepted. */
  #wishKey(mode: Extract<Mode, { kind: "name" | "note" }>, key: Key, now: number): Action[] {
    const { id } = mode;
    const typed = this.#typed.trim();
    if (key.name === "escape") this.#mode = { kind: "one", id, at: now };
    else if (key.name !== "return") this.#typed = edited(this.#typed, key);
    else if (mode.kind === "name") {
      try {
        this.#mode = { kind: "note", id, name: typed === "" ? "" : parseNodeName(typed) };
        this.#typed = "";
      } catch (error) {
        this.#said = messageOf(error);
      }
    } else {
      const name = mode.name === "" ? {} : { name: mode.name };
      const note = typed === "" ? {} : { note: typed.slice(0, MAX_NOTE) };
      return this.#decide(id, { accept: true, ...name, ...note }, now);
    }
    return [];
  }

  #decide(id: string, decision: Decision, now: number): Action[] {
    this.#mode = LIST;
    this.#typed = "";
    return this.screen.decide(id, decision, now);
  }

  #filtered(): PendingRequest[] {
    const wanted = this.#filter.trim().toLowerCase();
    return this.screen.rows.filter(({ code, mac, model, serialNumber, address }) =>
      [code, mac, model, serialNumber, address].join(" ").toLowerCase().includes(wanted),
    );
  }

  /** The lines, the last of which is that of the cursor; none when nothing waits. @param height of the terminal. */
  lines(height: number): string[] {
    const { rows } = this.screen;
    if (rows.length === 0) return [];
    const mode = this.#mode;
    const said = this.#said === "" ? [] : [this.#said];
    if ("id" in mode) {
      const request = rows.find(({ id }) => id === mode.id);
      return request === undefined
        ? []
        : [...this.screen.block(request).split("\n"), ...said, this.#question(mode, request)];
    }
    const filtered = this.#filtered();
    const many = rows.length === 1 ? "1 device waits" : `${rows.length} devices wait`;
    const some = this.#filter === "" ? "" : `, ${filtered.length} shown`;
    const keys = "↑ ↓ and Enter choose a line, / filters, ^C ends";
    const input =
      mode.kind === "filter"
        ? `Filter: ${this.#filter}`
        : `The first 3 characters of the code on the device (or deny CODE): ${this.#typed}`;
    const table = this.#table(filtered, Math.max(3, height - LEFT_FOR_EVENTS - BELOW));
    return [`${many}${some}:`, ...table, keys, ...said, input];
  }

  /** As many requests as there are lines for, so that the chosen one is among them. */
  #table(requests: readonly PendingRequest[], room: number): string[] {
    const all = requests.map((request) => {
      const lines = this.screen.row(request);
      return request.id === this.#chosen ? lines.map((line) => line.replace(/^ /, ">")) : lines;
    });
    const chosen = Math.max(
      0,
      requests.findIndex(({ id }) => id === this.#chosen),
    );
    let [first, last, used] = [chosen, chosen, all[chosen]?.length ?? 0];
    for (let grew = true; grew; ) {
      grew = false;
      for (const next of [last + 1, first - 1]) {
        const more = all[next]?.length;
        if (more === undefined || used + more > room) continue;
        [first, last, used, grew] = [Math.min(first, next), Math.max(last, next), used + more, true];
      }
    }
    const above = first === 0 ? [] : [`  ${first} above`];
    const below = last + 1 >= all.length ? [] : [`  ${all.length - last - 1} below`];
    return [...above, ...all.slice(first, last + 1).flat(), ...below];
  }

  #question(mode: Extract<Mode, { id: string }>, { address }: PendingRequest): string {
    switch (mode.kind) {
      case "one":
        return "a accepts, d denies, b blocks this key, s blocks all from its source, Esc goes back: ";
      case "source":
        return `Deny all that comes from ${plainText(address, 60)} for an hour, also of other devices? y or n: `;
      case "name":
        return `Name of the node (empty: the server chooses): ${this.#typed}`;
      case "note":
        return `Note about it (may be empty): ${this.#typed}`;
    }
  }
}

/** A line after a key. */
function edited(line: string, { name, text }: Key): string {
  if (name === "backspace") return line.slice(0, -1);
  return /^[ -~]$/.test(text) && line.length < MAX_TYPED ? line + text : line;
}
