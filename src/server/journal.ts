/**
 * The journal: what happened to nodes and to the server, and who gave the order. A table of the registry to
 * which its users only append. It is bounded by age and by number; and each operator, each device and each
 * stranger's address has a share of its own, so that nobody's events push out those of others.
 */

import type { Database } from "bun:sqlite";
import {
  type Details,
  type JournalEvent,
  type JournalKind,
  MAX_DETAIL_TEXT,
  MAX_EVENTS,
} from "../api/journal.ts";
import { safeText } from "../text.ts";

/** ms for which an event is kept. */
const MAX_AGE = 400 * 86_400_000;
/** ms between looks for events that are too old. */
const AGE_INTERVAL = 3_600_000;
/** ms that events of devices and strangers wait, to be written together: each write waits for the disk. */
const DELAY = 500;
/** Events that wait at most. */
const MAX_QUEUED = 10_000;

/** Events that are kept: of all of an origin together, and of each one there. 100 000 in all. */
export const SHARES = {
  /** By the operator's name. */
  operator: { all: 35_000, each: 35_000 },
  /** By the device's number. */
  device: { all: 60_000, each: 1000 },
  /** Those who ask for access, by the address that they came from. */
  stranger: { all: 5000, each: 200 },
} as const;

type Origin = keyof typeof SHARES;

/** A share may be larger by this part of it before it is cut, so that not each event needs a cut. */
const SLACK = 0.05;

/** A device, and what its node is called at this moment. */
interface Concerned {
  readonly id: number;
  readonly node: string;
}

/** An event to be written. Texts in the details are made safe for a terminal, and cut. */
export interface Happened {
  readonly kind: JournalKind;
  readonly device?: Concerned | undefined;
  readonly details?: Readonly<Record<string, string | number | null | undefined>>;
}

interface Row extends Omit<JournalEvent, "id"> {
  /** The device's number; null for an event of none. */
  device: number | null;
  origin: Origin;
  account: string;
}

interface Stored extends Omit<JournalEvent, "details"> {
  details: string;
}

const SELECT = "SELECT id, at, kind, node, by, details FROM journal";

