/** WalT's original framing between real machines: its client at our server, and our device at its server. */

import { expect, test } from "bun:test";
import type { DeviceStatus } from "../../src/api/device-status.ts";
import { waltBinary } from "../lab/binary.ts";
import { eventually } from "../lab/eventually.ts";
import type { Host } from "../lab/host.ts";
import { INTERNET, Lab } from "../lab/lab.ts";
import { describeWith } from "../lab/need.ts";
import type { LabProcess } from "../lab/process.ts";
import { startSshd } from "../lab/sshd.ts";
import { INTEGRATION, pingable, WALT_NET, World } from "../lab/world.ts";

const LOOP = [process.execPath, new URL("../lab/original-loop.ts", import.meta.url).pathname];

const SERVER = "walt.lab.example";
const GATE = "gate1.example.org";
const KEYS = "/home/walt-vpn/.ssh/authorized_keys";

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
    `link add port type veth peer name eth0 netns ${made.pid}`,
    "link set port master br0 up",
  );
  await made.ip(`link set eth0 address ${mac} up`, `address add ${address}/22 dev eth0`);
  return made;
}

/** Processes of a host. */
function pids(host: Host, command: RegExp): number[] {
  return host
    .processes()
    .filter((p) => command.test(p.command))
    .map((p) => p.pid);
}

async function upAgain(world: World, after: number): Promise<void> {
  await world.daemon.waitFor(/event=tunnel-up .*framing=original/, { after });
}

