/** Memory that the kernel is pointed at, error numbers, and the layout of structures: the same on x86-64 and arm64. */

import { expect, test } from "bun:test";
import {
  allocate,
  at,
  EAGAIN,
  errno,
  errnoName,
  failure,
  libc,
  POLLFD_SIZE,
  POLLIN,
  POLLOUT,
  setNonBlocking,
} from "../../src/linux/libc.ts";
import { recordPair, socketPair } from "../../src/linux/socketpair.ts";
import { IFREQ_FLAGS, IFREQ_SIZE, interfaceRequest } from "../../src/linux/tap.ts";

function flagsOf(fd: number): { cloexec: boolean; nonblock: boolean } {
  return { cloexec: (libc.fcntl(fd, 1, 0) & 1) === 1, nonblock: (libc.fcntl(fd, 3, 0) & 0o4000) !== 0 };
}

test("struct ifreq: 40 bytes, the name first, the flags at 16", () => {
  const { bytes } = interfaceRequest("tap-vm", 0x1002);
  expect(bytes.length).toBe(IFREQ_SIZE);
  expect(IFREQ_SIZE).toBe(40);
  expect(new TextDecoder().decode(bytes.subarray(0, 7))).toBe("tap-vm\0");
  expect([...bytes.subarray(IFREQ_FLAGS, IFREQ_FLAGS + 2)]).toEqual([0x02, 0x10]);
});

test("struct pollfd: 8 bytes, an array of them is answered in place", () => {
  expect(POLLFD_SIZE).toBe(8);
  const [a, b] = socketPair();
  const polls = allocate(2 * POLLFD_SIZE);
  const words = new Int32Array(polls.bytes.buffer);
  words.set([a, POLLIN | POLLOUT, -1, POLLIN]);
  expect(libc.poll(at(polls.address), 2, 0)).toBe(1);
  expect([words[0], (words[1] ?? 0) & 0xffff, (words[1] ?? 0) >>> 16]).toEqual([
    a,
    POLLIN | POLLOUT,
    POLLOUT,
  ]);
  expect((words[3] ?? 0) >>> 16).toBe(0);
  libc.close(a);
  libc.close(b);
});

test("memory keeps its address when its buffer is touched and garbage is collected", () => {
  const [a, b] = socketPair();
  const memory = allocate(16);
  new DataView(memory.bytes.buffer).setUint32(0, 0xdeadbeef);
  Bun.gc(true);
  expect(libc.write(a, at(memory.address), 4)).toBe(4);
  expect(libc.read(b, at(memory.address + 8), 8)).toBe(4);
  expect(new DataView(memory.bytes.buffer).getUint32(8)).toBe(0xdeadbeef);
  libc.close(a);
  libc.close(b);
});

test("errno: the reason of the last failure, with a name and words", () => {
  expect(libc.close(-1)).toBe(-1);
  expect(errnoName(errno())).toBe("EBADF");
  expect(libc.open("/nowhere/at/all", 0, 0)).toBe(-1);
  expect(failure("open /nowhere").message).toBe("cannot open /nowhere: no such file or directory (ENOENT)");
  expect(errnoName(77)).toBe("EBADFD");
  expect(errnoName(9999)).toBe("error 9999");
});

test("a socketpair: ours does not wait, theirs does, and neither is inherited by accident", async () => {
  const [ours, theirs] = socketPair();
  expect(flagsOf(ours)).toEqual({ cloexec: true, nonblock: true });
  expect(flagsOf(theirs)).toEqual({ cloexec: true, nonblock: false });
  const memory = allocate(8);
  expect(libc.read(ours, at(memory.address), 8)).toBe(-1);
  expect(errno()).toBe(EAGAIN);
  // A child that is given it has it all the same.
  const cat = Bun.spawn(["cat"], { stdio: [theirs, theirs, "inherit"] });
  libc.close(theirs);
  memory.bytes.set([1, 2, 3]);
  expect(libc.write(ours, at(memory.address), 3)).toBe(3);
  const polls = allocate(POLLFD_SIZE);
  new Int32Array(polls.bytes.buffer).set([ours, POLLIN]);
  expect(libc.poll(at(polls.address), 1, 10_000)).toBe(1);
  expect(libc.read(ours, at(memory.address + 3), 5)).toBe(3);
  libc.close(ours);
  expect(await cat.exited).toBe(0);
});

test("a record pair keeps records apart", () => {
  const [a, b] = recordPair();
  expect([flagsOf(a), flagsOf(b)]).toEqual(Array(2).fill({ cloexec: true, nonblock: true }));
  const memory = allocate(64);
  expect(libc.write(a, at(memory.address), 10)).toBe(10);
  expect(libc.write(a, at(memory.address), 20)).toBe(20);
  expect(libc.read(b, at(memory.address), 64)).toBe(10);
  expect(libc.read(b, at(memory.address), 64)).toBe(20);
  libc.close(a);
  libc.close(b);
});

test("what cannot be made non-blocking says so", () => {
  expect(() => setNonBlocking(-1)).toThrow("cannot make file descriptor -1 non-blocking");
});
