/** A device with several entrypoints: the next is tried when one fails, by what passes through the tunnel. */

import { expect, test } from "bun:test";
import { describeWith } from "../lab/need.ts";
import { startSshd } from "../lab/sshd.ts";
import { INTEGRATION, pingable, WALT_NET, World } from "../lab/world.ts";

/** Takes connections and says nothing. */
const MUTE = `Bun.listen({ hostname: "127.0.0.1", port: 2222, socket: { data() {} } }); console.log("listens")`;

describeWith(INTEGRATION, "several entrypoints", () => {
  test("one that lets in but leads nowhere, one that falls silent, one that dies: the other takes over", async () => {
    await using world = await World.create({ server: 'silence = "3s"' });
    const [first] = world.proxies;
    if (first === undefined) throw new Error("no proxy");
    const second = await world.addEntrypoint("gate2");
    // A device out there has no way to the server itself.
    const entrypoints = ["ssh://walt.lab.example", first.name, second.name];
    const toml = 'silence = "3s"\n[device.vm]\nstart = false\n';
    const device = await world.device("device1", { entrypoints, toml });
    expect(await device.host.must(["cat", "/etc/walt/vpn.toml"])).toContain(
      'entrypoint = [ "ssh://walt.lab.example:2222", "gate1.example.org:22", "gate2.example.org:22" ]',
    );

    // The first proxy lets the device in, and what it takes for the server takes the connection; then there is nothing.
    first.host.hosts({ "walt.lab.example": "127.0.0.1" });
    await first.host.spawn([process.execPath, "-e", MUTE]).waitFor(/listens/);
    await device.enrol();
    const [node] = await world.nodes();
    expect(node).toMatchObject({ state: "up", via: "gate2.example.org:22" });
    expect(await world.must(world.server, "node", "show")).toMatch(/ up .* gate2\.example\.org:22 /);
    expect(await device.isUp()).toMatchObject({ via: "gate2.example.org:22" });
    const log = device.process?.output ?? "";
    expect(log).toMatch(/the entrypoint gate1\.example\.org:22 \(2 of 3\)/);
    expect(log).toMatch(/the entrypoint gate2\.example\.org:22 \(3 of 3\)/);
    const plugged = await device.plugNode("192.168.192.77", node?.mac ?? "");
    expect(await pingable(plugged, WALT_NET)).toBe(true);

    // The first one is mended; nobody returns to it while the second works. Then the second is cut off.
    first.host.hosts({ "walt.lab.example": world.serverAddress });
    let at = world.daemon.position;
    const from = device.process?.position ?? 0;
    await second.host.port().wire("down");
    await world.daemon.waitFor(/event=tunnel-up .*via=gate1\.example\.org:22/, {
      after: at,
      timeout: 60_000,
    });
    expect((await world.nodes())[0]).toMatchObject({ state: "up", via: "gate1.example.org:22" });
    expect(await pingable(plugged, WALT_NET, 30)).toBe(true);
    // Silence counts at once: the second one was not tried again before.
    const later = (device.process?.output ?? "").slice(from);
    const tried = [...later.matchAll(/connecting to the entrypoint (\S+)/g)].map((match) => match[1]);
    expect(tried).toEqual(["ssh://walt.lab.example:2222", "gate1.example.org:22"]);

    // The first one dies: nothing listens there any more.
    await second.host.port().wire("up");
    at = world.daemon.position;
    await first.sshd.stop("SIGKILL");
    await world.daemon.waitFor(/event=tunnel-up .*via=gate2\.example\.org:22/, {
      after: at,
      timeout: 60_000,
    });
    expect(await device.isUp()).toMatchObject({ via: "gate2.example.org:22" });

    // After a start the order begins with the first again, which is back.
    await startSshd(first.host);
    await device.stop();
    at = world.daemon.position;
    device.start();
    await world.daemon.waitFor(/event=tunnel-up .*via=gate1\.example\.org:22/, {
      after: at,
      timeout: 60_000,
    });
  }, 180_000);

  test("a proxy whose user walt-vpn is that of WalT's own VPN: ours has another name there", async () => {
    await using world = await World.create();
    const [proxy] = world.proxies;
    if (proxy === undefined) throw new Error("no proxy");
    await proxy.host.must(["sh", "/root/proxy-setup.sh", "--remove"]);
    await proxy.host.must(["useradd", "-r", "-m", "-d", "/var/lib/walt/vpn", "walt-vpn"]);
    const said = await proxy.host.must(["sh", "/root/proxy-setup.sh"]);
    expect(said).toContain("setup-node --entrypoint walt-vpn-devices@HOST");
    const device = await world.device("device1", { entrypoints: [`walt-vpn-devices@${proxy.name}`] });
    await device.enrol();
    expect((await world.nodes())[0]).toMatchObject({ state: "up", via: "gate1.example.org:22" });
  }, 180_000);
});
