/** Whether the kernel has IPv6. */

import { AF_INET6, libc, SOCK_CLOEXEC, SOCK_STREAM } from "./libc.ts";

/** Whether sockets of IPv6 can be made: not with `ipv6.disable=1` on the kernel's command line. */
export function hasIpv6(): boolean {
  const fd = libc.socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  libc.close(fd);
  return true;
}

/** The address to listen on for everybody: `0.0.0.0` in the place of `::` where there is no IPv6. */
export function anyAddress(host: string, ipv6 = hasIpv6()): string {
  return host === "::" && !ipv6 ? "0.0.0.0" : host;
}
