/**
 * The server's three keys, made at its first start, and their rotation: a new key stands beside the old one until
 * boards and proxies have it, and then takes its place.
 *
 * A rotation is under way while there is a file `<key>.next`. It is finished by one rename, so that a power cut
 * leaves it either under way or finished.
 */

import { chmodSync, existsSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { ROTATED } from "../api/messages.ts";
import { messageOf, WaltError } from "../errors.ts";
import { readTextIfAny, syncFolder, writeFileAtomic } from "../linux/files.ts";
import { fingerprint, type KeyPair, type PublicKey, sameKey } from "../ssh/keys/ed25519.ts";
import { loadOrCreateKey } from "../ssh/keys/key-files.ts";

/**
 * ca signs device certificates. host authenticates this server end to end. enrolment is in every SD image: to be
 * treated as public.
 */
export const KEY_NAMES = ROTATED;
export type KeyName = (typeof KEY_NAMES)[number];

/** What ssh shows of a key. */
const COMMENTS: Record<KeyName, string> = {
  ca: "walt-vpn-ca",
  host: "walt-server",
  enrolment: "walt-enrolment",
};

export class ServerKeys {
  private constructor(
    readonly folder: string,
    private readonly current: Record<KeyName, KeyPair>,
    private readonly next: Partial<Record<KeyName, KeyPair>>,
    /** By this a proxy tells this server's lines from those of others, whatever keys it has: the first CA's fingerprint. */
    readonly mark: string,
  ) {}

  /** @throws WaltError when the folder cannot be made or a key file is not what it should be. */
  static load(state: string): ServerKeys {
    const folder = join(state, "keys");
    try {
      mkdirSync(folder, { recursive: true, mode: 0o700 });
      chmodSync(folder, 0o700);
    } catch (error) {
      throw new WaltError(`cannot make ${folder}: ${messageOf(error)}`, {
        hint: "It and all that is in it must belong to the user that the server runs as.",
        cause: error,
      });
    }
    const load = (name: KeyName): KeyPair => loadOrCreateKey(join(folder, name), COMMENTS[name]);
    const current = { ca: load("ca"), host: load("host"), enrolment: load("enrolment") };
    const next: Partial<Record<KeyName, KeyPair>> = {};
    for (const name of KEY_NAMES) {
      const path = join(folder, `${name}.next`);
      if (existsSync(path)) next[name] = loadOrCreateKey(path, COMMENTS[name]);
      else rmSync(`${path}.pub`, { force: true }); // of a rotation that a power cut interrupted when it was finished
    }
    const markFile = join(folder, "mark");
    const mark = readTextIfAny(markFile, 200)?.trim() ?? fingerprint(current.ca.publicKey);
    writeFileAtomic(markFile, `${mark}\n`);
    return new ServerKeys(folder, current, next, mark);
  }

  /** Path of the CA's public key: how a set-up script recognises this machine. */
  get caFile(): string {
    return join(this.folder, "ca.pub");
  }

  /** The key that is in use. */
  of(name: KeyName): KeyPair {
    return this.current[name];
  }

  /** The one that is to take its place; undefined while it is not rotated. */
  nextOf(name: KeyName): KeyPair | undefined {
    return this.next[name];
  }

  /** All that are good now, the one in use first. */
  all(name: KeyName): KeyPair[] {
    const { [name]: next } = this.next;
    return next === undefined ? [this.current[name]] : [this.current[name], next];
  }

  /** Whether a public key is one of those. */
  has(name: KeyName, key: PublicKey): boolean {
    return this.all(name).some((one) => sameKey(one.publicKey, key));
  }

  /** The fingerprints of all keys that are good now: what a board has to know. */
  get prints(): string[] {
    return KEY_NAMES.flatMap((name) => this.all(name)).map((one) => fingerprint(one.publicKey));
  }

  /** Make the new key, unless there is one. @throws WaltError when it cannot be written. */
  begin(name: KeyName): void {
    this.next[name] ??= loadOrCreateKey(join(this.folder, `${name}.next`), COMMENTS[name]);
  }

  /** The new key takes the place of the old one, which is deleted. There must be a new one. */
  finish(name: KeyName): void {
    const next = this.next[name];
    if (next === undefined) throw new Error(`there is no new ${name} key`);
    const path = join(this.folder, name);
    renameSync(`${path}.next`, path);
    syncFolder(this.folder);
    this.current[name] = next;
    delete this.next[name];
    rmSync(`${path}.next.pub`, { force: true });
    loadOrCreateKey(path, COMMENTS[name]); // writes its public half
  }
}
