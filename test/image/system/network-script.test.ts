/**
 * The card's own network scripts, on a host of the laboratory in the place of a board: busybox's shell and
 * udhcpc, a real DHCP server.
 */

import { afterEach, beforeEach, expect, test } from "bun:test";
import { startRouter } from "../../e2e/site.ts";
import type { Host } from "../../lab/host.ts";
import { Lab } from "../../lab/lab.ts";
import { describeWith, LAB } from "../../lab/need.ts";
import type { LabProcess } from "../../lab/process.ts";
import * as scripts from "../card-scripts.ts";

/** Behind the servers of DHCP: one that does not answer costs a second. */
const OPTIONS = "options timeout:1 attempts:3\n";

describeWith([LAB, { programs: ["busybox", "dnsmasq"] }], "the card's network", () => {
  let lab: Lab;
  let router: Host;
  let dnsmasq: LabProcess;
  let board: Host;

  beforeEach(async () => {
    lab = await Lab.create();
    router = await lab.host("router");
    dnsmasq = await startRouter(router, { "gate.example.org": "10.99.0.7" });
    board = await lab.host("board", { networks: ["internet", "lan"] });
    await board.ip(
      ...["eth0", "eth1"].flatMap((name) => [`address flush dev ${name}`, `link set ${name} down`]),
    );
    await scripts.prepareBoard(board);
  });
  afterEach(() => lab.stop());

  const start = (): LabProcess => board.spawn(["busybox", "sh", "/usr/lib/walt/network"]);

  const until = (condition: string): Promise<string> => scripts.until(board, condition);
  const said = (pattern: RegExp): Promise<RegExpExecArray> => scripts.said(board, pattern);
  const routes = (): Promise<string> => board.must(["ip", "route", "show", "default"]);
  const addresses = (device: string): Promise<string> =>
    board.must(["ip", "-4", "-o", "address", "show", "dev", device]);
  const clients = (): number =>
    board.processes().filter(({ command }) => command.startsWith("udhcpc")).length;

  test("DHCP gives address, route and resolver; a link that was lost keeps them", async () => {
    start();
    const [, address = ""] = await said(/eth0 has the address (10[.0-9]+)\/24 by DHCP/);
    expect(await addresses("eth0")).toContain(` ${address}/24 `);
    expect(await routes()).toContain("via 10.99.0.1 dev eth0 metric 100");
    expect(await board.must(["cat", "/run/resolv.conf"])).toBe(`nameserver 10.99.0.1\n${OPTIONS}`);
    const name = (await board.must(["hostname"])).trim();
    await dnsmasq.waitFor(new RegExp(`client provides name: ${name}\\b`));
    await board.port().wire("down");
    await said(/eth0 lost its link/);
    await board.port().wire("up");
    await until('[ "$(grep -c "eth0 has a link" /run/console)" = 2 ]');
    await until("ip route show default | grep -q 10.99.0.1");
    expect(await addresses("eth0")).toContain(` ${address}/24 `);
    await until('[ "$(pgrep -xc udhcpc)" = 2 ]'); // one for each card
    expect((await board.run(["ping", "-c1", "-W5", "10.99.0.1"])).status).toBe(0);
  }, 120_000);

  test("a lease is renewed, and a new one replaces it", async () => {
    start();
    const [, address = ""] = await said(/eth0 has the address (10[.0-9]+)\/24 by DHCP/);
    const after = dnsmasq.position;
    await board.must(["pkill", "-USR1", "-f", "udhcpc -f -i eth0"]); // what udhcpc does at half of the lease
    await dnsmasq.waitFor(new RegExp(`DHCPACK\\(eth0\\) ${address.replaceAll(".", "\\.")}`), { after });
    expect(await addresses("eth0")).toContain(` ${address}/24 `);
    await board.must(["sh", "-c", "! grep -q 'lost its link' /run/console"]);

    // The cable is put into another network while the board runs.
    await board.port().wire("down");
    await said(/eth0 lost its link/);
    await dnsmasq.stop();
    await router.ip("address flush dev eth0", "address add 10.98.5.1/24 dev eth0");
    const port = router.port();
    await startRouter(router, {}, { device: port.device, ipv4: "10.98.5.1" });
    await board.port().wire("up");
    const [, other = ""] = await said(/eth0 has the address (10\.98[.0-9]+)\/24 by DHCP/);
    await until("! ip -4 -o address show dev eth0 | grep -q 10.99");
    await until("ip route show default | grep -q 'via 10.98.5.1'");
    expect(await addresses("eth0")).toContain(` ${other}/24 `);
    expect(await routes()).not.toContain("10.99.0.1");
    expect(await board.must(["cat", "/run/resolv.conf"])).toBe(`nameserver 10.98.5.1\n${OPTIONS}`);
  }, 120_000);

  test("of several cards the first with a lease is used, and another one when that is gone", async () => {
    start();
    await said(/eth0 has the address (10[.0-9]+)\/24 by DHCP/);
    const other = await lab.host("other", { networks: ["lan"] });
    await startRouter(other, {}, other.port("lan"));
    const gateway = other.address("lan");
    await said(/eth1 has the address (10[.0-9]+)\/24 by DHCP/);
    await until(`ip route show default | grep -q 'via ${gateway} dev eth1 metric 200'`);
    expect(await routes()).toContain("via 10.99.0.1 dev eth0 metric 100");
    expect(await board.must(["cat", "/run/resolv.conf"])).toBe(
      `nameserver 10.99.0.1\nnameserver ${gateway}\n${OPTIONS}`,
    );
    await board.ip("link delete eth0"); // a USB network card that is pulled
    await until("! ip route show default | grep -q eth0");
    expect((await board.run(["ping", "-c1", "-W5", gateway])).status).toBe(0);
    await until('[ "$(pgrep -xc udhcpc)" = 1 ]');
  }, 120_000);

  test("with a VLAN the card's own network is left alone", async () => {
    board.writeFile("/boot/os.txt", "vlan 7\n");
    // This kernel may have no 8021q: what is asked of it is kept, and a pair of interfaces stands in for the
    // VLAN.
    const stand = `#!/bin/sh
case "$*" in
*"type vlan"*)
  echo "$*" >>/run/asked
  exec /run/real-ip link add name eth0.7 type veth peer name far
  ;;
esac
exec /run/real-ip "$@"
`;
    board.writeFile("/run/ip", stand, 0o755);
    await board.must([
      ...["sh", "-c"],
      "cp /usr/bin/ip /run/real-ip && mount --bind /run/ip /usr/bin/ip && ip link delete eth1",
    ]);
    start();
    await until("pgrep -x udhcpc");
    expect(await board.must(["cat", "/run/asked"])).toBe("link add link eth0 name eth0.7 type vlan id 7\n");
    expect(board.processes().flatMap(({ command }) => /udhcpc -f -i (\S+)/.exec(command)?.[1] ?? [])).toEqual(
      ["eth0.7"],
    );
  }, 120_000);

  test("an address that the card was made with is taken without asking anybody", async () => {
    board.writeFile(
      "/boot/os.txt",
      "address 10.99.0.77/24\ngateway 10.99.0.1\ndns 10.99.0.1\ndns 10.99.0.2\n",
    );
    start();
    await said(/eth0 has the address 10\.99\.0\.77\/24, which the card was made with/);
    expect(await routes()).toContain("via 10.99.0.1 dev eth0");
    expect(await board.must(["cat", "/run/resolv.conf"])).toBe(
      "nameserver 10.99.0.1\nnameserver 10.99.0.2\n",
    );
    expect(clients()).toBe(0);
  }, 120_000);

  test("what people edit: CRLF, a byte order mark, blanks, a last line without its end", async () => {
    board.writeFile(
      "/boot/os.txt",
      "\uFEFFaddress 10.99.0.77/24 \r\ngateway\t10.99.0.1\r\n\r\ndns 10.99.0.1",
    );
    start();
    await said(/eth0 has the address 10\.99\.0\.77\/24, which the card was made with/);
    expect(await addresses("eth0")).toContain(" 10.99.0.77/24 ");
    expect(await routes()).toContain("via 10.99.0.1 dev eth0");
    expect(await board.must(["cat", "/run/resolv.conf"])).toBe("nameserver 10.99.0.1\n");
  }, 120_000);

  for (const [what, address] of [
    ["no prefix length", "10.99.0.77"],
    ["no address at all", "ten.ninety.nine/24"],
  ] as const) {
    test(`an address with ${what} is said, and DHCP is tried`, async () => {
      board.writeFile("/boot/os.txt", `address ${address}\ngateway 10.99.0.1\n`);
      start();
      await said(/eth0: the address .* in os\.txt cannot be used .*DHCP is tried/);
      await said(/eth0 has the address 10\.99\.0\.1[0-9]+\/24 by DHCP/);
      expect(await routes()).toContain("via 10.99.0.1 dev eth0");
    }, 120_000);
  }

  test("a gateway outside of the card's network is reached, static and by DHCP", async () => {
    board.writeFile("/boot/os.txt", "address 10.99.5.77/32\ngateway 10.99.0.1\n");
    await router.ip("route add 10.99.5.77/32 dev eth0");
    start();
    await said(/eth0: the gateway 10\.99\.0\.1 is outside of its network; it is reached directly/);
    await said(/eth0: os\.txt names no DNS server; names cannot be resolved/);
    expect(await routes()).toContain("via 10.99.0.1 dev eth0 metric 100");
    expect((await board.run(["ping", "-c1", "-W5", "10.99.0.1"])).status).toBe(0);
  }, 120_000);

  test("options 26 and 121: the MTU, and routes in place of the router's; packets fit through most ways", async () => {
    await dnsmasq.stop();
    dnsmasq = await startRouter(router, {}, router.port(), [
      "--dhcp-option=26,1400",
      `--dhcp-option=121,198.51.100.0/24,${router.address("internet")},0.0.0.0/0,10.99.0.9`,
    ]);
    start();
    await said(/eth0 has the address 10\.99\.0\.1[0-9]+\/24 by DHCP/);
    expect(await board.must(["cat", "/sys/class/net/eth0/mtu"])).toBe("1400\n");
    expect(await routes()).toContain("via 10.99.0.9 dev eth0 metric 100 mtu 1300 advmss 1240");
    const all = await board.must(["ip", "route", "show", "198.51.100.0/24"]);
    expect(all).toContain("via 10.99.0.1 dev eth0");
  }, 120_000);

  test("an MTU in os.txt counts more than that of the network; a small one is not exceeded", async () => {
    board.writeFile("/boot/os.txt", "mtu 1280\n");
    await dnsmasq.stop();
    dnsmasq = await startRouter(router, {}, router.port(), ["--dhcp-option=26,1400"]);
    start();
    await said(/eth0 has the address 10\.99\.0\.1[0-9]+\/24 by DHCP/);
    expect(await board.must(["cat", "/sys/class/net/eth0/mtu"])).toBe("1280\n");
    expect(await routes()).toContain("mtu 1280 advmss 1220");
  }, 120_000);

  test("a network without gateway and DNS server is said", async () => {
    await dnsmasq.stop();
    dnsmasq = await startRouter(router, {}, router.port(), ["--dhcp-option=3", "--dhcp-option=6"]);
    start();
    await said(/eth0: DHCP gave no gateway; only its own network can be reached/);
    await said(/eth0: DHCP gave no DNS server; names cannot be resolved/);
    expect(await addresses("eth0")).toMatch(/ 10\.99\.0\.1\d\d\/24 /);
  }, 120_000);
});
