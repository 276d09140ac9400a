/**
 * `walt doctor` on real machines: each test breaks one thing, and the doctor must name that before all
 * else.
 */

import { expect, test } from "bun:test";
import { existsSync, readFileSync, rmSync } from "node:fs";
import type { Diagnosis, Fault, Finding } from "../../src/api/diagnosis.ts";
import { eventually } from "../lab/eventually.ts";
import type { Host } from "../lab/host.ts";
import { describeWith } from "../lab/need.ts";
import { sharedDevices, sharedWorld } from "../lab/shared-world.ts";
import { startSshd } from "../lab/sshd.ts";
import { INTEGRATION, World } from "../lab/world.ts";

interface Report extends Diagnosis {
  readonly status: number;
  readonly role: string | null;
  readonly faults: number;
}

async function doctor(world: World, host: Host): Promise<Report> {
  const { status, stdout, stderr } = await world.walt(host, "doctor", "--json");
  if (stdout === "") throw new Error(`walt doctor: exit ${status}: ${stderr}`);
  return { ...(JSON.parse(stdout) as Omit<Report, "status">), status };
}

const faultsOf = ({ findings }: Diagnosis): Fault[] => findings.filter((one) => one.is === "fault");
const checksOf = (report: Diagnosis): string[] => faultsOf(report).map(({ check }) => check);
/** The checks that were left out, and the fault that is the reason. */
const skippedOf = ({ findings }: Diagnosis): Record<string, string> =>
  Object.fromEntries(
    findings
      .filter((one): one is Extract<Finding, { is: "skipped" }> => one.is === "skipped")
      .map((one) => [one.check, one.because]),
  );

/** The only fault, which must be of this check. */
function onlyFault(report: Report, check: string): Fault {
  expect([report.status, report.faults, checksOf(report)]).toEqual([1, 1, [check]]);
  const [fault] = faultsOf(report);
  if (fault === undefined) throw new Error("there is no fault");
  for (const words of [fault.what, fault.evidence, fault.cure]) expect(words).not.toBe("");
  return fault;
}

