/**
 * Invitations: devices that the operator accepts before they ask. A device is invited by a token that it
 * carries, or by what it says of its board. Stored in the registry's database.
 */

import type { Database } from "bun:sqlite";
import { ApiError } from "../api/api-error.ts";
import type { EnrolmentRequest } from "../enrolment/messages.ts";
import { tokenHash } from "../enrolment/token.ts";

/** Invitations that are stored at most, used up and withdrawn ones too; the oldest of those make room. */
const MAX_STORED = 1000;

/** For whom an invitation is: who carries a token, or a board that says to have these. */
export type Invited =
  | { readonly token: string }
  | { readonly mac?: string | undefined; readonly serialNumber?: string | undefined };

export interface Invitation {
  id: number;
  kind: "token" | "board";
  /** Of an invitation by board: what it must say; null where anything will do. */
  mac: string | null;
  serialNumber: string | null;
  note: string;
  /** Devices that may come in by it, and that have. */
  uses: number;
  used: number;
  /** ISO 8601, UTC. */
  expiresAt: string;
  addedAt: string;
  addedBy: string;
  withdrawnAt: string | null;
}

/** What an invitation is worth now. */
export type Validity = "valid" | "withdrawn" | "expired" | "used up";

const SELECT = `
  SELECT id, kind, mac, serial_number AS serialNumber, note, uses, used, expires_at AS expiresAt, added_at AS addedAt,
         added_by AS addedBy, withdrawn_at AS withdrawnAt
  FROM invitations`;

export class Invitations {
  constructor(readonly db: Database) {}

  /** Newest last; those that are no longer valid too. */
  list(): Invitation[] {
    return this.db.query<Invitation, []>(`${SELECT} ORDER BY id`).all();
  }

  /** @throws ApiError when there are too many valid ones. */
  add(invited: Invited, o: { uses: number; expires: Date; note: string; by: string; now: Date }): Invitation {
    const byToken = "token" in invited;
    const add = this.db.transaction(() => {
      this.#makeRoom(o.now);
      return this.db
        .query<{ id: number }, (string | number | null)[]>(
          `INSERT INTO invitations
             (kind, token_hash, mac, serial_number, note, uses, expires_at, added_at, added_by)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id`,
        )
        .get(
          byToken ? "token" : "board",
          byToken ? tokenHash(invited.token) : null,
          byToken ? null : (invited.mac ?? null),
          byToken ? null : (invited.serialNumber ?? null),
          o.note,
          o.uses,
          o.expires.toISOString(),
          o.now.toISOString(),
          o.by,
        );
    });
    const added = this.#byId(add()?.id ?? 0);
    if (added === undefined) throw new Error("the invitation just added is not in the registry");
    return added;
  }

  /** The invitation of a token, whether it is valid or not. */
  byToken(token: string): Invitation | undefined {
    return (
      this.db.query<Invitation, [string]>(`${SELECT} WHERE token_hash = ?`).get(tokenHash(token)) ?? undefined
    );
  }

  /** The oldest valid invitation of a board: everything that it names is as the board says. */
  byBoard({ mac, serialNumber }: Pick<EnrolmentRequest, "mac" | "serialNumber">, now: Date) {
    return this.db
      .query<Invitation, [string, string]>(
        `${SELECT} WHERE kind = 'board' AND coalesce(mac, ?1) = ?1 AND coalesce(serial_number, ?2) = ?2 ORDER BY id`,
      )
      .all(mac, serialNumber)
      .find((one) => validity(one, now) === "valid");
  }

  /** One more device comes in by it, if it is not used up meanwhile. @returns whether it does. */
  use({ id }: Invitation): boolean {
    const update = "UPDATE invitations SET used = used + 1 WHERE id = ? AND used < uses";
    return this.db.query<unknown, [number]>(update).run(id).changes === 1;
  }

  /** @throws ApiError when there is none, or it is withdrawn already. */
  withdraw(kind: Invitation["kind"], id: number, now: Date): void {
    const one = this.#byId(id);
    const what = kind === "token" ? "token" : "expected board";
    if (one === undefined || one.kind !== kind) {
      const list = kind === "token" ? "walt vpn token list" : "walt vpn expect";
      throw new ApiError("unknown-invitation", `there is no ${what} ${id}`, `\`${list}\` shows them.`);
    }
    if (one.withdrawnAt !== null)
      throw new ApiError("unknown-invitation", `${what} ${id} was withdrawn already, at ${one.withdrawnAt}`);
    this.db
      .query<unknown, [string, number]>("UPDATE invitations SET withdrawn_at = ? WHERE id = ?")
      .run(now.toISOString(), id);
  }

  #byId(id: number): Invitation | undefined {
    return this.db.query<Invitation, [number]>(`${SELECT} WHERE id = ?`).get(id) ?? undefined;
  }

  #makeRoom(now: Date): void {
    const all = this.list();
    if (all.length < MAX_STORED) return;
    const over = all.find((one) => validity(one, now) !== "valid");
    if (over === undefined) {
      throw new ApiError(
        "too-many",
        `${MAX_STORED} tokens and expected boards are valid already`,
        "Withdraw those that are not needed: `walt vpn token list` and `walt vpn expect` show them.",
      );
    }
    this.db.query<unknown, [number]>("DELETE FROM invitations WHERE id = ?").run(over.id);
  }
}

export function validity(one: Invitation, now: Date): Validity {
  if (one.withdrawnAt !== null) return "withdrawn";
  if (Date.parse(one.expiresAt) <= now.getTime()) return "expired";
  return one.used >= one.uses ? "used up" : "valid";
}

/** Who accepted a device that came in by an invitation: for lists and the log. */
export function acceptedBy({ kind, id, addedBy }: Invitation): string {
  return `${kind === "token" ? "token" : "expected"} ${id} of ${addedBy}`;
}
