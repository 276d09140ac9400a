/** `walt server install` on a folder in the place of a machine: beside WalT, over an earlier version, interrupted anywhere. */

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseConfig } from "../../../src/config/load.ts";
import { messageOf, WaltError } from "../../../src/errors.ts";
import { install } from "../../../src/install/steps.ts";
import { refuseUnmoved } from "../../../src/server/install/earlier.ts";
import { planInstall } from "../../../src/server/install/install.ts";
import dhcpScript from "../../../src/server/net/dnsmasq.sh" with { type: "text" };
import { Registry } from "../../../src/server/registry.ts";
import { EARLIER_UNIT, FakeMachine, program, WALT } from "./fake-machine.ts";

let dir: string;
let machine: FakeMachine;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "walt-install-"));
  machine = new FakeMachine(join(dir, "root"));
});
afterEach(() => rmSync(dir, { recursive: true }));

/** Install; what was said. */
async function run(on = machine): Promise<string> {
  const lines: string[] = [];
  await install(await planInstall(on), (line) => lines.push(line));
  return lines.join("\n");
}

/** Install where it must be refused: nothing is changed. */
async function refused(): Promise<string> {
  const before = machine.tree();
  machine.ran.length = 0;
  const error = await planInstall(machine).catch((e: unknown) => e);
  expect(error).toBeInstanceOf(WaltError);
  expect(machine.tree()).toEqual(before);
  expect(machine.ran.filter((one) => !one.includes("is-active"))).toEqual([]);
  return `${messageOf(error)}\n${(error as WaltError).hint ?? ""}`;
}

test("on a machine with nothing: all that a server needs, under names of its own; again, it changes nothing", async () => {
  const said = await run();
  expect(said).toContain("/usr/local/bin/walt: a link to walt-vpn");
  expect(machine.read("/usr/local/bin/walt-vpn")).toBe(program("new"));
  expect(machine.read("/usr/local/bin/walt")).toBe(program("new"));
  expect(machine.read("/etc/group")).toContain("walt:x:");
  const unit = machine.read("/etc/systemd/system/walt-vpn.service");
  expect(unit).toContain('ExecStart="/usr/local/bin/walt-vpn" server run --config "/etc/walt/vpn.toml"\n');
  expect(unit).toContain("StateDirectory=walt-vpn\n");
  expect(unit).toContain("RuntimeDirectory=walt-vpn\n");
  const config = parseConfig(machine.read("/etc/walt/vpn.toml"), "vpn.toml");
  expect([config.role, config["server.network"].managed]).toEqual(["server", true]);
  // What the example's lines become when their marks are taken away.
  const example = machine.read("/etc/walt/vpn.toml").replace("# [server]\n# address", "[server]\naddress");
  expect(parseConfig(example, "vpn.toml").server.address?.port).toBe(2222);
  const after = machine.tree();
  expect(await run()).not.toMatch(/written|copied|made|moved|a link to/);
  expect(machine.tree()).toEqual(after);
});

