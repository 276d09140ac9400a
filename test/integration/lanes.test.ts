/** A tunnel of several lanes through a real proxy: it has them, one may die under load, and who cannot has one. */

import { expect, test } from "bun:test";
import { eventually } from "../lab/eventually.ts";
import { describeWith } from "../lab/need.ts";
import { sharedWorld } from "../lab/shared-world.ts";
import { startSshd } from "../lab/sshd.ts";
import { INTEGRATION, pingable, WALT_NET, type World, type WorldDevice } from "../lab/world.ts";

/** A device whose configuration says how many lanes its tunnel has, with its tunnel up. */
async function deviceWith(world: World, lanes: number): Promise<WorldDevice> {
  const device = await world.device("device1");
  const toml = await Bun.file(device.host.path("/etc/walt/vpn.toml")).text();
  device.host.writeFile("/etc/walt/vpn.toml", toml.replace("[device]\n", `[device]\nlanes = ${lanes}\n`));
  await device.enrol();
  return device;
}

/** Wait until both ends have so many lanes. */
async function has(world: World, device: WorldDevice, lanes: number): Promise<void> {
  await eventually(`the device has ${lanes} lanes`, async () => (await device.status()).traffic?.lanes, {
    fits: (count) => count === lanes,
  });
  await eventually(`the server has ${lanes} lanes`, async () => (await world.nodes())[0]?.traffic?.lanes, {
    fits: (count) => count === lanes,
  });
}

/** Processes of OpenSSH's client on the device, the oldest first. */
function sshOf(device: WorldDevice): number[] {
  return device.host.processes().flatMap(({ pid, command }) => (/^(\S*\/)?ssh /.test(command) ? [pid] : []));
}

describeWith(INTEGRATION, "lanes", () => {
  const one = sharedWorld();

  test("a tunnel of three lanes; one that dies under load takes nothing with it, and comes back", async () => {
    const world = await one();
    const device = await deviceWith(world, 3);
    await has(world, device, 3);
    const [node] = await world.nodes();
    const plugged = await device.plugNode("192.168.192.77", node?.mac ?? "");
    expect(await pingable(plugged, WALT_NET)).toBe(true);
    const before = world.daemon.position;
    const load = plugged.spawn(["ping", "-f", "-s", "1400", "-w", "120", WALT_NET]);
    const processes = sshOf(device);
    expect(processes).toHaveLength(3);
    process.kill(processes.at(-1) ?? 0, "SIGKILL");
    await world.daemon.waitFor(/event=lane-down/, { after: before });
    expect(await pingable(plugged, WALT_NET)).toBe(true);
    await has(world, device, 3);
    await load.stop("SIGINT");
    expect(world.daemon.output.slice(before)).not.toMatch(/event=tunnel-(down|up)/);
    expect(await device.stop()).toBe(0);
    expect(sshOf(device)).toEqual([]);
  }, 180_000);

  test("a proxy that lets no further lane in: the tunnel goes on, and the lane comes when it does", async () => {
    const world = await one();
    const [proxy] = world.proxies;
    if (proxy === undefined) throw new Error("no proxy");
    const device = await deviceWith(world, 2);
    await has(world, device, 2);
    const [node] = await world.nodes();
    const plugged = await device.plugNode("192.168.192.77", node?.mac ?? "");
    const from = device.process?.position ?? 0;
    // Nobody listens any more, and who is connected stays so.
    process.kill(proxy.sshd.process.pid ?? 0, "SIGKILL");
    process.kill(sshOf(device).at(-1) ?? 0, "SIGKILL");
    await device.process?.waitFor(/no further lane .*event=lane-down/, { after: from });
    await has(world, device, 1);
    expect(await pingable(plugged, WALT_NET)).toBe(true);
    proxy.sshd = await startSshd(proxy.host);
    await has(world, device, 2);
    expect(device.process?.output.slice(from)).not.toMatch(/event=stage/);
    expect(await device.stop()).toBe(0);
  }, 180_000);
});
