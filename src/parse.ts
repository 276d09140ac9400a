/** Parses values from outside: each gets a type, or a WaltError says which value is wrong and where it is. */

import { WaltError } from "./errors.ts";
import { quoted, safeText } from "./text.ts";

/** A value described in a few words for an error message, safe to print on a terminal. */
export function describe(value: unknown): string {
  if (value === undefined) return "nothing";
  if (value === null) return "null";
  if (Array.isArray(value)) return `an array of ${value.length} values`;
  if (value instanceof Date) return "a date";
  if (typeof value === "object") return "a table";
  const text = typeof value === "string" ? quoted(value) : String(value);
  return `${typeof value} ${text.length > 60 ? `${text.slice(0, 57)}…` : text}`;
}

/**
/**
 * Parse JSON text. `where` begins every error.
 * @param max characters.
 * @throws WaltError when the text is longer, or not JSON.
 */
export function parseJson(text: string, where: string, max = 8192): unknown {
  if (text.length > max) throw new WaltError(`${where}: it is longer than ${max} characters`);
  try {
    return JSON.parse(text);
  } catch {
    throw new WaltError(`${where}: it is not JSON: ${describe(text)}`);
  }
}

/**
 * Parse an array of objects, each by `item`. Its place in the array begins the errors about an object.
 * @param max objects.
 * @throws WaltError when it is no array, is longer, or an object is not as it should be.
 */
export function parseList<T>(value: unknown, where: string, item: (fields: Fields) => T, max = 10_000): T[] {
  if (!Array.isArray(value) || value.length > max) {
    throw new WaltError(`${where}: expected an array of at most ${max}, found ${describe(value)}`);
  }
  return value.map((one: unknown, index) => item(new Fields(one, `${where}[${index}]`)));
}

/**
 * A JSON object, read field by field. Every method throws a WaltError when the field is not what it asks for.
 */
export class Fields {
  readonly #value: Record<string, unknown>;

  /**
   * @param where the name of the object, with which every message begins.
   * @throws WaltError for other values.
   */
  constructor(
    value: unknown,
    readonly where: string,
  ) {
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw new WaltError(`${where}: expected an object, found ${describe(value)}`);
    }
    this.#value = { ...value };
  }

  /** As `parseJson`, for text that must be a JSON object. */
  static parse(text: string, where: string, max?: number): Fields {
    return new Fields(parseJson(text, where, max), where);
  }

  /** The same fields and more, which take the place of those of the same name. */
  with(more: Readonly<Record<string, unknown>>): Fields {
    return new Fields({ ...this.#value, ...more }, this.where);
  }

  /** Whether the field is there and not null. */
  has(key: string): boolean {
    return this.#value[key] !== undefined && this.#value[key] !== null;
  }

  /** The names of all fields. */
  keys(): string[] {
    return Object.keys(this.#value);
  }

  /** The value of a field, which is not checked; undefined when it is missing. */
  value(key: string): unknown {
    return this.#value[key];
  }

  /** A string of at most `max` characters that matches `pattern`. */
  text(key: string, max = 200, pattern?: RegExp): string {
    const value = this.#value[key];
    if (typeof value !== "string") throw this.#wrong(key, "a string");
    if (value.length > max) throw new WaltError(`${this.where}: ${key} is longer than ${max} characters`);
    if (pattern !== undefined && !pattern.test(value))
      throw this.#wrong(key, `a string like ${pattern.source}`);
    return value;
  }

  /** As `text`; undefined when the field is missing or null. */
  optionalText(key: string, max = 200, pattern?: RegExp): string | undefined {
    return this.has(key) ? this.text(key, max, pattern) : undefined;
  }

  /** A string of at most `max` characters, made safe for a terminal. */
  words(key: string, max = 200): string {
    return safeText(this.text(key, max), max);
  }

  /** One of the given strings. */
  choice<T extends string>(key: string, values: readonly T[]): T {
    const value = this.#value[key];
    const found = values.find((v) => v === value);
    if (found === undefined) throw this.#wrong(key, values.map((v) => JSON.stringify(v)).join(" or "));
    return found;
  }

  /** A whole number in a range. */
  integer(key: string, min: number, max: number): number {
    const value = this.#value[key];
    if (typeof value !== "number" || !Number.isInteger(value) || value < min || value > max) {
      throw this.#wrong(key, `a whole number from ${min} to ${max}`);
    }
    return value;
  }

  /** The same in digits, as the query of a URL has it. */
  digits(key: string, min = 0, max = 1e15 - 1): number {
    const number = Number(this.text(key, 15, /^\d+$/));
    if (number < min || number > max) throw this.#wrong(key, `a whole number from ${min} to ${max}`);
    return number;
  }

  /** A number in a range, whole or not. */
  number(key: string, min: number, max: number): number {
    const value = this.#value[key];
    if (typeof value !== "number" || !(value >= min && value <= max)) {
      throw this.#wrong(key, `a number from ${min} to ${max}`);
    }
    return value;
  }

  /** A time of day, as Date's toISOString writes it. */
  time(key: string): string {
    return this.text(key, 30, /^\d{4,6}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  }

  /** True or false. */
  boolean(key: string): boolean {
    const value = this.#value[key];
    if (typeof value !== "boolean") throw this.#wrong(key, "true or false");
    return value;
  }

  /** Bytes in base64, exactly `length` of them. */
  base64(key: string, length: number): Buffer {
    const text = this.text(key, Math.ceil(length / 3) * 4, /^[A-Za-z0-9+/]*={0,2}$/);
    const bytes = Buffer.from(text, "base64");
    if (bytes.length !== length) throw this.#wrong(key, `${length} bytes in base64`);
    return bytes;
  }

  /** Another object. */
  object(key: string): Fields {
    return new Fields(this.#value[key], `${this.where}: ${key}`);
  }

  /** An array of at most `max` values, which are not checked. */
  array(key: string, max = 10_000): unknown[] {
    const value = this.#value[key];
    if (!Array.isArray(value) || value.length > max)
      throw this.#wrong(key, `an array of at most ${max} values`);
    return value;
  }

  /** An array of at most `max` strings, each as `words` gives one. */
  wordList(key: string, max: number, maxWords: number): string[] {
    return this.array(key, max).map((one, index) =>
      new Fields({ [key]: one }, `${this.where}: ${key}[${index}]`).words(key, maxWords),
    );
  }

  /** The objects of an array, each parsed by `item`. */
  list<T>(key: string, item: (fields: Fields) => T, max?: number): T[] {
    return parseList(this.#value[key], `${this.where}: ${key}`, item, max);
  }

  /**
   * What `read` makes of a field; null where the field is null. A field that is missing is an error of
   * `read`.
   */
  orNull<T>(key: string, read: (key: string) => T): T | null {
    return this.#value[key] === null ? null : read(key);
  }

  /** A field that may be missing, as an object to be spread: what `read` makes of it, or nothing. */
  optional<K extends string, T>(key: K, read: (key: string) => T): { [P in K]?: T } {
    if (!this.has(key)) return {};
    const field: { [P in K]?: T } = {};
    field[key] = read(key);
    return field;
  }

  #wrong(key: string, expected: string): WaltError {
    return new WaltError(`${this.where}: ${key} must be ${expected}, found ${describe(this.#value[key])}`);
  }
}

/** A MAC address as the program writes it: six pairs of lower-case hex digits with colons between them. */
export const MAC = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/;
/** A node's name: a DNS label of at most 32 characters that begins with a letter. */
export const NODE_NAME = /^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$/;
