/** The network that boards are plugged into: DHCP and DNS by dnsmasq, as a small router gives them. */

import type { Host } from "../lab/host.ts";
import type { LabProcess } from "../lab/process.ts";

/**
 * @param names what its DNS knows: name → IPv4 address.
 * @param at the interface to serve, and its address.
 * @param more options of dnsmasq.
 */
export async function startRouter(
  host: Host,
  names: Readonly<Record<string, string>>,
  at: { device: string; ipv4: string } = host.port(),
  more: readonly string[] = [],
): Promise<LabProcess> {
  const { device, ipv4 } = at;
  const network = ipv4.split(".").slice(0, 3).join(".");
  const router = host.spawn([
    "dnsmasq",
    "--keep-in-foreground",
    "--conf-file=/dev/null",
    "--log-facility=-",
    "--log-dhcp",
    "--no-resolv",
    "--no-hosts",
    "--user=root",
    "--pid-file=",
    `--interface=${device}`,
    "--bind-interfaces",
    `--dhcp-range=${network}.100,${network}.200,255.255.255.0,1h`,
    `--dhcp-leasefile=${host.dir}/leases`,
    "--no-ping",
    ...more,
    ...Object.entries(names).map(([name, address]) => `--address=/${name}/${address}`),
  ]);
  await router.waitFor(/DHCP, IP range/);
  return router;
}