test("where another network has the default addresses of walt-net, a free network is chosen, and said", async () => {
  const lan = [{ ifname: "eth0", addr_info: [{ local: "192.168.192.1", prefixlen: 24 }] }];
  machine.says.set("ip -j -4 address", JSON.stringify(lan));
  expect(await run()).toContain(
    "written, with walt-net on 10.213.0.1/22, as the network of eth0 (192.168.192.1/24) has addresses of the default one",
  );
  const config = parseConfig(machine.read("/etc/walt/vpn.toml"), "vpn.toml");
  expect(config["server.network"].address).toBe("10.213.0.1/22");

  const more = [...lan, { ifname: "docker0", addr_info: [{ local: "10.213.1.1", prefixlen: 24 }] }];
  machine.says.set("ip -j -4 address", JSON.stringify(more));
  expect(await run()).toMatch(/Note: walt-net \(10\.213\.0\.1\/22.* docker0 .*"10\.214\.0\.1\/22"/);
});

test.each(["walt-vpn-server", "walt-vpn-dhcp"])(
  "a user %s that is somebody else's is refused",
  async (user) => {
    machine.put("/etc/passwd", `${user}:x:7:7:Walter:/home/walter:/bin/sh\n`);
    expect(await refused()).toContain(`the user ${user} is there already, and is not ours`);
  },
);

test("the unit of DHCP has its script as systemd reads it: quoted, with no specifier or variable of systemd's", async () => {
  await run();
  const line = /^ExecStart=\/bin\/sh -c "(.*)"$/m.exec(
    machine.read("/etc/systemd/system/walt-vpn-dhcp@.service"),
  );
  const text = line?.[1] ?? "";
  expect(text.replace(/\\["\\n]/g, "")).not.toMatch(/["\\]/);
  expect(text.replaceAll("$$", "").replaceAll("%%", "")).not.toMatch(/[$%]/);
  const read = text.replace(/\\(.)/g, (_, c: string) => (c === "n" ? "\n" : c));
  expect(read.replaceAll("$$", "$").replaceAll("%%", "%")).toBe(dhcpScript);
});

describe("beside a WalT server", () => {
  beforeEach(() => machine.putAll(WALT));

  test("nothing of WalT's is touched; the network is left to it, and that is said", async () => {
    const before = machine.tree();
    const said = await run();
    expect(machine.tree()).toMatchObject({
      ...before,
      ...{ "/etc/group": expect.any(String), "/etc/passwd": expect.any(String) },
    });
    expect(said).toMatch(
      /A WalT server is on this machine \(\S+\/etc\/walt\/server\.conf\)\. Its network is the bridge walt-net \(192\.168\.152\.1\/22\)/,
    );
    expect(said).toMatch(/\/usr\/local\/bin\/walt is another program: say walt-vpn for walt here/);
    const config = parseConfig(machine.read("/etc/walt/vpn.toml"), "vpn.toml");
    expect([config["server.network"].managed, config["server.network"].bridge]).toEqual([false, "walt-net"]);
    const example = machine.read("/etc/walt/vpn.toml").replace("# [server]\n# address", "[server]\naddress");
    expect(parseConfig(example, "vpn.toml")["server.network"].managed).toBe(false);
  });

  test("our keys and registry among WalT's files are moved, and no others, byte for byte", async () => {
    machine.putEarlierState();
    machine.put("/etc/group", "root:x:0:\nwalt:x:999:alice\n");
    const before = machine.tree();
    const ca = machine.ca();
    await run();
    expect(machine.read("/var/lib/walt-vpn/keys/ca.pub")).toBe(ca);
    const after = machine.tree();
    for (const path of Object.keys(WALT)) expect([path, after[path]]).toEqual([path, before[path]]);
    expect(Object.keys(after).filter((path) => path.startsWith("/var/lib/walt/"))).toEqual([
      "/var/lib/walt/boot",
      "/var/lib/walt/keys",
      "/var/lib/walt/keys/image1",
      "/var/lib/walt/keys/image1/ssh_host_ed25519_key",
      "/var/lib/walt/nodes",
      "/var/lib/walt/nodes/vnode",
      "/var/lib/walt/nodes/vnode/disk",
      "/var/lib/walt/vpn",
      "/var/lib/walt/vpn/.ssh",
      "/var/lib/walt/vpn/.ssh/authorized_keys",
    ]);
  });

  test("WalT's set-up run after ours takes the name walt, and all else of ours works as before", async () => {
    const machine = new FakeMachine(join(dir, "later"));
    await run(machine);
    const ours = machine.tree();
    // It replaces the link by one of its own, and writes its own files.
    rmSync(join(machine.root, "/usr/local/bin/walt"));
    machine.putAll(WALT);
    const both = machine.tree();
    for (const path of Object.keys(ours)) {
      if (path === "/usr/local/bin/walt" || path in WALT) continue;
      expect([path, both[path]]).toEqual([path, ours[path]]);
    }
    const said = await run(machine);
    expect(said).toMatch(/\/usr\/local\/bin\/walt is another program: say walt-vpn for walt here/);
    expect(said).toMatch(/says server\.network\.managed = true, but WalT serves walt-net/);
    expect(machine.tree()).toEqual(both);
  });

  test("a configuration that would manage WalT's network is pointed out", async () => {
    machine.put("/etc/walt/vpn.toml", 'role = "server"\n');
    expect(await run()).toMatch(/vpn\.toml says server\.network\.managed = true, but WalT serves walt-net/);
    expect(machine.read("/etc/walt/vpn.toml")).toBe('role = "server"\n');
  });
});

test("a client of WalT's elsewhere on the PATH keeps its name", async () => {
  machine.put("/usr/bin/walt", "#!/usr/bin/python3\n");
  expect(await run()).toContain("/usr/bin/walt is another program");
  expect(machine.has("/usr/local/bin/walt")).toBe(false);
});

describe("what is not ours is refused, with what it is, and nothing is changed", () => {
  test.each([
    ["/etc/systemd/system/walt-vpn.service", "[Unit]\nDescription=Mine\n", /it is the unit "Mine"/],
    ["/etc/systemd/system/walt-vpn.service", "-> /dev/null", /it is a link to \/dev\/null/],
    ["/etc/systemd/system/walt-vpn-dhcp.socket", "[Unit]\nDescription=Mine\n", /it is the unit "Mine"/],
    ["/etc/systemd/system/walt-vpn-dhcp@.service", "-> /dev/null", /it is a link to \/dev\/null/],
    ["/usr/local/bin/walt-vpn", "#!/bin/sh\n", /it is a script/],
    ["/usr/local/bin/walt-vpn", "\x7fELF other", /it is another program/],
    ["/usr/local/bin/walt-vpn", "-> /opt/other", /it is a link to \/opt\/other/],
    ["/var/lib/walt-vpn", "text", /it is a file/],
    ["/var/lib/walt-vpn/registry.sqlite", "text", /it is no SQLite database/],
    [
      "/var/lib/walt-vpn/keys/ca",
      "text",
      /it is a folder of keys in which ca, host, enrolment is none of ours/,
    ],
    ["/var/lib/walt-vpn/data", "text", /it is a folder with data/],
    ["/run/walt-vpn/pid", "1", /it is a folder with pid/],
  ])("%s: %j", async (path, text, said) => {
    machine.put(path, text);
    expect(await refused()).toMatch(said);
  });

  test("a group whose members would operate the server; unless the configuration names it", async () => {
    machine.put("/etc/group", "root:x:0:\nwalt:x:50:bob\n");
    expect(await refused()).toContain("the group walt is there already");
    machine.put("/etc/walt/vpn.toml", 'role = "server"\n[server]\ngroup = "walt"\n');
    expect(await run()).toContain("group walt: is there");
  });

  test("all that is in the way is told at once", async () => {
    machine.put("/usr/local/bin/walt-vpn", "#!/bin/sh\n");
    machine.put("/run/walt-vpn/pid", "1");
    expect((await refused()).match(/^- /gm)).toHaveLength(2);
  });

  test.each(["/etc/walt/vpn.toml", "/etc/walt/walt.toml"])("%s of a device", async (path) => {
    machine.put(path, 'role = "device"\n');
    expect(await refused()).toContain('says role = "device", not "server"');
  });
});

describe("over an earlier version", () => {
  test("all is moved, with keys and registry; the configuration as it is; nothing of it stays behind", async () => {
    machine.putEarlier();
    machine.put("/etc/systemd/system/walt-server.service.d/override.conf", "[Service]\nNice=5\n");
    const ca = machine.ca();
    const registry = machine.tree()["/var/lib/walt/registry.sqlite"] ?? "none";
    const said = await run();
    expect(said).toMatch(/walt-server\.service: removed/);
    expect(machine.ca()).toBe(ca);
    const tree = machine.tree();
    expect(tree["/var/lib/walt-vpn/registry.sqlite"]).toBe(registry);
    expect(tree["/var/lib/walt-vpn/keys"]).toBe("700");
    expect(tree["/var/lib/walt-vpn/keys/ca"]).toStartWith("600 ");
    expect(tree["/var/lib/walt-vpn/boot/x86_64/vmlinuz"]).toBe("-> vmlinuz-6");
    expect(tree["/etc/systemd/system/walt-vpn.service.d/override.conf"]).toBeDefined();
    expect(tree["/usr/local/bin/walt"]).toBe("-> walt-vpn");
    expect(machine.read("/etc/walt/vpn.toml")).toBe('role = "server"\n# mine\n');
    const left = Object.keys(tree).filter((path) =>
      /walt-server|\/walt\.toml|lib\/walt(\/|$)|moving/.test(path),
    );
    expect(left).toEqual([]);
    new Registry(join(machine.root, "/var/lib/walt-vpn/registry.sqlite")).close();
  });

  test("interrupted after any step, the same command goes on to the same end", async () => {
    machine.putEarlier();
    machine.put(
      "/etc/systemd/system/multi-user.target.wants/walt-server.service",
      "-> /etc/systemd/system/walt-server.service",
    );
    const ca = machine.ca();
    const steps = (await planInstall(machine)).steps.length;
    expect(steps).toBeGreaterThan(7);
    for (let done = 0; done <= steps; done++) {
      const one = new FakeMachine(join(dir, `interrupted-${done}`), true);
      Bun.spawnSync(["cp", "-a", `${machine.root}/.`, one.root]);
      one.active.add("walt-server.service");
      const plan = await planInstall(one);
      for (const step of plan.steps.slice(0, done)) await step.do();
      // At no point are there no keys, and no two that differ.
      expect([done, one.ca()]).toEqual([done, ca]);
      await run(one);
      expect([...one.active]).toEqual(["walt-vpn.service"]);
      const tree = one.tree();
      expect(one.ca()).toBe(ca);
      expect(tree["/etc/systemd/system/multi-user.target.wants/walt-vpn.service"]).toBe(
        "-> /etc/systemd/system/walt-vpn.service",
      );
      const left = Object.keys(tree).filter((path) =>
        /walt-server|\/walt\.toml|lib\/walt(\/|$)|moving/.test(path),
      );
      expect([done, left]).toEqual([done, []]);
    }
  });

  test("a copy that was cut short is made anew; originals that were removed in part are removed", async () => {
    machine.putEarlier();
    const ca = machine.ca();
    machine.put("/var/lib/.walt-vpn.moving/keys/ca", "half");
    await run();
    expect(machine.ca()).toBe(ca);
    expect(machine.has("/var/lib/.walt-vpn.moving")).toBe(false);
    // As if the power had gone while the originals were being removed.
    for (const left of ["keys/host", "registry.sqlite"]) {
      machine.put(`/var/lib/walt/${left}`, "");
      Bun.spawnSync([
        "cp",
        "-p",
        join(machine.places.state, left),
        join(machine.root, "/var/lib/walt", left),
      ]);
    }
    expect(await run()).toContain("what was copied removed");
    expect(machine.has("/var/lib/walt")).toBe(false);
  });

  test("what is only in the write-ahead log of a registry that was not closed is moved with it", async () => {
    machine.putEarlier();
    const path = join(machine.root, "/var/lib/walt/registry.sqlite");
    // Copied while it is open: what a crash leaves.
    const registry = new Registry(path);
    const request = { mac: "b8:27:eb:01:02:03", model: "m", serialNumber: "s" };
    const { generateKey } = await import("../../../src/ssh/keys/ed25519.ts");
    registry.accept({ ...request, publicKey: generateKey("d").publicKey }, "me", new Date());
    Bun.spawnSync(["sh", "-c", 'cp "$0" "$0.x" && cp "$0-wal" "$0.y"', path]);
    registry.close();
    Bun.spawnSync(["sh", "-c", 'mv "$0.x" "$0" && mv "$0.y" "$0-wal"', path]);
    await run();
    const moved = new Registry(join(machine.root, "/var/lib/walt-vpn/registry.sqlite"));
    expect(moved.list().map(({ node }) => node)).toEqual(["vpn-010203"]);
    moved.close();
  });

  test("the service that runs is stopped first, without WalT's folder in /run, and the new one started", async () => {
    machine = new FakeMachine(join(dir, "other"), true);
    machine.putEarlier();
    machine.active.add("walt-server.service");
    const said = await run();
    expect(machine.ran.filter((one) => one.startsWith("systemctl"))).toEqual([
      "systemctl is-active --quiet walt-server.service",
      "systemctl daemon-reload",
      "systemctl stop walt-server.service",
      "systemctl daemon-reload",
      "systemctl start walt-vpn.service",
      "systemctl daemon-reload",
    ]);
    expect(said.indexOf("walt-server.service: stopped")).toBeLessThan(said.indexOf("registry of"));
  });

  test("the unit keeps /run/walt when it stops", async () => {
    machine = new FakeMachine(join(dir, "other"), true);
    machine.putEarlier();
    machine.active.add("walt-server.service");
    const plan = await planInstall(machine);
    const stop = plan.steps.findIndex(({ what }) => what.endsWith("stopped"));
    for (const step of plan.steps.slice(0, stop + 1)) await step.do();
    expect(machine.read("/etc/systemd/system/walt-server.service")).toBe(
      EARLIER_UNIT.replace("RuntimeDirectory=", "RuntimeDirectoryPreserve=yes\nRuntimeDirectory="),
    );
  });

  test("one that runs without systemd has to be stopped by hand", async () => {
    machine.putEarlier();
    machine.put("/run/walt/other", "x");
    const server = createServer().listen(join(machine.root, "/run/walt/server.sock"));
    await new Promise((resolve) => server.once("listening", resolve));
    expect(await refused()).toMatch(/server\.sock: another daemon listens there/);
    await new Promise((resolve) => server.close(resolve));
  });

  test("two servers' keys, or two configurations, are refused", async () => {
    machine.putEarlier();
    await run();
    machine.putEarlierState();
    expect(await refused()).toContain("both exist");
    rmSync(join(machine.root, "/etc/walt/walt.toml"));
    expect(await refused()).toMatch(/there are two different servers: .*keys\/ca/);
  });

  test("where the new folder has something already, it is refused", async () => {
    machine.putEarlier();
    machine.put("/var/lib/walt-vpn/boot/arm64/vmlinuz", "x");
    expect(await refused()).toMatch(/walt-vpn is not empty, and the keys of an earlier version are in/);
  });

  test("a server does not make new keys while those of an earlier version wait to be moved", async () => {
    machine.putEarlier();
    const at = (path: string): string => join(machine.root, path);
    expect(() => refuseUnmoved(at("/var/lib/walt"), at("/var/lib/walt-vpn"))).toThrow(
      /the keys and the registry of an earlier version are in/,
    );
    await run();
    refuseUnmoved(at("/var/lib/walt"), at("/var/lib/walt-vpn"));
  });

  test("a path in WalT's folders that the configuration names is refused with what to do", async () => {
    machine.putEarlier();
    machine.put("/etc/walt/walt.toml", 'role = "server"\n[server]\nstate = "/var/lib/walt"\n');
    expect(await refused()).toMatch(/server\.state is \/var\/lib\/walt[\s\S]*Remove that line/);
  });

  test("keys and registry elsewhere stay where the configuration says", async () => {
    machine.putEarlier();
    machine.put("/etc/walt/walt.toml", 'role = "server"\n[server]\nstate = "/srv/walt"\n');
    await run();
    expect(machine.has("/var/lib/walt/keys/ca")).toBe(true);
    expect(machine.has("/var/lib/walt-vpn/keys")).toBe(false);
  });

  test("a registry that is not ours is left, and with it the keys that are none of ours", async () => {
    machine.put("/var/lib/walt/registry.sqlite", "text");
    machine.put("/var/lib/walt/keys/ca", "text");
    await run();
    expect(machine.read("/var/lib/walt/registry.sqlite")).toBe("text");
    expect(machine.has("/var/lib/walt-vpn/keys")).toBe(false);
  });
});

test("of a package, only the configuration is written; units of an installation without it are in the way", async () => {
  machine.packaged = true;
  machine.put("/etc/group", "walt:x:999:\n");
  // What a server that was killed has left.
  machine.put("/run/walt-vpn/walt-net/x", "");
  await run();
  expect(machine.read("/etc/walt/vpn.toml")).toContain('role = "server"');
  expect(Object.keys(machine.tree()).filter((path) => /systemd|local/.test(path))).toEqual([]);
  machine.put("/etc/systemd/system/walt-vpn.service", EARLIER_UNIT);
  expect(await refused()).toContain(
    "/etc/systemd/system/walt-vpn.service is of an installation without the package",
  );
});
