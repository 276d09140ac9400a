/** walt-net itself: a bridge that exists already is used and left, and a node is only itself there. */

import { expect, test } from "bun:test";
import type { Host } from "../lab/host.ts";
import { describeWith } from "../lab/need.ts";
import { INTEGRATION, pingable, WALT_NET, World } from "../lab/world.ts";

/** What the server's bridge heard from a MAC address, as its forwarding table tells. */
async function heard(server: Host, mac: string): Promise<boolean> {
  return (await server.must(["bridge", "fdb", "show", "br", "walt-net"])).includes(mac);
}

describeWith(INTEGRATION, "walt-net", () => {
  test("an existing bridge is used as it is, and left as it was", async () => {
    await using world = await World.create();
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

    const config = await Bun.file(server.path("/etc/walt/walt.toml")).text();
    server.writeFile("/etc/walt/walt.toml", `${config}\n[server.network]\nmanaged = false\n`);
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
  }, 60_000);

  test("without the bridge that it is told to use, the server says so", async () => {
    await using world = await World.create();
    await world.stopServer();
    const config = await Bun.file(world.server.path("/etc/walt/walt.toml")).text();
    world.server.writeFile(
      "/etc/walt/walt.toml",
      `${config}\n[server.network]\nmanaged = false\nbridge = "br-lab"\n`,
    );
    const { status, stderr } = await world.walt(world.server, "server", "run");
    expect(status).toBe(1);
    expect(stderr).toMatch(/the bridge br-lab does not exist/);
  }, 60_000);

  test("frames with another source MAC address than the node's do not get through", async () => {
    await using world = await World.create();
    const device = await world.device("device1");
    await device.enrol();
    const [node] = await world.nodes();
    const plugged = await device.plugNode("192.168.192.77", node?.mac ?? "");
    expect(await pingable(plugged, WALT_NET)).toBe(true);
    const other = "52:54:00:66:66:66";
    await plugged.ip(`link set eth0 address ${other}`);
    expect(await pingable(plugged, WALT_NET, 2)).toBe(false);
    expect(await heard(world.server, other)).toBe(false);
    await plugged.ip(`link set eth0 address ${node?.mac}`);
    expect(await pingable(plugged, WALT_NET)).toBe(true);
    expect(await heard(world.server, node?.mac ?? "")).toBe(true);
  }, 60_000);

  test("two nodes on two devices reach each other, with the largest frames", async () => {
    await using world = await World.create();
    const hosts: Host[] = [];
    for (const [i, name] of ["device1", "device2"].entries()) {
      const device = await world.device(name);
      const label = await device.enrol();
      const mac = (await world.nodes()).find((n) => n.name === label)?.mac ?? "";
      hosts.push(await device.plugNode(`192.168.192.7${i}`, mac));
    }
    const [one, two] = hosts;
    if (one === undefined || two === undefined) throw new Error("no hosts");
    // 1472 bytes of data make 1500 of IP; they must not be fragmented on the way.
    await one.must(["ping", "-c", "2", "-i", "0.2", "-M", "do", "-s", "1472", "192.168.192.71"]);
  }, 60_000);
});
