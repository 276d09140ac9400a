/** The checks of a device's own network: card, address, route, gateway, name servers. */

import { isIP } from "node:net";
import { type Check, fault, noted, OK } from "../../doctor/check.ts";
import { DNS_PORT, dnsAnswer, dnsQuestion, nameServers } from "../../doctor/dns.ts";
import { ipJsonIfAny } from "../../doctor/ip.ts";
import type { Machine } from "../../doctor/machine.ts";
import { Fields } from "../../parse.ts";
import { chooseInterface, type Link } from "../net/uplink.ts";
import type { DeviceCase } from "./case.ts";

const RESOLV_CONF = "/etc/resolv.conf";
/** The id of our question to a name server: any will do. */
const QUESTION_ID = 0x5741;
/** States of a neighbour whose MAC address is not known (ip-neighbour(8)). */
const NO_NEIGHBOUR = ["FAILED", "INCOMPLETE", "NONE"];

export const NETWORK_CHECKS: readonly Check<DeviceCase>[] = [
  {
    id: "card",
    what: "There is a wired network card, and its link is up.",
    after: ["programs"],
    look: async (device) => {
      const { usable, choice, shown } = await candidates(device);
      if (typeof choice !== "string" || usable.some((link) => link.up)) return OK;
      return fault(
        choice,
        shown,
        usable.length === 0
          ? "Plug in a network card, or load its driver (`dmesg` shows what is missing); then name it in device.interface if there are several."
          : "Plug the cable in at both ends, and look at the lamps of card and switch. Try another cable or port.",
      );
    },
  },
  {
    id: "address",
    what: "A wired card has an IP address, and the one to use is clear.",
    after: ["card"],
    look: async (device) => {
      const { usable, choice, shown } = await candidates(device);
      if (typeof choice !== "string") return noted(`${choice.name} has ${choice.address}`);
      if (usable.some((link) => link.up && link.address !== ""))
        return fault(choice, shown, "Name the card to use in vpn.toml: device.interface.");
      return fault(
        choice,
        shown,
        "No DHCP server has answered. Is there one in this network, does it know this board's MAC address if it has to, and is the switch port in the right VLAN? Without DHCP give the board a static address.",
      );
    },
  },
  {
    id: "route",
    what: "There is a route to the entrypoints, or to the name servers that know them.",
    after: ["address"],
    look: async (device) => {
      const targets = await targetsOf(device);
      const routes = await Promise.all(targets.map((target) => routeTo(device.machine, target)));
      if (routes.some((route) => route !== undefined)) return OK;
      if (targets.length === 0 && (await device.defaultRoutes()).length > 0) return OK;
      const ran = await device.machine.run(["ip", "route"]);
      const shown = ran?.stdout.trim().replaceAll(/\s*\n/g, "; ").slice(0, 200) ?? "";
      return fault(
        "there is no route to the Internet: no default gateway is set",
        `ip route: ${shown === "" ? "nothing" : shown}`,
        "The DHCP server must give a router (option 3) inside the board's own network. With a static address, set the gateway as well.",
      );
    },
  },
  {
    id: "gateway",
    what: "The gateway on the way to them answers (ARP or neighbour discovery).",
    after: ["route"],
    look: async (device) => {
      const { machine } = device;
      const routes = await Promise.all((await targetsOf(device)).map((one) => routeTo(machine, one)));
      const hops = new Map(routes.flatMap((r) => (r?.gateway === undefined ? [] : [[r.gateway, r.card]])));
      if (hops.size === 0) return noted("not needed: all is in the board's own network");
      for (const [gateway, card] of hops) {
        const ping = await machine.run(["ping", "-c", "1", "-W", "1", zoned(gateway, card)], 3000);
        if (ping?.status === 0) return noted(`${gateway} answers`);
        const state = await neighbourState(machine, gateway, card);
        // It need not answer a ping: that it tells its MAC address is enough.
        if (!NO_NEIGHBOUR.includes(state)) return noted(`${gateway} is there (${state})`);
      }
      const [[gateway = "", card = ""] = []] = hops;
      return fault(
        `the gateway ${gateway} does not answer`,
        `ip neigh show ${gateway} dev ${card}: ${await neighbourState(machine, gateway, card)}`,
        "Is the router on, and is this board in its VLAN? Compare the gateway with that of another machine in this network.",
      );
    },
  },
  {
    id: "resolver",
    what: "A name server answers, if the entrypoints are given by name.",
    after: ["gateway"],
    look: async (device) => {
      const names = hostsOf(device).filter((host) => isIP(host) === 0);
      const found = await Promise.all(names.map((name) => device.resolve(name)));
      const [name] = names.filter((_, index) => "code" in (found[index] ?? {}));
      if (name === undefined) return OK;
      const servers = nameServers((await device.machine.read(RESOLV_CONF)) ?? "");
      if (servers.length === 0) {
        return fault(
          "no name server is known, so that no name can be resolved",
          `${RESOLV_CONF} names none`,
          "The DHCP server must give name servers (option 6). With a static address, set them as well. Or give the entrypoint by its IP address.",
        );
      }
      const answers = await Promise.all(servers.map((server) => answerOf(device.machine, server, name)));
      const shown = servers.map((server, index) => `${server}: ${answers[index] ?? "no answer"}`).join(", ");
      if (answers.some((answer) => answer !== undefined)) return noted(shown);
      return fault(
        "no name server answers",
        shown,
        "Is it on, and does a firewall let port 53 through? Compare the name servers with those of another machine in this network.",
      );
    },
  },
];

