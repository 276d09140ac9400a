/**
 * A program for both ends of a tunnel. `serve`: answers TCP connections with the SHA-256 of what they sent,
 * and UDP datagrams with themselves. `tcp ADDRESS BYTES`, `udp ADDRESS SIZES`, `gso ADDRESS SEGMENT`, and more
 * of these behind: send to it one after the other, compare, print a line for each: `same` or what is not.
 */

import { dlopen } from "bun:ffi";
import { createHash } from "node:crypto";
import { createSocket } from "node:dgram";
import { connect, createServer } from "node:net";
import { allocate, at, failure, libc, SOCK_DGRAM } from "../../src/linux/libc.ts";
import { chance } from "./rig.ts";

const TCP_PORT = 7000;
const UDP_PORT = 7001;
/** ms after which a transfer has come to a halt: on a slow wire and a busy machine it may well take a minute. */
const SLOW = 120_000;
const words = process.argv.slice(2);

function junk(size: number, seed: number): Buffer {
  const random = chance(seed);
  const bytes = Buffer.alloc(size);
  for (let i = 0; i + 4 <= size; i += 4) bytes.writeUInt32LE(random(0xffffffff), i);
  return bytes;
}

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

async function serve(): Promise<void> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    const hash = createHash("sha256");
    socket.on("data", (chunk) => hash.update(chunk));
    socket.on("end", () => socket.end(hash.digest("hex")));
    socket.on("error", () => {});
  });
  await new Promise<void>((resolve) => server.listen(TCP_PORT, "::", resolve));
  const udp = createSocket({ type: "udp6", ipv6Only: false });
  udp.on("message", (bytes, from) => udp.send(bytes, from.port, from.address));
  udp.bind(UDP_PORT, "::", () => console.log("serving"));
}

async function tcp(address: string, argument: string): Promise<string> {
  const bytes = junk(Number(argument), 7);
  const socket = connect({ host: address, port: TCP_PORT, allowHalfOpen: true });
  let answer = "";
  socket.on("data", (chunk) => {
    answer += chunk;
  });
  socket.end(bytes);
  await new Promise((resolve, reject) => {
    socket.on("end", resolve);
    socket.on("error", reject);
  });
  return answer === sha256(bytes) ? "same" : `TCP: ${answer}`;
}

/**
 * Send each size until its echo comes. Another datagram in between would be out of order, or one too many.
 */
async function udp(address: string, argument: string): Promise<string> {
  const socket = createSocket(address.includes(":") ? "udp6" : "udp4");
  const got: Buffer[] = [];
  let notify = (): void => {};
  socket.on("message", (bytes) => {
    got.push(bytes);
    notify();
  });
  for (const size of argument.split(",").map(Number)) {
    const bytes = junk(size, size);
    for (let i = 0; i < 3; i++) bytes.writeUInt8(i, 0);
    socket.send(bytes, UDP_PORT, address);
    while (got.length === 0) await new Promise<void>((resolve) => (notify = resolve));
    const echo = got.shift();
    if (echo === undefined || !echo.equals(bytes)) return `UDP: ${size} bytes came back as ${echo?.length}`;
  }
  socket.close();
  return got.length === 0 ? "same" : "UDP: one more than was sent";
}

/** One call that sends 30 segments (udp(7), UDP_SEGMENT), echoed one by one. */
async function gso(address: string, argument: string): Promise<string> {
  const segment = Number(argument);
  const six = address.includes(":");
  const c = dlopen("libc.so.6", {
    setsockopt: { args: ["i32", "i32", "i32", "ptr", "u32"], returns: "i32" },
    inet_pton: { args: ["i32", "ptr", "ptr"], returns: "i32" },
  }).symbols;
  const fd = libc.socket(six ? 10 : 2, SOCK_DGRAM, 0);
  const option = allocate(4);
  new DataView(option.bytes.buffer).setInt32(0, segment, true);
  if (c.setsockopt(fd, 17, 103, at(option.address), 4) < 0) throw failure("set UDP_SEGMENT");
  // struct sockaddr_in, sockaddr_in6
  const to = allocate(28);
  const view = new DataView(to.bytes.buffer);
  view.setUint16(0, six ? 10 : 2, true);
  view.setUint16(2, UDP_PORT);
  const text = allocate(64);
  text.bytes.set(Buffer.from(address));
  c.inet_pton(six ? 10 : 2, at(text.address), at(to.address + (six ? 8 : 4)));
  const data = allocate(30 * segment);
  data.bytes.set(junk(30 * segment, segment));
  const n = libc.sendto(fd, at(data.address), data.bytes.length, 0, at(to.address), six ? 28 : 16);
  if (n < 0) throw failure("send 30 segments");
  const echo = allocate(65_536);
  for (let i = 0; i < 30; i++) {
    const length = libc.read(fd, at(echo.address), 65_536);
    const sent = data.bytes.subarray(i * segment, (i + 1) * segment);
    if (!Buffer.from(echo.bytes.subarray(0, length)).equals(sent)) return `GSO: segment ${i} is another`;
  }
  libc.close(fd);
  return "same";
}

const WAYS: Record<string, typeof tcp> = { tcp, udp, gso };

if (words[0] === "serve") await serve();
else {
  for (let i = 0; i < words.length; i += 3) {
    const [what = "", address = "", argument = ""] = words.slice(i, i + 3);
    const late = setTimeout(() => {
      console.log(`${what} ${address} ${argument}: not done within ${SLOW / 1000} s`);
      process.exit(1);
    }, SLOW);
    console.log((await WAYS[what]?.(address, argument)) ?? `there is no way ${what}`);
    clearTimeout(late);
  }
  process.exit(0);
}
