/** The server as a service of systemd: what it tells the service manager, how it ends, and what `walt server install` writes. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "../../src/linux/run.ts";
import dhcpScript from "../../src/server/net/dnsmasq.sh" with { type: "text" };
import { waltBinary } from "../lab/binary.ts";
import { eventually } from "../lab/eventually.ts";
import type { Host } from "../lab/host.ts";
import { Lab } from "../lab/lab.ts";
import { describeWith, need } from "../lab/need.ts";
import type { LabProcess } from "../lab/process.ts";
import { INTEGRATION } from "../lab/world.ts";
import { FakeMachine } from "../server/install/fake-machine.ts";

const RECEIVER = join(import.meta.dir, "notify-receiver.ts");
const UNIT = "/etc/systemd/system/walt-vpn.service";
const DHCP_SOCKET = "/etc/systemd/system/walt-vpn-dhcp.socket";
const DHCP_UNIT = "/etc/systemd/system/walt-vpn-dhcp@.service";
/** The system calls by which an installation changes files. */
const CHANGES = "rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat,symlink,symlinkat,ftruncate";

describeWith(INTEGRATION, "notifications", () => {
  let lab: Lab;
  let server: Host;
  let binary: string;
  beforeAll(async () => {
    binary = await waltBinary();
    lab = await Lab.create();
    server = await lab.host("server");
    server.writeFile("/etc/walt/vpn.toml", 'role = "server"\n');
  }, 120_000);
  afterAll(() => lab?.stop());

  async function manager(): Promise<LabProcess> {
    await server.must(["rm", "-f", "/run/notify"]);
    const receiver = server.spawn([process.execPath, RECEIVER, "/run/notify"]);
    await receiver.waitFor(/bound/);
    return receiver;
  }
  const told = (receiver: LabProcess): string[] =>
    receiver.stdout
      .trim()
      .split("\n")
      .slice(1)
      .map((line) => JSON.parse(line) as string);

  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    test(`READY=1 once it serves, STOPPING=1 at ${signal}, and exit status 0 with all gone`, async () => {
      const receiver = await manager();
      const daemon = server.spawn([binary, "run"], { env: { NOTIFY_SOCKET: "/run/notify" } });
      await receiver.waitFor(/READY=1/);
      // Ready means ready: a command works at once.
      expect(await server.must([binary, "node", "show", "--json"])).toBe("[]\n");
      expect(told(receiver)).toEqual(["READY=1"]);
      expect(await daemon.stop(signal)).toBe(0);
      await receiver.waitFor(/STOPPING=1/);
      expect(told(receiver)).toEqual(["READY=1", "STOPPING=1"]);
      await receiver.stop("SIGKILL");
      expect(server.processes()).toEqual([]);
      expect(existsSync(server.path("/run/walt-vpn/server.sock"))).toBe(false);
      expect(await server.must(["ip", "-o", "link"])).not.toMatch(/walt-net|tap-/);
    });
  }

  test("one that cannot start does not say that it is ready", async () => {
    const receiver = await manager();
    server.writeFile(
      "/srv/vpn.toml",
      'role = "server"\n[server.network]\nmanaged = false\nbridge = "nowhere"\n',
    );
    const daemon = await server.run([binary, "run", "--config", "/srv/vpn.toml"], {
      env: { NOTIFY_SOCKET: "/run/notify" },
    });
    expect(daemon.status).toBe(1);
    // The message would have come before the daemon's end.
    await server.must([
      process.execPath,
      "-e",
      `(await import(${JSON.stringify(join(import.meta.dir, "../../src/linux/notify.ts"))})).notifySystemd("LAST", "/run/notify")`,
    ]);
    await receiver.waitFor(/LAST/);
    expect(told(receiver)).toEqual(["LAST"]);
    await receiver.stop("SIGKILL");
  });

  test("under the journal its lines carry priorities and no time", async () => {
    const daemon = server.spawn([binary, "run"], { env: { JOURNAL_STREAM: "8:1" } });
    await daemon.waitFor(/event=server-ready/);
    expect(await daemon.stop()).toBe(0);
    for (const line of daemon.stderr.trim().split("\n")) expect(line).toMatch(/^<[0-7]>\S/);
    expect(daemon.stdout).toBe("");
  });
});

