/**
 * What an operator has set for a device from the lab: values of vpn.toml that take the place of those in the
 * file, and host keys of proxies. A device keeps them in its state folder, so that its card need not change.
 */

import { WaltError } from "../errors.ts";
import type { Fields } from "../parse.ts";
import { knownHostsLine } from "../ssh/keys/known-hosts.ts";
import { type Key, refusal } from "./keys.ts";
import { type Config, TABLES } from "./schema.ts";

/** The keys of [device] that can be set. */
export const SETTABLE = ["entrypoint", "server", "silence", "mtu"] as const;
export type Settable = (typeof SETTABLE)[number];

/** Host keys that can be set, and characters of a line. */
const HOST_KEYS_MAX = 32;
const LINE_MAX = 1000;

export interface Settings {
  /** Values as vpn.toml has them. */
  readonly values: Readonly<Partial<Record<Settable, unknown>>>;
  /** Lines of known_hosts. They take the place of the card's lines for the same hosts. */
  readonly hostKeys: readonly string[];
}

/** What is to be changed: null = the file's value counts again. */
export interface Changes {
  readonly values: Readonly<Partial<Record<Settable, unknown>>>;
  /** Lines to add, in place of those for the same hosts; null = the card's lines count again. */
  readonly hostKeys: readonly string[] | null;
}

export const NO_SETTINGS: Settings = { values: {}, hostKeys: [] };

/** @throws WaltError when a value is not allowed. */
export function parseSettings(f: Fields): Settings {
  const { values, hostKeys } = parseChanges(f);
  return { values, hostKeys: hostKeys ?? [] };
}

/** @throws WaltError when a value is not allowed. */
export function parseChanges(f: Fields): Changes {
  const given = f.object("values");
  const values: Partial<Record<Settable, unknown>> = {};
  for (const name of SETTABLE) {
    const value = given.value(name);
    if (value === undefined) continue;
    if (value !== null) checkValue(name, value);
    values[name] = value;
  }
  return { values, hostKeys: f.orNull("hostKeys", (key) => f.array(key, HOST_KEYS_MAX).map(hostKeyLine)) };
}

/** Whether there is nothing to change. */
export function isEmpty({ values, hostKeys }: Changes): boolean {
  return Object.keys(values).length === 0 && hostKeys !== null && hostKeys.length === 0;
}

/** The settings after changes. @throws WaltError when there are too many host keys. */
export function change(settings: Settings, changes: Changes): Settings {
  const values = Object.entries({ ...settings.values, ...changes.values }).filter(([, v]) => v !== null);
  const added = changes.hostKeys;
  const hostKeys = added === null ? [] : [...withoutHosts(settings.hostKeys, added), ...added];
  if (hostKeys.length > HOST_KEYS_MAX)
    throw new WaltError(`${hostKeys.length} host keys are more than ${HOST_KEYS_MAX}`, {
      hint: "Set known-host= (nothing) first: then only those of the card are left.",
    });
  return { values: Object.fromEntries(values), hostKeys };
}

/** Those lines of known_hosts whose host none of the others has. */
export function withoutHosts(lines: readonly string[], others: readonly string[]): string[] {
  const hosts = new Set(others.map(hostOf));
  return lines.filter((line) => !hosts.has(hostOf(line)));
}

/**
 * A configuration with settings.
 * @param source where they come from, for `walt config show`.
 */
export function withSettings(config: Config, { values }: Settings, source: string): Config {
  const device: Record<string, unknown> = { ...config.device };
  const sources = new Map(config.sources);
  for (const name of SETTABLE) {
    const value = values[name];
    if (value === undefined) continue;
    device[name] = keyOf(name).read(value);
    sources.set(`device.${name}`, source);
  }
  return { ...config, device: device as unknown as Config["device"], sources };
}

const keyOf = (name: Settable): Key<unknown> => TABLES.device[name];
const hostOf = (line: string): string => line.split(/\s/, 1)[0] ?? "";

function checkValue(name: Settable, value: unknown): void {
  const key = keyOf(name);
  if (key.read(value) === undefined) throw new WaltError(`${name} ${refusal(key, value)}`);
}

function hostKeyLine(line: unknown): string {
  if (typeof line !== "string" || line.length > LINE_MAX) throw new WaltError("a host key is malformed");
  const [host = "", type = "", base64 = ""] = line.trim().split(/\s+/);
  return knownHostsLine(host, `${type} ${base64}`);
}
