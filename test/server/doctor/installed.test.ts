/** What a WalT server's set-up takes of an installation that was there before, and that the doctor sees it. */

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, symlinkSync, unlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { install } from "../../../src/install/steps.ts";
import { type Installed, lookAtInstalled } from "../../../src/server/doctor/installed.ts";
import { planInstall } from "../../../src/server/install/install.ts";
import { installPlugin, removePlugin } from "../../../src/server/install/plugin.ts";
import { FakeMachine, WALT } from "../install/fake-machine.ts";

let dir: string;
let machine: FakeMachine;
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), "walt-installed-"));
  machine = new FakeMachine(join(dir, "root"));
  await install(await planInstall(machine), () => {});
  machine.put("/etc/systemd/system/multi-user.target.wants/walt-vpn.service", "-> ../walt-vpn.service");
});
afterEach(() => rmSync(dir, { recursive: true }));

const look = (): Installed => lookAtInstalled(machine.root);
const findings = () =>
  Object.fromEntries(look().parts.map(({ path, finding }) => [path.slice(machine.root.length), finding.is]));
const remove = (path: string): void => unlinkSync(join(machine.root, path));

/** A version of WalT in an environment of its own, and what its set-up does on a machine: more with each file in `bin`. */
function setUpWalt(version: string, commands: readonly string[] = ["walt", "walt-server-setup"]): void {
  const environment = `/opt/walt-${version}`;
  machine.put(
    `${environment}/lib/python3.13/site-packages/walt/client/metadata/core.py`,
    "CATEGORIES = []\n",
  );
  for (const name of commands) {
    machine.put(`${environment}/bin/${name}`, "#!/bin/sh\n");
    rmSync(join(machine.root, "usr/local/bin", name), { force: true });
    symlinkSync(join(machine.root, environment, "bin", name), join(machine.root, "usr/local/bin", name));
  }
  for (const [path, text] of Object.entries(WALT)) {
    if (!/^\/etc\//.test(path)) continue;
    rmSync(join(machine.root, path), { force: true });
    machine.put(path, text);
  }
}

test("an installation on which nothing was changed", () => {
  expect(Object.values(findings())).toEqual(["ours", "ours", "ours", "ours"]);
  expect(look()).toMatchObject({ users: [], link: { finding: { is: "ours" } } });
  expect([look().walt, look().lostPlugin, look().lostKeys]).toEqual([undefined, undefined, undefined]);
});

test("WalT's set-up takes the short name and walt-net; command, units and users stay ours", () => {
  setUpWalt("10.0");
  expect(Object.values(findings())).toEqual(["ours", "ours", "ours", "ours"]);
  expect(look().users).toEqual([]);
  expect(look().link.finding).toMatchObject({
    is: "foreign",
    what: expect.stringContaining("/opt/walt-10.0/bin/walt"),
  });
  expect(look().walt).toEndWith("/etc/walt/server.conf");
});

test("a WalT that has a command walt-vpn of its own takes ours", () => {
  setUpWalt("11.0", ["walt", "walt-vpn"]);
  expect(findings()["/usr/local/bin/walt-vpn"]).toBe("foreign");
  const link = look().parts[0]?.finding;
  expect(link).toMatchObject({
    what: expect.stringMatching(/^a link to .*\/opt\/walt-11\.0\/bin\/walt-vpn$/),
  });
});

describe("missing:", () => {
  test.each([
    "/usr/local/bin/walt-vpn",
    "/etc/systemd/system/walt-vpn.service",
    "/etc/systemd/system/walt-vpn-dhcp.socket",
    "/etc/systemd/system/walt-vpn-dhcp@.service",
  ])("%s", (path) => {
    remove(path);
    expect(findings()).toMatchObject({ [path]: "absent" });
    expect(Object.values(findings()).filter((is) => is !== "ours")).toEqual(["absent"]);
  });

  test("the user of the service", () => {
    machine.put("/etc/passwd", machine.read("/etc/passwd").replace(/^walt-vpn-server:.*\n/m, ""));
    expect(look().users).toEqual(["walt-vpn-server"]);
  });

  test("all of it, where the server was started by hand", () => {
    for (const path of [
      ...Object.keys(findings()),
      "/etc/systemd/system/multi-user.target.wants/walt-vpn.service",
    ])
      remove(path);
    expect(look()).toMatchObject({ parts: [], users: [] });
  });
});

test("an upgrade of WalT leaves the plug-in in the old environment", () => {
  setUpWalt("9.0");
  expect(look().lostPlugin).toBeUndefined(); // it was never installed
  installPlugin(machine, false);
  expect(look().lostPlugin).toBeUndefined();
  setUpWalt("10.0");
  expect(look().lostPlugin).toEndWith("/opt/walt-9.0/lib/python3.13/site-packages/walt/client");
  installPlugin(machine, false);
  expect(look().lostPlugin).toBeUndefined();
  // Who removes it does not want it: it goes from everywhere.
  expect(removePlugin(machine)).toHaveLength(4);
  expect(look().lostPlugin).toBeUndefined();
});

describe("this machine is a proxy, too:", () => {
  const line = 'restrict,command="cat" ssh-ed25519 AAAA walt-vpn=SHA256:abc\n';
  const user = (name: string, home: string): void =>
    machine.put("/etc/passwd", `${machine.read("/etc/passwd")}${name}:x:990:990:WalT VPN:${home}:/bin/sh\n`);

  test("its own user, whose home WalT's set-up moves", () => {
    machine.put("/home/walt-vpn/.ssh/authorized_keys", line);
    user("walt-vpn", "/home/walt-vpn");
    expect(look().lostKeys).toBeUndefined();
    const moved = machine.read("/etc/passwd").replace(":/home/walt-vpn:", ":/var/lib/walt/vpn-endpoint:");
    machine.put("/etc/passwd", moved);
    expect(look().lostKeys).toEqual({
      path: join(machine.root, "home/walt-vpn/.ssh/authorized_keys"),
      why: "the home of walt-vpn is /var/lib/walt/vpn-endpoint",
    });
    // The script was run again.
    machine.put("/home/walt-vpn-devices/.ssh/authorized_keys", line);
    expect(look().lostKeys?.why).toBe("there is no user walt-vpn-devices");
    user("walt-vpn-devices", "/home/walt-vpn-devices");
    expect(look().lostKeys).toBeUndefined();
  });

  test("keys that are not of devices", () => {
    machine.put("/home/walt-vpn/.ssh/authorized_keys", "ssh-ed25519 AAAA operator\n");
    expect(look().lostKeys).toBeUndefined();
  });
});
