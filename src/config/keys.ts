/** The kinds of value that a key of vpn.toml can have. */

import {
  type Entrypoint,
  formatEntrypoint,
  formatHostPort,
  type HostPort,
  MAX_ENTRYPOINTS,
  parseEntrypoint,
  parseHostPort,
} from "../address.ts";
import { describe } from "../parse.ts";
import { parsePublicKey, publicKeyLine } from "../ssh/keys/ed25519.ts";

/** One key: how its value is read, its default, and what it is for. */
export interface Key<T> {
  /** The value when the file does not give the key. */
  readonly default: T;
  /** One or two sentences for the reference. */
  readonly doc: string;
  /** What is allowed, in words that end "… must be". */
  readonly allowed: string;
  /** The value, or undefined when it is not allowed. */
  read(value: unknown): T | undefined;
  /** The value as it would be written in the file. */
  show(value: T): string;
}

const quote = (value: unknown): string => JSON.stringify(value);

export function text(
  fallback: string,
  doc: string,
  allowed = "a string",
  pattern = /^[^\p{C}]*$/u,
): Key<string> {
  return {
    default: fallback,
    doc,
    allowed,
    read: (v) => (typeof v === "string" && v.length <= 4096 && pattern.test(v) ? v : undefined),
    show: quote,
  };
}

/** An absolute path. */
export function path(fallback: string, doc: string): Key<string> {
  return text(fallback, doc, "an absolute path", /^\/[^\p{C}]*$/u);
}

export function choice<const T extends string>(
  fallback: NoInfer<T>,
  values: readonly T[],
  doc: string,
): Key<T> {
  return {
    default: fallback,
    doc,
    allowed: values.map(quote).join(" or "),
    read: (v) => values.find((value) => value === v),
    show: quote,
  };
}

export function flag(fallback: boolean, doc: string): Key<boolean> {
  return {
    default: fallback,
    doc,
    allowed: "true or false",
    read: (v) => (typeof v === "boolean" ? v : undefined),
    show: String,
  };
}

export function integer(fallback: number, min: number, max: number, doc: string): Key<number> {
  return {
    default: fallback,
    doc,
    allowed: `a whole number from ${min} to ${max}`,
    read: (v) => (typeof v === "number" && Number.isInteger(v) && v >= min && v <= max ? v : undefined),
    show: String,
  };
}

/** Different whole numbers in an array; none unless told. */
export function integers(min: number, max: number, doc: string): Key<readonly number[]> {
  const one = integer(min, min, max, doc);
  return {
    default: [],
    doc,
    allowed: `an array of different whole numbers from ${min} to ${max}`,
    read: (v) => {
      if (!Array.isArray(v)) return undefined;
      const all = v.map((number) => one.read(number)).filter((number) => number !== undefined);
      return all.length === v.length && new Set(all).size === all.length ? all : undefined;
    },
    show: (all) => `[${all.join(", ")}]`,
  };
}

/** A whole number, or a word for a number that the program chooses. */
export function integerOr<const W extends string>(
  fallback: number | NoInfer<W>,
  word: W,
  min: number,
  max: number,
  doc: string,
): Key<number | W> {
  const number = integer(min, min, max, doc);
  return {
    default: fallback,
    doc,
    allowed: `${quote(word)} or ${number.allowed}`,
    read: (v) => (v === word ? word : number.read(v)),
    show: (v) => (v === word ? quote(v) : String(v)),
  };
}

const UNITS: Record<string, number> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** `30s`, `5m`, `12h` or `7d` in ms; undefined when it is no such duration. */
export function parseSpan(value: unknown): number | undefined {
  const match = typeof value === "string" ? /^(\d{1,6})(s|m|h|d)$/.exec(value) : null;
  const unit = UNITS[match?.[2] ?? ""];
  return match === null || unit === undefined ? undefined : Number(match[1]) * unit;
}

/** A duration, kept in ms. */
export function span(fallback: string, min: string, max: string, doc: string): Key<number> {
  const bound = (t: string): number => parseSpan(t) ?? 0;
  return {
    default: bound(fallback),
    doc,
    allowed: `a duration from "${min}" to "${max}", such as "30s", "5m", "12h" or "7d"`,
    read: (v) => {
      const ms = parseSpan(v);
      return ms !== undefined && ms >= bound(min) && ms <= bound(max) ? ms : undefined;
    },
    show: (ms) => {
      const unit = ["d", "h", "m", "s"].find((u) => ms % (UNITS[u] ?? 1) === 0 && ms > 0) ?? "s";
      return quote(`${ms / (UNITS[unit] ?? 1)}${unit}`);
    },
  };
}

function parsed<T>(value: unknown, parse: (text: string) => T): T | undefined {
  if (typeof value !== "string") return undefined;
  try {
    return parse(value);
  } catch {
    return undefined;
  }
}