describeWith(INTEGRATION, "the doctor of a device", () => {
  const fresh = sharedWorld();
  const enrolled = sharedDevices(fresh, async (world) => {
    const device = await world.device("device1");
    await device.enrol();
    const [proxy] = world.proxies;
    if (proxy === undefined) throw new Error("there is no proxy");
    return { world, device, host: device.host, proxy };
  });

  test("finds nothing wrong while all is up, with exit status 0, and leaves nothing behind", async () => {
    const { world, host } = await enrolled();
    const from = world.daemon.position;
    const report = await doctor(world, host);
    expect([report.role, report.status, report.faults, faultsOf(report)]).toEqual(["device", 0, 0, []]);
    expect(report.findings.filter((one) => one.is !== "ok")).toEqual([]);
    expect(await host.must(["ls", "/run/walt-vpn"])).not.toContain("doctor");
    // The trial login changes nothing at the server: no other tunnel, no request, no new certificate.
    expect(world.daemon.output.slice(from)).not.toMatch(/event=(tunnel|enrolment|certificate|device)-/);
    const text = await world.must(host, "doctor");
    expect(text).toEndWith("\nNothing wrong was found.\n");
    expect(text).not.toContain("\u001b");
  }, 120_000);

  test("no address: no DHCP server, and nothing that follows from it", async () => {
    const { world, host } = await enrolled();
    const { ipv4 } = host.port();
    await host.ip("address flush dev eth0 scope global");
    try {
      const report = await doctor(world, host);
      expect(onlyFault(report, "address")).toMatchObject({
        what: "no wired network card has an address yet",
        evidence: expect.stringContaining("eth0: link, no address"),
        cure: expect.stringContaining("DHCP"),
      });
      expect(skippedOf(report)).toMatchObject({ route: "address", reach: "address", server: "address" });
    } finally {
      await host.ip(`address add ${ipv4}/24 dev eth0`);
    }
  }, 120_000);

  test("no cable", async () => {
    const { world, host } = await enrolled();
    await host.port().wire("down");
    try {
      await eventually("the link is down", () => host.must(["ip", "link", "show", "dev", "eth0"]), {
        fits: (text) => text.includes("NO-CARRIER"),
      });
      expect(onlyFault(await doctor(world, host), "card").what).toBe("no network cable is plugged in");
    } finally {
      await host.port().wire("up");
    }
  }, 120_000);

  test("name servers that do not answer", async () => {
    const { world, host } = await enrolled();
    const names = await host.must(["cat", "/etc/hosts"]);
    host.hosts({});
    const ask = async (server: string): Promise<Report> => {
      host.writeFile("/etc/resolv.conf", `nameserver ${server}\noptions timeout:1 attempts:1\n`);
      return await doctor(world, host);
    };
    const nobody = host.address().replace(/\.\d+$/, ".200");
    expect(onlyFault(await ask(nobody), "resolver").evidence).toBe(`${nobody}: no answer`);
    // No route leads there, which is the cause.
    expect(onlyFault(await ask("192.0.2.1"), "route").what).toContain("no default gateway");
    // With one that leads to nobody.
    await host.ip(`route add default via ${nobody}`);
    expect(onlyFault(await ask("192.0.2.1"), "gateway").what).toBe(`the gateway ${nobody} does not answer`);
    await host.ip("route del default");
    host.writeFile("/etc/hosts", names);
  }, 120_000);

  test("a port on which nothing listens; the device finds that itself, while it goes on trying", async () => {
    const { world, device, host, proxy } = await enrolled();
    await device.stop(); // it examines itself once in five minutes: nothing of other tests counts
    await device.start().waitFor(/watch: the tunnel is up/);
    await proxy.sshd.stop();
    expect(onlyFault(await doctor(world, host), "reach")).toMatchObject({
      of: "gate1.example.org:22",
      what: "proxy gate1.example.org:22: nothing listens on its port 22 (connection refused)",
      evidence: "connect: ECONNREFUSED",
    });
    await device.process?.waitFor(/nothing listens on its port 22[^\n]* event=doctor check=reach/);
    const status = await device.status();
    expect(checksOf(status.doctor ?? { at: "", findings: [] })).toEqual(["reach"]);
    const screen = await host.must([
      ...["sh", "-c", "printf 'GET /v1/screen HTTP/1.0\\r\\n\\r\\n' | nc -U -q 5 /run/walt-vpn/device.sock"],
    ]);
    expect(screen).toContain("Doctor   proxy gate1.example.org:22: nothing listens on its port 22");
    expect(await world.must(host, "device", "status")).toMatch(/^doctor +proxy gate1/m);
    proxy.sshd = await startSshd(proxy.host);
  }, 120_000);

  test("another host key than the pinned one; the file is named", async () => {
    const { world, host, proxy } = await enrolled();
    await otherwise(proxy, "new keys", async () => {
      const fault = onlyFault(await doctor(world, host), "host-key");
      expect(fault.what).toMatch(/its host key is not the pinned one: it shows ED25519 SHA256:/i);
      expect(fault.evidence).toContain("/etc/walt/known_hosts");
    });
    host.writeFile("/etc/walt/known_hosts", "walt-server ssh-ed25519 AAAA\n");
    const missing = onlyFault(await doctor(world, host), "pinned");
    expect(missing.what).toBe("no host key is pinned for gate1.example.org:22");
  }, 120_000);

  test("a proxy that forbids to forward", async () => {
    const { world, host, proxy } = await enrolled();
    await otherwise(proxy, "AllowTcpForwarding no", async () => {
      const report = await doctor(world, host);
      expect(onlyFault(report, "forward").cure).toContain("allowtcpforwarding");
      expect(skippedOf(report)).toEqual({ server: "forward" });
    });
  }, 120_000);

  test("a proxy that accepts no key of ours", async () => {
    const { world, host, proxy } = await enrolled();
    await otherwise(proxy, "DenyUsers walt-vpn", async () => {
      expect(onlyFault(await doctor(world, host), "login").what).toContain("it does not accept our key");
    });
  }, 120_000);

  test("a path that loses large packets and tells nobody", async () => {
    const { world, host, proxy } = await enrolled();
    // What is longer than 1400 bytes is dropped on its way into the proxy, which still promises to take 1500. A
    // frame of several segments would be let through.
    const [network = ""] = /^\d+\.\d+\.\d+/.exec(proxy.host.address()) ?? [];
    await proxy.host.ip(
      "link set dev eth0 mtu 1400",
      `route replace ${network}.0/24 dev eth0 src ${proxy.host.address()} advmss 1460`,
    );
    await host.ip("link set dev eth0 gso_max_segs 1");
    try {
      const report = await doctor(world, host);
      const fault = onlyFault(report, "mtu");
      expect(fault.what).toContain("small packets pass, and large ones are lost");
      expect(fault.evidence).toStartWith("a ping of 1400 bytes passes, and none larger");
      expect(skippedOf(report)).toMatchObject({ login: "mtu" });
    } finally {
      await proxy.host.ip(
        "link set dev eth0 mtu 1500",
        `route replace ${network}.0/24 dev eth0 src ${proxy.host.address()}`,
      );
    }
  }, 120_000);

  test("a server that has revoked it", async () => {
    const { world, device, host } = await enrolled();
    const { node } = await device.status();
    await world.must(world.server, "vpn", "revoke", node ?? "", "--yes");
    await eventually("the tunnel has ended", () => device.status(), {
      fits: ({ tunnel }) => tunnel !== "up",
    });
    expect(onlyFault(await doctor(world, host), "server").what).toContain("the device was revoked");
  }, 120_000);

  test("an expired certificate", async () => {
    const world = await fresh('certificate_validity = "10s"');
    const device = await world.device("device1");
    await device.enrol();
    await device.stop();
    await eventually("the certificate has expired", () => world.list(), {
      fits: ([one]) => Date.parse(one?.certificateExpires ?? "") < Date.now(),
      every: 200,
    });
    const report = await doctor(world, device.host);
    expect(checksOf(report)).toEqual(["supervisor", "certificate"]);
    expect(faultsOf(report)[1]?.what).toMatch(/^the certificate expired .* ago$/);
    expect(report.findings.find(({ check }) => check === "server")).toMatchObject({ is: "ok" });
  }, 120_000);

  test("a vpn.toml that cannot be read, or says no role", async () => {
    const world = await fresh();
    const { host } = await world.device("device1");
    host.writeFile("/etc/walt/vpn.toml", "role = \n");
    expect(onlyFault(await doctor(world, host), "configuration").what).toStartWith(
      "/etc/walt/vpn.toml, line 1",
    );
    host.writeFile("/etc/walt/vpn.toml", "");
    expect(onlyFault(await doctor(world, host), "configuration").what).toContain("does not say a role");
    expect((await world.walt(host, "doctor", "now")).status).toBe(2);
  }, 120_000);

  /**
   * Let the proxy's sshd be another one for a while: with these lines in its configuration, or with new
   * host keys.
   */
  async function otherwise(
    proxy: World["proxies"][number],
    what: string | "new keys",
    look: () => Promise<void>,
  ) {
    const restart = async (extraConfig: string): Promise<void> => {
      await proxy.sshd.stop();
      proxy.sshd = await startSshd(proxy.host, { patient: true, extraConfig });
    };
    const keys = ["ed25519", "ecdsa"].flatMap((type) => [`ssh_host_${type}_key`, `ssh_host_${type}_key.pub`]);
    for (const key of what === "new keys" ? keys : []) rmSync(proxy.host.path(`/etc/ssh/${key}`));
    try {
      await restart(what === "new keys" ? "" : what);
      await look();
    } finally {
      await restart("");
    }
  }
});

