/** walt-net itself: a bridge that exists already is used and left, and a node is only itself there. */

import { expect, test } from "bun:test";
import { GROUP_FRAMES } from "../../src/tunnel/receive/guard.ts";
import { eventually } from "../lab/eventually.ts";
import type { Host } from "../lab/host.ts";
import { describeWith } from "../lab/need.ts";
import { sharedDevices, sharedWorld } from "../lab/shared-world.ts";
import { INTEGRATION, pingable, WALT_NET, type World } from "../lab/world.ts";

describeWith(INTEGRATION, "walt-net", () => {
  const fresh = sharedWorld();
  const twoNodes = sharedDevices(fresh, async (world) => ({ world, nodes: await plugTwo(world) }));

  test("an existing bridge is used as it is, and left as it was", async () => {
    const world = await fresh();
    await world.stopServer();
    const { server } = world;
    await server.ip(
      "link add walt-net address 02:00:00:00:00:01 type bridge",
      "address add 10.20.0.1/24 dev walt-net",
      "link set walt-net up",
    );
    // The daemon would make the bridge itself: one that is not its own is not touched without being told.
    const refused = await world.walt(server, "server", "run");
    expect(refused.status).toBe(1);
    expect(refused.stderr).toMatch(/walt-net exists already and is not ours\n.*managed = false/);

    const config = await Bun.file(server.path("/etc/walt/vpn.toml")).text();
    server.writeFile("/etc/walt/vpn.toml", `${config}\n[server.network]\nmanaged = false\n`);
    await world.startServer();
    expect(server.processes().some((p) => /dnsmasq/.test(p.command))).toBe(false);
    const device = await world.device("device1");
    const name = await device.enrol();
    const [node] = await world.nodes();
    const plugged = await device.plugNode("10.20.0.7", node?.mac ?? "");
    expect(await pingable(plugged, "10.20.0.1")).toBe(true);
    // Nobody gave it a lease: its address is what the bridge's neighbours know.
    expect((await world.nodes())[0]).toMatchObject({ name, address: "10.20.0.7" });
    expect(await world.stopServer()).toBe(0);
    expect(await server.must(["ip", "-br", "address", "show", "walt-net"])).toMatch(/10\.20\.0\.1\/24/);
    expect(await server.must(["ip", "-o", "link"])).not.toMatch(/tap-/);
  }, 180_000);

  test("without the bridge that it is told to use, the server says so", async () => {
    const world = await fresh();
    await world.stopServer();
    const config = await Bun.file(world.server.path("/etc/walt/vpn.toml")).text();
    world.server.writeFile(
      "/etc/walt/vpn.toml",
      `${config}\n[server.network]\nmanaged = false\nbridge = "br-lab"\n`,
    );
    const { status, stderr } = await world.walt(world.server, "server", "run");
    expect(status).toBe(1);
    expect(stderr).toMatch(/the bridge br-lab does not exist/);
  }, 180_000);

  test("larger frames where both ends agree, else 1500", async () => {
    const world = await fresh("[server.network]\nmtu = 9000");
    const { server } = world;
    const mtuOf = async (host: Host, name: string): Promise<string | undefined> =>
      / mtu (\d+) /.exec(await host.must(["ip", "-o", "link", "show", "dev", name]))?.[1];
    const passes = async (from: Host, size: number): Promise<boolean> =>
      (await from.run(["ping", "-c", "1", "-W", "2", "-M", "do", "-s", String(size), WALT_NET])).status === 0;
    for (const [name, toml, mtu] of [
      ["device1", "[device.vm]\nstart = false\n", 9000],
      ["device2", "mtu = 1500\n[device.vm]\nstart = false\n", 1500],
    ] as const) {
      const device = await world.device(name, { toml });
      const label = await device.enrol();
      const node = (await world.nodes()).find((n) => n.name === label);
      expect(node?.mtu).toBe(mtu);
      const plugged = await device.plugNode(`192.168.192.7${mtu === 9000 ? 0 : 1}`, node?.mac ?? "");
      for (const tap of ["walt-vpn", "walt-vm"]) expect(await mtuOf(device.host, tap)).toBe(String(mtu));
      await eventually("the MTU of the node's TAP", () => mtuOf(server, `tap-${label}`), {
        fits: (text) => text === String(mtu),
      });
      // The machine behind it may well believe in more.
      await device.host.ip("link set to-node mtu 9000");
      await plugged.ip("link set eth0 mtu 9000");
      expect(await pingable(plugged, WALT_NET)).toBe(true);
      expect(await passes(plugged, 1472)).toBe(true);
      expect(await passes(plugged, mtu === 9000 ? 8972 : 1473)).toBe(mtu === 9000);
    }
    // The small one has not made the network smaller for others.
    expect(await mtuOf(server, "walt-net")).toBe("9000");
  }, 180_000);

  test("with the address guard a node speaks from the address that DHCP has for it, and from no other", async () => {
    const world = await fresh("[server.network]\naddress_guard = true");
    const device = await world.device("device1");
    const name = await device.enrol();
    const node = (await world.nodes()).find((one) => one.name === name);
    const own = node?.address ?? "";
    expect(own).toMatch(/^192\.168\.192\./);
    const plugged = await device.plugNode("192.168.192.77", node?.mac ?? "");
    expect(await pingable(plugged, WALT_NET, 2)).toBe(false);
    await plugged.ip("address flush dev eth0", `address add ${own}/22 dev eth0`);
    expect(await pingable(plugged, WALT_NET)).toBe(true);
    const refused = async (): Promise<number> => (await world.nodes())[0]?.traffic?.refused ?? 0;
    await eventually("the frames from the other address are counted", refused, { fits: (n) => n > 0 });
  }, 120_000);

  test("isolated nodes reach the server, and not each other", async () => {
    const world = await fresh("[server.network]\nisolation = true");
    const hosts = await plugTwo(world);
    for (const host of hosts) expect(await pingable(host, WALT_NET)).toBe(true);
    const [one, two] = hosts;
    expect(await pingable(one, "192.168.192.71", 2)).toBe(false);
    expect(await pingable(two, "192.168.192.70", 2)).toBe(false);
    // What else is in the bridge is reached, too.
    const lab = await world.lab.host("lab", { networks: [] });
    await world.server.ip(
      `link add to-lab type veth peer name eth0 netns ${lab.pid}`,
      "link set to-lab master walt-net up",
    );
    await lab.ip("link set eth0 up", "address add 192.168.192.90/22 dev eth0");
    expect(await pingable(one, "192.168.192.90")).toBe(true);
    expect(await pingable(lab, "192.168.192.71")).toBe(true);
  }, 180_000);

  test("frames with another source MAC address than the node's do not get through", async () => {
    const { world, nodes } = await twoNodes();
    const [plugged] = nodes;
    const mac = (await plugged.must(["cat", "/sys/class/net/eth0/address"])).trim();
    expect(await pingable(plugged, WALT_NET)).toBe(true);
    const other = "52:54:00:66:66:66";
    const traffic = async () => (await world.nodes()).find((node) => node.mac === mac)?.traffic;
    await plugged.ip(`link set eth0 address ${other}`);
    const before = await traffic();
    expect(await pingable(plugged, WALT_NET, 2)).toBe(false);
    const after = await traffic();
    expect(after?.refused).toBeGreaterThan(before?.refused ?? 0);
    expect(after?.framesIn).toBe(before?.framesIn ?? -1);
    await plugged.ip(`link set eth0 address ${mac}`);
    expect(await pingable(plugged, WALT_NET)).toBe(true);
  }, 180_000);

  test("two nodes on two devices reach each other, with the largest frames", async () => {
    const { nodes } = await twoNodes();
    const [one] = nodes;
    // 1472 bytes of data make 1500 of IP; they must not be fragmented on the way.
    await one.must(["ping", "-c", "2", "-i", "0.2", "-M", "do", "-s", "1472", "192.168.192.71"]);
  }, 180_000);

  test("frames for nobody known go to the lab, and not through the other nodes' tunnels", async () => {
    const { world, nodes } = await twoNodes();
    const [one, two] = nodes;
    const lab = await world.lab.host("lab", { networks: [] });
    await world.server.ip(
      `link add to-lab type veth peer name eth0 netns ${lab.pid}`,
      "link set to-lab master walt-net up",
    );
    await lab.ip("link set eth0 up");
    const mac = (await two.must(["cat", "/sys/class/net/eth0/address"])).trim();
    const other = (await world.nodes()).find((node) => node.mac === mac);
    const sent = async (port: string): Promise<number> =>
      Number(await world.server.must(["cat", `/sys/class/net/${port}/statistics/tx_packets`]));
    const ports = ["to-lab", `tap-${other?.name}`] as const;
    const before = [await sent(ports[0]), await sent(ports[1])] as const;
    await one.ip("neigh replace 192.168.192.99 lladdr 52:54:00:99:99:99 dev eth0");
    await one.run(["ping", "-c", "200", "-i", "0.002", "-W", "1", "192.168.192.99"]);
    expect((await sent(ports[0])) - before[0]).toBeGreaterThanOrEqual(200);
    expect((await sent(ports[1])) - before[1]).toBeLessThan(20);
    await one.ip("neigh delete 192.168.192.99 dev eth0");
  }, 120_000);

  test("a loop behind a device stays behind it", async () => {
    const { world, nodes } = await twoNodes();
    const { server } = world;
    const [one, two] = nodes;
    expect(await pingable(one, "192.168.192.71")).toBe(true);
    const device = world.devices[0]?.host;
    if (device === undefined) throw new Error("no device");
    const frames = async (host: Host, name: string): Promise<number> =>
      Number(await host.must(["cat", `/sys/class/net/${name}/statistics/rx_packets`]));
    // Two ports of its bridge are joined by a cable: what comes is carried round for ever, and each time back to the server.
    await device.ip(
      "link add loop-a type veth peer name loop-b",
      "link set loop-a master walt-br up",
      "link set loop-b master walt-br up",
    );
    const start = performance.now();
    const before = await frames(server, "walt-net");
    const asks = (host: Host): Promise<unknown> => host.run(["ping", "-c", "1", "-W", "1", "192.168.192.99"]);
    // A broadcast of another node: none of it comes back, as it has another source address than this device's node.
    await asks(two);
    await eventually("the loop carries", () => frames(device, "loop-a"), { fits: (n) => n > 20_000 });
    expect((await frames(server, "walt-net")) - before).toBeLessThan(1000);
    // The loop keeps this machine's processors busy as well: even ARP may have to try again.
    await eventually("the other node reaches the server", () => pingable(two, WALT_NET), { within: 60_000 });
    // The node's own comes back as itself, but no more of it than one node may send to everybody.
    await asks(one);
    await eventually("the loop carries more", () => frames(device, "loop-a"), { fits: (n) => n > 50_000 });
    const most = GROUP_FRAMES * (1 + (performance.now() - start) / 1000) + 1000;
    expect((await frames(server, "walt-net")) - before).toBeLessThan(most);
    await eventually("the other node reaches the server", () => pingable(two, WALT_NET), { within: 60_000 });
    const refused = async (): Promise<number> =>
      Math.max(...(await world.nodes()).map((n) => n.traffic?.refused ?? 0));
    await eventually("frames are refused", refused, { fits: (n) => n > 100 });
    await device.ip("link delete loop-a");
    await eventually("the node reaches the server again", () => pingable(one, WALT_NET), { within: 60_000 });
  }, 180_000);
});

/** Two nodes on two devices: 192.168.192.70 and 192.168.192.71. */
async function plugTwo(world: World): Promise<[Host, Host]> {
  const plug = async (number: number): Promise<Host> => {
    const device = await world.device(`device${number + 1}`);
    const label = await device.enrol();
    const mac = (await world.nodes()).find((n) => n.name === label)?.mac ?? "";
    return await device.plugNode(`192.168.192.7${number}`, mac);
  };
  return [await plug(0), await plug(1)];
}
