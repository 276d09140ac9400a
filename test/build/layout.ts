/**
 * Every structure that we lay out by hand, handed to the real kernel: a program of its own, so that it can be compiled and run as the
 * binary is, on this machine's architecture and on the other one. Prints `ok` and a name for each check, and fails at the first that is wrong.
 * The argument `tap` adds TAPs: root, and a network namespace in which nothing else is.
 */

import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  AF_UNIX,
  allocate,
  at,
  EAGAIN,
  EBADFD,
  ECONNRESET,
  EPIPE,
  errno,
  errnoName,
  libc,
  POLLFD_SIZE,
  POLLHUP,
  POLLIN,
  POLLNVAL,
  POLLOUT,
  SOCK_DGRAM,
  setNonBlocking,
} from "../../src/linux/libc.ts";
import { notifySystemd } from "../../src/linux/notify.ts";
import { recordPair, socketPair } from "../../src/linux/socketpair.ts";
import { openOffloadTap, openTap, setOffload, TUN_F_ALL } from "../../src/linux/tap.ts";
import { Uevents } from "../../src/linux/uevent.ts";
import { COUNTERS } from "../../src/tunnel/counters.ts";
import { VIRTIO } from "../../src/tunnel/frame/virtio.ts";
import { PumpLink } from "../../src/tunnel/link.ts";
import { TYPE, writeHello } from "../../src/tunnel/message.ts";
import { Pump } from "../../src/tunnel/pump.ts";
import { encodeOrder, LINKS_MAX, ORDER_MAX, type ThreadEvent } from "../../src/tunnel/pump-protocol.ts";

const scratch = allocate(1 << 17);

function read(fd: number): Uint8Array {
  const n = libc.read(fd, at(scratch.address), scratch.bytes.length);
  assert(n >= 0, `read: ${errnoName(errno())}`);
  return scratch.bytes.slice(0, n);
}

function write(fd: number, bytes: Uint8Array): number {
  scratch.bytes.set(bytes);
  return libc.write(fd, at(scratch.address), bytes.length);
}

function ok(name: string): void {
  console.log(`ok ${name}`);
}

/** poll(2) for so many ms; the events that came, one number a file descriptor. */
function poll(wanted: readonly [fd: number, events: number][], ms: number): number[] {
  const polls = allocate(POLLFD_SIZE * wanted.length);
  const words = new Int32Array(polls.bytes.buffer);
  for (const [i, [fd, events]] of wanted.entries()) words.set([fd, events], 2 * i);
  assert(libc.poll(at(polls.address), wanted.length, ms) >= 0);
  return wanted.map((_, i) => (words[2 * i + 1] ?? 0) >>> 16);
}

function pollfd(): void {
  const [a, b] = socketPair();
  const closed = 9999;
  assert.deepEqual(
    poll(
      [
        [a, POLLIN | POLLOUT],
        [-1, POLLIN],
        [closed, POLLIN],
        [b, POLLIN],
      ],
      0,
    ),
    [POLLOUT, 0, POLLNVAL, 0],
  );
  write(b, new Uint8Array([1]));
  assert.deepEqual(poll([[a, POLLIN]], 1000), [POLLIN]);
  libc.close(b);
  assert.deepEqual(poll([[a, 0]], 1000), [POLLHUP]);
  libc.close(a);
  ok("struct pollfd");
}

function errors(): void {
  const [ours, theirs] = socketPair();
  assert.equal(libc.read(ours, at(scratch.address), 1), -1);
  assert.equal(errno(), EAGAIN);
  write(theirs, new Uint8Array([1])); // unread when it is closed
  libc.close(ours);
  assert.equal(libc.read(theirs, at(scratch.address), 1), -1);
  assert.equal(errno(), ECONNRESET);
  assert.equal(write(theirs, new Uint8Array([1])), -1);
  assert.equal(errno(), EPIPE);
  libc.close(theirs);
  const tun = libc.open("/dev/net/tun", 2, 0);
  if (tun >= 0) {
    assert.equal(libc.read(tun, at(scratch.address), 1), -1);
    assert.equal(errno(), EBADFD); // no TUNSETIFF yet
    libc.close(tun);
  }
  ok("numbers of errno");
}

function sockets(): void {
  const [a, b] = recordPair();
  write(a, new Uint8Array([1, 2, 3]));
  write(a, new Uint8Array([4]));
  assert.deepEqual([...read(b)], [1, 2, 3]);
  assert.deepEqual([...read(b)], [4]);
  for (const fd of [a, b]) libc.close(fd);
  const folder = mkdtempSync(join(tmpdir(), "walt-layout-"));
  try {
    // The kernel makes the file where it finds the path in struct sockaddr_un.
    const path = join(folder, "notify");
    const address = allocate(2 + path.length + 1);
    new DataView(address.bytes.buffer).setUint16(0, AF_UNIX, true);
    address.bytes.set(new TextEncoder().encode(path), 2);
    const fd = libc.socket(AF_UNIX, SOCK_DGRAM, 0);
    assert.equal(libc.bind(fd, at(address.address), address.bytes.length), 0);
    assert(existsSync(path));
    notifySystemd("READY=1", path);
    assert.equal(new TextDecoder().decode(read(fd)), "READY=1");
    libc.close(fd);
  } finally {
    rmSync(folder, { recursive: true });
  }
  ok("struct sockaddr_un");
}

async function netlink(): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const uevents = new Uevents({
    onEvent: () => {},
    onSubscribed: resolve,
    onFailure: (why) => reject(new Error(why)),
  });
  await promise;
  uevents.stop();
  ok("struct sockaddr_nl");
}

