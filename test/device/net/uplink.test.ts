/** Which interface a device uses, from what ip(8) says. */

import { describe, expect, test } from "bun:test";
import {
  chooseInterface,
  NetworkWatch,
  parseDefaultRoutes,
  parseInterfaces,
} from "../../../src/device/net/uplink.ts";
import { Children } from "../../../src/linux/child.ts";
import { eventually } from "../../lab/eventually.ts";

const card = (name: string, address?: string, more: Record<string, unknown> = {}) => ({
  ifname: name,
  flags: ["BROADCAST", "MULTICAST", "UP", "LOWER_UP"],
  link_type: "ether",
  address: "b8:27:eb:00:00:01",
  addr_info: [
    { family: "inet6", local: "fe80::1", scope: "link" },
    ...(address === undefined ? [] : [{ family: "inet", local: address, scope: "global" }]),
  ],
  ...more,
});
const loopback = { ...card("lo", "127.0.0.1"), link_type: "loopback" };
const down = { flags: ["BROADCAST", "MULTICAST", "UP"] };

const choose = (cards: unknown[], routes: string[] = [], wanted = "", wireless: string[] = []) => {
  const found = chooseInterface(parseInterfaces(cards), routes, wanted, (name) => wireless.includes(name));
  return typeof found === "string" ? found : found.name;
};

describe("the interface", () => {
  test("is the only wired one with an address", () => {
    expect(choose([loopback, {}, card("eth0", "192.0.2.7"), card("eth1")])).toBe("eth0");
    expect(choose([loopback, card("eth0", "2001:db8::7")])).toBe("eth0");
  });

  test("is the one with the default route when several have addresses", () => {
    expect(choose([card("eth0", "192.0.2.7"), card("eth1", "198.51.100.7")], ["eth1"])).toBe("eth1");
    expect(choose([card("eth0", "192.0.2.7"), card("eth1", "198.51.100.7")])).toContain("device.interface");
  });

  test("is never a wireless one, nor our own bridge, unless it is named", () => {
    expect(choose([card("wlan0", "192.0.2.7"), card("eth0", "192.0.2.8")], ["wlan0"], "", ["wlan0"])).toBe(
      "eth0",
    );
    expect(choose([card("wlan0", "192.0.2.7")], [], "", ["wlan0"])).toContain("no wired network card");
    expect(choose([card("wlan0", "192.0.2.7")], [], "wlan0", ["wlan0"])).toBe("wlan0");
    expect(choose([card("walt-br", "192.0.2.7")])).toContain("no wired network card");
  });

  test("that is wanted by name is used or waited for, whatever others have", () => {
    const cards = [card("eth0", "192.0.2.7"), card("eth1"), card("eth2", "192.0.2.9", down)];
    expect(choose(cards, ["eth0"], "eth1")).toContain("eth1 has no address yet");
    expect(choose(cards, ["eth0"], "eth2")).toContain("eth2 has no link");
    expect(choose(cards, ["eth0"], "eth9")).toContain("no network card eth9");
  });

  test("is waited for with the reason", () => {
    expect(choose([card("eth0", undefined, down)])).toContain("no network cable");
    expect(choose([card("eth0")])).toContain("an address yet");
    const tentative = {
      addr_info: [{ family: "inet6", local: "2001:db8::7", scope: "global", tentative: true }],
    };
    expect(choose([card("eth0", undefined, tentative)])).toContain("an address yet");
  });
});

test("default routes name their interfaces", () => {
  expect(
    parseDefaultRoutes([{ dst: "default", gateway: "192.0.2.1", dev: "eth0" }, { dst: "default" }]),
  ).toEqual(["eth0", ""]);
});

test("output of another shape is an error", () => {
  expect(() => parseInterfaces({ ifname: "eth0" })).toThrow("ip -j address");
  expect(() => parseInterfaces([{ ...card("eth0"), flags: "UP" }])).toThrow("flags");
});

test("a wait ends early when default routes or resolvers are others, and tells that", async () => {
  const children = new Children();
  let surroundings = "a route";
  const watch = new NetworkWatch(children, () => surroundings);
  const used = { name: "eth0", boardMac: "b8:27:eb:01:02:03", address: "192.0.2.7" };
  try {
    const { signal } = new AbortController();
    expect(await watch.quiet(1, used, "", signal)).toBe(false);
    const waiting = watch.quiet(600_000, used, "", signal);
    surroundings = "another route";
    expect(await eventually("the end of the wait", waiting)).toBe(true);
    const stopped = new AbortController();
    const other = watch.quiet(600_000, used, "", stopped.signal);
    stopped.abort();
    expect(await eventually("the end of the other wait", other)).toBe(false);
  } finally {
    await children.stop();
  }
});
