/** `walt device install` on a folder in the place of a machine. */

import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { planDeviceInstall } from "../../../src/device/install/install.ts";
import { install } from "../../../src/install/steps.ts";
import { FakeMachine, program, WALT } from "../../server/install/fake-machine.ts";

const TOML = 'role = "device"\n[device]\nentrypoint = "gate.example.org"\nserver = "walt.lab.example:2222"\n';

let dir: string;
let machine: FakeMachine;
let folder: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "walt-device-install-"));
  machine = new FakeMachine(join(dir, "root"));
  folder = join(dir, "walt-device");
  mkdirSync(folder);
  writeFileSync(join(folder, "vpn.toml"), TOML);
  writeFileSync(join(folder, "known_hosts"), "walt-server ssh-ed25519 AAAA\n");
  writeFileSync(join(folder, "enrolment_key"), "secret\n");
});
afterEach(() => rmSync(dir, { recursive: true }));

async function run(from?: string): Promise<string> {
  const lines: string[] = [];
  await install(planDeviceInstall(machine, from), (line) => lines.push(line));
  return lines.join("\n");
}

test("command, unit and the files of the folder; again, it changes nothing", async () => {
  await run(folder);
  expect(machine.read("/etc/walt/vpn.toml")).toBe(TOML);
  expect(statSync(join(machine.root, "etc/walt/enrolment_key")).mode & 0o777).toBe(0o600);
  expect(machine.read("/usr/local/bin/walt")).toBe(program("new"));
  const unit = machine.read("/etc/systemd/system/walt-vpn-device.service");
  expect(unit).toContain('ExecStart="/usr/local/bin/walt-vpn" device run --config "/etc/walt/vpn.toml"\n');
  expect(unit).not.toMatch(/@[A-Z]+@/);
  const after = machine.tree();
  expect(await run(folder)).not.toMatch(/written|copied|a link to/);
  expect(await run()).not.toMatch(/written|copied|a link to/);
  expect(machine.tree()).toEqual(after);
});

test("a newer program replaces the older one, and the files stay", async () => {
  await run(folder);
  machine.put("/root/walt-linux-x64", program("newer"), 0o755);
  expect(await run()).toContain("/usr/local/bin/walt-vpn: copied");
  expect(machine.read("/usr/local/bin/walt-vpn")).toBe(program("newer"));
});

test("what is another's or another one is named, and nothing is changed", async () => {
  machine.put("/etc/systemd/system/walt-vpn-device.service", "[Unit]\nDescription=other\n");
  machine.put("/etc/walt/known_hosts", "other\n");
  const before = machine.tree();
  expect(() => planDeviceInstall(machine, folder)).toThrow(
    /walt-vpn-device\.service is not ours: it is the unit "other"\n- .*known_hosts is there already, and is another one/,
  );
  expect(machine.tree()).toEqual(before);
});

test("without files, or with those of another role, it says what is missing", () => {
  expect(() => planDeviceInstall(machine, undefined)).toThrow("/etc/walt/vpn.toml does not exist");
  writeFileSync(join(folder, "vpn.toml"), 'role = "server"\n');
  expect(() => planDeviceInstall(machine, folder)).toThrow('says role = "server", not "device"');
});

test("WalT's own files are left as they are, and its command keeps its name", async () => {
  machine.putAll(WALT);
  const before = machine.tree();
  expect(await run(folder)).toContain("is another program: say walt-vpn for walt here.");
  for (const [path, content] of Object.entries(before))
    expect([path, machine.tree()[path]]).toEqual([path, content]);
});

test("a unit that was written by hand is named", async () => {
  machine.put("/etc/systemd/system/walt.service", "[Service]\nExecStart=/usr/local/bin/walt run\n");
  expect(await run(folder)).toContain("Note: ");
});

test("of a package, only the files are copied", async () => {
  machine.packaged = true;
  await run(folder);
  expect(machine.read("/etc/walt/vpn.toml")).toBe(TOML);
  expect(Object.keys(machine.tree()).filter((path) => /systemd|local/.test(path))).toEqual([]);
});
