/** Backup and restore as an operator types them: on an empty machine every board comes back by itself. */

import { expect, test } from "bun:test";
import { existsSync, statSync } from "node:fs";
import { eventually } from "../lab/eventually.ts";
import { describeWith } from "../lab/need.ts";
import { INTEGRATION, World } from "../lab/world.ts";

describeWith([...INTEGRATION, { programs: ["script"] }], "backup", () => {
  test("made while the server runs, and restored on an empty machine", async () => {
    await using world = await World.create();
    const { server } = world;
    const devices = [await world.device("device1"), await world.device("device2")];
    for (const device of devices) await device.enrol();
    const before = await world.nodes();

    // With a passphrase, which is typed twice and not shown.
    const making = server.spawn([
      "script",
      "-qec",
      `${world.binary} server backup walt.backup --passphrase`,
      "/dev/null",
    ]);
    await making.waitFor(/Passphrase: /);
    making.write("correct horse\n");
    await making.waitFor(/The same again: /);
    making.write("correct horse\n");
    expect(await making.exited).toBe(0);
    expect(making.output).toContain("2 devices");
    expect(making.output).not.toContain("correct horse");
    const file = server.path(`${server.dir}/walt.backup`);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    const again = await world.walt(server, "server", "backup", "walt.backup");
    expect([again.status, again.stderr]).toEqual([1, expect.stringContaining("exists already")]);
    // To standard output, as for a pipe; and nothing is said there besides.
    await server
      .must([
        "sh",
        "-c",
        `${world.binary} server backup - | ${world.binary} server restore - --yes 2>&1 || true`,
      ])
      .then((text) => expect(text).toContain("listens there already"));

    // Another machine, with nothing but the binary and this file.
    await world.stopServer();
    const other = await world.lab.host("other", { networks: ["lan1"] });
    other.writeFile("/root/walt.backup", await Bun.file(file).bytes(), 0o600);
    other.writeFile("/root/passphrase", "correct horse\n", 0o600);
    other.writeFile("/root/wrong", "wrong\n", 0o600);
    const wrong = await world.walt(
      other,
      "server",
      "restore",
      "/root/walt.backup",
      "--passphrase-file",
      "/root/wrong",
    );
    expect([wrong.status, wrong.stderr]).toEqual([1, expect.stringContaining("cannot be decrypted")]);
    expect(existsSync(other.path("/var/lib/walt-vpn/keys"))).toBe(false);
    const unasked = await world.walt(other, "server", "restore", "/root/walt.backup");
    expect([unasked.status, unasked.stderr]).toEqual([
      2,
      expect.stringContaining("--passphrase-file is missing"),
    ]);
    const text = await world.must(
      other,
      "server",
      "restore",
      "/root/walt.backup",
      "--passphrase-file",
      "/root/passphrase",
    );
    expect(text).toContain("2 devices");
    expect(text).toContain("/etc/walt/vpn.toml is that of the backup");

    const daemon = other.spawn([world.binary, "server", "run"]);
    await daemon.waitFor(/event=server-ready/);
    // The name leads to the other machine now.
    for (const { host } of world.proxies) host.hosts({ "walt.lab.example": other.address("lan1") });
    for (let i = 1; i <= devices.length; i++)
      await daemon.waitFor(new RegExp(`(event=tunnel-up[\\s\\S]*){${i}}`), { timeout: 120_000 });
    const nodes = JSON.parse(await other.must([world.binary, "node", "show", "--json"])) as typeof before;
    const known = (all: typeof before) =>
      all.map(({ name, mac, address, state }) => [name, mac, address, state]);
    expect(known(nodes)).toEqual(known(before));
    expect(await daemon.stop()).toBe(0);
  }, 300_000);

  test("a new registry beside old keys: the daemon says so, and what to type puts it right", async () => {
    await using world = await World.create();
    const { server } = world;
    const device = await world.device("device1");
    const node = await device.enrol();
    await world.must(server, "server", "backup", "/root/plain.backup");
    await world.stopServer();
    await server.must(["sh", "-c", "rm -r /var/lib/walt-vpn/registry.sqlite* /var/lib/walt-vpn/copies"]);
    const { status, stderr } = await world.walt(server, "server", "run");
    expect(status).toBe(1);
    expect(stderr).toContain("older than the keys beside it: it is new and empty");
    expect(stderr).toMatch(/systemctl stop walt-vpn; walt server restore BACKUP; systemctl start walt-vpn/);
    const asked = await world.walt(server, "server", "restore", "/root/plain.backup");
    expect([asked.status, asked.stderr]).toEqual([2, expect.stringContaining("--yes is missing")]);
    await world.must(server, "server", "restore", "/root/plain.backup", "--yes");
    await world.startServer();
    await eventually("the board is back", () => world.nodes(), {
      fits: ([one]) => one?.name === node && one.state === "up",
      within: 120_000,
    });
  }, 240_000);
});
