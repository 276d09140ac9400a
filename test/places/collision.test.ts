/** walt-net and the server's own networks: the server does not start where both have the same addresses. */

import { expect, test } from "bun:test";
import { collisionOf, freeNetwork } from "../../src/server/net/collision.ts";
import { describeWith } from "../lab/need.ts";
import { INTEGRATION, World } from "../lab/world.ts";

const card = (ifname: string, local: string, prefixlen: number): object => ({
  ifname,
  addr_info: [{ local, prefixlen }],
});

test("another network with the same addresses, a wider route, and networks that only look alike", () => {
  const found = (addresses: object[], routes: object[] = []) =>
    collisionOf("192.168.192.1/22", "walt-net", addresses, routes);
  expect(found([card("eth0", "192.168.192.1", 24)])).toMatchObject({ card: "eth0", isWiderRoute: false });
  expect(found([card("eth0", "192.168.195.255", 32)])).toMatchObject({ card: "eth0" });
  expect(found([card("eth0", "192.168.1.5", 16)])).toMatchObject({ network: "192.168.1.5/16" });
  expect(found([card("walt-net", "192.168.192.1", 22), card("eth0", "192.168.196.1", 22)])).toBeUndefined();
  expect(found([], [{ dst: "default", dev: "eth0" }])).toBeUndefined();
  expect(found([], [{ dst: "192.168.0.0/16", dev: "tun0" }])).toMatchObject({ isWiderRoute: true });
  expect(found([], [{ dst: "192.168.193.0/24", dev: "tun0" }])).toMatchObject({ isWiderRoute: false });
});

test("a network that is free", () => {
  expect(freeNetwork("walt-net", [], [])).toBe("192.168.192.1/22");
  expect(freeNetwork("walt-net", [card("eth0", "192.168.192.1", 24)], [])).toBe("10.213.0.1/22");
  expect(
    freeNetwork("walt-net", [card("a", "192.168.0.1", 16), card("b", "10.0.0.1", 8)], []),
  ).toBeUndefined();
});

describeWith(INTEGRATION, "walt-net beside another network", () => {
  test("the server names interface and network, and does not start; beside a wider route it does", async () => {
    await using world = await World.create({ proxies: 0 });
    const { server } = world;
    await world.stopServer();
    const port = server.port().device;
    await server.ip(`address add 192.168.193.7/24 dev ${port}`);
    const refused = await world.walt(server, "server", "run");
    expect(refused.status).toBe(1);
    expect(refused.stderr).toContain(
      `walt: walt-net (192.168.192.1/22, on walt-net) has addresses that the network of ${port} (192.168.193.7/24) has as well`,
    );
    expect(refused.stderr).toContain('server.network.address = "10.213.0.1/22"');
    expect((await server.run(["ip", "link", "show", "walt-net"])).status).not.toBe(0);

    await server.ip(`address delete 192.168.193.7/24 dev ${port}`, `route add 192.168.0.0/16 dev ${port}`);
    await world.startServer();
    await world.daemon.waitFor(/event=walt-net-trouble trouble=collision/);
    expect((await world.walt(server, "node", "show")).stderr).toContain("(192.168.0.0/16) has as well");
    await server.ip(`route delete 192.168.0.0/16 dev ${port}`);
    await world.daemon.waitFor(/event=walt-net-trouble-over trouble=collision/);

    // A network that comes later, such as one of docker's.
    await server.ip("link add later type bridge", "address add 192.168.194.1/24 dev later");
    await world.daemon.waitFor(/\(192\.168\.194\.1\/24\) has as well event=walt-net-trouble/);
  }, 120_000);
});