/** A device that is to reach a server of WalT's own VPN through a proxy. Both have sshd, and nobody lets it in yet. */
async function machines(lab: Lab) {
  const [binary, host] = [await waltBinary(), await lab.host("device1")];
  const gate = await lab.host("gate1", { networks: [INTERNET, "lan"] });
  const server = await lab.host("server", { networks: ["lan"] });
  await server.ip(
    "link add walt-net address 02:00:00:00:00:01 type bridge forward_delay 0",
    `address add ${WALT_NET}/22 dev walt-net`,
    "link set walt-net up",
  );
  const [sshd, inner] = [
    await startSshd(gate, { patient: true }),
    await startSshd(server, { patient: true }),
  ];
  await gate.must(["useradd", "-m", "-s", "/bin/sh", "walt-vpn"]);
  host.hosts({ [GATE]: gate.address() });
  gate.hosts({ [SERVER]: server.address("lan") });
  const pinned = (alias: string, keys: readonly string[]): string =>
    keys.map((key) => `${alias} ${key}\n`).join("");
  /** @param lines more lines of the table [device] */
  const configure = (entrypoint: string, lines = 'framing = "original"'): void => {
    const isDirect = entrypoint.startsWith("ssh://");
    host.writeFile(
      "/etc/walt/known_hosts",
      pinned("walt-server", isDirect ? sshd.hostKeys : inner.hostKeys) + pinned(`${GATE}:22`, sshd.hostKeys),
    );
    host.writeFile(
      "/etc/walt/vpn.toml",
      `role = "device"
[device]
entrypoint = "${entrypoint}"
${isDirect ? "" : `server = "${SERVER}:22"`}
silence = "3s"
${lines}
[device.vm]
start = false
`,
    );
  };
  return { binary, host, gate, server, inner, configure };
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
    const start = (): LabProcess => host.spawn([...LOOP, "br0", ...client("/var/lib/walt-vpn/device_key")]);
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
    await Bun.sleep(4000); // what is tested: nothing comes for longer than the silence
    expect((await world.nodes())[0]).toMatchObject({ state: "up" });
    await host.ip("link set tap0 up");
    expect(await pingable(plugged, WALT_NET)).toBe(true);

    // An ssh that stands still answers nothing.
    seen = daemon.output.length;
    const ssh = host.processes().find((p) => p.command.startsWith("ssh "));
    if (ssh === undefined) throw new Error("no ssh");
    process.kill(ssh.pid, "SIGSTOP");
    await daemon.waitFor(/event=tunnel-down/, { after: seen });
    process.kill(ssh.pid, "SIGCONT");
    await loop.exited;

    // A second one takes the first one's place.
    seen = daemon.output.length;
    loop = start();
    await upAgain(world, seen);
    seen = daemon.output.length;
    const second = start();
    await daemon.waitFor(/event=tunnel-down .*took its place/, { after: seen });
    await loop.exited;
    await second.stop();

    // Lengths that no frame has: the end of that tunnel, and of nothing else.
    seen = daemon.output.length;
    await host.run(client("/var/lib/walt-vpn/device_key"), { input: "GET / HTTP/1.1\r\n\r\n" });
    await daemon.waitFor(/event=tunnel-down .*the peer sent a frame of 18245 bytes, not 14 to 1522/, {
      after: seen,
    });
    const enrolment = await host.run(client("/etc/walt/enrolment_key", "-o", "LogLevel=INFO"));
    expect(enrolment.stderr).toMatch(/walt: there is no shell here; this key may run: enrol/);

    // It may come back as itself with our own messages.
    seen = daemon.output.length;
    device.start();
    await daemon.waitFor(/event=tunnel-up .*via=ssh:/, { after: seen });
    expect((await world.nodes())[0]).toMatchObject({ state: "up", framing: "messages" });
  }, 120_000);

  test("our device at WalT's server, which is an sshd with a program behind it, through a proxy", async () => {
    await using lab = await Lab.create();
    const { binary, host, gate, server, inner, configure } = await machines(lab);
    await server.must(["useradd", "-o", "-u", "0", "-m", "-s", "/bin/sh", "walt-vpn"]);
    configure(GATE);
    const status = async (): Promise<DeviceStatus> =>
      JSON.parse(await host.must([binary, "device", "status", "--json"])) as DeviceStatus;

    // Nobody knows it yet: it says what is to be done, first for the proxy and then for the server, and asks for nothing.
    let device = host.spawn([binary, "device", "run"]);
    const [, key = ""] = await device.waitFor(/event=key-to-install key="(ssh-ed25519 [^"]+)"/);
    await device.waitFor(/proxy gate1.example.org:22: it does not accept our key/);
    await device.stop();
    const through = `permitopen="${SERVER}:22",permitlisten="127.0.0.1:1",command="exec cat"`;
    gate.writeFile(KEYS, `restrict,port-forwarding,${through} ${key}\n`);
    device = host.spawn([binary, "device", "run"]);
    await device.waitFor(/add its public key to the authorized_keys of walt-vpn there/);
    expect(await status()).toMatchObject({ stage: "tunnel", tunnel: "down", certificateRenewal: null });
    await device.stop();
    server.writeFile(KEYS, `restrict,command="${LOOP.join(" ")} walt-net" ${key}\n`, 0o600);
    device = host.spawn([binary, "device", "run"]);
    await device.waitFor(/watch: the tunnel is up/);
    const { node, mac } = await status();
    expect(mac).toBe(`52:54:00:${(node ?? "").replace("vpn-", "").replaceAll(/..(?=.)/g, "$&:")}`);
    const plugged = await lab.host("node", { networks: [] });
    await host.ip(
      `link add to-node type veth peer name eth0 netns ${plugged.pid}`,
      "link set to-node master walt-br up",
    );
    await plugged.ip(`link set eth0 address ${mac} up`, "address add 192.168.192.60/22 dev eth0");
    expect(await pingable(plugged, WALT_NET)).toBe(true);
    await plugged.must(["ping", "-c", "2", "-i", "0.2", "-M", "do", "-s", "1472", WALT_NET]);

    // A server that stands still is noticed by ssh, one whose program ends by its end: each time there is another tunnel.
    const programs = (): number[] => pids(server, /original-loop/);
    const sessions = (): number[] => pids(server, /^sshd.*: walt-vpn/);
    for (const [found, signal, reason] of [
      [sessions, "SIGSTOP", /the server walt.lab.example:22: it fell silent/],
      // Of a stream that ends while its last bytes were not read the kernel says that it was reset.
      [programs, "SIGKILL", /the peer closed the stream|the stream failed \(ECONNRESET\)/],
    ] as const) {
      const [seen, all] = [device.output.length, found()];
      expect(all).not.toEqual([]);
      for (const pid of all) process.kill(pid, signal);
      await device.waitFor(reason, { after: seen });
      await device.waitFor(/watch: the tunnel is up/, { after: seen });
      expect(await pingable(plugged, WALT_NET)).toBe(true);
    }

    // A certificate of WalT's CA, made by the command that the log has, in place of the key's own line.
    const ca = "/var/lib/walt/vpn-server/vpn-ca-key";
    await server.must(["mkdir", "-p", "/var/lib/walt/vpn-server"]);
    await server.must(["ssh-keygen", "-q", "-t", "ecdsa", "-b", "521", "-N", "", "-f", ca]);
    const [, certificate = "", sign = ""] =
      /event=key-to-sign certificate=(\S+) .*walt10="([^"]+)"/.exec(device.output) ?? [];
    server.writeFile("/root/device_key.pub", `${key}\n`);
    await server.must(sign.split(" "), { cwd: "/root" });
    expect(await server.must(["ssh-keygen", "-L", "-f", "/root/device_key-cert.pub"])).toMatch(
      /Key ID: "vpn_[0-9a-f]{12}"(.*\n)*.*Valid: forever(.*\n)*.*walt-vpn/,
    );
    host.writeFile(certificate, await Bun.file(server.path("/root/device_key-cert.pub")).text());
    const authority = await Bun.file(server.path(`${ca}.pub`)).text();
    server.writeFile(
      KEYS,
      `cert-authority,restrict,command="${LOOP.join(" ")} walt-net" ${authority}`,
      0o600,
    );
    const at = device.output.length;
    for (const pid of programs()) process.kill(pid, "SIGKILL");
    await device.waitFor(/watch: the tunnel is up/, { after: at });
    expect(inner.process.output).toMatch(/Accepted publickey for walt-vpn .* ED25519-CERT .* ID vpn_/);
    expect(await device.stop()).toBe(0);
    expect(await host.must(["ip", "-o", "link"])).not.toMatch(/walt-/);
  }, 120_000);

  test("a proxy of WalT's own is recognised by what it permits, and said", async () => {
    await using lab = await Lab.create();
    const { binary, host, gate, server, inner, configure } = await machines(lab);
    // What such a proxy does: to its own ssh, which wants the device's agent, and to nothing else.
    const ssh = "ssh -T -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null";
    const options = (command: string): string => `restrict,agent-forwarding,command="${command}"`;
    const onwards = options(`${ssh} walt-vpn@${SERVER}`);
    await server.must(["useradd", "-m", "-s", "/bin/sh", "walt-vpn"]);

    /** The device's first failure once it runs, what it tells of it, and an error on its screen. */
    const failure = async (): Promise<{ line: string; lastError: string | null; screen: string }> => {
      const device = host.spawn([binary, "device", "run"]);
      const [line] = await device.waitFor(/.*event=failure.*/);
      const { lastError } = JSON.parse(
        await host.must([binary, "device", "status", "--json"]),
      ) as DeviceStatus;
      const socket = ["--unix-socket", "/run/walt-vpn/device.sock", "http://device/v1/screen"];
      const look = (): Promise<string> => host.must(["curl", "-s", ...socket]);
      // Without an agent there is a tunnel for a moment, each time that it tries.
      const screen = await eventually("an error on the screen", look, {
        fits: (text) => /^Error/m.test(text),
      });
      await device.stop();
      return { line, lastError, screen };
    };
    const said = (who: string) => {
      const words = `${who}: this is a proxy of WalT's own: it needs agent forwarding, which this device does not do`;
      return {
        line: expect.stringContaining("event=failure kind=walt-proxy"),
        lastError: expect.stringContaining(words),
        screen: expect.stringContaining(`Error    ${words}`),
      };
    };

    // A certificate of WalT's CA, as its own devices have one.
    configure(GATE);
    const first = host.spawn([binary, "device", "run"]);
    const [, key = ""] = await first.waitFor(/event=key-to-install key="(ssh-ed25519 [^"]+)"/);
    await first.waitFor(/event=failure kind=key-refused/);
    await first.stop();
    gate.writeFile("/root/device_key.pub", `${key}\n`);
    await gate.must(["ssh-keygen", "-q", "-t", "ecdsa", "-b", "521", "-N", "", "-f", "/root/ca"]);
    const sign = [
      "ssh-keygen",
      "-q",
      "-s",
      "/root/ca",
      "-I",
      "vpn_1",
      "-n",
      "walt-vpn",
      "/root/device_key.pub",
    ];
    await gate.must(sign);
    const certificate = await Bun.file(gate.path("/root/device_key-cert.pub")).text();
    host.writeFile("/var/lib/walt-vpn/device_key-cert.pub", certificate);
    const ca = await Bun.file(gate.path("/root/ca.pub")).text();
    gate.writeFile(KEYS, `cert-authority,${onwards} ${ca}`);
    expect(await failure()).toEqual(said(`proxy ${GATE}:22`));

    // The same as the server of the configuration, which is how WalT's own devices use one.
    configure(`ssh://${GATE}:22`);
    expect(await failure()).toEqual(said(`the server ${GATE}:22`));

    // Its server is away, so that its ssh does not get as far as to ask for an agent. By the enrolment key, in our framing.
    await inner.stop();
    configure(GATE, "");
    await host.must(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/etc/walt/enrolment_key"]);
    const enrolmentKey = await Bun.file(host.path("/etc/walt/enrolment_key.pub")).text();
    gate.writeFile(KEYS, `${onwards} ${enrolmentKey}`);
    expect(await failure()).toEqual(said(`proxy ${GATE}:22`));
    expect((await host.run([binary, "doctor", "--json"])).stdout).toContain("ended: walt-proxy");

    // Other accounts that come to nothing are not taken for one.
    for (const other of ['restrict,command="false"', `restrict,command="${ssh} localhost"`]) {
      gate.writeFile(KEYS, `${other} ${enrolmentKey}`);
      const { line } = await failure();
      expect(line).toContain(`proxy ${GATE}:22`);
      expect(line).not.toMatch(/walt-proxy|key-refused/);
    }
  }, 120_000);
});
