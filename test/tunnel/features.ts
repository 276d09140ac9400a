/**
 * A program like ethtool(8) -K: `features.ts DEVICE tx=off tso=on gso=off gro=off sg=off`, and more devices
 * behind; `features.ts DEVICE` only prints them. SIOCETHTOOL takes struct ifreq with a pointer to { u32 command; u32 value }
 * (linux/ethtool.h).
 */

import { allocate, at, failure, libc, SOCK_DGRAM } from "../../src/linux/libc.ts";

const SIOCETHTOOL = 0x8946;
/** Command that reads; the one that writes is one more. */
const GET = { rx: 0x14, tx: 0x16, sg: 0x18, tso: 0x1e, gso: 0x23, gro: 0x2b } as const;

const fd = libc.socket(2, SOCK_DGRAM, 0);
const request = allocate(40);
const value = allocate(8);
new DataView(request.bytes.buffer).setBigUint64(16, BigInt(value.address), true);

function call(command: number, argument: number, what: string): number {
  const view = new DataView(value.bytes.buffer);
  view.setUint32(0, command, true);
  view.setUint32(4, argument, true);
  if (libc.ioctl(fd, BigInt(SIOCETHTOOL), at(request.address)) < 0) throw failure(what);
  return view.getUint32(4, true);
}

let device = "";
for (const word of process.argv.slice(2)) {
  const [name = "", to] = word.split("=");
  if (to === undefined) {
    device = word;
    request.bytes.fill(0, 0, 16); // IFNAMSIZ
    request.bytes.set(Buffer.from(device));
  } else call(GET[name as keyof typeof GET] + 1, to === "on" ? 1 : 0, `set ${word} of ${device}`);
}
const now = Object.entries(GET).map(([name, get]) => `${name}=${call(get, 0, name) ? "on" : "off"}`);
console.log(now.join(" "));
