/** Ways from a device to the server: two proxies, the server's own sshd, the server's endpoint itself, our relay. */

import { expect, test } from "bun:test";
import type { Host } from "../lab/host.ts";
import { describeWith } from "../lab/need.ts";
import { sharedWorld } from "../lab/shared-world.ts";
import { startSshd } from "../lab/sshd.ts";
import { INTEGRATION, pingable, WALT_NET, World, type WorldDevice } from "../lab/world.ts";

async function joins(world: World, device: WorldDevice, via: string): Promise<void> {
  const name = await device.enrol();
  const [node] = await world.nodes();
  expect(node).toMatchObject({ name, state: "up", via });
  const plugged = await device.plugNode("192.168.192.77", node?.mac ?? "");
  expect(await pingable(plugged, WALT_NET)).toBe(true);
}

/** The proxy's vpn.toml, as the server writes it. */
async function giveToml(world: World, proxy: Host): Promise<void> {
  const file = `${world.server.dir}/proxy.toml`;
  await world.must(
    world.server,
    "vpn",
    "setup-proxy",
    "--toml",
    "--next",
    "walt.lab.example:2222",
    "-o",
    file,
  );
  proxy.writeFile("/etc/walt/vpn.toml", await Bun.file(world.server.path(file)).text());
}

describeWith(INTEGRATION, "topologies", () => {
  // Who changes a proxy's set-up comes last: it is not restored.
  const direct = sharedWorld({ proxies: 0 });
  const behindOne = sharedWorld();

  test("a chain of two proxies", async () => {
    await using world = await World.create({ proxies: 2 });
    const device = await world.device("device1");
    await joins(world, device, "gate1.example.org:22,gate2.example.org:22");
    // The inner proxy sees the outer one only, the server the inner one.
    expect(world.daemon.output).toMatch(
      new RegExp(`event=tunnel-up .*from=${world.proxies[1]?.host.address("lan2")}`),
    );
  }, 180_000);

  test("the server's own endpoint, no proxy", async () => {
    const world = await direct();
    const device = await world.device("device1");
    await joins(world, device, "ssh://walt.lab.example:2222");
  }, 180_000);

  test("the server as its own entrypoint, through its own sshd", async () => {
    const world = await direct();
    const sshd = await startSshd(world.server);
    // The script knows the server's machine, and wants to be told.
    await expect(world.setupProxy(world.server, "walt.lab.example:2222")).rejects.toThrow(/--allow-server/);
    world.server.hosts({ "walt.lab.example": "127.0.0.1" });
    await world.setupProxy(world.server, "walt.lab.example:2222", ["--allow-server"]);
    world.proxies.push({ host: world.server, name: "gate.example.org", sshd });
    const device = await world.device("device1");
    await joins(world, device, "gate.example.org:22");
  }, 180_000);

  test("`walt proxy setup` does what the script does", async () => {
    const world = await behindOne();
    const [proxy] = world.proxies;
    if (proxy === undefined) throw new Error("no proxy");
    await proxy.host.must(["sh", "/root/proxy-setup.sh", "--remove"]);
    expect((await proxy.host.run(["id", "walt-vpn"])).status).not.toBe(0);
    await giveToml(world, proxy.host);
    await world.must(proxy.host, "proxy", "setup");
    await joins(world, await world.device("device1"), "gate1.example.org:22");
  }, 180_000);

  test("our own relay instead of sshd", async () => {
    const world = await behindOne();
    const [proxy] = world.proxies;
    if (proxy === undefined) throw new Error("no proxy");
    await proxy.sshd.stop();
    await giveToml(world, proxy.host);
    const relay = proxy.host.spawn([world.binary, "run"]);
    await relay.waitFor(/event=relay-ready/);
    const key = (await proxy.host.must(["cat", "/var/lib/walt-vpn/proxy_host_key.pub"])).trim();
    world.proxies[0] = { ...proxy, sshd: { ...proxy.sshd, hostKeys: [key] } };
    const device = await world.device("device1");
    await joins(world, device, "gate1.example.org:22");
    expect(await device.stop()).toBe(0);
    expect(await relay.stop()).toBe(0);
  }, 180_000);
});