export class Journal {
  /** Events of devices and strangers that are not written yet. */
  #queue: Row[] = [];
  /** Events that found no place in the queue, or could not be written. */
  #lost = 0;
  #timer: Timer | undefined;
  #agedAt = Number.NEGATIVE_INFINITY;
  /** How many events each has, by origin and then by account. */
  readonly #counts: Record<Origin, Map<string, number>> = {
    operator: new Map(),
    device: new Map(),
    stranger: new Map(),
  };
  readonly #followers = new Set<(event: JournalEvent) => void>();
  /** The last event that followers were told of. */
  #told = 0;

  constructor(
    readonly db: Database,
    readonly now: () => Date = () => new Date(),
    readonly shares: Readonly<Record<Origin, { all: number; each: number }>> = SHARES,
  ) {
    this.#count();
    this.#told = this.#last();
  }

  #count(): void {
    for (const counts of Object.values(this.#counts)) counts.clear();
    const rows = this.db
      .query<{ origin: Origin; account: string; n: number }, []>(
        "SELECT origin, account, count(*) AS n FROM journal GROUP BY origin, account",
      )
      .all();
    for (const { origin, account, n } of rows) this.#counts[origin].set(account, n);
  }

  /** Is told how many events are lost when they cannot be written, and why. */
  failed: (lost: number, error: unknown) => void = () => {};

  /**
   * Write what an operator ordered: at once, in the transaction of the caller, so that order and event are
   * stored together or not at all.
   * @param by the operator; null for the server itself.
   */
  order(what: Happened, by: string | null): void {
    this.#insert(this.#row(what, "operator", by?.split(" ", 1)[0] ?? "", by));
    this.#schedule(0);
  }

  /** Note what a device did, or what befell it. It is written within DELAY, together with what else comes. */
  ofDevice(what: Happened & { device: Concerned }): void {
    this.#note(this.#row(what, "device", String(what.device.id), null));
  }

  /** The same for somebody who asks for access. @param source of `sourceOf`. */
  ofStranger(what: Happened, source: string): void {
    this.#note(this.#row(what, "stranger", source, null));
  }

  /**
   * The newest `last` events; else the oldest after the number `after`. At most MAX_EVENTS, the oldest first.
   * @param node only of devices whose node has this name or default name, revoked ones too.
   */
  events(wanted: { last?: number; after?: number; since?: string; node?: string }): JournalEvent[] {
    this.flush();
    const { last, after = 0, since = "", node } = wanted;
    const ofNode =
      node === undefined
        ? "?3 IS NULL"
        : "(node = ?3 OR device IN (SELECT id FROM devices WHERE ?3 IN (node, default_name)))";
    const order = last === undefined ? "ASC" : "DESC";
    const rows = this.db
      .query<Stored, [number, string, string | null, number]>(
        `${SELECT} WHERE id > ?1 AND at >= ?2 AND ${ofNode} ORDER BY id ${order} LIMIT ?4`,
      )
      .all(after, since, node ?? null, Math.min(last ?? MAX_EVENTS, MAX_EVENTS));
    return (last === undefined ? rows : rows.toReversed()).map(eventOf);
  }

  /**
   * Tell all events after the number `after`, and each that is written from now on. The function returned
   * ends it. Events from before are at most MAX_EVENTS; `events` gives the others.
   */
  follow(after: number, tell: (event: JournalEvent) => void): () => void {
    this.flush();
    const follower = (event: JournalEvent): void => tell(event);
    for (const event of this.events({ after })) follower(event);
    this.#followers.add(follower);
    return () => void this.#followers.delete(follower);
  }

  /** Write what waits, cut what is too much, and tell the followers. Does nothing within a transaction. */
  flush(): void {
    if (this.db.inTransaction) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const rows = this.#queue.splice(0);
    try {
      if (rows.length > 0) this.db.transaction(() => rows.forEach((row) => void this.#insert(row)))();
      this.#cut();
    } catch (error) {
      this.#lost += rows.length;
      this.failed(this.#lost, error);
      this.#lost = 0;
    }
    this.#publish();
  }

  /** Write what waits. To be called before the database is closed. */
  close(): void {
    this.flush();
    clearTimeout(this.#timer);
    this.#followers.clear();
  }

  #row({ kind, device, details = {} }: Happened, origin: Origin, account: string, by: string | null): Row {
    const said: Details = {};
    for (const [key, value] of Object.entries(details)) {
      if (typeof value === "string") said[key] = safeText(value, MAX_DETAIL_TEXT);
      else if (typeof value === "number") said[key] = value;
    }
    return {
      ...{ at: this.now().toISOString(), kind, node: device?.node ?? null, device: device?.id ?? null },
      ...{ by, details: said, origin, account },
    };
  }

  #note(row: Row): void {
    if (this.#queue.length < MAX_QUEUED) this.#queue.push(row);
    else this.#lost++;
    this.#schedule(DELAY);
  }

  #schedule(ms: number): void {
    if (ms === 0) clearTimeout(this.#timer);
    else if (this.#timer !== undefined) return;
    this.#timer = setTimeout(() => this.flush(), ms);
  }

  #insert({ at, kind, node, device, by, details, origin, account }: Row): void {
    this.db
      .query<unknown, (string | number | null)[]>(
        `INSERT INTO journal (at, kind, node, device, by, details, origin, account)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
      )
      .run(at, kind, node, device, by, JSON.stringify(details), origin, account);
    const counts = this.#counts[origin];
    counts.set(account, (counts.get(account) ?? 0) + 1);
  }

  /** Forget what is too old, and what is more than the shares allow. */
  #cut(): void {
    const now = this.now().getTime();
    if (now - this.#agedAt >= AGE_INTERVAL) {
      this.#agedAt = now;
      this.db
        .query<unknown, [string]>("DELETE FROM journal WHERE at < ?")
        .run(new Date(now - MAX_AGE).toISOString());
      this.#count();
    }
    for (const origin of Object.keys(SHARES) as Origin[]) {
      const counts = this.#counts[origin];
      const level = levelOf([...counts.values()], this.shares[origin]);
      if (level === undefined) continue;
      this.db.transaction(() => {
        for (const [account, count] of counts) if (count > level) this.#cutTo(level, origin, account);
      })();
    }
  }

  #cutTo(level: number, origin: Origin, account: string): void {
    this.db
      .query<unknown, [Origin, string, number]>(
        `DELETE FROM journal WHERE origin = ?1 AND account = ?2 AND id <=
           (SELECT id FROM journal WHERE origin = ?1 AND account = ?2 ORDER BY id DESC LIMIT 1 OFFSET ?3)`,
      )
      .run(origin, account, level);
    this.#counts[origin].set(account, level);
  }

  #publish(): void {
    if (this.#followers.size === 0) {
      this.#told = this.#last();
      return;
    }
    for (;;) {
      const rows = this.db
        .query<Stored, [number, number]>(`${SELECT} WHERE id > ? ORDER BY id LIMIT ?`)
        .all(this.#told, MAX_EVENTS);
      for (const row of rows) {
        this.#told = row.id;
        const event = eventOf(row);
        for (const tell of [...this.#followers]) tell(event);
      }
      if (rows.length < MAX_EVENTS) return;
    }
  }

  #last(): number {
    return this.db.query<{ id: number | null }, []>("SELECT max(id) AS id FROM journal").get()?.id ?? 0;
  }
}

function eventOf({ details, ...rest }: Stored): JournalEvent {
  return { ...rest, details: JSON.parse(details) as Details };
}

/**
 * How many events each may keep, so that one who has few keeps all (max-min fairness).
 * @returns undefined while nothing has to go.
 */
function levelOf(
  counts: readonly number[],
  { all, each }: { all: number; each: number },
): number | undefined {
  const sum = counts.reduce((a, b) => a + b, 0);
  if (sum <= all && counts.every((one) => one <= each * (1 + SLACK))) return undefined;
  const room = sum <= all ? all : Math.floor(all * (1 - SLACK));
  let left = room;
  const sorted = counts.toSorted((a, b) => a - b);
  for (const [index, count] of sorted.entries()) {
    const share = Math.floor(left / (sorted.length - index));
    if (count > share) return Math.min(each, share);
    left -= count;
  }
  return each;
}
