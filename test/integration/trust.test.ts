/** What keys may do, and what they may not: tried with OpenSSH's own client. */

import { expect, test } from "bun:test";
import type { RunResult } from "../../src/linux/run.ts";
import { eventually } from "../lab/eventually.ts";
import type { Host } from "../lab/host.ts";
import { describeWith } from "../lab/need.ts";
import { sharedDevices, sharedWorld } from "../lab/shared-world.ts";
import { INTEGRATION, type World, type WorldDevice } from "../lab/world.ts";

/** OpenSSH by hand. `key` is a path on the host. */
function ssh(host: Host, key: string, ...args: string[]): Promise<RunResult> {
  return host.run(
    [
      ...["ssh", "-F", "/dev/null", "-i", key, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"],
      ...[
        "-o",
        "StrictHostKeyChecking=yes",
        "-o",
        "UserKnownHostsFile=/etc/walt/known_hosts",
        "-o",
        "ExitOnForwardFailure=yes",
      ],
      ...args,
    ],
    { timeout: 60_000 },
  );
}

const PROXY = ["-o", "HostKeyAlias=gate1.example.org:22", "-l", "walt-vpn", "gate1.example.org"];
const CERTIFICATE = ["-o", "CertificateFile=/var/lib/walt-vpn/device-certificate.pub"];
const ENROLMENT = "/etc/walt/enrolment_key";
const DEVICE = "/var/lib/walt-vpn/device_key";

/** The inner connection by hand, through the proxy with the enrolment key. */
function inner(host: Host, key: string, ...command: string[]): Promise<RunResult> {
  const through = `ssh -F /dev/null -i ${ENROLMENT} -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=yes -o UserKnownHostsFile=/etc/walt/known_hosts ${PROXY.join(" ")} -W walt.lab.example:2222`;
  return ssh(
    host,
    key,
    "-o",
    `ProxyCommand=${through}`,
    "-o",
    "HostKeyAlias=walt-server",
    "-l",
    "walt-vpn",
    ...command,
  );
}

async function enrolled(world: World): Promise<{ world: World; device: WorldDevice; node: string }> {
  const device = await world.device("device1");
  return { world, device, node: await device.enrol() };
}

describeWith(INTEGRATION, "trust", () => {
  const fresh = sharedWorld();
  const shared = sharedDevices(fresh, enrolled);
  const shortLived = sharedDevices(() => fresh('certificate_validity = "10s"'), enrolled);

  test("the enrolment key can neither run a command on the proxy, nor reach any other port, nor open a tunnel", async () => {
    const world = await fresh();
    const { host } = await world.device("device1");
    const command = await ssh(host, ENROLMENT, "-n", ...PROXY, "id; touch /tmp/owned");
    expect(command.stdout).not.toMatch(/uid=/);
    const terminal = await ssh(host, ENROLMENT, "-n", "-tt", ...PROXY, "id");
    expect(terminal.stdout).not.toMatch(/uid=/);
    for (const target of [
      "localhost:22",
      "walt.lab.example:22",
      "walt.lab.example:8080",
      `${world.serverAddress}:2222`,
    ]) {
      const other = await ssh(
        host,
        ENROLMENT,
        "-n",
        ...PROXY.slice(0, -1),
        "-W",
        target,
        "gate1.example.org",
      );
      expect(other.status).not.toBe(0);
      expect(other.stderr).toMatch(/administratively prohibited/);
    }
    const reverse = await ssh(
      host,
      ENROLMENT,
      "-n",
      ...PROXY.slice(0, -1),
      "-N",
      "-R",
      "9999:localhost:22",
      "gate1.example.org",
    );
    expect(reverse.stderr).toMatch(/remote port forwarding failed/);
    // On the server it may enrol, and nothing else.
    for (const words of [["tunnel", "via=gate1.example.org"], ["renew"], ["sh", "-c", "id"]]) {
      const refused = await inner(host, ENROLMENT, "walt-server", ...words);
      expect(refused.status).toBe(1);
      expect(refused.stderr).toMatch(/is not allowed; this key may run: enrol/);
    }
    expect((await inner(host, ENROLMENT, "walt-server")).stderr).toMatch(/there is no shell here/);
    expect((await inner(host, ENROLMENT, "-s", "walt-server", "sftp")).stderr).toMatch(/no subsystems here/);
    expect((await inner(host, ENROLMENT, "-W", "127.0.0.1:22", "walt-server")).status).not.toBe(0);
    expect((await inner(host, ENROLMENT, "-N", "-R", "9999:localhost:22", "walt-server")).status).not.toBe(0);
    // After all this the daemon lives.
    expect(await world.nodes()).toEqual([]);
  }, 180_000);

  test("a certificate reaches the next hop and no other port, and runs no command", async () => {
    const { device } = await shared();
    const { host } = device;
    const command = await ssh(host, DEVICE, ...CERTIFICATE, "-n", ...PROXY, "id");
    expect(command.stdout).not.toMatch(/uid=/);
    expect(command.status).toBe(0); // it was let in, to the forced command
    const other = await ssh(
      host,
      DEVICE,
      ...CERTIFICATE,
      "-n",
      ...PROXY.slice(0, -1),
      "-W",
      "localhost:22",
      "gate1.example.org",
    );
    expect(other.stderr).toMatch(/administratively prohibited/);
    const next = await ssh(
      host,
      DEVICE,
      ...CERTIFICATE,
      "-n",
      ...PROXY.slice(0, -1),
      "-W",
      "walt.lab.example:2222",
      "gate1.example.org",
    );
    expect(next.stdout).toMatch(/^SSH-2\.0-walt/);
    // The bare key, without the certificate, is nobody on the proxy.
    await host.must(["cp", DEVICE, `${host.dir}/bare`]);
    expect((await ssh(host, `${host.dir}/bare`, "-n", ...PROXY)).stderr).toMatch(/Permission denied/);
    expect((await inner(host, DEVICE, "walt-server", "enrol")).stderr).toMatch(/this key may run: tunnel/);
  }, 180_000);

  test("a device that lost the grant on its way is given it again without an operator", async () => {
    const { world, device, node } = await shared();
    await device.stop();
    // As after a power cut between the server's answer and the device's disk: key there, credentials not.
    await device.host.must([
      "sh",
      "-c",
      "cd /var/lib/walt-vpn && rm credentials.json device-certificate.pub",
    ]);
    const position = world.daemon.position;
    device.start();
    await world.daemon.waitFor(/an accepted device asks again/, { after: position });
    await world.daemon.waitFor(new RegExp(`event=tunnel-up node=${node}`), { after: position });
  }, 180_000);

  test("a revoked node is cut off at once, stays out, and may enrol afresh", async () => {
    const { world, device, node } = await shared();
    const [position, at] = [device.process?.position ?? 0, world.daemon.position];
    await world.must(world.server, "vpn", "revoke", node, "--yes");
    await world.daemon.waitFor(/event=tunnel-down .*revoked/, { after: at });
    await device.process?.waitFor(/refuses this device's key/, { after: position });
    expect(await world.nodes()).toEqual([]);
    expect((await world.list())[0]).toMatchObject({ node, state: "revoked" });
    // Its control commands are refused as well.
    expect((await inner(device.host, DEVICE, "walt-server", "renew")).stderr).toMatch(/Permission denied/);
    // A restart does not help, and no operator is asked about it.
    await device.stop();
    const again = world.daemon.position;
    await device.start().waitFor(/refuses this device's key/);
    expect(world.daemon.output.slice(again)).not.toMatch(/event=enrolment-requested/);
    await device.stop();
    // Whoever has the board in his hands can let it ask afresh; it is the same node again.
    expect(await world.must(device.host, "device", "forget")).toMatch(/device_key/);
    expect(await device.enrol()).toBe(node);
    expect((await world.list()).map((d) => d.state).sort()).toEqual(["revoked", "up"]);
    const unknown = await world.walt(world.server, "vpn", "revoke", "vpn-nosuch");
    expect(unknown.status).toBe(1);
    expect(unknown.stderr).toMatch(/there is no node "vpn-nosuch"/);
  }, 180_000);

  test("a wrong host key, of the server or of a proxy, is refused with a clear message", async () => {
    const world = await fresh();
    const wrong =
      (
        await world.proxies[0]?.host.must([
          "sh",
          "-c",
          "ssh-keygen -q -t ed25519 -N '' -f wrong && cat wrong.pub",
        ])
      )?.split(" ")[1] ?? "";
    for (const alias of ["walt-server", "gate1.example.org:22"]) {
      const device = await world.device(alias === "walt-server" ? "device1" : "device2");
      const file = device.host.path("/etc/walt/known_hosts");
      const lines = (await Bun.file(file).text()).trim().split("\n");
      device.host.writeFile(
        "/etc/walt/known_hosts",
        `${[...lines.filter((l) => !l.startsWith(alias)), `${alias} ssh-ed25519 ${wrong}`].join("\n")}\n`,
      );
      const log = device.start();
      await log.waitFor(/host key/i);
      const { lastError } = await eventually("the refusal", () => device.status(), {
        fits: (status) => /host key/i.test(status.lastError ?? ""),
      });
      expect(lastError).toContain(alias === "walt-server" ? "server" : "gate1.example.org");
      await device.stop();
    }
    expect(world.daemon.output).not.toMatch(/event=enrolment-(requested|denied)/);
  }, 180_000);

  test("certificates are renewed while the tunnel is up", async () => {
    const { world } = await shortLived();
    const serial = async (): Promise<number> => Number((await world.list())[0]?.certificateSerial);
    const before = await serial();
    const position = world.daemon.position;
    await world.daemon.waitFor(/event=certificate-renewed/, { after: position });
    expect(await serial()).toBeGreaterThan(before);
    expect((await world.nodes())[0]?.state).toBe("up");
    expect(world.daemon.output.slice(position)).not.toMatch(/event=tunnel-down/);
  }, 180_000);

  test("a certificate that expired while the device was off is renewed, without asking", async () => {
    const { world, device } = await shortLived();
    await device.stop();
    // The proxy's clock is what counts: wait until it refuses the certificate.
    await eventually(
      "the proxy refuses the certificate",
      () => ssh(device.host, DEVICE, ...CERTIFICATE, "-n", ...PROXY),
      { fits: ({ status }) => status !== 0, within: 40_000, every: 1000 },
    );
    const position = world.daemon.position;
    device.start();
    await world.daemon.waitFor(/event=certificate-renewed/, { after: position });
    await world.daemon.waitFor(/event=tunnel-up/, { after: position });
    expect(world.daemon.output.slice(position)).not.toMatch(/event=enrolment-requested/);
  }, 180_000);

  // The last one: it changes the set-up of the proxy.
  test("a proxy with limits refuses a revoked device at once, and gives no device more than it needs", async () => {
    const { world, device, node } = await enrolled(await fresh());
    const { host } = device;
    const other = await world.device("device2");
    await other.enrol();
    const [proxy] = world.proxies;
    if (proxy === undefined) throw new Error("no proxy");
    const passes = async (from: Host): Promise<boolean> =>
      (await ssh(from, DEVICE, ...CERTIFICATE, "-n", ...PROXY, "x")).status === 0;
    await device.stop();
    await world.must(world.server, "vpn", "revoke", node, "--yes");
    expect(await passes(host)).toBe(true); // its certificate has not expired
    await world.setupProxy(proxy.host, "walt.lab.example:2222", ["--limits"]);
    await eventually("the revoked device is refused", () => passes(host), { fits: (is) => !is });
    expect(await passes(other.host)).toBe(true);
    // A UNIX socket on the proxy in a folder that everybody may write to.
    const forward = ["-N", "-R", `/tmp/walt-theirs-${process.pid}:localhost:22`];
    const refused = await ssh(other.host, DEVICE, ...CERTIFICATE, ...forward, ...PROXY);
    expect(refused.stderr).toMatch(/remote port forwarding failed/);
    // Tunnels go on over it.
    const position = world.daemon.position;
    await other.stop();
    other.start();
    await world.daemon.waitFor(/event=tunnel-up/, { after: position });
  }, 180_000);
});
