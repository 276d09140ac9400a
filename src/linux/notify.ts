/** Telling systemd how we are: the datagram of sd_notify(3). */

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

/** struct sockaddr_un: u16 family, then the path of at most 108 bytes. */
const PATH_MAX = 108;

/** The bytes of a sockaddr_un. `@name` is the abstract socket `name` (unix(7)): a zero first, and none at its end. */
function socketAddress(name: string): ReturnType<typeof allocate> {
  const path = new TextEncoder().encode(name);
  const abstract = name.startsWith("@");
  if (
    (!abstract && !name.startsWith("/")) ||
    path.length >= PATH_MAX ||
    path.length < 2 ||
    path.includes(0)
  ) {
    throw new WaltError(`NOTIFY_SOCKET is ${JSON.stringify(name)}, which is no UNIX socket's address`);
  }
  const address = allocate(2 + path.length + (abstract ? 0 : 1));
  new DataView(address.bytes.buffer).setUint16(0, AF_UNIX, true);
  address.bytes.set(path, 2);
  if (abstract) address.bytes[2] = 0;
  return address;
}

/**
 * Send `READY=1`, `STOPPING=1`, `STATUS=…` (lines) to the service manager that NOTIFY_SOCKET names; does nothing where
 * there is none. Never waits: a manager that does not read loses the message.
 * @throws WaltError when the socket cannot be reached.
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