describeWith([INTEGRATION[0] ?? {}, { programs: ["groupadd", "setpriv"] }], "walt server install", () => {
  let lab: Lab;
  let host: Host;
  beforeAll(async () => {
    const binary = await waltBinary();
    lab = await Lab.create();
    host = await lab.host("server");
    // A machine without any of it, and a binary where a user may have put it.
    await host.must([
      "sh",
      "-c",
      'mount -t tmpfs tmpfs /usr/local/bin && mkdir -p /home/alice && : > /home/alice/walt && mount --bind "$0" /home/alice/walt',
      binary,
    ]);
  }, 120_000);
  afterAll(() => lab?.stop());

  const install = () => host.run(["sh", "-c", "umask 077; exec /home/alice/walt server install"]);
  const mode = (path: string): number => statSync(host.path(path)).mode & 0o777;

  test("is refused to who is not root, and writes nothing", async () => {
    const { status, stdout, stderr } = await host.run([
      "setpriv",
      "--reuid=65534",
      "--clear-groups",
      "/home/alice/walt",
      "server",
      "install",
    ]);
    expect([status, stdout, stderr]).toEqual([
      1,
      "",
      "walt: installing needs root\nsudo walt server install\n",
    ]);
    expect(existsSync(host.path(UNIT))).toBe(false);
  });

  test("is refused on a machine that is configured as something else", async () => {
    host.writeFile("/etc/walt/vpn.toml", 'role = "device"\n');
    expect((await install()).status).toBe(2);
    expect(existsSync(host.path(UNIT))).toBe(false);
    await host.must(["rm", "-r", "/etc/walt"]);
  });

  test("writes binary, unit, configuration and group, with right modes; the configuration is one that walt takes", async () => {
    const { status, stdout, stderr } = await install();
    expect([status, stderr]).toEqual([0, ""]);
    expect(stdout).toMatch(/\/usr\/local\/bin\/walt-vpn: copied from /);
    expect(stdout).toMatch(/group walt: made/);
    expect(stdout).toMatch(/user walt-vpn-server: made; the service runs as it/);
    expect(stdout).toMatch(/user walt-vpn-dhcp: made; its dnsmasq runs as it/);
    expect(stdout).toMatch(/\/etc\/walt\/vpn\.toml: written/);
    expect(stdout).toMatch(/walt-vpn\.service: written/);
    expect(stdout).toContain("systemctl enable --now walt-vpn");
    expect([mode("/usr/local/bin/walt-vpn"), mode("/etc/walt/vpn.toml"), mode(UNIT)]).toEqual([
      0o755, 0o644, 0o644,
    ]);
    expect([mode("/etc/walt"), mode("/var/lib/walt-vpn/boot")]).toEqual([0o755, 0o755]);
    expect(await host.must(["getent", "group", "walt"])).toMatch(/^walt:/);
    for (const name of ["/usr/local/bin/walt-vpn", "/usr/local/bin/walt"]) {
      expect(await host.must([name, "config", "check"])).toBe(
        '/etc/walt/vpn.toml: correct, role = "server"\n',
      );
    }
    expect((await host.run(["/usr/local/bin/walt", "node", "show"])).stderr).toContain(
      "Start it with `systemctl start walt-vpn`",
    );
    const unit = readFileSync(host.path(UNIT), "utf8");
    expect(unit).toContain('ExecStart="/usr/local/bin/walt-vpn" server run --config "/etc/walt/vpn.toml"\n');
    for (const path of [UNIT, DHCP_SOCKET, DHCP_UNIT])
      expect(readFileSync(host.path(path), "utf8")).not.toMatch(/@[A-Z]+@/);
    expect(await host.must(["getent", "passwd", "walt-vpn-server"])).toMatch(
      /^walt-vpn-server:.*:WalT VPN server:\/var\/lib\/walt-vpn:\/usr\/sbin\/nologin$/m,
    );
    // dnsmasq's user is no member of the group that may use the server.
    expect(await host.must(["id", "-Gn", "walt-vpn-server"])).toBe("walt\n");
    expect(await host.must(["id", "-Gn", "walt-vpn-dhcp"])).toBe("walt-vpn-dhcp\n");
  });

  test("run again it says that all is as it was; own settings stay, and a unit that was edited is ours again", async () => {
    const text = 'role = "server"\n# mine\n';
    host.writeFile("/etc/walt/vpn.toml", text);
    const again = await install();
    expect(again.status).toBe(0);
    expect(again.stdout.split("\n")).toEqual([
      ...[UNIT, DHCP_SOCKET, DHCP_UNIT].map((path) => `${path}: unchanged`),
      "/usr/local/bin/walt-vpn: unchanged",
      "/usr/local/bin/walt: unchanged",
      "group walt: is there",
      "user walt-vpn-server: is there",
      "user walt-vpn-dhcp: is there",
      "/etc/walt/vpn.toml: left as it is",
      "Next: systemctl daemon-reload && systemctl enable --now walt-vpn",
      "",
    ]);
    expect(readFileSync(host.path("/etc/walt/vpn.toml"), "utf8")).toBe(text);
    await host.must(["sh", "-c", 'echo "# edited" >> "$0"', UNIT]);
    expect((await install()).stdout).toContain(`${UNIT}: written`);
    expect(readFileSync(host.path(UNIT), "utf8")).not.toContain("# edited");
  });

  test("where something cannot be written it says so", async () => {
    await host.must(["sh", "-c", `mv /etc/systemd/system /etc/systemd/away && : > /etc/systemd/system`]);
    host.writeFile("/etc/walt/vpn.toml", 'role = "server"\n[server]\ngroup = "walt"\n');
    const { status, stderr } = await install();
    expect([status, stderr]).toEqual([
      1,
      expect.stringMatching(/^walt: cannot install: .*\/etc\/systemd\/system/),
    ]);
    await host.must(["sh", "-c", "rm /etc/systemd/system && mv /etc/systemd/away /etc/systemd/system"]);
  });

  /** The command as systemd runs it: as the unit's user, with the unit's capabilities and no others. */
  function asIn(unit: string, command: readonly string[]): string[] {
    const text = readFileSync(host.path(unit), "utf8");
    const value = (key: string): string => new RegExp(`^${key}=(.*)$`, "m").exec(text)?.[1] ?? "";
    const capabilities = value("AmbientCapabilities")
      .toLowerCase()
      .replaceAll("cap_", "+")
      .replaceAll(" ", ",");
    expect(capabilities).not.toBe("");
    expect(value("CapabilityBoundingSet")).toBe(value("AmbientCapabilities"));
    const [user, group] = [value("User"), value("Group") || value("User")];
    return [
      ...["setpriv", `--reuid=${user}`, `--regid=${group}`, "--clear-groups", "--no-new-privs"],
      ...["inh-caps", "ambient-caps", "bounding-set"].map((set) => `--${set}=-all,${capabilities}`),
      ...command,
    ];
  }
  /** Makes the folders of the service as systemd does before it starts a program (systemd.exec(5), StateDirectory). */
  const makeFolders = (): Promise<string> =>
    host.must([
      "sh",
      "-ec",
      `mkdir -p /run/walt-vpn /var/lib/walt-vpn-dhcp
chown -R walt-vpn-server:walt /run/walt-vpn /var/lib/walt-vpn
chown walt-vpn-dhcp: /var/lib/walt-vpn-dhcp`,
    ]);
  const start = () => host.spawn(asIn(UNIT, ["/usr/local/bin/walt-vpn", "server", "run"]));
  /** Real, effective and other user ids and the effective capabilities of all processes of a name. */
  const processesNamed = (name: string): string[] =>
    host
      .processes()
      .map(({ pid }) => {
        try {
          return readFileSync(`/proc/${pid}/status`, "utf8");
        } catch {
          return ""; // it has just ended
        }
      })
      .filter((text) => text.startsWith(`Name:\t${name}\n`))
      .map((text) => [...text.matchAll(/^(?:Uid|CapEff):\s+(.*)$/gm)].map(([, value]) => value).join(" "));

  test("a machine whose TAPs are root's alone is told so", async () => {
    await makeFolders();
    await host.must(["sh", "-ec", "mknod -m 600 /run/tun c 10 200; mount --bind /run/tun /dev/net/tun"]);
    const { status, stderr } = await host.run(asIn(UNIT, ["/usr/local/bin/walt-vpn", "server", "run"]));
    expect([status, stderr]).toEqual([1, expect.stringContaining("chmod 666 /dev/net/tun")]);
    await host.must(["chmod", "666", "/dev/net/tun"]); // as udev's rules do
  });

  const activate = need({ programs: ["systemd-socket-activate"] });
  test.skipIf(activate.skip && process.env["CI"] !== "true")(
    `the service and its dnsmasq run as users of their own, with the capabilities of their units${activate.skip ? ` (skipped: ${activate.why})` : ""}`,
    async () => {
      await makeFolders();
      // Without systemd's socket there is no DHCP, and that is said.
      const without = await host.run(asIn(UNIT, ["/usr/local/bin/walt-vpn", "server", "run"]));
      expect([without.status, without.stderr]).toEqual([
        1,
        expect.stringMatching(/dnsmasq ended at its start: .*ENOENT.*\n.*\/run\/walt-vpn-dhcp\.sock/),
      ]);
      const manager = host.spawn([
        ...["systemd-socket-activate", "--accept", "--inetd", "--listen=/run/walt-vpn-dhcp.sock"],
        ...asIn(DHCP_UNIT, ["sh", "-c", `exec sh -c "$0" 2>&0`, dhcpScript]),
      ]);
      await manager.waitFor(/Listening on/);
      await host.must(["chown", "walt-vpn-server", "/run/walt-vpn-dhcp.sock"]);
      const daemon = start();
      await daemon.waitFor(/event=server-ready/);
      expect(await host.must(["stat", "-c", "%a %U:%G", "/run/walt-vpn/server.sock"])).toBe(
        "660 walt-vpn-server:walt\n",
      );
      const [id, dhcpId] = await Promise.all(
        ["walt-vpn-server", "walt-vpn-dhcp"].map(async (user) =>
          (await host.must(["id", "-u", user])).trim(),
        ),
      );
      // CAP_NET_ADMIN and CAP_NET_BIND_SERVICE; for dnsmasq also CAP_NET_RAW (linux/capability.h: 12, 10, 13).
      expect(processesNamed("walt-vpn")).toEqual([`${id}\t${id}\t${id}\t${id} 0000000000001400`]);
      expect(processesNamed("dnsmasq")).toEqual([
        `${dhcpId}\t${dhcpId}\t${dhcpId}\t${dhcpId} 0000000000003400`,
      ]);
      const steal = await host.run(asIn(DHCP_UNIT, ["cat", "/var/lib/walt-vpn/keys/ca"]));
      expect([steal.status, steal.stdout]).toEqual([1, ""]);
      expect(await host.must(["ip", "-o", "link", "show", "walt-net"])).toContain("walt-net");

      // A dnsmasq that dies is replaced; one whose daemon dies is gone.
      await host.must(["pkill", "--exact", "dnsmasq"]);
      await daemon.waitFor(/event=dhcp-restart/);
      await eventually("another dnsmasq", () => processesNamed("dnsmasq"), {
        fits: (all) => all.length === 1,
      });
      await daemon.stop("SIGKILL");
      await eventually("no dnsmasq", () => processesNamed("dnsmasq"), { fits: (all) => all.length === 0 });
      const again = start();
      await again.waitFor(/event=server-ready/);
      expect(await again.stop()).toBe(0);
      expect(processesNamed("dnsmasq")).toEqual([]);
      expect((await host.run(["ip", "link", "show", "walt-net"])).status).not.toBe(0);
      await manager.stop();
    },
    60_000,
  );

  test("with an existing bridge it needs no dnsmasq, and can put TAPs into it", async () => {
    await makeFolders();
    const before = readFileSync(host.path("/etc/walt/vpn.toml"), "utf8");
    await host.ip("link add br-lab type bridge", "link set br-lab up");
    host.writeFile(
      "/etc/walt/vpn.toml",
      `role = "server"\n[server.network]\nmanaged = false\nbridge = "br-lab"\n`,
    );
    const daemon = start();
    await daemon.waitFor(/event=server-ready/);
    // What the daemon does for each tunnel, by programs that inherit its capability.
    const port = `ip tuntap add dev tap-lab mode tap; ip link set dev tap-lab master br-lab; ip link set dev tap-lab type bridge_slave learning off isolated on; bridge fdb replace 02:00:00:00:00:01 dev tap-lab master static; ip link del tap-lab`;
    await host.must(asIn(UNIT, ["sh", "-ec", port]));
    expect(processesNamed("dnsmasq")).toEqual([]);
    expect(await daemon.stop()).toBe(0);
    await host.ip("link del br-lab");
    host.writeFile("/etc/walt/vpn.toml", before);
  }, 120_000);

  /** The system calls of a set of systemd's, and of the sets in it. */
  async function systemCalls(set: string): Promise<string[]> {
    const lines = (await host.must(["systemd-analyze", "--no-pager", "syscall-filter", set]))
      .split("\n")
      .slice(1);
    const words = lines.map((line) => line.trim()).filter((word) => /^@?[a-z0-9_-]+$/.test(word));
    const inner = await Promise.all(words.filter((word) => word.startsWith("@")).map(systemCalls));
    return [...words.filter((word) => !word.startsWith("@")), ...inner.flat()];
  }

  /**
   * The command as `asIn`, and in the unit's sandbox as far as programs can notice it: what they may write, what they see
   * of /proc, which devices there are, and the system calls that are refused (systemd.exec(5)). The refused ones are in
   * /run/walt-vpn/traced, and those that make sockets.
   */
  async function sandboxed(unit: string, command: readonly string[]): Promise<string[]> {
    const text = readFileSync(host.path(unit), "utf8");
    for (const line of [
      ...["ProtectSystem=strict", "PrivateTmp=yes", "ProcSubset=pid", "ProtectProc=invisible"],
      ...["SystemCallFilter=~@privileged @resources", "SystemCallErrorNumber=EPERM"],
      ...["DevicePolicy=closed", "DeviceAllow=/dev/net/tun rw"],
    ])
      expect(text).toContain(`\n${line}\n`);
    const refused = [
      ...new Set([...(await systemCalls("@privileged")), ...(await systemCalls("@resources"))]),
    ];
    const calls = refused.map((name) => `?${name}`).join(",");
    const traced = [
      "strace",
      "-f",
      "-qq",
      "-o",
      "/run/walt-vpn/traced",
      "-e",
      `trace=${calls},socket`,
      "-e",
      `inject=${calls}:error=EPERM`,
    ];
    const enter = `for mount in $(cut -d' ' -f2 /proc/self/mounts | sort -u); do
  case $mount in /proc*|/dev*) ;; *) mount -o remount,bind,ro "$mount" 2>/dev/null || : ;; esac
done
for own in /run/walt-vpn /var/lib/walt-vpn; do mount --bind $own $own; mount -o remount,bind,rw $own; done
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t proc -o subset=pid,hidepid=invisible proc /proc
mount --rbind /dev /mnt
mount -t tmpfs -o mode=755 tmpfs /dev
for device in null zero full random urandom tty net/tun; do
  mkdir -p "$(dirname /dev/$device)"; : >/dev/$device; mount --bind /mnt/$device /dev/$device
done
umount -l /mnt
if touch /var/lib/probe 2>/dev/null; then echo "/var/lib can be written" >&2; exit 1; fi
exec "$@"`;
    const inside = asIn(unit, [...traced, "-e", "signal=none", "--seccomp-bpf", ...command]);
    return ["unshare", "--mount", "--propagation=private", "sh", "-ec", enter, "sh", ...inside];
  }

  const agent = need({ programs: ["snmpd", "snmpget", "snmpwalk", "strace", "systemd-analyze"] });
  test.skipIf(agent.skip && process.env["CI"] !== "true")(
    `the SNMP agent works in the unit's sandbox${agent.skip ? ` (skipped: ${agent.why})` : ""}`,
    async () => {
      await makeFolders();
      await host.must(["rm", "-f", "/run/walt-vpn/traced"]);
      const before = readFileSync(host.path("/etc/walt/vpn.toml"), "utf8");
      await host.ip("link add br-lab type bridge", "link set br-lab up");
      const own = `managed = false\nbridge = "br-lab"\n[server.snmp]\naddress = "192.168.152.250"\n`;
      host.writeFile("/etc/walt/vpn.toml", `role = "server"\n[server.network]\n${own}`);
      // As the handbook says.
      const file = "/etc/walt/snmp_community";
      await host.must(["install", "-m", "600", "-o", "walt-vpn-server", "/dev/null", file]);
      await host.must(["sh", "-c", `echo only-for-walt >>${file}`]);
      const daemon = host.spawn(await sandboxed(UNIT, ["/usr/local/bin/walt-vpn", "server", "run"]));
      await daemon.waitFor(/event=snmp-ready/);
      const id = (await host.must(["id", "-u", "walt-vpn-server"])).trim();
      expect(processesNamed("snmpd")).toEqual([`${id}\t${id}\t${id}\t${id} 0000000000001400`]);
      const ask = (program: string, object: string): Promise<string> =>
        host.must(
          [program, "-v2c", "-c", "only-for-walt", "-On", "-OQ", "-t", "20", "192.168.152.250", object],
          { env: { MIBS: "" } },
        );
      expect(await ask("snmpget", ".1.3.6.1.2.1.1.5.0")).toContain("walt-vpn");
      // What our relay answers, which snmpd starts.
      const ports = (await ask("snmpwalk", ".1.3.6.1.2.1.105.1.1.1.3.1")).trim().split("\n");
      expect(ports).toHaveLength(512);
      expect(daemon.output).not.toMatch(/event=snmp-restart/);
      for (const { pid, command } of host.processes())
        if (command.startsWith("/usr/local/bin/walt-vpn server run")) process.kill(pid, "SIGTERM");
      expect(await eventually("the daemon's end", daemon.exited)).toBe(0);
      expect(processesNamed("snmpd")).toEqual([]);
      const allowed =
        /^RestrictAddressFamilies=(.*)$/m.exec(readFileSync(host.path(UNIT), "utf8"))?.[1] ?? "";
      const traced = readFileSync(host.path("/run/walt-vpn/traced"), "utf8");
      const families = new Set(Array.from(traced.matchAll(/ socket\((\w+),/g), ([, family = ""]) => family));
      expect(families).toContain("AF_INET");
      expect([...families].filter((family) => !allowed.split(" ").includes(family))).toEqual([]);
      expect(await host.must(["ip", "address"])).not.toContain("192.168.152.250");
      await host.ip("link del br-lab");
      host.writeFile("/etc/walt/vpn.toml", before);
    },
    120_000,
  );

  test("root by hand does not leave files among the service's; elsewhere it does what it did", async () => {
    await makeFolders();
    const files = (): Promise<string> =>
      host.must(["find", "/var/lib/walt-vpn", "!", "-user", "walt-vpn-server"]);
    const byHand = ["/usr/local/bin/walt-vpn", "server", "run"];
    const refused = await host.run(byHand);
    expect([refused.status, refused.stderr]).toEqual([
      1,
      expect.stringContaining("/var/lib/walt-vpn belongs to the user"),
    ]);
    expect(await files()).toBe("");
    host.writeFile("/srv/vpn.toml", 'role = "server"\n[server]\nstate = "/srv/state"\n');
    const daemon = host.spawn([...byHand, "--config", "/srv/vpn.toml"]);
    await daemon.waitFor(/event=server-ready/);
    // Its dnsmasq is not root all the same.
    const [dnsmasq = "", ...others] = processesNamed("dnsmasq");
    expect([dnsmasq, others]).toEqual([expect.not.stringMatching(/\b0\b/), []]);
    await daemon.stop("SIGKILL");
    await eventually("no dnsmasq", () => processesNamed("dnsmasq"), { fits: (all) => all.length === 0 });
    await host.must(["chown", "-R", "root:root", "/run/walt-vpn", "/var/lib/walt-vpn"]);
  }, 120_000);

  test.skipIf(need({ programs: ["systemd-analyze"] }).skip && process.env["CI"] !== "true")(
    "the exposure of each service is 2.0 of 10 at most",
    async () => {
      const rate = async (text: string): Promise<number> => {
        host.writeFile("/srv/rated.service", text);
        const options = ["--no-pager", "--offline=true", "--threshold=20", "/srv/rated.service"];
        return (await host.run(["systemd-analyze", "security", ...options])).status;
      };
      for (const path of [UNIT, DHCP_UNIT]) {
        const unit = readFileSync(host.path(path), "utf8");
        expect([path, await rate(unit)]).toEqual([path, 0]);
        // With all capabilities it would be worse.
        expect([path, await rate(unit.replace(/^CapabilityBoundingSet=.*\n/m, ""))]).not.toEqual([path, 0]);
      }
    },
    60_000,
  );

  // Not every machine that runs the tests has systemd; where nothing may be skipped it fails for want of the program.
  const analyze = need({ programs: ["systemd-analyze"] });
  test.skipIf(analyze.skip && process.env["CI"] !== "true")(
    `systemd finds nothing wrong with the unit${analyze.skip ? ` (skipped: ${analyze.why})` : ""}`,
    async () => {
      const good = await host.run(["systemd-analyze", "verify", "--man=no", UNIT, DHCP_SOCKET, DHCP_UNIT]);
      const ours = (text: string): string[] => text.split("\n").filter((line) => line.includes("walt-vpn"));
      expect([good.status, ours(good.stderr)]).toEqual([0, []]);
      // That it would have: an unknown key, and a program that is not there.
      const unit = readFileSync(host.path(UNIT), "utf8");
      host.writeFile(
        "/srv/walt-vpn.service",
        unit.replace("Restart=", "Restrat=").replace("/usr/local/bin/walt-vpn", "/nowhere/walt-vpn"),
      );
      expect(
        ours(
          (await host.run(["systemd-analyze", "verify", "--man=no", "/srv/walt-vpn.service"])).stderr,
        ).join(),
      ).toMatch(/Restrat|nowhere/);
    },
    60_000,
  );
});

describeWith(
  [INTEGRATION[0] ?? {}, { programs: ["groupadd", "strace"] }],
  "walt server install over an earlier version",
  () => {
    let lab: Lab;
    let host: Host;
    beforeAll(async () => {
      const binary = await waltBinary();
      lab = await Lab.create();
      host = await lab.host("server");
      // A template of the machine, whose parts are laid out anew for each attempt.
      const folder = mkdtempSync(join(tmpdir(), "walt-earlier-"));
      try {
        new FakeMachine(folder).putEarlier();
        await run(["cp", "-a", folder, host.path("/srv/machine")]);
      } finally {
        rmSync(folder, { recursive: true });
      }
      await host.must([
        "sh",
        "-c",
        'groupadd walt; mount -t tmpfs tmpfs /usr/local/bin; cd /usr/local/bin; : >walt-vpn; mount --bind "$0" walt-vpn',
        binary,
      ]);
    }, 120_000);
    afterAll(() => lab?.stop());

    const LAY_OUT = `set -e
rm -rf /etc/walt /var/lib/walt /var/lib/walt-vpn /var/lib/.walt-vpn.moving /usr/local/bin/walt /usr/local/bin/walt.* /usr/local/bin/.walt*
rm -rf /etc/systemd/system/walt-*
cd /srv/machine
cp -a etc/walt /etc/walt
cp -a var/lib/walt /var/lib/walt
cp -a etc/systemd/system/walt-server.service /etc/systemd/system/
cp -a usr/local/bin/walt /usr/local/bin/walt
`;

    test("killed at any system call that changes something, the same command goes on and loses nothing", async () => {
      const ca = readFileSync(host.path("/srv/machine/var/lib/walt/keys/ca"), "utf8");
      let kills = 0;
      for (let call = 1; ; call++) {
        expect(call).toBeLessThan(200);
        await host.must(["sh", "-c", LAY_OUT]);
        const inject = `inject=${CHANGES}:signal=KILL:when=${call}`;
        const killed = await host.run([
          ...[
            "strace",
            "-f",

            "-qqq",
            "-o",
            "/dev/null",
            "-e",
            `trace=${CHANGES}`,
            "-e",
            inject,
          ],
          ...["/usr/local/bin/walt-vpn", "server", "install"],
        ]);
        const again = await host.run(["/usr/local/bin/walt-vpn", "server", "install"]);
        expect([call, again.status, again.stderr]).toEqual([call, 0, ""]);
        expect(readFileSync(host.path("/var/lib/walt-vpn/keys/ca"), "utf8")).toBe(ca);
        expect(existsSync(host.path("/var/lib/walt-vpn/registry.sqlite"))).toBe(true);
        expect(readFileSync(host.path("/etc/walt/vpn.toml"), "utf8")).toBe('role = "server"\n# mine\n');
        const left = ["/var/lib/walt", "/etc/walt/walt.toml", "/etc/systemd/system/walt-server.service"];
        expect([call, left.filter((path) => existsSync(host.path(path)))]).toEqual([call, []]);
        if (killed.status === 0) break;
        kills++;
      }
      expect(kills).toBeGreaterThan(15);
    }, 300_000);
  },
);
