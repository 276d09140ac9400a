/**
 * A backup of the server: a gzipped tar archive with the configuration, the keys and the registry, and a list
 * of the SHA-256 of each. It is made while the daemon runs.
 */

import { Database } from "bun:sqlite";
import { createHash } from "node:crypto";
import {
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { messageOf, WaltError } from "../errors.ts";
import { makeFolders, syncFolder, syncTree, temporaryFolder, writeFileAtomic } from "../linux/files.ts";
import { Fields } from "../parse.ts";
import { explained } from "../system-error.ts";
import { VERSION } from "../version.ts";
import { KEY_NAMES } from "./keys.ts";
import { type Looked, lookAtCopy, putRegistry } from "./registry-copies.ts";

/** Bytes that a backup may have when it is read, packed and unpacked. */
export const MAX_BACKUP = 1 << 30;
/** Bytes of a file in `keys/`, and how many there may be. */
const MAX_KEY = 16_384;
const MAX_KEYS = 32;
/** Names in `keys/`: the keys, `serial`, `mark`. */
const KEY_FILE = /^[a-z][a-z.]{0,30}$/;

const CONFIG = "vpn.toml";
const REGISTRY = "registry.sqlite";
const MANIFEST = "backup.json";
const FORMAT = 1;
/** Times that the keys are read again, if they change while the registry is copied. */
const TRIES = 3;

/** What is in a backup. */
export interface Backup {
  readonly taken: Date;
  /** Of walt. */
  readonly version: string;
  /** Text of vpn.toml; undefined if there was none. */
  readonly config: string | undefined;
  /** The files of `keys/`, by name. */
  readonly keys: ReadonlyMap<string, Uint8Array>;
  readonly registry: Uint8Array;
  /** Devices that are not revoked. */
  readonly devices: number;
}

/**
 * Make a backup.
 * @param state the folder with keys and registry. @param config text of vpn.toml.
 * @throws WaltError when a file is missing or damaged, or cannot be read.
 */
export async function makeBackup(state: string, config: string | undefined, now: Date): Promise<Uint8Array> {
  try {
    const { keys, registry } = consistent(state);
    const files = new Map<string, Uint8Array>([
      ...(config === undefined ? [] : [[CONFIG, Buffer.from(config)] as const]),
      ...[...keys].map(([name, bytes]) => [`keys/${name}`, bytes] as const),
      [REGISTRY, registry],
    ]);
    const sums = Object.fromEntries([...files].map(([name, bytes]) => [name, sha256(bytes)]));
    const manifest = { walt: "backup", format: FORMAT, version: VERSION, taken: now.toISOString(), sums };
    const entries = { [MANIFEST]: `${JSON.stringify(manifest, null, 2)}\n`, ...Object.fromEntries(files) };
    const bytes = await new Bun.Archive(entries, { compress: "gzip" }).bytes();
    await openBackup(bytes); // what cannot be restored is no backup
    return bytes;
  } catch (error) {
    throw explained(error) ?? error;
  }
}

/** Keys and registry as they were at one time: the keys change when a rotation begins or ends. */
function consistent(state: string): Pick<Backup, "keys" | "registry"> {
  const path = join(state, REGISTRY);
  if (!existsSync(path))
    throw new WaltError(`there is no registry ${path}`, {
      hint: "Is this the server's machine? `server.state` in vpn.toml names the folder.",
    });
  for (let i = 1; ; i++) {
    const keys = readKeys(state);
    const registry = copyOf(path);
    const same = keysText(readKeys(state)) === keysText(keys);
    if (same) return { keys, registry };
    if (i === TRIES) throw new WaltError("the server's keys change all the time: try again later");
  }
}

function readKeys(state: string): Map<string, Uint8Array> {
  const folder = join(state, "keys");
  const names = readdirSync(folder).filter((name) => KEY_FILE.test(name) && !name.endsWith(".pub"));
  const missing = KEY_NAMES.filter((name) => !names.includes(name));
  if (missing.length > 0) throw new WaltError(`keys are missing in ${folder}: ${missing.join(", ")}`);
  return new Map(names.map((name) => [name, new Uint8Array(readFileSync(join(folder, name)))]));
}

/** Of the keys alone: the counter beside them goes on. */
function keysText(keys: ReadonlyMap<string, Uint8Array>): string {
  return JSON.stringify([...keys].filter(([name]) => name !== "serial").map(([n, b]) => [n, sha256(b)]));
}

/** A copy of the registry as it is now, made by SQLite and checked. */
function copyOf(path: string): Uint8Array {
  const folder = temporaryFolder();
  try {
    const file = join(folder, REGISTRY);
    const umask = process.umask(0o077);
    try {
      using db = new Database(path, { readonly: true, strict: true });
      db.run("PRAGMA busy_timeout = 5000");
      db.query<unknown, [string]>("VACUUM INTO ?").run(file);
    } finally {
      process.umask(umask);
    }
    const { damage } = lookAtCopy(file);
    if (damage !== undefined)
      throw new WaltError(`the registry ${path} is damaged: ${damage}`, {
        hint: "`walt server restore` puts back the newest whole copy. No backup was made.",
      });
    return new Uint8Array(readFileSync(file));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * Read a backup and check all that is in it.
 * @throws WaltError when it is none, or damaged.
 */
export async function openBackup(bytes: Uint8Array): Promise<Backup> {
  const wrong = (why: string): WaltError =>
    new WaltError(`this is no backup that can be restored: ${why}`, {
      hint: "`walt server backup` makes them. Is the file whole?",
    });
  if (gunzippedSize(bytes) > MAX_BACKUP) throw wrong(`it has more than ${MAX_BACKUP} bytes`);
  let files: Map<string, File>;
  try {
    files = await new Bun.Archive(bytes).files();
  } catch (error) {
    throw wrong(messageOf(error));
  }
  const read = async (name: string): Promise<Uint8Array | undefined> => await files.get(name)?.bytes();
  const manifest = await read(MANIFEST);
  if (manifest === undefined) throw wrong(`it has no ${MANIFEST}`);
  const fields = Fields.parse(Buffer.from(manifest).toString("utf8"), MANIFEST, 1 << 20);
  fields.choice("walt", ["backup"]);
  fields.integer("format", FORMAT, FORMAT);
  const sums = fields.object("sums");
  const content = new Map<string, Uint8Array>();
  for (const name of sums.keys()) {
    const data = await read(name);
    if (data === undefined) throw wrong(`${name} is missing`);
    if (sha256(data) !== sums.text(name, 64)) throw wrong(`${name} is damaged`);
    content.set(name, data);
  }
  const registry = content.get(REGISTRY);
  if (registry === undefined) throw wrong(`${REGISTRY} is missing`);
  const looked = lookAtBytes(registry);
  if (looked.damage !== undefined) throw wrong(`its registry is damaged: ${looked.damage}`);
  const keys = [...content]
    .filter(([name]) => name.startsWith("keys/"))
    .map(([name, data]) => [name.slice("keys/".length), data] as const);
  if (keys.length > MAX_KEYS || !keys.every(([name, { length }]) => KEY_FILE.test(name) && length <= MAX_KEY))
    throw wrong("its keys are not those of a server");
  for (const name of KEY_NAMES) if (!content.has(`keys/${name}`)) throw wrong(`keys/${name} is missing`);
  const config = content.get(CONFIG);
  return {
    taken: new Date(fields.time("taken")),
    version: fields.words("version", 100),
    config: config && Buffer.from(config).toString("utf8"),
    keys: new Map(keys),
    registry,
    devices: looked.devices,
  };
}

/** Bytes that a gzip file says it has when it is unpacked (RFC 1952, ISIZE); of another file its own. */
function gunzippedSize(bytes: Uint8Array): number {
  const isGzip = bytes.length > 18 && bytes[0] === 0x1f && bytes[1] === 0x8b;
  return isGzip ? Buffer.from(bytes.subarray(-4)).readUInt32LE() : bytes.length;
}

function lookAtBytes(registry: Uint8Array): Looked {
  const folder = temporaryFolder();
  try {
    const file = join(folder, REGISTRY);
    writeFileSync(file, registry, { mode: 0o600 });
    return lookAtCopy(file);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** What a restore has left. */
export interface RestoredBackup {
  /** Where the keys and the registry from before are now. */
  readonly before: readonly string[];
}

/**
 * Put keys and registry of a backup into the state folder, which is made if there is none. What was there is
 * kept beside them. The server must not run.
 * @throws the error of the system. Then nothing was changed, or it is to be done again.
 */
export function restoreBackup(backup: Backup, state: string, now: Date): RestoredBackup {
  makeFolders(state, 0o755);
  const { uid, gid } = statSync(state);
  const own = (path: string): void => {
    if (process.geteuid?.() === 0) chownSync(path, uid, gid);
  };
  const folder = join(state, "keys");
  const temp = `${folder}.new`;
  rmSync(temp, { recursive: true, force: true });
  mkdirSync(temp, { mode: 0o700 });
  own(temp);
  for (const [name, bytes] of backup.keys) {
    writeFileAtomic(join(temp, name), bytes, { mode: 0o600 });
    own(join(temp, name));
  }
  syncTree(temp);
  const before: string[] = [];
  if (lstatSync(folder, { throwIfNoEntry: false }) !== undefined) {
    const old = `${folder}.before-${now.toISOString().replaceAll(":", "")}`;
    renameSync(folder, old);
    before.push(old);
  }
  renameSync(temp, folder);
  syncFolder(state);
  const moved = putRegistry(state, now, (file) => writeFileSync(file, backup.registry, { mode: 0o600 }));
  return { before: moved === undefined ? before : [...before, moved] };
}

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}
