/** The bridge in the board between the tunnel and the virtual machine: plain L2, without an address of its own. */

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { ipBatch } from "../../linux/ip.ts";

export const BRIDGE = "walt-br";
/** TAP of the virtual machine; it lasts as long as the bridge. */
export const VM_TAP = "walt-vm";
/** TAP of the tunnel; it comes and goes with it. */
export const VPN_TAP = "walt-vpn";

const exists = (name: string): boolean => existsSync(`/sys/class/net/${name}`);

/** The board itself is no member of walt-net: its kernel must not talk there. Nothing to do on a kernel without IPv6. */
function withoutIpv6(name: string): void {
  const file = `/proc/sys/net/ipv6/conf/${name}/disable_ipv6`;
  if (existsSync(file)) writeFileSync(file, "1");
}

/**
 * Make bridge and TAP of the virtual machine. What an earlier run that was killed left behind is made anew.
 * @param mac the bridge's own: pinned, or it would take that of its lowest port, and change with every tunnel.
 * @throws WaltError when ip(8) fails.
 */
export async function makeBridge(mac: string): Promise<void> {
  const left = [BRIDGE, VM_TAP].filter(exists);
  await ipBatch([
    ...left.map((name) => `link delete ${name}`),
    // No spanning tree and no forward delay: there is no loop, and the VM asks for an address at once. No snooping:
    // without a querier it would starve multicast.
    `link add name ${BRIDGE} address ${mac} type bridge stp_state 0 forward_delay 0 mcast_snooping 0`,
    `tuntap add dev ${VM_TAP} mode tap`,
  ]);
  withoutIpv6(BRIDGE);
  withoutIpv6(VM_TAP);
  await ipBatch([`link set ${VM_TAP} master ${BRIDGE} up`, `link set ${BRIDGE} up`]);
}

/** Put the tunnel's TAP into the bridge. @throws WaltError when ip(8) fails. */
export async function joinBridge(tap: string): Promise<void> {
  withoutIpv6(tap);
  await ipBatch([`link set ${tap} master ${BRIDGE} up`]);
}

/** Give the tunnel's TAP and the virtual machine's the MTU that the server agreed to, bytes. @throws WaltError when ip(8) fails. */
export async function setMtu(mtu: number): Promise<void> {
  const differs = (name: string): boolean =>
    readFileSync(`/sys/class/net/${name}/mtu`, "utf8").trim() !== String(mtu);
  await ipBatch([VPN_TAP, VM_TAP].filter(differs).map((name) => `link set ${name} mtu ${mtu}`));
}

/** Take both away, as far as they are there. */
export async function removeBridge(): Promise<void> {
  await ipBatch([VM_TAP, BRIDGE].filter(exists).map((name) => `link delete ${name}`));
}
