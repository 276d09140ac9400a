/**
 * A service manager's end of sd_notify(3), run by systemd.test.ts: `bun notify-receiver.ts PATH` binds a datagram socket, prints
 * `bound`, and then each message on one line. Bun has no UNIX datagram sockets: bind(2) and recv(2) by bun:ffi.
 */

import { dlopen, ptr } from "bun:ffi";
import { writeSync } from "node:fs";

const { symbols } = dlopen("libc.so.6", {
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  bind: { args: ["i32", "ptr", "u32"], returns: "i32" },
  recv: { args: ["i32", "ptr", "u64", "i32"], returns: "i64" },
});
const AF_UNIX = 1;
const SOCK_DGRAM = 2;

const path = new TextEncoder().encode(process.argv[2] ?? "");
// struct sockaddr_un: u16 family in the machine's order (little-endian on all that we run on), then the path.
const address = new Uint8Array(new ArrayBuffer(110));
address[0] = AF_UNIX;
address.set(path, 2);
const fd = symbols.socket(AF_UNIX, SOCK_DGRAM, 0);
if (fd < 0 || symbols.bind(fd, ptr(address), 2 + path.length + 1) !== 0) throw new Error("cannot bind");
writeSync(1, "bound\n");
const buffer = new Uint8Array(new ArrayBuffer(4096));
for (;;) {
  const length = Number(symbols.recv(fd, ptr(buffer), 4096, 0));
  if (length < 0) throw new Error("recv failed");
  writeSync(1, `${JSON.stringify(new TextDecoder().decode(buffer.subarray(0, length)))}\n`);
}
