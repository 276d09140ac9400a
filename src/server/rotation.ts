/**
 * Rotation of the server's keys while devices are connected: which boards have a new key, and when the old one goes.
 * Boards are told all keys with each certificate, and confirm them once they are on their disks.
 */

import { ApiError } from "../api/api-error.ts";
import type { RotationInfo } from "../api/messages.ts";
import type { Log } from "../log.ts";
import { fingerprint } from "../ssh/keys/ed25519.ts";
import { KEY_NAMES, type KeyName, type ServerKeys } from "./keys.ts";
import type { Registry } from "./registry.ts";

/** Nodes that an error names. */
const NAMED = 10;

export class Rotation {
  constructor(
    readonly keys: ServerKeys,
    readonly registry: Registry,
    readonly log: Log,
  ) {}

  list(): RotationInfo[] {
    return KEY_NAMES.map((key) => this.of(key));
  }

  of(key: KeyName): RotationInfo {
    const next = this.keys.nextOf(key);
    const print = next === undefined ? undefined : fingerprint(next.publicKey);
    return {
      key,
      fingerprint: fingerprint(this.keys.of(key).publicKey),
      next: print ?? null,
      waiting: print === undefined ? [] : this.registry.withoutKey(print).map(({ node }) => node),
    };
  }

  /** Make a new key beside the old one, unless there is one already. */
  begin(key: KeyName, by: string): RotationInfo {
    if (this.keys.nextOf(key) === undefined) {
      this.keys.begin(key);
      const { next } = this.of(key);
      this.registry.journal.order({ kind: "rotation-began", details: { key, fingerprint: next } }, by);
      this.log.info("a key is rotated", { event: "rotation-began", key, next: next ?? undefined, by });
    }
    return this.of(key);
  }

  /**
   * The new key takes the place of the old one.
   * @param force although there are boards that have not got it
   * @throws ApiError when there is no new key, or boards have not got it.
   */
  finish(key: KeyName, force: boolean, by: string): RotationInfo {
    const { next, waiting } = this.of(key);
    if (next === null) {
      throw new ApiError(
        "not-rotating",
        `there is no new ${key} key that could take the place of the old one`,
        `\`walt vpn rotate ${key}\` makes one.`,
      );
    }
    if (waiting.length > 0 && !force) {
      const more = waiting.length > NAMED ? ` and ${waiting.length - NAMED} more` : "";
      throw new ApiError(
        "boards-left",
        `these nodes' boards have not got the new ${key} key: ${waiting.slice(0, NAMED).join(", ")}${more}`,
        "A board gets it with its next certificate, and at its next start. With --force the old key goes all the same.",
      );
    }
    this.keys.finish(key);
    const details = { key, fingerprint: next, without: waiting.length };
    this.registry.journal.order({ kind: "rotation-finished", details }, by);
    this.log.warn("a key was rotated: the old one is good no more", {
      event: "rotation-finished",
      key,
      fingerprint: next,
      without: waiting.length,
      by,
    });
    return this.of(key);
  }
}