/** The wired cards, or the one that the configuration names; and which is chosen, or why none is. */
async function candidates(
  device: DeviceCase,
): Promise<{ usable: readonly Link[]; choice: Link | string; shown: string }> {
  const { machine, config } = device;
  const wanted = config.device.interface;
  const links = await device.links();
  const wireless = new Set<string>();
  for (const { name } of links) {
    const there = await machine.list(`/sys/class/net/${name}`);
    if (there.includes("wireless") || there.includes("phy80211")) wireless.add(name);
  }
  const usable = links.filter(({ name }) => (wanted === "" ? !wireless.has(name) : name === wanted));
  const routes = await device.defaultRoutes();
  const found = chooseInterface(links, routes, wanted, (name) => wireless.has(name));
  const choice = typeof found === "string" ? found : (links.find(({ name }) => name === found.name) ?? "");
  const shown = links
    .map(({ name, up, address }) => `${name}: ${up ? "link" : "no link"}, ${address || "no address"}`)
    .join("; ");
  return { usable, choice, shown: shown === "" ? "ip address shows no Ethernet card" : shown };
}

/** The hosts of all first hops. */
function hostsOf(device: DeviceCase): string[] {
  return [...new Set(device.ways.map(({ hop }) => hop.host))];
}

/**
 * The addresses that must be reached first: of the entrypoints, and of name servers while a name has none.
 */
async function targetsOf(device: DeviceCase): Promise<string[]> {
  const found = await Promise.all(hostsOf(device).map((host) => device.resolve(host)));
  const known = found.flatMap((one) => ("addresses" in one ? one.addresses : []));
  if (found.every((one) => "addresses" in one)) return known;
  return [...known, ...nameServers((await device.machine.read(RESOLV_CONF)) ?? "")];
}

interface Route {
  readonly card: string;
  /** undefined in the board's own network. */
  readonly gateway: string | undefined;
}

/** The route that the kernel takes to an address; undefined if there is none. */
async function routeTo(machine: Machine, address: string): Promise<Route | undefined> {
  const [first] = await ipJsonIfAny(machine, ["route", "get", address]);
  if (first === undefined) return undefined;
  const fields = new Fields(first, `ip -j route get ${address}`);
  const via = fields.has("via") ? fields.object("via").optionalText("host", 60) : undefined;
  return { card: fields.optionalText("dev", 15) ?? "", gateway: fields.optionalText("gateway", 60) ?? via };
}

/** An address for ping(8): link-local ones are unique on their interface alone. */
const zoned = (address: string, card: string): string =>
  address.startsWith("fe80:") ? `${address}%${card}` : address;

/** The state of the entry in the neighbour table: `REACHABLE`, `FAILED`, …; `NONE` without an entry. */
async function neighbourState(machine: Machine, address: string, card: string): Promise<string> {
  const [first] = await ipJsonIfAny(machine, ["neigh", "show", "to", address, "dev", card]);
  if (first === undefined) return "NONE";
  const fields = new Fields(first, "ip -j neigh");
  const [state] = fields.has("state") ? fields.array("state") : [];
  return typeof state === "string" ? state : "NONE";
}

async function answerOf(machine: Machine, server: string, name: string): Promise<string | undefined> {
  const bytes = await machine.ask({ host: server, port: DNS_PORT }, dnsQuestion(name, QUESTION_ID));
  return bytes === undefined ? undefined : dnsAnswer(bytes, QUESTION_ID);
}
