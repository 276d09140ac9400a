/**
 * What each node's tunnel was like: a ring of the last hour in memory, and 30 days in a database of its own
 * beside the registry, so that copies of the registry stay small.
 *
 * The ring of a node has 360 samples of 5 numbers of 4 bytes: 7.2 kB, or 7.2 MB for 1000 nodes. In the
 * database a sample takes some 30 bytes: 130 kB for 30 days of a node, or 130 MB for 1000 nodes.
 */

import { Database } from "bun:sqlite";
import { rmSync } from "node:fs";
import { type History, OVERVIEW, SERIES, type Series, SPANS } from "../api/history.ts";
import { messageOf } from "../errors.ts";
import type { Log } from "../log.ts";
import { isDamage } from "../system-error.ts";
import type { Device } from "./registry.ts";
import type { TunnelsSeen } from "./views.ts";

/** A sample: a number for each of SERIES; NaN where it is not known. */
type Sample = Float32Array;

const WIDTH = SERIES.length;
const { hour: HOUR, month: MONTH } = SPANS;
/** Samples of the hour in one of the month. */
const PER_SLOT = MONTH.step / HOUR.step;
/** The place of a series in a sample. */
const PLACE = Object.fromEntries(SERIES.map((name, index) => [name, index])) as Record<Series, number>;

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS samples (
    device INTEGER NOT NULL,
    slot   INTEGER NOT NULL,   -- when it began, in steps of the month since 1970
    ${SERIES.map((name) => `"${name}" REAL`).join(", ")},
    PRIMARY KEY (device, slot)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS hours (
    device  INTEGER PRIMARY KEY,
    slot    INTEGER NOT NULL,  -- of the last sample, in steps of the hour since 1970
    samples BLOB NOT NULL      -- the ring
  ) STRICT;`;

/** The last hour of a device. */
interface Ring {
  readonly samples: Float32Array;
  /** Slot of the last sample, in steps since 1970. Slot n is at the place n modulo the number of samples. */
  last: number;
  /** Counters of the tunnels at that sample, bytes. */
  before: { receive: number; transmit: number } | undefined;
}

export class Histories {
  readonly #rings = new Map<number, Ring>();
  #db: Database | undefined;
  readonly #timer: Timer;
  /** The slot of the month that is being collected. */
  #slot: number;

  /**
   * @param path of the database. One that is damaged is made anew: it only tells of the past. Without one
   *   there is the last hour.
   * @param nodes the devices that are not revoked.
   * @param now a clock, ms since 1970.
   */
  constructor(
    readonly path: string,
    readonly nodes: () => readonly Pick<Device, "id" | "node">[],
    readonly tunnels: TunnelsSeen,
    readonly log: Log,
    readonly now: () => number = Date.now,
  ) {
    this.#db = this.#open();
    this.#slot = Math.floor(now() / 1000 / MONTH.step);
    this.#load();
    this.#timer = setInterval(() => this.sample(), 1000 * HOUR.step);
  }

  /** @param again whether one that is damaged may be made anew. */
  #open(again = true): Database | undefined {
    const umask = process.umask(0o077);
    let db: Database | undefined;
    try {
      db = new Database(this.path, { create: true, strict: true });
      db.run("PRAGMA journal_mode = WAL");
      db.run("PRAGMA synchronous = NORMAL"); // the last minutes may be lost with the power
      db.run(SCHEMA);
      db.run("DELETE FROM hours WHERE length(samples) <> ?", [4 * WIDTH * HOUR.samples]);
      return db;
    } catch (error) {
      db?.close();
      this.#failed(error);
      if (!again || !isDamage(error)) return undefined;
      for (const end of ["", "-wal", "-shm"]) rmSync(this.path + end, { force: true });
      return this.#open(false);
    } finally {
      process.umask(umask);
    }
  }

  #failed(error: unknown): void {
    this.log.warn("the nodes' history could not be kept", {
      event: "history-failed",
      reason: messageOf(error),
    });
  }

  /** The rings of the run before. What came since is not known. */
  #load(): void {
    const rows = this.#db
      ?.query<{ device: number; slot: number; samples: Uint8Array }, []>("SELECT * FROM hours")
      .all();
    for (const { device, slot, samples } of rows ?? []) {
      const bytes = new Uint8Array(samples); // a copy, which is aligned
      this.#rings.set(device, { samples: new Float32Array(bytes.buffer), last: slot, before: undefined });
    }
  }

  /** Take a sample of each node. Called every 10 s. */
  sample(): void {
    const nodes = this.nodes();
    const now = this.now();
    const monthSlot = Math.floor(now / 1000 / MONTH.step);
    if (monthSlot !== this.#slot) this.#keepSlot(nodes);
    this.#slot = monthSlot;
    const slot = Math.floor(now / 1000 / HOUR.step);
    for (const device of nodes) {
      const ring = this.#rings.get(device.id) ?? emptyRing(slot);
      this.#rings.set(device.id, ring);
      forget(ring, slot);
      ring.samples.set(this.#sampleOf(device, ring, now), place(slot));
      ring.last = slot;
    }
    const ids = new Set(nodes.map(({ id }) => id));
    for (const id of this.#rings.keys()) if (!ids.has(id)) this.#rings.delete(id);
  }

  #sampleOf(device: Pick<Device, "id" | "node">, ring: Ring, now: number): Sample {
    const info = this.tunnels.info(device as Device);
    const { bytesIn, bytesOut } = this.tunnels.totals(device as Device);
    const [since, isUp] = [info?.since.getTime() ?? 0, info?.state === "up"];
    // A tunnel that has changed within this sample was in the other state before.
    const share = Math.min(1, Math.max(0, (now - since) / 1000 / HOUR.step));
    const stats = isUp ? info?.stats : undefined;
    const { before } = ring;
    ring.before = { receive: bytesIn, transmit: bytesOut };
    const rate = (count: number, earlier: number | undefined): number =>
      earlier === undefined ? Number.NaN : Math.max(0, count - earlier) / HOUR.step;
    const values: Record<Series, number> = {
      up: isUp ? share : 1 - share,
      rtt: stats?.rtt || Number.NaN,
      loss: stats !== undefined && stats.pings > 0 ? stats.loss : Number.NaN,
      receive: rate(bytesIn, before?.receive),
      transmit: rate(bytesOut, before?.transmit),
    };
    return Float32Array.from(SERIES.map((name) => values[name]));
  }

  /** The last hour of a node. */
  hour(device: Pick<Device, "id" | "node">): History {
    const last = Math.floor(this.now() / 1000 / HOUR.step);
    return shown(device.node, HOUR, last, (slot) => this.#sampleAt(device.id, slot));
  }

  /** The last hour of a node, a sample for each minute. */
  overview(device: Pick<Device, "id" | "node">): History {
    const last = Math.floor(this.now() / 1000 / OVERVIEW.step);
    const each = OVERVIEW.step / HOUR.step;
    return shown(device.node, OVERVIEW, last, (minute) => this.#mean(device.id, minute * each, each));
  }

  /** The last 30 days of a node. The sample of now is that of the minutes since it began. */
  month(device: Pick<Device, "id" | "node">): History {
    const last = Math.floor(this.now() / 1000 / MONTH.step);
    const rows = this.#read(() =>
      this.#db
        ?.query<Record<Series, number | null> & { slot: number }, [number, number]>(
          `SELECT slot, ${SERIES.join(", ")} FROM samples WHERE device = ? AND slot > ?`,
        )
        .all(device.id, last - MONTH.samples),
    );
    const bySlot = new Map(
      rows?.map((row) => [row.slot, Float32Array.from(SERIES.map((name) => row[name] ?? Number.NaN))]),
    );
    return shown(device.node, MONTH, last, (slot) =>
      slot === last ? this.#mean(device.id, slot * PER_SLOT, PER_SLOT) : bySlot.get(slot),
    );
  }

  /** Write what is not written yet, and end. */
  stop(): void {
    clearInterval(this.#timer);
    this.#keepSlot(this.nodes());
    this.#read(() => {
      const db = this.#db;
      const insert = db?.query<unknown, [number, number, Uint8Array]>("INSERT INTO hours VALUES (?, ?, ?)");
      db?.transaction(() => {
        db.run("DELETE FROM hours");
        for (const [id, { last, samples }] of this.#rings)
          insert?.run(id, last, new Uint8Array(samples.buffer));
      })();
    });
    this.#db?.close();
    this.#db = undefined;
  }

  /** The sample of a slot; undefined where the ring has none. */
  #sampleAt(id: number, slot: number): Sample | undefined {
    const ring = this.#rings.get(id);
    if (ring === undefined || slot > ring.last || slot <= ring.last - HOUR.samples) return undefined;
    return ring.samples.subarray(place(slot), place(slot) + WIDTH);
  }

  /** The mean of what is known of `count` samples from a slot on. */
  #mean(id: number, from: number, count: number): Sample {
    const samples = Array.from({ length: count }, (_, i) => this.#sampleAt(id, from + i));
    return Float32Array.from(SERIES, (_, i) => {
      const known = samples.map((one) => one?.[i] ?? Number.NaN).filter((one) => !Number.isNaN(one));
      return known.reduce((sum, one) => sum + one, 0) / known.length;
    });
  }

  /** Write a sample of the month for each node, and delete what is too old. */
  #keepSlot(nodes: readonly Pick<Device, "id">[]): void {
    this.#read(() => {
      const db = this.#db;
      const insert = db?.query<unknown, (number | null)[]>(
        `INSERT OR REPLACE INTO samples VALUES (?, ?, ${SERIES.map(() => "?").join(", ")})`,
      );
      db?.transaction(() => {
        for (const { id } of nodes) {
          const sample = this.#mean(id, this.#slot * PER_SLOT, PER_SLOT);
          if (Number.isNaN(sample[PLACE.up])) continue;
          insert?.run(id, this.#slot, ...[...sample].map((one) => (Number.isNaN(one) ? null : one)));
        }
        // Also what a clock that was wrong has left in the future.
        db.run("DELETE FROM samples WHERE slot <= ?1 - ?2 OR slot > ?1 + ?2", [this.#slot, MONTH.samples]);
      })();
    });
  }

  #read<T>(use: () => T): T | undefined {
    try {
      return use();
    } catch (error) {
      this.#failed(error);
      return undefined;
    }
  }
}

/** Where the sample of a slot is in the ring's array. */
function place(slot: number): number {
  return (slot % HOUR.samples) * WIDTH;
}

function emptyRing(slot: number): Ring {
  const samples = new Float32Array(HOUR.samples * WIDTH).fill(Number.NaN);
  return { samples, last: slot, before: undefined };
}

/** Between the last sample and this one nothing is known. A clock that was set back begins the ring anew. */
function forget(ring: Ring, slot: number): void {
  const isBack = slot < ring.last;
  if (isBack || slot - ring.last > HOUR.samples) ring.samples.fill(Number.NaN);
  else for (let i = ring.last + 1; i < slot; i++) ring.samples.fill(Number.NaN, place(i), place(i) + WIDTH);
  if (isBack || slot - ring.last > 1) ring.before = undefined;
}

/** The samples up to the slot `last`, as the API has them. */
function shown(
  node: string,
  { step, samples }: { step: number; samples: number },
  last: number,
  sampleAt: (slot: number) => Sample | undefined,
): History {
  const first = last - samples + 1;
  const all = Array.from({ length: samples }, (_, i) => sampleAt(first + i));
  const series = (name: Series): (number | null)[] =>
    all.map((sample) => {
      const value = sample?.[PLACE[name]] ?? Number.NaN;
      return Number.isNaN(value) ? null : Number(value.toPrecision(4));
    });
  const from = new Date(1000 * step * first).toISOString();
  return {
    ...{ node, step, from, up: series("up"), rtt: series("rtt"), loss: series("loss") },
    ...{ receive: series("receive"), transmit: series("transmit") },
  };
}
