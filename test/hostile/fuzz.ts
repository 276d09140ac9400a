/**
 * What the fuzz tests share: random numbers from a seed, damage to what is well-formed, and the time that they may take.
 * WALT_FUZZ is the number of seconds that all fuzz tests together may take; without it each runs for a fixed
 * number of rounds, always the same ones. WALT_SEED repeats the one round of a seed that a failure named.
 */

import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { messageOf, WaltError } from "../../src/errors.ts";
import { chance } from "../tunnel/rig.ts";

/** A random whole number from 0 to below the limit. */
export type Random = (below: number) => number;

/** ms that a test without WALT_FUZZ may take at most: a busy machine makes fewer rounds. */
const SHORT = 3000;
/** ms of a round at most. What takes longer hangs. */
const ROUND = 60_000;
/** Bytes by which the heap may have grown at the end of a test, after the garbage was collected. */
const GROWTH = 64 << 20;

/** How many fuzz tests there are, among which WALT_FUZZ is divided. */
function count(): number {
  const folder = join(import.meta.dir, "..");
  const files = [...new Bun.Glob("**/*.test.ts").scanSync(folder)];
  const calls = files.map((file) => readFileSync(join(folder, file), "utf8").match(/^ *fuzz\(/gm) ?? []);
  return Math.max(1, calls.flat().length);
}

const { WALT_FUZZ: all, WALT_SEED: only } = process.env;
/** ms that a test may take. */
const TIME = all === undefined ? SHORT : (1000 * Number(all)) / count();

/**
 * A test of many rounds, each with random numbers of its own. A round fails by what it throws; the failure
 * names its seed.
 * @param rounds how many, unless WALT_FUZZ says how long.
 */
export function fuzz(name: string, rounds: number, round: (random: Random) => void | Promise<void>): void {
  const one = async (seed: number): Promise<void> => {
    try {
      await round(chance(scattered(seed)));
    } catch (error) {
      throw new Error(`with WALT_SEED=${seed}: ${messageOf(error)}`, { cause: error });
    }
  };
  test(
    `fuzz: ${name}`,
    async () => {
      if (only !== undefined) return await one(Number(only));
      // By hand other rounds each time; else a change that has nothing to do with it could fail.
      const first = all === undefined ? 1 : Math.floor(Math.random() * 2 ** 31);
      const before = heap();
      const late = performance.now() + TIME;
      for (let i = 0; i === 0 || (performance.now() < late && (all !== undefined || i < rounds)); i++)
        await one(first + i);
      expect(heap() - before).toBeLessThan(GROWTH);
    },
    TIME + ROUND,
  );
}

/** Neighbouring seeds give numbers that have nothing in common (the finaliser of MurmurHash3). */
function scattered(seed: number): number {
  let x = Math.imul(seed ^ (seed >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return x ^ (x >>> 16);
}

function heap(): number {
  Bun.gc(true);
  return process.memoryUsage().heapUsed;
}

/** One of these. */
export function oneOf<T>(random: Random, ...values: readonly [T, ...T[]]): T {
  return values[random(values.length)] ?? values[0];
}

/** Fewer than `most` random bytes. */
export function someBytes(random: Random, most: number): Buffer {
  return Buffer.from(Array.from({ length: random(most) }, () => random(256)));
}

/** Printable ASCII of at most `most` characters, without blanks at either end or beside each other. */
export function plainWords(random: Random, most: number): string {
  const text = Array.from({ length: random(most + 1) }, () => String.fromCharCode(33 + random(94))).join("");
  return text
    .replace(/[~]/g, () => oneOf(random, "~", " "))
    .replace(/ +/g, " ")
    .trim();
}

/** Bytes that are changed, cut, doubled, or have something put in. */
export function damage(message: Uint8Array, random: Random): Buffer {
  const bytes = Buffer.from(message);
  const at = random(bytes.length + 1);
  switch (random(7)) {
    case 0:
      return bytes.subarray(0, at);
    case 1:
      return Buffer.concat([bytes.subarray(0, at), someBytes(random, 20), bytes.subarray(at)]);
    case 2:
      return Buffer.concat([bytes, bytes.subarray(at)]);
    case 3: {
      // A number, where there may be one.
      const number = oneOf(random, 0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, random(100_000));
      if (bytes.length >= 4) bytes.writeUInt32BE(number, random(bytes.length - 3));
      return bytes;
    }
    case 4:
      if (bytes.length > 0) bytes[random(bytes.length)] = random(256);
      return bytes;
    case 5: {
      // A part is left out.
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + random(20))]);
    }
    default:
      return bytes.map((byte) => (random(20) === 0 ? random(256) : byte)) as Buffer;
  }
}

/** What text has that parsers stumble over. */
const WORDS = [
  ...["\0", "\r\n", "\n", '"', "'", "\\", "%", "%zz", "%00", "../", "//", "\u001b[2J", "\u202e", "\u{1f4a9}"],
  ...[
    "{",
    "}",
    "[[",
    "]]",
    ":",
    ",",
    "=",
    "#",
    " ",
    "null",
    "true",
    "-1",
    "1e999",
    "9007199254740993",
    "0x10",
  ],
  ...[
    "__proto__",
    "constructor",
    "toString",
    "\ud800",
    "é",
    "\ufeff",
    "1970-01-01T00:00:00.000Z",
    "[".repeat(2000),
  ],
];

/** The same for text, also with words that mean something in one format or another. */
export function damageText(text: string, random: Random): string {
  if (random(2) === 0) return damage(Buffer.from(text), random).toString();
  const at = random(text.length + 1);
  const word = WORDS[random(WORDS.length)] ?? "";
  return text.slice(0, at) + word + text.slice(at + (random(2) === 0 ? 0 : random(10)));
}

/** JSON with one value in it that is another, is missing, or has one more beside it. */
export function damageJson(value: unknown, random: Random): unknown {
  if (typeof value !== "object" || value === null || random(6) === 0) return strange(random);
  if (Array.isArray(value)) {
    const list = [...(value as unknown[])];
    const at = random(list.length + 1);
    list.splice(at, random(2), ...(random(3) === 0 ? [] : [damageJson(list[at], random)]));
    return list;
  }
  const entries = Object.entries(value);
  const [key, inner] = entries[random(Math.max(1, entries.length))] ?? ["x", undefined];
  const rest = entries.filter(([other]) => other !== key);
  if (random(6) === 0) return Object.fromEntries(rest);
  return Object.fromEntries([...rest, [key, damageJson(inner, random)]]);
}

function strange(random: Random): unknown {
  return oneOf<unknown>(
    random,
    ...([null, true, 0, -1, 1.5, 2 ** 53, 1e308, "", [], {}, [[]]] as const),
    ...["x".repeat(random(9000)), WORDS[random(WORDS.length)] ?? "", random(2 ** 31), { toString: 1 }],
  );
}

/**
 * What foreign bytes are made into, or undefined when they are refused as foreign bytes are.
 * @throws what is thrown and is no WaltError.
 */
export function refusedOr<T>(parse: () => T): T | undefined {
  try {
    return parse();
  } catch (error) {
    if (!(error instanceof WaltError)) throw error;
    // A person reads it on a terminal, a line for each problem.
    expect(error.message).not.toMatch(/[^\P{Cc}\n]|\p{Cf}/u);
    expect(error.message.length).toBeLessThan(20_000);
    return undefined;
  }
}
