/** A firewall that drops the frames between the ports of a bridge, as docker sets it up: seen, said, and mended. */

import { expect, test } from "bun:test";
import { describeWith } from "../lab/need.ts";
import { INTEGRATION, World } from "../lab/world.ts";

const NEEDS = [
  ...INTEGRATION,
  { programs: ["iptables"], files: ["/proc/sys/net/bridge/bridge-nf-call-iptables"] },
];
const CALL = "net.bridge.bridge-nf-call-iptables";

describeWith(NEEDS, "br_netfilter with a FORWARD policy of DROP", () => {
  test("a bridge of the daemon's own gets a rule that lets its frames pass, and takes it along", async () => {
    await using world = await World.create({ proxies: 0 });
    const { server } = world;
    const rules = (): Promise<string> => server.must(["iptables", "-S", "FORWARD"]);
    await server.must(["sh", "-c", `echo 1 > /proc/sys/${CALL.replaceAll(".", "/")}`]);
    await server.must(["iptables", "-P", "FORWARD", "DROP"]);
    // docker makes its bridge in the same moment, and the daemon hears of that.
    await server.ip("link add docker0 type bridge", "address add 172.17.0.1/16 dev docker0");
    await world.daemon.waitFor(/event=bridge-rule-added bridge=walt-net/);
    expect(await rules()).toContain("-A FORWARD -i walt-net -o walt-net -j ACCEPT");
    await world.stopServer();
    expect(await rules()).not.toContain("walt-net");
  }, 120_000);

  test("of another program's bridge it is said, with the commands that cure it, until it is cured", async () => {
    await using world = await World.create({ proxies: 0 });
    const { server } = world;
    await world.stopServer();
    await server.ip("link add walt-net type bridge", "link set walt-net up");
    server.writeFile(
      "/etc/walt/vpn.toml",
      'role = "server"\n[server.network]\nmanaged = false\nbridge = "walt-net"\n',
    );
    await server.must(["sh", "-c", `echo 1 > /proc/sys/${CALL.replaceAll(".", "/")}`]);
    await server.must(["iptables", "-P", "FORWARD", "DROP"]);
    await world.startServer();
    await world.daemon.waitFor(/event=walt-net-trouble trouble=filter/);
    const { stderr } = await world.walt(server, "node", "show");
    expect(stderr).toContain("the firewall drops frames between the ports of walt-net");
    expect(stderr).toContain("iptables -I FORWARD -i walt-net -o walt-net -j ACCEPT; or");
    expect(stderr).toContain(`sysctl -w ${CALL}=0`);
    await server.must(["iptables", "-I", "FORWARD", "-i", "walt-net", "-o", "walt-net", "-j", "ACCEPT"]);
    await server.ip("link add later type bridge", "address add 172.17.0.1/16 dev later");
    await world.daemon.waitFor(/event=walt-net-trouble-over trouble=filter/);
    expect((await world.walt(server, "node", "show")).stderr).toBe("");
  }, 120_000);
});
