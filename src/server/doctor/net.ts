/** The checks of walt-net on a server: the bridge, what filters its frames, its addresses, and DHCP. */

import { SERVER_PORT } from "../../address.ts";
import { type Check, fault, noted, OK, type Outcome, unknown } from "../../doctor/check.ts";
import { ipJson, ipJsonIfAny } from "../../doctor/ip.ts";
import { lookAtPrograms } from "../../doctor/needs.ts";
import { findProcess } from "../../doctor/processes.ts";
import { Fields } from "../../parse.ts";
import { collisionCure, collisionOf, collisionText, freeNetwork } from "../net/collision.ts";
import { filterCure, filterOf, filterText } from "../net/filter.ts";
import type { ServerCase } from "./case.ts";

export const NET_CHECKS: readonly Check<ServerCase>[] = [
  {
    id: "network",
    what: "No other network of the server has addresses of a managed walt-net.",
    after: ["programs"],
    look: async ({ machine, config }) => {
      const { managed, address, bridge } = config["server.network"];
      if (!managed) return noted("another program gives the addresses on walt-net");
      const [addresses, routes] = await Promise.all([
        ipJson(machine, ["-4", "address"]),
        ipJson(machine, ["-4", "route"]),
      ]);
      const other = collisionOf(address, bridge, addresses, routes);
      if (other === undefined) return OK;
      return fault(
        collisionText(address, bridge, other),
        `${other.network} is on ${other.card}, and ${address} is on ${bridge}`,
        collisionCure(freeNetwork(bridge, addresses, routes)),
      );
    },
  },
  {
    id: "bridge",
    what: "The bridge is there, up, without STP, and has the MTU of `server.network.mtu`.",
    after: ["programs"],
    look: lookAtBridge,
  },
  {
    id: "bridge-filter",
    what: "No firewall swallows the frames on the bridge (br_netfilter with a FORWARD policy of DROP).",
    after: ["bridge"],
    look: lookAtFilter,
  },
  {
    id: "firewall",
    what: "The firewall lets devices reach the endpoint's port, as far as can be seen.",
    after: [],
    look: async ({ machine, config }) => {
      const ran = await machine.run(["iptables", "-S", "INPUT"]);
      const port = config.server.listen?.port ?? SERVER_PORT;
      if (ran?.status !== 0 || !/^-P INPUT (DROP|REJECT)$/m.test(ran.stdout)) return OK;
      if (new RegExp(`dports? (\\S+,)?${port}\\b.*-j ACCEPT`).test(ran.stdout)) return OK;
      return unknown(
        `the policy of INPUT is DROP, and no rule names port ${port}: \`nc -v SERVER ${port}\` on the last proxy shows whether it passes`,
      );
    },
  },
  {
    id: "dnsmasq",
    what: "dnsmasq is installed, and serves DHCP on a managed walt-net.",
    after: [],
    look: async (server) => {
      const { machine, config, dnsmasqConfig } = server;
      if (!config["server.network"].managed) return noted("another program serves DHCP on walt-net");
      const installed = lookAtPrograms(machine, { dnsmasq: "dnsmasq-base" });
      if (installed.is === "fault" || (await server.daemonVersion()) === undefined) return installed;
      if (
        (await findProcess(machine, (words) => words.includes(`--conf-file=${dnsmasqConfig}`))) !== undefined
      )
        return OK;
      return fault(
        "the daemon runs, and its dnsmasq does not: nodes get no address",
        `no process has --conf-file=${dnsmasqConfig}`,
        "The daemon starts it again; its log says why it ended (event=dhcp-restart, or with WALT_DEBUG=1 all that it says). Is another DHCP server on this bridge?",
      );
    },
  },
];

async function lookAtBridge(server: ServerCase): Promise<Outcome> {
  const { machine, config } = server;
  const { bridge, managed, mtu } = config["server.network"];
  const [first] = await ipJsonIfAny(machine, ["-d", "link", "show", "dev", bridge]);
  const show = `ip -d link show dev ${bridge}`;
  if (first === undefined) {
    if (!managed) {
      return fault(
        `the bridge ${bridge} does not exist`,
        show,
        "With server.network.managed = false another program must make it. Start that first, or set managed = true.",
      );
    }
    if ((await server.daemonVersion()) === undefined) return noted("the daemon makes it");
    return fault(
      `the daemon runs, and its bridge ${bridge} is gone`,
      show,
      "Another program has removed it. Restart the daemon: systemctl restart walt-vpn",
    );
  }
  const link = new Fields(first, show);
  const info = link.has("linkinfo") ? link.object("linkinfo") : undefined;
  if (info?.optionalText("info_kind") !== "bridge") {
    return fault(
      `${bridge} is a network interface, but no bridge`,
      show,
      "Name another server.network.bridge.",
    );
  }
  if (!link.array("flags").includes("UP")) {
    return fault(`the bridge ${bridge} is down`, show, `ip link set dev ${bridge} up`);
  }
  const actual = link.integer("mtu", 0, 65_536);
  if (actual < mtu) {
    return fault(
      `the MTU of ${bridge} is ${actual}, and server.network.mtu is ${mtu}`,
      show,
      `ip link set dev ${bridge} mtu ${mtu}; or set server.network.mtu = ${actual}`,
    );
  }
  const data = info.has("info_data") ? info.object("info_data") : undefined;
  if (data?.has("stp_state") === true && data.integer("stp_state", 0, 2) !== 0) {
    return fault(
      `the spanning tree protocol (STP) is on: after each connection ${bridge} passes nothing of a node for some 30 s`,
      `stp_state ${data.integer("stp_state", 0, 2)} in ${show}`,
      `ip link set dev ${bridge} type bridge stp_state 0 forward_delay 0; nodes cannot make loops`,
    );
  }
  return OK;
}

async function lookAtFilter({ machine, config }: ServerCase): Promise<Outcome> {
  const { bridge } = config["server.network"];
  const { is, shown } = await filterOf(machine, bridge);
  if (is === "passes") return noted(shown);
  if (is === "unknown") return unknown(shown);
  return fault(filterText(bridge), shown, filterCure(bridge));
}
