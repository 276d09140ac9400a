/** UDP sockets that a child program is given, bound to one interface. */

import { AF_INET, allocate, at, failure, libc, SOCK_CLOEXEC, SOCK_DGRAM } from "./libc.ts";

/** asm-generic/socket.h */
const SOL_SOCKET = 1;
const SO_BINDTODEVICE = 25;
/** Bytes of `struct sockaddr_in` (ip(7)). */
const SOCKADDR_IN = 16;

/**
 * A UDP socket that gets only what comes in by an interface, as a file descriptor that is closed on exec.
 * @param ipv4 an address of this machine.
 * @throws WaltError with the reason.
 */
export function udpSocket(ipv4: string, port: number, device: string): number {
  const fd = libc.socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) throw failure("make a UDP socket");
  try {
    const name = Buffer.from(`${device}\0`);
    const value = allocate(name.length);
    value.bytes.set(name);
    if (libc.setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, at(value.address), name.length) < 0)
      throw failure(`bind a UDP socket to ${device}`);
    const address = allocate(SOCKADDR_IN);
    const view = new DataView(address.bytes.buffer, address.bytes.byteOffset);
    view.setUint16(0, AF_INET, true);
    view.setUint16(2, port);
    for (const [index, byte] of ipv4.split(".").entries()) view.setUint8(4 + index, Number(byte));
    if (libc.bind(fd, at(address.address), SOCKADDR_IN) < 0)
      throw failure(`listen on ${ipv4}, UDP port ${port}`);
    return fd;
  } catch (error) {
    libc.close(fd);
    throw error;
  }
}
