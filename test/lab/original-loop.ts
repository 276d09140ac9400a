/**
 * What WalT's own VPN does at either end: a loop between a TAP and a stream on which each frame stands behind its length in two
 * bytes. `original-loop.ts BRIDGE` uses standard input and output, as the server's end under sshd does; `original-loop.ts BRIDGE ssh …`
 * starts that command and uses its, as the client does. The TAP, `tap0` or the next number, is put into the bridge. It ends with the stream.
 */

import { allocate, at, EAGAIN, errno, libc, POLLIN, POLLOUT } from "../../src/linux/libc.ts";
import { socketPair } from "../../src/linux/socketpair.ts";
import { openTap } from "../../src/linux/tap.ts";

const [bridge = "", ...command] = process.argv.slice(2);
const { fd: tap, name } = openTap("tap%d");
Bun.spawnSync(["ip", "link", "set", name, "master", bridge, "up"]);
let [input, output] = [0, 1];
if (command.length > 0) {
  const [ours, theirs] = socketPair();
  Bun.spawn(command, { stdio: [theirs, theirs, "inherit"] });
  libc.close(theirs);
  [input, output] = [ours, ours];
}

const MAX = 65_535;
const fromTap = allocate(2 + MAX);
const fromStream = allocate(2 * (2 + MAX));
const polls = allocate(16);
const words = new Int32Array(polls.bytes.buffer);
let have = 0;

function send(bytes: ReturnType<typeof allocate>, length: number): void {
  for (let done = 0; done < length; ) {
    const n = libc.write(output, at(bytes.address + done), length - done);
    if (n > 0) done += n;
    else if (errno() === EAGAIN) wait([output, POLLOUT]);
    else process.exit(0);
  }
}

/** Pairs of a file descriptor and events. */
function wait(...fds: [number, number][]): void {
  words.fill(0);
  for (const [i, [fd, events]] of fds.entries()) words.set([fd, events], 2 * i);
  libc.poll(at(polls.address), fds.length, -1);
}

for (;;) {
  wait([tap, POLLIN], [input, POLLIN]);
  if ((words[1] ?? 0) >>> 16 !== 0) {
    const n = libc.read(tap, at(fromTap.address + 2), MAX);
    if (n > 0) {
      fromTap.bytes.set([n >> 8, n & 255]);
      send(fromTap, 2 + n);
    }
  }
  if ((words[3] ?? 0) >>> 16 !== 0) {
    const n = libc.read(input, at(fromStream.address + have), fromStream.bytes.length - have);
    if (n <= 0) process.exit(0);
    have += n;
    let done = 0;
    while (have - done >= 2) {
      const length = ((fromStream.bytes[done] ?? 0) << 8) | (fromStream.bytes[done + 1] ?? 0);
      if (have - done < 2 + length) break;
      libc.write(tap, at(fromStream.address + done + 2), length);
      done += 2 + length;
    }
    fromStream.bytes.copyWithin(0, done, have);
    have -= done;
  }
}
