/** A WalT server switches the power of a node by SNMP, as that of a switch's port. */

import { expect, test } from "bun:test";
import { eventually } from "../lab/eventually.ts";
import { describeWith } from "../lab/need.ts";
import { sharedWorld } from "../lab/shared-world.ts";
import { INTEGRATION, type World } from "../lab/world.ts";

const QEMU = process.arch === "arm64" ? "qemu-system-aarch64" : "qemu-system-x86_64";
const NEEDS = { programs: [QEMU, "snmpd", "snmpget", "snmpset", "snmpwalk"] };
const SWITCH = "192.168.192.250";
const COMMUNITY = "only-for-walt";
const ADMIN = ".1.3.6.1.2.1.105.1.1.1.3.1";
const MAIN_SWITCH = "52:54:00:0a:0b:0c";
/** Ports of the nodes. */
const PORTS = 512;

describeWith([...INTEGRATION, NEEDS], "SNMP", () => {
  const fresh = sharedWorld();

  /** net-snmp's command on the server; its output, or its last words. */
  async function snmp(world: World, command: string, words: readonly string[], community = COMMUNITY) {
    // Of who may not ask the requests are dropped.
    const patience = community === COMMUNITY ? ["-t", "5", "-r", "1"] : ["-t", "1", "-r", "0"];
    const options = ["-v2c", "-c", community, "-On", "-OQ", ...patience];
    const { status, stdout, stderr } = await world.server.run(
      [`snmp${command}`, ...options, SWITCH, ...words],
      { env: { MIBS: "" }, timeout: 60_000 },
    );
    return status === 0 ? stdout.trim() : stderr.trim();
  }

  /** The server starts with the agent. */
  async function withAgent(): Promise<World> {
    const world = await fresh();
    await world.stopServer();
    const config = await Bun.file(world.server.path("/etc/walt/vpn.toml")).text();
    world.server.writeFile(
      "/etc/walt/vpn.toml",
      `${config}\n[server.snmp]\naddress = "${SWITCH}"\nuplink = "${MAIN_SWITCH}"\n`,
    );
    world.server.writeFile("/etc/walt/snmp_community", `${COMMUNITY}\n`);
    await world.server.must(["chmod", "644", "/etc/walt/snmp_community"]);
    const { status, stderr } = await world.walt(world.server, "server", "run");
    expect([status, stderr]).toEqual([
      1,
      expect.stringMatching(/snmp_community has mode 644: others can read it/),
    ]);
    await world.server.must(["chmod", "600", "/etc/walt/snmp_community"]);
    await world.startServer();
    return world;
  }

  test("the node is at a port; off ends its machine and lasts, on starts it; nobody else may ask", async () => {
    const world = await withAgent();
    const device = await world.device("device1", { toml: "[device.vm]\nmemory = 128\n" });
    await device.enrol();
    await device.process?.waitFor(/event=vm-started/);
    const [node] = await world.nodes();
    const name = node?.name ?? "";
    const mac = node?.mac.replaceAll(":", " ").toUpperCase();

    // What WalT looks up: the port of a MAC address, and which ports give power.
    const chassis = await snmp(world, "walk", [".1.0.8802.1.1.2.1.4.1.1.5"]);
    const [, port = ""] = /\.0\.(\d+)\.1 = "?([0-9A-F ]+?)\s*"?$/m.exec(chassis) ?? [];
    expect(chassis).toContain(`${mac}`);
    expect(await snmp(world, "walk", [".1.0.8802.1.1.2.1.4.1.1.9"])).toContain(name);
    const speeds = (await snmp(world, "bulkwalk", [".1.3.6.1.2.1.2.2.1.5"])).split("\n");
    expect(speeds).toHaveLength((await snmp(world, "bulkwalk", [ADMIN])).split("\n").length);
    expect(await snmp(world, "get", [`${ADMIN}.${port}`])).toEndWith(" = 1");

    expect(await snmp(world, "set", [`${ADMIN}.${port}`, "i", "2"])).toEndWith(" = 2");
    expect(await snmp(world, "get", [`${ADMIN}.${port}`])).toEndWith(" = 2");
    await device.process?.waitFor(/powered off by WalT, by SNMP; it stays off/);
    expect(device.host.processes().filter(({ command }) => command.includes(QEMU))).toEqual([]);
    // Its tunnel goes and comes.
    const position = world.daemon.position;
    const [proxy] = world.proxies;
    await proxy?.host.must(["sh", "-c", "kill $(pidof cat)"]);
    await world.daemon.waitFor(/event=tunnel-up/, { after: position, timeout: 60_000 });
    await eventually("it is shown", () => world.must(world.server, "node", "show", name), {
      fits: (shown) => /VM +powered-off/.test(shown),
    });
    expect(await snmp(world, "get", [`${ADMIN}.${port}`])).toEndWith(" = 2");
    const started = device.process?.position ?? 0;
    expect(await snmp(world, "set", [`${ADMIN}.${port}`, "i", "1"])).toEndWith(" = 1");
    await device.process?.waitFor(/event=vm-started/, { after: started });
    expect(await world.must(world.server, "vpn", "events")).toMatch(/WalT, by SNMP/);

    // Another community, another machine, another object.
    expect(await snmp(world, "get", [`${ADMIN}.${port}`], "private")).toMatch(/Timeout/);
    expect(await snmp(world, "set", [".1.3.6.1.2.1.2.2.1.5.1", "u", "1"])).toMatch(/notWritable|noAccess/);
    const stranger = await device.plugNode("192.168.192.9", node?.mac ?? "");
    const asked = await stranger.run(
      ["snmpget", "-v2c", "-c", COMMUNITY, "-t", "1", "-r", "0", SWITCH, `${ADMIN}.${port}`],
      { env: { MIBS: "" } },
    );
    expect(asked.stderr).toMatch(/Timeout/);
    // The community is in no argument and in no log.
    expect(world.server.processes().filter(({ command }) => command.includes(COMMUNITY))).toEqual([]);
    expect(world.daemon.output).not.toContain(COMMUNITY);
  }, 240_000);

  // The requests of WalT's server (v10), in its order and with its values, when it explores a switch and switches a port.
  test("what a WalT server asks of a switch", async () => {
    const world = await withAgent();
    const device = await world.device("device1", { toml: "[device.vm]\nmemory = 128\n" });
    await device.enrol();
    await device.process?.waitFor(/event=vm-started/);
    const [node] = await world.nodes();
    /** What stands behind a column's name, as index and value. */
    const column = async (oid: string): Promise<[index: string, value: string][]> =>
      (await snmp(world, "bulkwalk", ["-Cn0", "-Cr40", oid])).split("\n").map((line) => {
        const [name = "", value = ""] = line.split(" = ");
        return [name.slice(oid.length + 1), value.replaceAll('"', "").trim()];
      });
    const neighbour = (which: number) => column(`.1.0.8802.1.1.2.1.4.1.1.${which}`);
    const numbers = Array.from({ length: PORTS }, (_, at) => String(at + 1));
    const hex = (mac = ""): string => mac.replaceAll(":", " ").toUpperCase();

    // Neighbours by LLDP: node and main switch, both by a MAC address (4), with names; the node's address is in the index.
    const [[at = ""] = []] = await neighbour(4);
    const uplink = `0.${PORTS + 1}.1`;
    expect(at).toMatch(/^0\.\d+\.1$/);
    expect(await neighbour(4)).toEqual([at, uplink].map((index) => [index, "4"]));
    expect(await neighbour(5)).toEqual([
      [at, hex(node?.mac)],
      [uplink, hex(MAIN_SWITCH)],
    ]);
    expect(await neighbour(9)).toEqual([
      [at, node?.name ?? ""],
      [uplink, "uplink"],
    ]);
    expect(await column(".1.0.8802.1.1.2.1.4.2.1.3")).toEqual([[`${at}.1.4.${node?.address}`, "1"]]);
    const labels = await column(".1.0.8802.1.1.2.1.3.7.1.3");
    expect(labels).toEqual([...numbers, String(PORTS + 1)].map((number) => [number, number]));

    // It has no forwarding table, and says so: a table that is there and empty would be believed.
    for (const absent of [".1.3.6.1.2.1.17.7.1.2.2.1.2", ".1.3.6.1.2.1.17.1.1.0"])
      expect(await snmp(world, "get", [absent])).toEndWith(
        "No Such Object available on this agent at this OID",
      );
    // Which vendor's way of power it has is tried out: that of TP-Link comes first, and there is nothing behind it.
    const ofVendor = await snmp(world, "bulkget", ["-Cn0", "-Cr40", ".1.3.6.1.4.1.11863.6.56.1.1.2.1.1.2"]);
    expect(ofVendor).toContain("No more variables left in this MIB View");

    // Ports with power are matched with Ethernet ports of 1 Gbit/s (6), one by one.
    const power = await column(".1.3.6.1.2.1.105.1.1.1.3");
    expect(power.map(([index]) => index)).toEqual(numbers.map((number) => `1.${number}`));
    expect(await column(".1.3.6.1.2.1.2.2.1.5")).toEqual(numbers.map((number) => [number, "1000000000"]));
    expect(await column(".1.3.6.1.2.1.2.2.1.3")).toEqual(numbers.map((number) => [number, "6"]));

    // Off is ordered where power is enabled (1) and delivered (3), and not at a port without a node.
    const [, port = ""] = at.split(".");
    const status = ADMIN.replace(/3\.1$/, "6.1");
    await eventually("power is enabled", () => snmp(world, "get", [`${ADMIN}.${port}`]), {
      fits: (shown) => shown.endsWith(" = 1"),
    });
    expect(await snmp(world, "get", [`${status}.${port}`])).toEndWith(" = 3");
    expect(await snmp(world, "get", [`${status}.${PORTS}`])).toEndWith(" = 2");
  }, 240_000);

  test("snmpd is not root, is started again, and goes with the server; a node that is down is not switched", async () => {
    const world = await withAgent();
    const device = await world.device("device1");
    await device.enrol();
    const snmpd = (): number[] =>
      world.server
        .processes()
        .filter(({ command }) => command.startsWith("snmpd "))
        .map(({ pid }) => pid);
    const [first = 0] = snmpd();
    expect(await Bun.file(`/proc/${first}/status`).text()).toMatch(/^Uid:\t65534\t65534/m);
    process.kill(first, "SIGKILL");
    await world.daemon.waitFor(/event=snmp-restart/);
    const port = (
      await eventually("it answers again", () => snmp(world, "walk", [".1.0.8802.1.1.2.1.4.1.1.5"]), {
        fits: (text) => text.startsWith("."),
        within: 60_000,
      })
    ).match(/\.0\.(\d+)\.1 /)?.[1];
    await device.stop();
    await eventually("the node is down", async () => (await world.nodes())[0]?.state === "down");
    expect(await snmp(world, "set", [`${ADMIN}.${port}`, "i", "2"])).toMatch(/inconsistentValue/);
    await world.daemon.waitFor(/event=snmp-power reason="the tunnel of \S+ is down/);
    expect(await world.stopServer()).toBe(0);
    expect(world.server.processes().filter(({ command }) => /snmp/.test(command))).toEqual([]);
    expect(await world.server.must(["ip", "address"])).not.toContain(SWITCH);
  }, 240_000);
});