/** Frames from one TAP to another by two links: struct iovec, also after writes of which a part was taken, and memcpy, memmove. */
function links(): void {
  const taps = [recordPair(), recordPair()] as const;
  const [left, right] = socketPair();
  setNonBlocking(right);
  const order = { kind: "add", slot: 0, mtu: 1500, silence: 60_000 } as const;
  const more = { vnet: false, framing: "messages", features: 0x100 } as const;
  const made = ([0, 1] as const).map(
    (i) =>
      new PumpLink(
        { ...order, ...more, id: i, tap: taps[i][0], stream: [left, right][i] ?? -1 },
        new Float64Array(COUNTERS),
        0,
      ),
  );
  const [one, other] = made;
  assert(one !== undefined && other !== undefined);
  let now = 1;
  const round = (...events: [number, number][]): void => {
    now++;
    for (const [i, link] of made.entries()) {
      link.tick(now);
      link.service(...(events[i] ?? [0, POLLIN]), now);
    }
  };
  for (let i = 0; i < 5; i++) round();
  assert(one.up && other.up);
  // 480 KB before the other side reads any of it, of sizes that have nothing in common with a page.
  const frames = Array.from({ length: 320 }, (_, i) => {
    const frame = new Uint8Array(1501 + (i % 13)).map((__, k) => (k * 7 + i) & 255);
    frame.set([0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x88, 0xb5], 0);
    return frame;
  });
  const got: Uint8Array[] = [];
  const wire = taps[1][1];
  for (let next = 0; got.length < frames.length && now < 20_000; ) {
    while (next < frames.length && write(taps[0][1], frames[next] ?? new Uint8Array()) > 0) next++;
    // Only every tenth round the other side reads: its stream fills up.
    round([POLLIN, POLLIN], [0, now % 10 === 0 ? POLLIN : 0]);
    while (poll([[wire, POLLIN]], 0)[0] === POLLIN) got.push(read(wire));
  }
  assert.equal(got.length, frames.length);
  for (const [i, frame] of frames.entries()) assert(Buffer.from(frame).equals(got[i] ?? Buffer.alloc(0)));
  for (const link of made) link.stopNow({ kind: "stopped", text: "over" });
  for (const pair of taps) libc.close(pair[1]);
  ok("struct iovec");
}

/** The pump's own loop, with its array of pollfd and its orders. */
function pump(): void {
  const [ours, theirs] = recordPair();
  const [tap, wire] = recordPair();
  const [stream, peer] = socketPair();
  const record = allocate(ORDER_MAX);
  const send = (order: Parameters<typeof encodeOrder>[0]): void => {
    const bytes = encodeOrder(order);
    record.bytes.set(bytes);
    assert.equal(libc.write(ours, at(record.address), bytes.length), bytes.length);
  };
  const hello = new Uint8Array(12);
  writeHello(hello, 0, 2000, 0);
  write(peer, hello);
  const order = { id: 5, slot: 3, tap, stream, mtu: 9000, silence: 60_000 };
  send({ kind: "add", ...order, vnet: false, framing: "messages", features: 0 });
  const events: ThreadEvent[] = [];
  const stats = new SharedArrayBuffer(LINKS_MAX * COUNTERS * 8);
  new Pump(theirs, stats, (event) => {
    events.push(event);
    if (event.kind === "up") send({ kind: "stop-link", id: 5, text: "enough" });
    else send({ kind: "stop" });
  }).run();
  assert.deepEqual(events, [
    { kind: "up", id: 5, mtu: 2000, lanes: false },
    { kind: "ended", id: 5, end: { kind: "stopped", text: "enough" } },
  ]);
  const said = read(peer);
  assert.equal(said[0], TYPE.hello);
  assert.equal(new TextDecoder().decode(said.subarray(-6)), "enough");
  for (const fd of [ours, theirs, wire, peer]) libc.close(fd);
  ok("the pump's loop");
}

/** struct ifreq, the ioctls, and the virtio-net header as the kernel's own frames have it. */
function tap(): void {
  const offload = openOffloadTap("walt%d");
  assert.equal(offload.name, "walt0");
  assert.equal((offload.offload ?? 0) & 0x0f, 0x0f);
  // What no kernel has is refused, so the kernel does look at the argument.
  assert.equal(setOffload(offload.fd, 0x100 | TUN_F_ALL) & ~TUN_F_ALL, 0);
  setOffload(offload.fd, 0);
  const plain = openTap("walt1");
  for (const [name, fd, header] of [
    ["walt0", offload.fd, VIRTIO],
    ["walt1", plain.fd, 0],
  ] as const) {
    const file = (what: string): string => readFileSync(`/proc/net/${what}`, "utf8");
    assert(file("dev").includes(`${name}:`));
    assert.equal(Bun.spawnSync(["ip", "link", "set", name, "up"]).exitCode, 0);
    // A machine that comes up tells its neighbours by IPv6 multicast: 33:33:… is where the header ends.
    assert.deepEqual(poll([[fd, POLLIN]], 10_000), [POLLIN]);
    assert.deepEqual([...read(fd).subarray(header, header + 2)], [0x33, 0x33]);
    // And a frame of ours, behind as long a header, is one frame of that length there.
    const frame = new Uint8Array(header + 100);
    frame.set([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0, 0, 0, 0, 1, 0x88, 0xb5], header);
    assert.equal(write(fd, frame), frame.length);
    const line =
      file("dev")
        .split("\n")
        .find((text) => text.includes(`${name}:`)) ?? "";
    assert.match(line, /: +100 +1 /);
    libc.close(fd);
  }
  ok("struct ifreq and virtio-net header");
}

pollfd();
errors();
sockets();
await netlink();
links();
pump();
if (process.argv.includes("tap")) tap();
console.log(`done on ${process.arch}`);
