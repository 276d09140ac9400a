/**
 * A program that moves bytes as fast as they go, with blocking system calls and nothing else, so that it costs little itself:
 * `sink PORT`, `source ADDRESS PORT SECONDS`; `stdin` writes a newline when it is there, and
 * `stdout SECONDS` waits for something on its standard input before it begins. A sink prints `BYTES SECONDS SERIES` for each connection, where
 * SERIES is the bytes of each 100 ms with commas between them;
 * `reverse PORT SECONDS` and `fetch ADDRESS PORT` do the same the other way round. `drip ADDRESS PORT SECONDS` sends the smallest
 * UDP datagrams, and `count PORT` prints `DATAGRAMS SECONDS` once none came for a second.
 */

import { dlopen } from "bun:ffi";
import { allocate, at, failure, libc, SOCK_DGRAM, SOCK_STREAM } from "../../../src/linux/libc.ts";

const CHUNK = 131_072;
const AF_INET = 2;
const c = dlopen("libc.so.6", {
  bind: { args: ["i32", "ptr", "u32"], returns: "i32" },
  listen: { args: ["i32", "i32"], returns: "i32" },
  accept: { args: ["i32", "ptr", "ptr"], returns: "i32" },
  connect: { args: ["i32", "ptr", "u32"], returns: "i32" },
  setsockopt: { args: ["i32", "i32", "i32", "ptr", "u32"], returns: "i32" },
  signal: { args: ["i32", "ptr"], returns: "ptr" },
}).symbols;
c.signal(13, at(1)); // SIGPIPE: ignored

const memory = allocate(CHUNK);

/** struct sockaddr_in */
function address(host: string, port: number): ReturnType<typeof allocate> {
  const made = allocate(16);
  const view = new DataView(made.bytes.buffer);
  view.setUint16(0, AF_INET, true);
  view.setUint16(2, port);
  made.bytes.set(host.split(".").map(Number), 4);
  return made;
}

function must(result: number, what: string): number {
  if (result < 0) throw failure(what);
  return result;
}

function send(fd: number, seconds: number): void {
  const end = performance.now() + seconds * 1000;
  while (performance.now() < end) if (libc.write(fd, at(memory.address), CHUNK) < 0) return;
}

/** Length of one number of the series, ms. */
const SERIES = 100;

/** From the first byte to the last. */
function receive(fd: number): void {
  let bytes = 0;
  let first = 0;
  let last = 0;
  const series: number[] = [];
  for (;;) {
    const n = libc.read(fd, at(memory.address), CHUNK);
    if (n <= 0) break;
    last = performance.now();
    if (bytes === 0) first = last;
    bytes += n;
    const i = Math.floor((last - first) / SERIES);
    while (series.length <= i) series.push(0);
    series[i] = (series[i] ?? 0) + n;
  }
  process.stderr.write(`${bytes} ${(last - first) / 1000} ${series.join(",")}\n`);
}

function serve(port: number, answer: (fd: number) => void): void {
  const fd = must(libc.socket(AF_INET, SOCK_STREAM, 0), "make a socket");
  const own = address("0.0.0.0", port);
  const yes = allocate(4);
  yes.bytes[0] = 1;
  c.setsockopt(fd, 1, 2, at(yes.address), 4); // SO_REUSEADDR
  must(c.bind(fd, at(own.address), 16), `bind port ${port}`);
  must(c.listen(fd, 8), "listen");
  process.stderr.write("listening\n");
  for (;;) {
    const peer = must(c.accept(fd, at(0), at(0)), "accept");
    answer(peer);
    libc.close(peer);
  }
}

function connect(host: string, port: number): number {
  const fd = must(libc.socket(AF_INET, SOCK_STREAM, 0), "make a socket");
  const to = address(host, port);
  must(c.connect(fd, at(to.address), 16), `connect to ${host}:${port}`);
  return fd;
}

/** Tell the other end that this one is here, then receive. */
function takeInput(): void {
  memory.bytes[0] = 10;
  libc.write(1, at(memory.address), 1);
  receive(0);
}

/** 18 bytes: with the headers of UDP, IPv4 and Ethernet a frame of 60, the shortest. */
const SMALLEST = 18;

function drip(host: string, port: number, seconds: number): void {
  const fd = must(libc.socket(AF_INET, SOCK_DGRAM, 0), "make a socket");
  const to = address(host, port);
  must(c.connect(fd, at(to.address), 16), `connect to ${host}:${port}`);
  const end = performance.now() + seconds * 1000;
  while (performance.now() < end) for (let i = 0; i < 100; i++) libc.write(fd, at(memory.address), SMALLEST);
}

function count(port: number): void {
  const fd = must(libc.socket(AF_INET, SOCK_DGRAM, 0), "make a socket");
  const own = address("0.0.0.0", port);
  const size = allocate(4);
  new DataView(size.bytes.buffer).setInt32(0, 8 << 20, true);
  c.setsockopt(fd, 1, 33, at(size.address), 4); // SO_RCVBUFFORCE
  must(c.bind(fd, at(own.address), 16), `bind port ${port}`);
  process.stderr.write("listening\n");
  let datagrams = 0;
  let first = 0;
  let last = 0;
  for (;;) {
    if (libc.read(fd, at(memory.address), CHUNK) < 0) break;
    last = performance.now();
    if (datagrams++ > 0) continue;
    first = last;
    const second = allocate(16); // struct timeval
    second.bytes[0] = 1;
    c.setsockopt(fd, 1, 20, at(second.address), 16); // SO_RCVTIMEO
  }
  process.stderr.write(`${datagrams} ${(last - first) / 1000}\n`);
}

const [mode = "", first = "", second = "", third = ""] = process.argv.slice(2);
if (mode === "sink") serve(Number(first), receive);
else if (mode === "reverse") serve(Number(first), (fd) => send(fd, Number(second)));
else if (mode === "source") send(connect(first, Number(second)), Number(third));
else if (mode === "fetch") receive(connect(first, Number(second)));
else if (mode === "stdout") libc.read(0, at(memory.address), 1) >= 0 && send(1, Number(first));
else if (mode === "drip") drip(first, Number(second), Number(third));
else if (mode === "count") count(Number(first));
else if (mode === "stdin") takeInput();
else throw new Error(`no such mode: ${mode}`);
