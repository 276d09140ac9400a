/** Repairs without a visit: what operators type, and boards that nobody touches. */

import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { eventually } from "../lab/eventually.ts";
import { describeWith } from "../lab/need.ts";
import type { LabProcess } from "../lab/process.ts";
import { sharedDevices, sharedWorld } from "../lab/shared-world.ts";
import { INTEGRATION, type World } from "../lab/world.ts";

/** A command on a terminal, which the test types on. */
function typed(world: World, line: string): LabProcess {
  return world.server.spawn(["script", "-qec", `${world.binary} ${line}`, "/dev/null"]);
}

describeWith([...INTEGRATION, { programs: ["script"] }], "repairs", () => {
  const fresh = sharedWorld();
  const enrolled = sharedDevices(fresh, async (world) => {
    const device = await world.device("device1");
    return { world, device, node: await device.enrol() };
  });

  describe("revoke", () => {
    test("says what it will do and asks; no is no, and without a terminal it is a mistake", async () => {
      const { world, node } = await enrolled();
      const asking = typed(world, `vpn revoke ${node}`);
      const [text] = await asking.waitFor(/NODE[\s\S]*Revoke [^\n]*\? \(yes\/no\): /);
      expect(text).toMatch(new RegExp(`${node} +up +[0-9a-f:]{17} .*[0-9A-Z]{5}-[0-9A-Z]{5}`));
      expect(text).toContain("tunnels of these nodes end now");
      expect(text).toContain("`walt vpn restore NODE` undoes it");
      asking.write("no\n");
      expect(await asking.exited).toBe(1);
      expect(asking.output).toContain("nothing was done");
      const { status, stderr } = await world.walt(world.server, "vpn", "revoke", node);
      expect([status, stderr]).toEqual([2, expect.stringContaining("--yes is missing")]);
      expect(await world.nodes()).toMatchObject([{ name: node, state: "up" }]);
    }, 120_000);

    test("is undone by restore: the board comes back by itself, as the same node", async () => {
      const { world, device, node } = await enrolled();
      const [before] = await world.nodes();
      const asking = typed(world, `vpn revoke ${node}`);
      await asking.waitFor(/\(yes\/no\): /);
      const from = device.process?.position ?? 0;
      asking.write("yes\n");
      expect(await asking.exited).toBe(0);
      await device.process?.waitFor(/denied: this device was revoked/, { after: from });
      const at = world.daemon.position;
      expect(await world.must(world.server, "vpn", "restore", node)).toContain(`${node}: restored`);
      await world.daemon.waitFor(/event=tunnel-up/, { after: at, timeout: 180_000 });
      const [after] = await world.nodes();
      expect([after?.name, after?.mac, after?.address]).toEqual([before?.name, before?.mac, before?.address]);
      const again = await world.walt(world.server, "vpn", "restore", node);
      expect([again.status, again.stderr]).toEqual([1, expect.stringContaining("no revoked device")]);
    }, 300_000);

    test("with --reenrol the board asks again with a new key, and is the same node", async () => {
      const { world, device, node } = await enrolled();
      const { code } = await device.status();
      const [before] = await world.nodes();
      const at = world.daemon.position;
      await world.must(world.server, "vpn", "revoke", node, "--reenrol", "--yes");
      await device.process?.waitFor(/event=key-forgotten/);
      await world.daemon.waitFor(/event=device-told-to-forget/, { after: at });
      const { code: next } = await eventually("it asks with a new key", () => device.status(), {
        fits: (status) => status.code !== code && /denied: nobody/.test(status.lastError ?? ""),
      });
      const late = await world.walt(world.server, "vpn", "restore", node);
      expect([late.status, late.stderr]).toEqual([1, expect.stringContaining("told to forget")]);
      await world.must(world.server, "vpn", "accept", next ?? "");
      await device.isUp();
      expect(await world.nodes()).toMatchObject([{ name: before?.name, mac: before?.mac, state: "up" }]);
      const list = await world.must(world.server, "vpn", "list", "--all");
      expect(list).toContain(code ?? "no code");
      const kept = await world.walt(world.server, "vpn", "remove", node, "--yes");
      expect([kept.status, kept.stderr]).toEqual([1, expect.stringContaining("passes the proxies until")]);
    }, 240_000);

    test("a proxy's word is not enough: a board forgets nothing that the server did not tell it", async () => {
      const { world, device, node } = await enrolled();
      // The proxy refuses its certificate, and the enrolment key as well.
      const keys = "/home/walt-vpn/.ssh/authorized_keys";
      const [proxy] = world.proxies;
      if (proxy === undefined) throw new Error("no proxy");
      await proxy.host.must(["sh", "-c", `mv ${keys} ${keys}.away`]);
      await device.stop();
      const log = device.start();
      await log.waitFor(/does not accept our key[\s\S]*does not accept our key/);
      expect(existsSync(device.host.path("/var/lib/walt-vpn/credentials.json"))).toBe(true);
      await proxy.host.must(["sh", "-c", `mv ${keys}.away ${keys}`]);
      await device.isUp();
      expect(await world.nodes()).toMatchObject([{ name: node }]);
    }, 240_000);
  });

  test("a certificate that is short-lived, and remove: the list is empty, the events are not", async () => {
    const world = await fresh('certificate_validity = "10s"');
    const device = await world.device("device1");
    const node = await device.enrol();
    await device.stop();
    await world.must(world.server, "vpn", "revoke", node, "--yes");
    const expired = (): Promise<boolean> =>
      world.list().then(([one]) => (one?.certificateExpires ?? "") < new Date().toISOString());
    await eventually("its certificate has expired", expired, { fits: (is) => is });
    const asking = typed(world, "vpn remove all");
    await asking.waitFor(/deleted from the registry[\s\S]*Remove [^\n]*\? \(yes\/no\): /);
    asking.write("y\n");
    expect(await asking.exited).toBe(0);
    expect(await world.list()).toEqual([]);
    expect(await world.must(world.server, "vpn", "events", "--json")).toContain("device-removed");
    expect(await world.must(world.server, "vpn", "remove", "all", "--yes")).toContain("No device is revoked");
  }, 240_000);

  test("why a node is down, and since when, is known after the server was killed and started again", async () => {
    const world = await fresh();
    const device = await world.device("device1");
    const node = await device.enrol();
    const show = (): Promise<string> => world.must(world.server, "node", "show", node);
    const at = world.daemon.position;
    await device.stop();
    await world.daemon.waitFor(/event=tunnel-down/, { after: at });
    expect(await show()).toMatch(/why +its last tunnel ended .* ago: the device ended it/);
    await eventually("it is written", show, { fits: (text) => /last seen +20/.test(text) });
    await world.stopServer("SIGTERM");
    await world.startServer();
    const after = await show();
    expect(after).toMatch(/why +its last tunnel ended .* ago: the device ended it/);
    expect(after).toMatch(/last seen +20\d\d-/);
    // A revoked one says so.
    await world.must(world.server, "vpn", "revoke", node, "--yes");
    const gone = await world.walt(world.server, "node", "show", node);
    expect([gone.status, gone.stderr]).toEqual([
      1,
      expect.stringMatching(/was revoked at .*walt vpn restore/s),
    ]);
  }, 240_000);

  test("a reboot of all asks on a terminal, and a script is not asked", async () => {
    const { world } = await enrolled();
    const second = await world.device("device2");
    await second.enrol();
    const asking = typed(world, "node reboot all");
    await asking.waitFor(/Reboot these 2 nodes: [^\n]*\? \(yes\/no\): /);
    asking.write("n\n");
    expect(await asking.exited).toBe(1);
    expect(asking.output).toContain("nothing was done");
    const script = await world.walt(world.server, "node", "reboot", "all");
    expect(script.stderr).toContain("runs no virtual machine");
  }, 240_000);
});
