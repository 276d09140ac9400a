/**
 * Runs a program for which link(2) does not exist, as on a FUSE file system without it: a filter of seccomp(2) answers
 * ENOSYS. Arguments: the program and its own.
 */

import { dlopen, ptr } from "bun:ffi";

const { symbols: libc } = dlopen("libc.so.6", {
  prctl: { args: ["int", "u64", "ptr", "u64", "u64"], returns: "int" },
  execv: { args: ["ptr", "ptr"], returns: "int" },
});
/** linux/prctl.h, linux/seccomp.h and linux/filter.h. */
const [PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, MODE_FILTER] = [38, 22, 2];
const [LOAD, IF_EQUAL, RETURN] = [0x20, 0x15, 0x06];
const [ALLOW, ERRNO, ENOSYS] = [0x7fff0000, 0x00050000, 38];
/** Numbers of link(2), where there is one, and linkat(2). */
const CALLS = process.arch === "arm64" ? [37] : [86, 265];

const steps: readonly (readonly [code: number, yes: number, no: number, value: number])[] = [
  [LOAD, 0, 0, 0], // the number of the system call
  ...CALLS.map((call, at) => [IF_EQUAL, CALLS.length - at, 0, call] as const),
  [RETURN, 0, 0, ALLOW],
  [RETURN, 0, 0, ERRNO | ENOSYS],
];
const filter = Buffer.alloc(8 * steps.length);
for (const [index, [code, yes, no, value]] of steps.entries()) {
  filter.writeUInt16LE(code, 8 * index);
  filter.writeUInt8(yes, 8 * index + 2);
  filter.writeUInt8(no, 8 * index + 3);
  filter.writeUInt32LE(value, 8 * index + 4);
}
const program = Buffer.alloc(16);
program.writeUInt16LE(steps.length, 0);
program.writeBigUInt64LE(BigInt(ptr(filter)), 8);

const words = process.argv.slice(2).map((word) => Buffer.from(`${word}\0`));
const list = Buffer.alloc(8 * (words.length + 1));
for (const [index, word] of words.entries()) list.writeBigUInt64LE(BigInt(ptr(word)), 8 * index);
const [first] = words;
if (
  first === undefined ||
  libc.prctl(PR_SET_NO_NEW_PRIVS, 1, null, 0, 0) !== 0 ||
  libc.prctl(PR_SET_SECCOMP, MODE_FILTER, ptr(program), 0, 0) !== 0
)
  throw new Error("no filter can be set");
libc.execv(ptr(first), ptr(list));
throw new Error("the program cannot be run");
