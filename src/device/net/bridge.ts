/** The bridge of the device, which connects the tunnel with the virtual machine. It has no IP address. */

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { type IpOptions, ipBatch } from "../../linux/ip.ts";

/** Name of the bridge. */
export const BRIDGE = "walt-br";
/** Name of the virtual machine's TAP, which is made and removed together with the bridge. */
export const VM_TAP = "walt-vm";
/** Name of the tunnel's TAP, which exists while there is a tunnel. */
export const VPN_TAP = "walt-vpn";

/** Whether there is a network interface of this name. */
const exists = (name: string): boolean => existsSync(`/sys/class/net/${name}`);

/**
 * Switch IPv6 off on an interface. The device itself does not belong to walt-net, so that its kernel must not
 * send anything there. A kernel without IPv6 has no such file.
 */
function withoutIpv6(name: string): void {
  const file = `/proc/sys/net/ipv6/conf/${name}/disable_ipv6`;
  if (existsSync(file)) writeFileSync(file, "1");
}

/**
 * Make the bridge and the TAP of the virtual machine. Those that an earlier run left behind because it was
 * killed are removed first.
 * @param bridgeMac MAC address of the bridge. Without it, the bridge would have the lowest address of its
 *   ports, which changes with every tunnel.
 * @throws WaltError when ip(8) fails.
 */
export async function makeBridge(bridgeMac: string, options: IpOptions = {}): Promise<void> {
  const left = [BRIDGE, VM_TAP].filter(exists);
  await ipBatch(
    [
      ...left.map((name) => `link delete ${name}`),
      // There is no spanning tree and no forward delay, as there is no loop, and the virtual machine asks for
      // an address at once. There is no multicast snooping, because without a querier the bridge would drop
      // multicast.
      `link add name ${BRIDGE} address ${bridgeMac} type bridge stp_state 0 forward_delay 0 mcast_snooping 0`,
      `tuntap add dev ${VM_TAP} mode tap`,
    ],
    options,
  );
  withoutIpv6(BRIDGE);
  withoutIpv6(VM_TAP);
  await ipBatch([`link set ${VM_TAP} master ${BRIDGE} up`, `link set ${BRIDGE} up`], options);
}

/** Put the tunnel's TAP into the bridge. @throws WaltError when ip(8) fails. */
export async function joinBridge(tap: string): Promise<void> {
  withoutIpv6(tap);
  await ipBatch([`link set ${tap} master ${BRIDGE} up`]);
}

/**
 * Set the MTU of the tunnel's TAP and of the virtual machine's TAP.
 * @param mtu bytes, as agreed on with the server.
 * @throws WaltError when ip(8) fails.
 */
export async function setMtu(mtu: number): Promise<void> {
  const differs = (name: string): boolean =>
    readFileSync(`/sys/class/net/${name}/mtu`, "utf8").trim() !== String(mtu);
  await ipBatch([VPN_TAP, VM_TAP].filter(differs).map((name) => `link set ${name} mtu ${mtu}`));
}

/** Remove the bridge and the virtual machine's TAP, if they are there. @throws WaltError when ip(8) fails. */
export async function removeBridge(options: IpOptions = {}): Promise<void> {
  await ipBatch(
    [VM_TAP, BRIDGE].filter(exists).map((name) => `link delete ${name}`),
    options,
  );
}