describeWith(INTEGRATION, "the doctor of a server", () => {
  const fresh = sharedWorld();

  test("finds nothing wrong while it runs, and before its first start", async () => {
    const world = await fresh();
    const report = await doctor(world, world.server);
    expect([report.role, report.status, checksOf(report)]).toEqual(["server", 0, []]);
    const empty = await world.lab.host("empty");
    empty.writeFile("/etc/walt/vpn.toml", 'role = "server"\n');
    expect(onlyFault(await doctor(world, empty), "daemon").what).toBe("the daemon is not running");
  }, 120_000);

  test("asked by somebody who is not root, it says what it could not see, and takes nothing for wrong", async () => {
    const world = await fresh();
    const nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    const { stdout } = await world.server.run([...nobody, world.binary, "doctor", "--json"]);
    const report = JSON.parse(stdout) as Report;
    expect(checksOf(report)).toEqual([]);
    const unseen = report.findings.filter((one) => one.is === "unknown");
    expect(unseen.map(({ check }) => check)).toEqual(expect.arrayContaining(["keys", "registry", "daemon"]));
    for (const { why } of unseen) expect(why).toContain("as root");
  }, 120_000);

  test("walt-net collides with a network of the server", async () => {
    const world = await fresh();
    await world.server.ip("address add 192.168.193.7/24 dev eth0");
    try {
      const fault = onlyFault(await doctor(world, world.server), "network");
      expect(fault.what).toContain("walt-net (192.168.192.1/22, on walt-net)");
      expect(fault.evidence).toStartWith("192.168.193.7/24 is on eth0");
    } finally {
      await world.server.ip("address del 192.168.193.7/24 dev eth0");
    }
  }, 120_000);

  test("a bridge that another program has changed or removed", async () => {
    const world = await fresh();
    await world.server.ip("link set dev walt-net type bridge stp_state 1");
    expect(onlyFault(await doctor(world, world.server), "bridge").what).toContain("STP");
    await world.server.ip("link set dev walt-net type bridge stp_state 0", "link set dev walt-net down");
    expect(onlyFault(await doctor(world, world.server), "bridge").cure).toBe("ip link set dev walt-net up");
  }, 120_000);

  test("a port that another program has, while the daemon is stopped", async () => {
    const world = await fresh();
    await world.stopServer();
    await startSshd(world.server, { port: 2222 });
    const report = await doctor(world, world.server);
    const fault = onlyFault(report, "port");
    expect(fault.evidence).toMatch(/^sshd \(process \d+\) listens there$/);
    expect(skippedOf(report)).toEqual({ daemon: "port", version: "port" });
  }, 120_000);

  test("a key that others can read, and a damaged registry", async () => {
    const world = await fresh();
    await world.stopServer();
    await world.server.must(["chmod", "644", "/var/lib/walt-vpn/keys/ca"]);
    const report = await doctor(world, world.server);
    expect(onlyFault(report, "keys").what).toContain("/var/lib/walt-vpn/keys/ca has mode 644");
    expect(skippedOf(report)).toEqual({ daemon: "keys", version: "keys" });
    await world.server.must(["chmod", "600", "/var/lib/walt-vpn/keys/ca"]);
    world.server.writeFile("/var/lib/walt-vpn/registry.sqlite", "x".repeat(8192));
    expect(onlyFault(await doctor(world, world.server), "registry").what).toContain("registry");
  }, 120_000);
});

