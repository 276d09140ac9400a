/** Tells systemd the state of this service, by the protocol of sd_notify(3). */

import { WaltError } from "../errors.ts";
import {
  AF_UNIX,
  allocate,
  at,
  failure,
  libc,
  MSG_NOSIGNAL,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
} from "./libc.ts";

/** Bytes of the path in struct sockaddr_un, which comes after a family of 2 bytes (unix(7)). */
const PATH_MAX = 108;

/**
 * The bytes of a sockaddr_un. `@name` means the abstract socket `name`: its path begins with a zero byte
 * instead of `@`, and has no zero byte at its end (unix(7)).
 * @throws WaltError when the name is not the address of a UNIX socket.
 */
function socketAddress(name: string): ReturnType<typeof allocate> {
  const path = new TextEncoder().encode(name);
  const abstract = name.startsWith("@");
  if (
    (!abstract && !name.startsWith("/")) ||
    path.length >= PATH_MAX ||
    path.length < 2 ||
    path.includes(0)
  ) {
    throw new WaltError(
      `the environment variable NOTIFY_SOCKET is not the address of a UNIX socket: ${JSON.stringify(name)}`,
    );
  }
  const address = allocate(2 + path.length + (abstract ? 0 : 1));
  new DataView(address.bytes.buffer).setUint16(0, AF_UNIX, true);
  address.bytes.set(path, 2);
  if (abstract) address.bytes[2] = 0;
  return address;
}

/**
 * Send a message to the service manager; does nothing when there is none. It never waits.
 * @param text lines such as `READY=1`, `STOPPING=1` or `STATUS=…`.
 * @param socket the manager's socket; by default the one that systemd names in NOTIFY_SOCKET.
 * @throws WaltError when the message cannot be sent, also because the manager does not read its messages.
 */
export function notifySystemd(text: string, socket = process.env["NOTIFY_SOCKET"]): void {
  if (socket === undefined || socket === "") return;
  const address = socketAddress(socket);
  const bytes = new TextEncoder().encode(text);
  const message = allocate(Math.max(1, bytes.length));
  message.bytes.set(bytes);
  const fd = libc.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) throw failure("make a socket");
  try {
    const sent = libc.sendto(
      fd,
      at(message.address),
      bytes.length,
      MSG_NOSIGNAL,
      at(address.address),
      address.bytes.length,
    );
    if (sent < 0) throw failure(`notify ${socket}`);
  } finally {
    libc.close(fd);
  }
}
