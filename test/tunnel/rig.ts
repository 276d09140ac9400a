/** Tools for the tunnel's tests: a network with a TAP, a peer that the test plays, random numbers. */

import {
  allocate,
  at,
  EAGAIN,
  ECONNRESET,
  EPIPE,
  errno,
  errnoName,
  libc,
  POLLIN,
  setNonBlocking,
} from "../../src/linux/libc.ts";
import { run } from "../../src/linux/run.ts";
import { socketPair } from "../../src/linux/socketpair.ts";
import { openTap } from "../../src/linux/tap.ts";
import { writeHello } from "../../src/tunnel/message.ts";
import { PATIENCE } from "../lab/eventually.ts";
import { Holder } from "../lab/namespace.ts";

/** Random numbers below a limit, the same ones for the same seed (xorshift32). */
export function chance(seed: number): (below: number) => number {
  let x = seed | 1;
  return (below) => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) % below;
  };
}

/** A socketpair, both ends non-blocking as the pump needs them. */
export function streamPair(): [number, number] {
  const [a, b] = socketPair();
  setNonBlocking(b);
  return [a, b];
}

const scratch = allocate(1 << 18);

/** Bytes that can be read now. Undefined: the other end is closed. */
export function readNow(fd: number, max = scratch.bytes.length): Uint8Array | undefined {
  const n = libc.read(fd, at(scratch.address), max);
  if (n === 0) return undefined;
  if (n < 0) {
    const code = errno();
    if (code === EAGAIN) return new Uint8Array();
    if (code === ECONNRESET) return undefined; // closed with bytes of ours unread
    throw new Error(`read: ${errnoName(code)}`);
  }
  return scratch.bytes.slice(0, n);
}

/** Write to a descriptor. @returns how many bytes it took. */
export function writeNow(fd: number, bytes: Uint8Array): number {
  if (bytes.length === 0) return 0;
  const part = bytes.subarray(0, scratch.bytes.length);
  scratch.bytes.set(part);
  const n = libc.write(fd, at(scratch.address), part.length);
  if (n < 0 && errno() === EPIPE) return bytes.length; // nobody wants it any more
  if (n < 0 && errno() !== EAGAIN) throw new Error(`write: ${errnoName(errno())}`);
  return Math.max(0, n);
}

const polls = allocate(8);
const words = new Int32Array(polls.bytes.buffer);

/** Wait (the whole thread) until something can be read. */
export function readable(fd: number, ms: number): boolean {
  words[0] = fd;
  words[1] = POLLIN;
  return libc.poll(at(polls.address), 1, Math.max(0, Math.ceil(ms))) > 0;
}

/** The next frame that fits; others are skipped. Undefined if none comes within `ms`. */
export function nextFrame(
  fd: number,
  fits: (frame: Uint8Array) => boolean,
  ms = PATIENCE,
): Uint8Array | undefined {
  const until = performance.now() + ms;
  while (readable(fd, until - performance.now())) {
    const frame = readNow(fd);
    if (frame === undefined) return undefined;
    if (frame.length > 0 && fits(frame)) return frame;
  }
  return undefined;
}

/** Everything that comes until the end of the stream. */
export async function readAll(fd: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  while (readable(fd, PATIENCE)) {
    const part = readNow(fd);
    if (part === undefined) break;
    parts.push(part);
  }
  return Buffer.concat(parts);
}

export function helloMessage(mtu = 1500, features = 0): Uint8Array {
  const bytes = new Uint8Array(12);
  writeHello(bytes, 0, mtu, features);
  return bytes;
}

/** A message with any type and payload. */
export function message(type: number, payload: Uint8Array | readonly number[]): Uint8Array {
  const bytes = new Uint8Array(4 + payload.length);
  bytes.set([type, payload.length >>> 16, payload.length >>> 8, payload.length]);
  bytes.set(payload, 4);
  return bytes;
}

export function mac(text: string): number[] {
  return text.split(":").map((byte) => Number.parseInt(byte, 16));
}

/** An Ethernet frame: destination, source, then the type and what follows as bytes. */
export function frame(source: string, rest: readonly number[], to = "ff:ff:ff:ff:ff:ff"): Uint8Array {
  return Uint8Array.from([...mac(to), ...mac(source), ...rest]);
}

/** Ethernet type for experiments (IEEE 802), which nothing else uses. */
export const EXPERIMENT = [0x88, 0xb5];

/**
 * A host with a bridge: one port is the pump's TAP, the other a TAP whose frames the test writes and reads
 * itself. A frame written to `probe` goes through the kernel's bridge to the pump, as a machine's on walt-net
 * would.
 */
export class Site implements AsyncDisposable {
  private constructor(
    readonly holder: Holder,
    readonly tap: number,
    readonly probe: number,
    readonly address: string,
  ) {}

  static async create(number: number): Promise<Site> {
    const holder = await Holder.start("ip link set lo up", []);
    const ns = `/proc/${holder.pid}/ns/net`;
    const address = `10.77.0.${number}`;
    const { fd: tap } = openTap("tunnel", ns);
    const { fd: probe } = openTap("probe", ns);
    const site = new Site(holder, tap, probe, address);
    await site.ip(
      `link add br0 address 02:00:00:00:00:${number.toString(16).padStart(2, "0")} type bridge`,
      "link set tunnel mtu 9000 master br0 up",
      "link set probe mtu 9000 master br0 up",
      `address add ${address}/24 dev br0`,
      "link set br0 up",
    );
    return site;
  }

  async ip(...lines: string[]): Promise<void> {
    await run([...this.holder.enterNetwork(), "ip", "-batch", "-"], { input: `${lines.join("\n")}\n` });
  }

  run(...command: string[]): Promise<string> {
    return run([...this.holder.enterNetwork(), ...command], { timeout: 100_000 });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    libc.close(this.probe);
    await this.holder.stop();
  }
}

/** A stream between two pumps that delivers pieces of random length, at most `burst` bytes in each turn. */
export class Relay {
  readonly ends: [number, number];
  moved = 0;
  #fds: [number, number];
  #over = false;
  #done: Promise<void>;

  constructor(seed: number, burst: number) {
    const [a, b] = streamPair();
    const [c, d] = streamPair();
    this.ends = [a, c];
    this.#fds = [b, d];
    this.#done = this.#run(chance(seed), burst);
  }

  async stop(): Promise<void> {
    this.#over = true;
    await this.#done;
  }

  async #run(random: (below: number) => number, burst: number): Promise<void> {
    const rest: [Uint8Array, Uint8Array] = [new Uint8Array(), new Uint8Array()];
    while (!this.#over) {
      for (const way of [0, 1] as const) {
        if (rest[way].length === 0) {
          const bytes = readNow(this.#fds[way], 1 + random(burst));
          if (bytes === undefined) this.#over = true;
          else rest[way] = bytes;
        }
        const n = writeNow(this.#fds[1 - way] ?? -1, rest[way].subarray(0, 1 + random(burst)));
        rest[way] = rest[way].subarray(n);
        this.moved += n;
      }
      await new Promise((resolve) => setImmediate(resolve));
    }
    for (const fd of this.#fds) libc.close(fd);
  }
}