const NF_CALL = "/proc/sys/net/bridge/bridge-nf-call-iptables";
describeWith([...INTEGRATION, { programs: ["iptables"] }], "the doctor of a server", () => {
  // A kernel without br_netfilter has no such file.
  const withFilter = test.skipIf(!existsSync(NF_CALL));
  withFilter(
    "a firewall that swallows the bridge's frames, until a rule lets them pass",
    async () => {
      await using world = await World.create({ proxies: 0 });
      const { server } = world;
      // For a bridge of its own the daemon adds the rule itself.
      await world.stopServer();
      await server.ip(
        "link add br-lab type bridge",
        "address add 192.168.7.1/24 dev br-lab",
        "link set br-lab up",
      );
      const toml = readFileSync(server.path("/etc/walt/vpn.toml"), "utf8");
      const network = '[server.network]\nmanaged = false\nbridge = "br-lab"\n';
      server.writeFile("/etc/walt/vpn.toml", `${toml}${network}`);
      await world.startServer();
      await server.must(["sh", "-c", `echo 1 > ${NF_CALL} && iptables -P FORWARD DROP`]);
      const { what, cure } = onlyFault(await doctor(world, server), "bridge-filter");
      expect(what).toContain("the firewall drops frames between the ports of br-lab");
      await server.must(["sh", "-c", cure.split(";")[0] ?? ""]);
      expect(checksOf(await doctor(world, server))).toEqual([]);
    },
    120_000,
  );
});

describeWith(INTEGRATION, "the doctor of a relay", () => {
  test("finds nothing wrong while it runs; then a next hop that is down, and a relay that is", async () => {
    await using world = await World.create({ proxies: 0 });
    const relay = await world.lab.host("relay");
    relay.hosts({ "walt.lab.example": world.serverAddress });
    const file = `${world.server.dir}/relay.toml`;
    await world.must(world.server, "vpn", "setup-proxy", "--toml", "--next", "walt.lab.example", "-o", file);
    relay.writeFile("/etc/walt/vpn.toml", await Bun.file(world.server.path(file)).text());
    const running = relay.spawn([world.binary, "proxy", "run"]);
    await running.waitFor(/event=relay-ready/);
    const report = await doctor(world, relay);
    expect([report.role, report.status, checksOf(report)]).toEqual(["proxy", 0, []]);
    await world.stopServer();
    expect(onlyFault(await doctor(world, relay), "next-hop").evidence).toBe("connect: ECONNREFUSED");
    await running.stop();
    expect(checksOf(await doctor(world, relay))).toEqual(["relay", "next-hop"]);
  }, 120_000);
});
