/** Who is at the other end of a UNIX socket. */

import type { Socket } from "node:net";
import { libc } from "./libc.ts";

/** Of asm-generic/socket.h. */
const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
/** `struct ucred { pid_t pid; uid_t uid; gid_t gid; }` of unix(7): bytes, and where `uid` is. */
const UCRED_SIZE = 12;
const UID = 4;

/** The number of the user who has connected, as text; undefined if the connection is closed. */
export function userOf(socket: Socket): string | undefined {
  // The number is a field of Bun's internal handle: the interface of Node.js has no access to it.
  const { _handle: handle } = socket as unknown as { _handle?: { fd?: unknown } | null };
  if (typeof handle?.fd !== "number" || handle.fd < 0) return undefined;
  const credentials = new Uint8Array(UCRED_SIZE);
  const size = new Uint32Array([UCRED_SIZE]);
  if (libc.getsockopt(handle.fd, SOL_SOCKET, SO_PEERCRED, credentials, size) !== 0) return undefined;
  return String(new DataView(credentials.buffer).getUint32(UID, true));
}
