/**
 * What the tunnel is compared with: a TAP without offloads, frames with their length in 2 bytes in front, one blocking read and
 * one blocking write for each, on standard input and output. Argument: name of the TAP.
 */

import { allocate, at, libc, POLLIN } from "../../../src/linux/libc.ts";
import { openTap } from "../../../src/linux/tap.ts";

const tap = openTap(process.argv[2] ?? "plain").fd;
const frame = allocate(65_540);
const input = allocate(65_540);
const polls = allocate(16);
const words = new Int32Array(polls.bytes.buffer);
let have = 0;

function writeAll(fd: number, from: number, length: number): void {
  for (let done = 0; done < length; ) {
    const n = libc.write(fd, at(from + done), length - done);
    if (n < 0) process.exit(1);
    done += n;
  }
}

function takeInput(): void {
  const n = libc.read(0, at(input.address + have), 65_540 - have);
  if (n <= 0) process.exit(0);
  have += n;
  let start = 0;
  while (have - start >= 2) {
    const length = ((input.bytes[start] ?? 0) << 8) | (input.bytes[start + 1] ?? 0);
    if (have - start < 2 + length) break;
    libc.write(tap, at(input.address + start + 2), length);
    start += 2 + length;
  }
  input.bytes.copyWithin(0, start, have);
  have -= start;
}

process.stderr.write("TAP is there\n");
for (;;) {
  words.set([tap, POLLIN, 0, POLLIN]);
  libc.poll(at(polls.address), 2, -1);
  if ((words[1] ?? 0) >>> 16 !== 0) {
    const n = libc.read(tap, at(frame.address + 2), 65_536);
    if (n > 0) {
      frame.bytes[0] = n >>> 8;
      frame.bytes[1] = n;
      writeAll(1, frame.address, n + 2);
    }
  }
  if ((words[3] ?? 0) >>> 16 !== 0) takeInput();
}
