/**
 * Who got in: devices and the certificates given to them, in SQLite; who is invited (invitations.ts); and
 * what happened (journal.ts).
 */

import { Database } from "bun:sqlite";
import { createHash } from "node:crypto";
import { dirname } from "node:path";
import type { AddressRange } from "../address-range.ts";
import { ApiError } from "../api/api-error.ts";
import type { REENROL } from "../api/messages.ts";
import type { EndKind } from "../end.ts";
import type { EnrolmentRequest } from "../enrolment/messages.ts";
import { messageOf, WaltError } from "../errors.ts";
import { type PublicKey, publicKeyLine } from "../ssh/keys/ed25519.ts";
import { explained, isDamage, isLocked } from "../system-error.ts";
import { Invitations } from "./invitations.ts";
import { Journal } from "./journal.ts";
import { MIGRATIONS } from "./migrations.ts";
import { checkOf, newestWhole } from "./registry-copies.ts";

export type Reenrol = (typeof REENROL)[number];

export interface Device {
  id: number;
  /** The node's name, which operators may change. */
  node: string;
  /**
   * The name that the server gave it, which never changes: in the device's credentials and in the name of its
   * TAP.
   */
  defaultName: string;
  /** An operator's words about it; "" where there are none. */
  note: string;
  /** MAC address of the node on walt-net. */
  mac: string;
  /** Its IPv4 address there, which is its own for ever; null where something else than this server gives addresses. */
  address: string | null;
  boardMac: string;
  model: string;
  serialNumber: string;
  publicKey: string;
  acceptedAt: string;
  acceptedBy: string;
  revokedAt: string | null;
  /** Whether it is told to forget its key and ask again, when it is revoked: `told` once it was. */
  reenrol: Reenrol;
  /** Of the certificate that was issued last; 0 where it has none. */
  certificateSerial: number;
  /** When the last of its certificates expires, which need not be the newest; "" where it has none. */
  certificateExpires: string;
}

/** What is known of a device's last tunnel. */
export interface Seen {
  /** When it was up last. */
  readonly seenAt: string;
  /** When it ended; null while it is up, and when the server was killed while it was up. */
  readonly endedAt: string | null;
  /** Why it ended. */
  readonly end: EndKind | null;
  /** The same in words. */
  readonly reason: string | null;
}

const SELECT = `
  SELECT d.id, d.node, d.default_name AS defaultName, d.note, d.mac, d.address, d.board_mac AS boardMac, d.model, d.serial_number AS serialNumber,
         d.public_key AS publicKey, d.accepted_at AS acceptedAt, d.accepted_by AS acceptedBy, d.revoked_at AS revokedAt, d.reenrol,
         coalesce((SELECT max(serial) FROM certificates WHERE device_id = d.id), 0) AS certificateSerial,
         coalesce((SELECT max(expires_at) FROM certificates WHERE device_id = d.id), '') AS certificateExpires
  FROM devices d`;

/** A name as the server gives them. */
const DEFAULT_NAME = /^vpn-[0-9a-f]{6}$/;

/** A key as the registry compares it: without its comment. */
function keyText(key: PublicKey): string {
  return publicKeyLine({ blob: key.blob, comment: "" });
}

/** Another program holds the registry's database: to be tried again. */
export class RegistryLocked extends WaltError {
  constructor(path: string) {
    super(`the registry ${path} is locked by another program`, {
      hint: `fuser -v ${path} shows which one. End it, or wait until it is done.`,
    });
  }
}

/** The registry cannot be used. @param found what is damaged. */
function damaged(path: string, found: string): WaltError {
  const copy = newestWhole(dirname(path));
  const hint =
    copy === undefined
      ? "There is no copy of it. Restore a backup: walt server restore FILE."
      : `There is a copy of ${copy.taken.toISOString()} with ${copy.devices} devices. To use it: systemctl stop walt-vpn; walt server restore; systemctl start walt-vpn`;
  return new WaltError(`the registry ${path} is damaged: ${found.replaceAll("\n", " ")}`, { hint });
}

