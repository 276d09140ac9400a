/** WalT's original framing between real machines: its client at our server, and our device at its server. */

import { expect, test } from "bun:test";
import type { Host } from "../lab/host.ts";
import { describeWith } from "../lab/need.ts";
import type { LabProcess } from "../lab/process.ts";
import { INTEGRATION, pingable, WALT_NET, World } from "../lab/world.ts";

const LOOP = [process.execPath, new URL("../lab/original-loop.ts", import.meta.url).pathname];

/** `ssh -T walt-vpn@server` as WalT's own client runs it, with this key and more options. */
function client(key: string, ...options: string[]): string[] {
  return [
    ...["ssh", "-F", "/dev/null", "-T", "-q", "-i", key, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"],
    ...["-o", "UserKnownHostsFile=/etc/walt/known_hosts", "-o", "HostKeyAlias=walt-server", "-p", "2222"],
    ...[...options, "walt-vpn@walt.lab.example"],
  ];
}

/** A machine on a host's TAP through a bridge: what stands behind WalT's client. */
async function machine(world: World, host: Host, mac: string, address: string): Promise<Host> {
  const made = await world.lab.host(`${host.name}-machine`, { networks: [] });
  await host.ip(
    "link add br0 type bridge",
    "link set br0 up",
    "tuntap add dev tap0 mode tap",
    "tuntap add dev tap1 mode tap",
    "link set tap0 master br0 up",
    `link add port type veth peer name eth0 netns ${made.pid}`,
    "link set port master br0 up",
  );
  await made.ip(`link set eth0 address ${mac} up`, `address add ${address}/22 dev eth0`);
  return made;
}

async function upAgain(world: World, after: number): Promise<void> {
  await world.daemon.waitFor(/tunnel up .*original=true/, { after });
}

describeWith(INTEGRATION, "the original framing", () => {
  test("WalT's client at our server: frames pass, silence is no end, a dead one is noticed, nonsense ends it alone", async () => {
    await using world = await World.create({ proxies: 0, server: 'silence = "3s"' });
    const { daemon } = world;
    const device = await world.device("device1");
    const name = await device.enrol();
    await device.stop();
    const [node] = await world.nodes();
    const { host } = device;
    const plugged = await machine(world, host, node?.mac ?? "", "192.168.192.60");

    let seen = daemon.output.length;
    const start = (tap = "tap0"): LabProcess =>
      host.spawn([...LOOP, tap, ...client("/var/lib/walt/device_key")]);
    let loop = start();
    await upAgain(world, seen);
    expect(await pingable(plugged, WALT_NET)).toBe(true);
    expect((await world.nodes())[0]).toMatchObject({ name, state: "up", framing: "original", via: null });
    expect(await world.must(world.server, "node", "show")).toMatch(/ up .*\(original framing\)/);
    // The largest that a machine sends, in one piece.
    await plugged.must(["ping", "-c", "2", "-i", "0.2", "-M", "do", "-s", "1472", WALT_NET]);

    // The guard is the same.
    await plugged.ip("link set eth0 address 52:54:00:66:66:66");
    expect(await pingable(plugged, WALT_NET, 1)).toBe(false);
    await plugged.ip(`link set eth0 address ${node?.mac}`);
    expect(await pingable(plugged, WALT_NET)).toBe(true);

    // No frame at all for longer than the silence that ends others: its ssh answers.
    await host.ip("link set tap0 down");
    await Bun.sleep(4000);
    expect((await world.nodes())[0]).toMatchObject({ state: "up" });
    await host.ip("link set tap0 up");
    expect(await pingable(plugged, WALT_NET)).toBe(true);

    // An ssh that stands still answers nothing.
    seen = daemon.output.length;
    const ssh = host.processes().find((p) => p.command.startsWith("ssh "));
    if (ssh === undefined) throw new Error("no ssh");
    process.kill(ssh.pid, "SIGSTOP");
    await daemon.waitFor(/tunnel down/, { after: seen });
    process.kill(ssh.pid, "SIGCONT");
    await loop.exited;

    // A second one takes the first one's place.
    seen = daemon.output.length;
    loop = start();
    await upAgain(world, seen);
    seen = daemon.output.length;
    const second = start("tap1");
    await daemon.waitFor(/tunnel down .*took its place/, { after: seen });
    await loop.exited;
    await second.stop();

    // Lengths that no frame has: the end of that tunnel, and of nothing else.
    seen = daemon.output.length;
    const nonsense = await host.run(client("/var/lib/walt/device_key"), { input: "GET / HTTP/1.1\r\n\r\n" });
    expect(nonsense.stdout).toBe("");
    await daemon.waitFor(/tunnel down .*the peer sent a frame of 18245 bytes, not 14 to 1522/, {
      after: seen,
    });
    const enrolment = await host.run(client("/etc/walt/enrolment_key", "-o", "LogLevel=INFO"));
    expect(enrolment.stderr).toMatch(/walt: there is no shell here; this key may run: enrol/);

    // It may come back as itself with our own messages.
    seen = daemon.output.length;
    device.start();
    await daemon.waitFor(/tunnel up .*via=ssh:/, { after: seen });
    expect((await world.nodes())[0]).toMatchObject({ state: "up", framing: "messages" });
  }, 120_000);
});
