/** vpn.toml read and checked. */

import { parse as parseToml, TomlError } from "smol-toml";
import { usageError, WaltError } from "../errors.ts";
import { readEditedIfAny } from "../linux/files.ts";
import { describe } from "../parse.ts";
import { type Key, refusal } from "./keys.ts";
import { type Config, ROLES, type Role, TABLES, type TableName, type Values } from "./schema.ts";

export const DEFAULT_CONFIG = "/etc/walt/vpn.toml";
const MAX_CONFIG = 65_536;

/**
 * The configuration of this run: `--config`, else WALT_CONFIG, else /etc/walt/vpn.toml where there is one.
 * @throws WaltError that names file, line or key, what was found and what is allowed.
 */
export function loadConfig(
  option: string | undefined,
  env: Record<string, string | undefined> = process.env,
): Config {
  if (option === "") throw usageError("--config is empty", "Name a vpn.toml, or omit the option.");
  const named = option ?? env["WALT_CONFIG"];
  const file = named === undefined || named === "" ? DEFAULT_CONFIG : named;
  const text = readEditedIfAny(file, MAX_CONFIG);
  if (text === undefined) {
    if (file === named)
      throw new WaltError(`${file} does not exist`, {
        hint: "Name a vpn.toml with --config or WALT_CONFIG.",
      });
    return parseConfig("", undefined);
  }
  return parseConfig(text, file);
}

/** A configuration from the text of a file; `file` names it in errors. */
export function parseConfig(text: string, file: string | undefined): Config {
  const where = file ?? "(no file)";
  let toml: Record<string, unknown>;
  try {
    toml = parseToml(text);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const reason = error.message.split("\n")[0]?.replace(/^Invalid TOML document: /, "") ?? "";
    throw new WaltError(`${where}, line ${error.line}, column ${error.column}: not TOML: ${reason}`);
  }
  const problems: string[] = [];
  const sources = new Map<string, string>();
  const complain = (table: string, key: string, what: string): void => {
    const line = lineOf(text, table, key);
    const name = table === "" ? key : `${table}.${key}`;
    problems.push(`${where}${line === undefined ? "" : `, line ${line}`}: ${name} ${what}`);
  };

  const { role: rawRole, ...tables } = toml;
  const role = ROLES.find((r) => r === rawRole);
  if (rawRole !== undefined && role === undefined) {
    complain("", "role", `must be ${ROLES.map((r) => `"${r}"`).join(" or ")}, found ${describe(rawRole)}`);
  }
  sources.set("role", role === undefined ? "default" : where);

  const given = flatten(tables, complain);
  const values: Record<string, Record<string, unknown>> = {};
  for (const table of Object.keys(TABLES) as TableName[]) {
    const keys: Record<string, Key<unknown>> = TABLES[table];
    const found = given.get(table) ?? new Map<string, unknown>();
    const result: Record<string, unknown> = {};
    for (const [name, key] of Object.entries(keys)) {
      const value = found.get(name);
      result[name] = key.default;
      sources.set(`${table}.${name}`, value === undefined ? "default" : where);
      if (value === undefined) continue;
      const read = key.read(value);
      if (read === undefined) complain(table, name, refusal(key, value));
      else result[name] = read;
    }
    for (const name of found.keys()) {
      if (!Object.hasOwn(keys, name))
        complain(table, name, `is not a key of [${table}]; ${suggest(name, Object.keys(keys))}`);
    }
    values[table] = result;
  }
  if (problems.length > 0) {
    throw new WaltError(problems.join("\n"), {
      hint: "`walt config show` lists every key with its value; docs/configuration.md explains them.",
    });
  }
  return { ...(values as unknown as Values), role, file, sources };
}

/** Values by table and key. Unknown tables are reported. */
function flatten(
  toml: Record<string, unknown>,
  complain: (table: string, key: string, what: string) => void,
): Map<string, Map<string, unknown>> {
  const names = Object.keys(TABLES);
  const result = new Map<string, Map<string, unknown>>();
  const visit = (table: string, content: Record<string, unknown>): void => {
    const keys = new Map<string, unknown>();
    result.set(table, keys);
    for (const [key, value] of Object.entries(content)) {
      const inner = table === "" ? key : `${table}.${key}`;
      const isTable =
        typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Date);
      if (names.includes(inner)) {
        if (isTable) visit(inner, { ...value });
        else complain(table, key, `must be a table, found ${describe(value)}`);
      } else if (table === "") {
        complain(
          "",
          key,
          `is not a table of vpn.toml; ${suggest(key, ["role", ...names.filter((n) => !n.includes("."))])}`,
        );
      } else {
        keys.set(key, value);
      }
    }
  };
  visit("", toml);
  return result;
}

/** The line (from 1) of a key or table in the file, if a plain search finds it. */
function lineOf(text: string, table: string, key: string): number | undefined {
  let current = "";
  for (const [index, line] of text.split("\n").entries()) {
    const header = /^\s*\[([^\]]+)\]/.exec(line)?.[1]?.replaceAll(/[\s"']/g, "");
    if (header !== undefined) current = header;
    const name = /^\s*["']?([\w-]+(?:\.[\w-]+)*)["']?\s*=/.exec(line)?.[1];
    const full =
      header ?? (name === undefined ? undefined : [current, name].filter((t) => t !== "").join("."));
    if (full === (table === "" ? key : `${table}.${key}`)) return index + 1;
  }
  return undefined;
}

/** "did you mean X?" if one of the names is similar, else all names. */
export function suggest(name: string, names: readonly string[]): string {
  const near = nearest(name, names);
  return near === undefined ? `allowed: ${names.join(", ")}` : `did you mean ${near}?`;
}

/** The name that was probably meant; undefined when none resembles what was typed. */
export function nearest(name: string, names: readonly string[]): string | undefined {
  const [near] = names
    .map((candidate) => ({ candidate, distance: editDistance(name, candidate) }))
    .sort((a, b) => a.distance - b.distance);
  if (near === undefined || near.distance > Math.max(1, Math.floor(name.length / 3))) return undefined;
  return near.candidate;
}

/** The number of letters to change, insert, delete, or swap with their neighbour. */
function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      const swap = swapped ? (before[j - 2] ?? 0) + 1 : change;
      next.push(Math.min(change, swap, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    before = row;
    row = next;
  }
  return row[b.length] ?? 0;
}

/** Check that the configuration is for this role: `walt server run` on a device is a mistake. */
export function requireRole(config: Config, role: Role): Config {
  if (config.role !== undefined && config.role !== role) {
    throw usageError(
      `${config.file ?? "the configuration"} says role = "${config.role}", not "${role}"`,
      `Use \`walt ${config.role} run\`, or name another file with --config.`,
    );
  }
  return config;
}

/** Each key with its value as TOML and where it came from, for `walt config show`. */
export function explainConfig(config: Config): { key: string; value: string; source: string }[] {
  const rows = [
    {
      key: "role",
      value: config.role === undefined ? '""' : `"${config.role}"`,
      source: config.sources.get("role") ?? "default",
    },
  ];
  for (const table of Object.keys(TABLES) as TableName[]) {
    const keys: Record<string, Key<unknown>> = TABLES[table];
    const values: Record<string, unknown> = config[table];
    for (const [name, key] of Object.entries(keys)) {
      rows.push({
        key: `${table}.${name}`,
        value: key.show(values[name]),
        source: config.sources.get(`${table}.${name}`) ?? "default",
      });
    }
  }
  return rows;
}