export class Registry {
  readonly #db: Database;
  readonly invitations: Invitations;
  readonly journal: Journal;
  /** The first three bytes of nodes' MAC addresses. */
  readonly #prefix: string;

  /**
   * Open the file, make it where there is none, and bring it to the newest version.
   * @throws WaltError when it cannot be opened or was written by a newer walt.
   */
  constructor(readonly path: string) {
    const umask = process.umask(0o077); // SQLite's files beside it, too
    let db: Database | undefined;
    try {
      this.#db = db = new Database(path, { create: true, strict: true });
      db.run("PRAGMA busy_timeout = 1000"); // first, as all that follows may find another program at it
      db.run("PRAGMA journal_mode = WAL");
      db.run("PRAGMA synchronous = FULL"); // an accepted device stays accepted after a power cut
      db.run("PRAGMA foreign_keys = ON");
      this.#refuseDamage();
      this.#migrate();
      db.run("PRAGMA busy_timeout = 5000");
      this.invitations = new Invitations(db);
      this.journal = new Journal(db);
      this.#prefix = db.query<{ prefix: string }, []>("SELECT prefix FROM node_range").get()?.prefix ?? "";
    } catch (error) {
      db?.close();
      if (error instanceof WaltError) throw error;
      if (isLocked(error)) throw new RegistryLocked(path);
      if (isDamage(error)) throw damaged(path, messageOf(error));
      const known = explained(error);
      throw new WaltError(`cannot open the registry ${path}: ${known?.message ?? messageOf(error)}`, {
        ...(known?.hint === undefined ? {} : { hint: known.hint }),
        cause: error,
      });
    } finally {
      process.umask(umask);
    }
  }

  /** @throws WaltError when pages of the database are damaged. */
  #refuseDamage(): void {
    const found = checkOf(this.#db);
    if (found !== "ok") throw damaged(this.path, found);
  }

  /** Copy all of it into a new file. @throws the database's error, as when a page cannot be read. */
  copyTo(file: string): void {
    this.#db.query<unknown, [string]>("VACUUM INTO ?").run(file);
  }

