/** Who got in: devices and the certificates given to them, in SQLite. */

import { Database } from "bun:sqlite";
import { createHash } from "node:crypto";
import type { EnrolmentRequest } from "../enrolment/messages.ts";
import { messageOf, WaltError } from "../errors.ts";
import { type PublicKey, publicKeyLine } from "../ssh/keys/ed25519.ts";
import { MIGRATIONS } from "./migrations.ts";

export interface Device {
  id: number;
  node: string;
  /** MAC address of the node on walt-net. */
  mac: string;
  boardMac: string;
  model: string;
  serialNumber: string;
  publicKey: string;
  acceptedAt: string;
  acceptedBy: string;
  revokedAt: string | null;
  /** Of its newest certificate. */
  certificateSerial: number;
  certificateExpires: string;
}

const SELECT = `
  SELECT d.id, d.node, d.mac, d.board_mac AS boardMac, d.model, d.serial_number AS serialNumber,
         d.public_key AS publicKey, d.accepted_at AS acceptedAt, d.accepted_by AS acceptedBy, d.revoked_at AS revokedAt,
         coalesce(c.serial, 0) AS certificateSerial, coalesce(c.expires_at, '') AS certificateExpires
  FROM devices d LEFT JOIN certificates c ON c.serial = (SELECT max(serial) FROM certificates WHERE device_id = d.id)`;

/** A key as the registry compares it: without its comment. */
function keyText(key: PublicKey): string {
  return publicKeyLine({ blob: key.blob, comment: "" });
}

export class Registry {
  readonly #db: Database;

  /**
   * Open the file, make it where there is none, and bring it to the newest version.
   * @throws WaltError when it cannot be opened or was written by a newer walt.
   */
  constructor(readonly path: string) {
    const umask = process.umask(0o077); // SQLite's files beside it, too
    let db: Database | undefined;
    try {
      this.#db = db = new Database(path, { create: true, strict: true });
      db.run("PRAGMA journal_mode = WAL");
      db.run("PRAGMA synchronous = FULL"); // an accepted device stays accepted after a power cut
      db.run("PRAGMA foreign_keys = ON");
      db.run("PRAGMA busy_timeout = 5000");
      this.#migrate();
    } catch (error) {
      db?.close();
      if (error instanceof WaltError) throw error;
      throw new WaltError(`cannot open the registry ${path}: ${messageOf(error)}`, { cause: error });
    } finally {
      process.umask(umask);
    }
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

  /** Register a device; its node gets a name and a MAC address that no other node has. */
  accept(request: EnrolmentRequest, by: string, now: Date): Device {
    return this.atomically(() => {
      const { node, mac } = this.#identity(request);
      this.#db
        .query<unknown, string[]>(
          `INSERT INTO devices (node, mac, board_mac, model, serial_number, public_key, accepted_at, accepted_by)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
        )
        .run(
          node,
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
   * `vpn-` and the last three bytes of the board's MAC, so that the same board is the same node when it
   * enrols afresh; where another device has that name, three bytes of a hash take their place.
   */
  #identity(request: EnrolmentRequest): { node: string; mac: string } {
    for (let attempt = 0; attempt < 1000; attempt++) {
      const bytes =
        attempt === 0
          ? Buffer.from(request.mac.replaceAll(":", ""), "hex").subarray(3)
          : createHash("sha256")
              .update(request.publicKey.blob)
              .update(String(attempt))
              .digest()
              .subarray(0, 3);
      const node = `vpn-${bytes.toString("hex")}`;
      // 52:54:00 is the range that QEMU uses: locally administered, never on a board.
      const mac = ["52", "54", "00", ...[...bytes].map((b) => b.toString(16).padStart(2, "0"))].join(":");
      if (this.byNode(node) === undefined) return { node, mac };
    }
    throw new WaltError("no free node name was found", { hint: "Revoke nodes that are not used any more." });
  }

  /** Note a certificate about to be signed; its serial, never used before. */
  issue(device: Device, issued: Date, expires: Date): bigint {
    const row = this.#db
      .query<{ serial: number }, [number, string, string]>(
        "INSERT INTO certificates (device_id, issued_at, expires_at) VALUES (?, ?, ?) RETURNING serial",
      )
      .get(device.id, issued.toISOString(), expires.toISOString());
    if (row === null) throw new Error("no serial came back");
    return BigInt(row.serial);
  }

  revoke(device: Device, now: Date): void {
    this.#db
      .query<unknown, [string, number]>("UPDATE devices SET revoked_at = ? WHERE id = ?")
      .run(now.toISOString(), device.id);
  }

  close(): void {
    this.#db.close();
  }
}