/** `host[:port]`; the empty string, where the key has no default, is undefined. */
export function hostPort(fallback: string, port: number, doc: string): Key<HostPort | undefined> {
  return {
    default: fallback === "" ? undefined : parseHostPort(fallback, port),
    doc,
    allowed: `"host" or "host:port" (default port ${port}; an IPv6 address in brackets)`,
    read: (v) => parsed(v, (t) => parseHostPort(t, port)),
    show: (v) => (v === undefined ? '""' : quote(formatHostPort(v))),
  };
}

/** `host[:port]` on the loopback interface; undefined by default. */
export function loopback(port: number, doc: string): Key<HostPort | undefined> {
  const any = hostPort("", port, doc);
  return {
    ...any,
    allowed: `"127.0.0.1", "[::1]" or "localhost", with or without ":port" (default ${port})`,
    read: (v) => {
      const address = any.read(v);
      return address !== undefined && /^(localhost|127\.[\d.]+|::1)$/.test(address.host)
        ? address
        : undefined;
    },
  };
}

/** Entrypoints as `walt vpn setup-node --entrypoint` takes them; one needs no array. None by default. */
export function entrypoints(doc: string): Key<readonly Entrypoint[]> {
  return {
    default: [],
    doc,
    allowed: `"proxy[:port]", "user@proxy[:port]", a chain "proxy1,proxy2", or "ssh://server:port"; or an array of at most ${MAX_ENTRYPOINTS} different ones`,
    read: (v) => {
      const all = (Array.isArray(v) ? v : [v]).map((one) => parsed(one, parseEntrypoint));
      const good = all.filter((one) => one !== undefined);
      const different = new Set(good.map(formatEntrypoint)).size;
      const fits = all.length > 0 && all.length <= MAX_ENTRYPOINTS && different === all.length;
      return fits ? good : undefined;
    },
    show: (all) => {
      const [first = '""', ...more] = all.map((one) => quote(formatEntrypoint(one)));
      return more.length === 0 ? first : `[${[first, ...more].join(", ")}]`;
    },
  };
}

/** Address of a Debian mirror, as apt takes it: `http://host/debian`. */
export const MIRROR = /^(https?:\/\/|(file|copy|mirror\+file):\/)[^\s"'\\\p{C}]+$/u;

/** A Debian mirror; undefined unless the file has one. */
export function mirror(doc: string): Key<string | undefined> {
  return {
    default: undefined,
    doc,
    allowed: 'the address of a Debian mirror, "http://…"',
    read: (v) => (typeof v === "string" && v.length <= 1024 && MIRROR.test(v) ? v : undefined),
    show: (v) => quote(v ?? ""),
  };
}

/** An address to which events are sent; undefined unless the file has one. */
export function webhook(doc: string): Key<string | undefined> {
  return {
    default: undefined,
    doc,
    allowed: 'an address, "https://…" or "http://…"',
    read: (v) =>
      typeof v === "string" && v.length <= 2048 && /^https?:\/\/[^\s\p{C}]+$/u.test(v) && URL.canParse(v)
        ? v
        : undefined,
    show: (v) => quote(v ?? ""),
  };
}

/** Ed25519 public keys, each on one line: one, which may stand alone, or two. None unless told. */
export function publicKeys(doc: string): Key<readonly string[]> {
  return {
    default: [],
    doc,
    allowed: 'a public key, "ssh-ed25519 AAAA…", or an array of two',
    read: (v) => {
      if (v === "") return [];
      const all = (Array.isArray(v) ? v : [v]).map((one) =>
        parsed(one, (t) => publicKeyLine(parsePublicKey(t, "key"))),
      );
      const good = all.filter((one) => one !== undefined);
      return good.length === all.length && (all.length === 1 || all.length === 2) ? good : undefined;
    },
    show: (keys) => (keys.length < 2 ? quote(keys[0] ?? "") : `[${keys.map(quote).join(", ")}]`),
  };
}

/** An IPv4 address that a host can have, with the length of its network's prefix. */
export function network(fallback: string, doc: string): Key<string> {
  return {
    default: fallback,
    doc,
    allowed:
      'an IPv4 address of a host, with a prefix length from 8 to 29, such as "192.168.192.1/22" (not the first or last address of its network)',
    read: (v) => {
      // A leading zero would make the number octal for ip(8).
      const match =
        typeof v === "string"
          ? /^((?:0|[1-9]\d{0,2})(?:\.(?:0|[1-9]\d{0,2})){3})\/([1-9]\d?)$/.exec(v)
          : null;
      if (match === null || typeof v !== "string") return undefined;
      const parts = (match[1] ?? "").split(".").map(Number);
      const size = 2 ** (32 - Number(match[2]));
      const host = parts.reduce((sum, part) => sum * 256 + part, 0) % size;
      const fits = Math.max(...parts) <= 255 && size >= 2 ** 3 && size <= 2 ** 24;
      return fits && host !== 0 && host !== size - 1 ? v : undefined;
    },
    show: quote,
  };
}

/** Why a value was refused, for the error message. */
export function refusal(key: Key<unknown>, value: unknown): string {
  return `must be ${key.allowed}, found ${describe(value)}`;
}