  /** The number of the last certificate; 0 if there was none. */
  get lastSerial(): bigint {
    const sql = "SELECT seq FROM sqlite_sequence WHERE name = 'certificates'";
    return BigInt(this.#db.query<{ seq: number }, []>(sql).get()?.seq ?? 0);
  }

  /** What SQLite's own check says of the file as it is now: `ok`, or what is damaged. */
  check(): string {
    return checkOf(this.#db);
  }

  #migrate(): void {
    const version =
      this.#db.query<{ user_version: number }, []>("PRAGMA user_version").get()?.user_version ?? 0;
    if (version > MIGRATIONS.length) {
      throw new WaltError(
        `${this.path} has version ${version}; this walt knows versions up to ${MIGRATIONS.length}`,
        {
          hint: "A newer walt wrote it. Install that one.",
        },
      );
    }
    for (const [index, sql] of MIGRATIONS.entries()) {
      if (index < version) continue;
      this.atomically(() => {
        this.#db.run(sql);
        this.#db.run(`PRAGMA user_version = ${index + 1}`);
      });
    }
  }

  /** All devices, revoked ones too, by node name. */
  list(): Device[] {
    return this.#db.query<Device, []>(`${SELECT} ORDER BY d.node, d.id`).all();
  }

  /** Those that are not revoked. */
  active(): Device[] {
    return this.list().filter((device) => device.revokedAt === null);
  }

  byKey(key: PublicKey): Device | undefined {
    return (
      this.#db.query<Device, [string]>(`${SELECT} WHERE d.public_key = ?`).get(keyText(key)) ?? undefined
    );
  }

  /** The device of a node's name that is not revoked. */
  byNode(node: string): Device | undefined {
    return (
      this.#db.query<Device, [string]>(`${SELECT} WHERE d.node = ? AND d.revoked_at IS NULL`).get(node) ??
      undefined
    );
  }

  byBoardMac(mac: string): Device[] {
    return this.#db
      .query<Device, [string]>(`${SELECT} WHERE d.board_mac = ? AND d.revoked_at IS NULL`)
      .all(mac);
  }

  /**
   * All that `work` writes is stored, or nothing of it when it throws. May be called within itself.
   * @throws what `work` throws.
   */
  atomically<T>(work: () => T): T {
    return this.#db.transaction(work)();
  }

  /**
   * Register a device; its node gets a name and a MAC address that no other node has.
   * @param name what the node is to be called. By default a board that was registered before keeps its name
   *   and its note.
   * @throws ApiError when the name cannot be given to it; WaltError when there is no name left.
   */
  accept(request: EnrolmentRequest, by: string, now: Date, name?: string): Device {
    return this.atomically(() => {
      const { defaultName, mac, before } = this.#identity(request);
      if (name !== undefined) this.#refuseName(name, defaultName);
      const kept = before !== undefined && !this.#isTaken(before.node) ? before.node : defaultName;
      this.#db
        .query<unknown, string[]>(
          `INSERT INTO devices (node, default_name, note, mac, board_mac, model, serial_number, public_key,
                                accepted_at, accepted_by)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
        )
        .run(
          name ?? kept,
          defaultName,
          before?.note ?? "",
          mac,
          request.mac,
          request.model,
          request.serialNumber,
          keyText(request.publicKey),
          now.toISOString(),
          by,
        );
      const device = this.byKey(request.publicKey);
      if (device === undefined) throw new Error("the device just registered is not in the registry");
      return device;
    });
  }

  /**
   * The default name is `vpn-` and the last three bytes of the board's MAC, so that the same board is the
   * same node when it enrols afresh; where another device has that name, three bytes of a hash take their
   * place. The node's MAC address ends with the same three bytes: WalT knows nodes by that. Its beginning is
   * this server's own. `before` is what was registered last of the same board.
   */
  #identity(request: EnrolmentRequest): { defaultName: string; mac: string; before: Device | undefined } {
    for (let attempt = 0; attempt < 1000; attempt++) {
      const bytes =
        attempt === 0
          ? Buffer.from(request.mac.replaceAll(":", ""), "hex").subarray(3)
          : createHash("sha256")
              .update(request.publicKey.blob)
              .update(String(attempt))
              .digest()
              .subarray(0, 3);
      const defaultName = `vpn-${bytes.toString("hex")}`;
      if (this.#isTaken(defaultName)) continue;
      const before = this.#db
        .query<Device, [string, string]>(
          `${SELECT} WHERE d.default_name = ? AND d.board_mac = ? ORDER BY d.id DESC LIMIT 1`,
        )
        .get(defaultName, request.mac);
      const own = [this.#prefix, ...[...bytes].map((b) => b.toString(16).padStart(2, "0"))].join(":");
      return { defaultName, mac: before?.mac ?? own, before: before ?? undefined };
    }
    throw new WaltError("no free node name was found", { hint: "Revoke nodes that are not used any more." });
  }

  /** Whether a device that is not revoked has this name, or had it as its default name. */
  #isTaken(name: string): boolean {
    return this.#holder(name) !== undefined;
  }

  #holder(name: string): Device | undefined {
    const sql = `${SELECT} WHERE d.revoked_at IS NULL AND (d.node = ?1 OR d.default_name = ?1)`;
    return this.#db.query<Device, [string]>(sql).get(name) ?? undefined;
  }

  /** @throws ApiError when the node with this default name cannot be called `name`. */
  #refuseName(name: string, defaultName: string): void {
    const holder = this.#holder(name);
    if (holder !== undefined && holder.defaultName !== defaultName) {
      const whose = holder.node === name ? "another node has it" : `it is the default name of ${holder.node}`;
      throw new ApiError(
        "name-taken",
        `the name ${name} is taken: ${whose}`,
        "`walt node show` lists the names.",
      );
    }
    if (DEFAULT_NAME.test(name) && name !== defaultName) {
      throw new ApiError(
        "name-taken",
        `the name ${name} is taken: the server itself gives names of this form`,
        `This node can be called ${defaultName}, or a name that does not look like it.`,
      );
    }
  }

  /** @throws ApiError when the node cannot have this name. */
  rename(device: Device, name: string): void {
    this.atomically(() => {
      this.#refuseName(name, device.defaultName);
      this.#db
        .query<unknown, [string, number]>("UPDATE devices SET node = ? WHERE id = ?")
        .run(name, device.id);
    });
  }

  setBoardMac(device: Device, mac: string): void {
    this.#db
      .query<unknown, [string, number]>("UPDATE devices SET board_mac = ? WHERE id = ?")
      .run(mac, device.id);
  }

  /** @param note "" for none. */
  setNote(device: Device, note: string): void {
    this.#db
      .query<unknown, [string, number]>("UPDATE devices SET note = ? WHERE id = ?")
      .run(note, device.id);
  }

  /** What a device's node is called now, which may be another name than when the device was looked up. */
  nameOf({ id, node }: Pick<Device, "id" | "node">): string {
    const row = this.#db.query<{ node: string }, [number]>("SELECT node FROM devices WHERE id = ?").get(id);
    return row?.node ?? node;
  }

  /**
   * Give each node that has no address in this range one of it, which no other node has.
   * @param leases addresses that the DHCP server has given, by MAC address. A node keeps its own.
   * @returns the nodes for which there was none left.
   */
  assignAddresses(range: AddressRange, leases: ReadonlyMap<string, string>): string[] {
    return this.atomically(() => {
      const left: string[] = [];
      const all = this.list();
      const inRange = (address: string | null): address is string =>
        address !== null && range.contains(address);
      const active = all.filter((one) => one.revokedAt === null);
      const without = active.filter((one) => !inRange(one.address));
      if (without.length === 0) return [];
      const taken = new Set([
        ...active.map((one) => one.address).filter(inRange),
        ...[...leases]
          .filter(([mac]) => !without.some((one) => one.mac === mac))
          .map(([, address]) => address),
      ]);
      // Those of revoked nodes are given to others only when there are no more.
      const revoked = new Map(
        all.filter((one) => one.revokedAt !== null).map((one) => [one.address, one.mac]),
      );
      for (const { id, mac, node } of without) {
        const own = [leases.get(mac), ...all.filter((one) => one.mac === mac).map((one) => one.address)];
        const address =
          own.find((one): one is string => one != null && range.contains(one) && !taken.has(one)) ??
          range.first((one) => !taken.has(one) && !revoked.has(one)) ??
          range.first((one) => !taken.has(one));
        if (address === undefined) {
          left.push(node);
          continue;
        }
        taken.add(address);
        this.#db
          .query<unknown, [string, number]>("UPDATE devices SET address = ? WHERE id = ?")
          .run(address, id);
      }
      return left;
    });
  }

  /**
   * Note a certificate about to be signed; its serial, never used before. Of the older ones of the device only
   * that is kept which expires last, if it outlives this one: nobody asks for the others, and a device may
   * renew as often as it likes, with whatever clock the server has.
   */
  issue(device: Device, issued: Date, expires: Date): bigint {
    return this.atomically(() => this.#issue(device, issued, expires));
  }

  #issue(device: Device, issued: Date, expires: Date): bigint {
    this.#db
      .query<unknown, [number, string]>(
        `DELETE FROM certificates WHERE device_id = ?1 AND (expires_at <= ?2 OR serial <>
           (SELECT serial FROM certificates WHERE device_id = ?1 ORDER BY expires_at DESC LIMIT 1))`,
      )
      .run(device.id, expires.toISOString());
    const row = this.#db
      .query<{ serial: number }, [number, string, string]>(
        "INSERT INTO certificates (device_id, issued_at, expires_at) VALUES (?, ?, ?) RETURNING serial",
      )
      .get(device.id, issued.toISOString(), expires.toISOString());
    if (row === null) throw new Error("no serial came back");
    return BigInt(row.serial);
  }

  /** Revoked devices that have a certificate which proxies would let in after `now`. */
  revokedWithCertificate(now: Date): Device[] {
    const all = this.list().filter((one) => one.revokedAt !== null);
    return all.filter((one) => one.certificateExpires > now.toISOString());
  }

  /** A board has these keys of the server on its disk, by fingerprint. */
  confirmKeys({ id }: Device, prints: readonly string[]): void {
    this.#db
      .query<unknown, [string, number]>("UPDATE devices SET has_keys = ? WHERE id = ?")
      .run(prints.join(" "), id);
  }

  /** Devices that are not revoked and have not confirmed to have this key of the server. */
  withoutKey(print: string): Device[] {
    return this.#db
      .query<Device, [string]>(
        `${SELECT} WHERE d.revoked_at IS NULL AND instr(' ' || d.has_keys || ' ', ' ' || ? || ' ') = 0 ORDER BY d.node`,
      )
      .all(print);
  }

  /** @param reenrol whether it is to be told to forget its key. */
  revoke(device: Device, now: Date, reenrol = false): void {
    this.#db
      .query<unknown, [string, Reenrol, number]>(
        "UPDATE devices SET revoked_at = ?, reenrol = ? WHERE id = ?",
      )
      .run(now.toISOString(), reenrol ? "ordered" : "no", device.id);
  }

  /** A revoked device is being told to forget its key. */
  toldToForget(device: Device): void {
    this.#db.query<unknown, [number]>("UPDATE devices SET reenrol = 'told' WHERE id = ?").run(device.id);
  }

  /**
   * Accept the key of a revoked device again. Its address is given up if another node has it.
   * @throws ApiError when another device has become the node meanwhile.
   */
  restore(device: Device): void {
    this.atomically(() => {
      const active = this.active();
      const other = active.find(
        ({ node, defaultName, mac }) =>
          [node, defaultName].some((name) => name === device.node || name === device.defaultName) ||
          mac === device.mac,
      );
      if (other !== undefined)
        throw new ApiError(
          "name-taken",
          `another device is the node ${other.node} now (accepted ${other.acceptedAt}): ${device.node} cannot be restored beside it`,
          `Rename or revoke that one first: \`walt vpn list\` shows it.`,
        );
      const isTaken = active.some(({ address }) => address !== null && address === device.address);
      this.#db
        .query<unknown, [string | null, number]>(
          "UPDATE devices SET revoked_at = NULL, reenrol = 'no', address = ? WHERE id = ?",
        )
        .run(isTaken ? null : device.address, device.id);
    });
  }

  /** Forget a revoked device: its key is unknown from now on. The journal still tells of it. */
  remove({ id }: Device): void {
    this.atomically(() => {
      for (const sql of [
        "DELETE FROM certificates WHERE device_id = ?",
        "DELETE FROM presence WHERE device = ?",
        "DELETE FROM devices WHERE id = ? AND revoked_at IS NOT NULL",
      ])
        this.#db.query<unknown, [number]>(sql).run(id);
    });
  }

  /** What is stored of devices' tunnels, by the devices' numbers. */
  presences(): Map<number, Seen> {
    const sql = "SELECT device, seen_at AS seenAt, ended_at AS endedAt, end, reason FROM presence";
    const rows = this.#db.query<Seen & { device: number }, []>(sql).all();
    return new Map(rows.map(({ device, ...seen }) => [device, seen]));
  }

  setPresences(all: ReadonlyMap<number, Seen>): void {
    const insert = this.#db.query<unknown, (string | number | null)[]>(
      "INSERT OR REPLACE INTO presence (device, seen_at, ended_at, end, reason) VALUES (?, ?, ?, ?, ?)",
    );
    this.atomically(() => {
      for (const [id, { seenAt, endedAt, end, reason }] of all) insert.run(id, seenAt, endedAt, end, reason);
    });
  }

  close(): void {
    this.journal.close();
    this.#db.close();
  }
}
