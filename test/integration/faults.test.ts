/** What breaks comes back: proxy, server and device killed or restarted, a wire pulled. */

import { expect, test } from "bun:test";
import { eventually } from "../lab/eventually.ts";
import { describeWith } from "../lab/need.ts";
import { sharedDevices, sharedWorld } from "../lab/shared-world.ts";
import { startSshd } from "../lab/sshd.ts";
import { INTEGRATION, pingable, WALT_NET } from "../lab/world.ts";

describeWith(INTEGRATION, "faults", () => {
  const fresh = sharedWorld();
  const enrolled = sharedDevices(fresh, async (world) => {
    const device = await world.device("device1");
    return { world, device, node: await device.enrol() };
  });
  const impatient = sharedDevices(
    () => fresh('silence = "3s"'),
    async (world) => {
      const toml = 'silence = "3s"\n[device.vm]\nstart = false\n';
      const device = await world.device("device1", { toml });
      return { world, device, node: await device.enrol() };
    },
  );

  test("a proxy is killed and comes back: so does the tunnel", async () => {
    const { world, device } = await enrolled();
    const [proxy] = world.proxies;
    const log = device.process;
    if (proxy === undefined || log === undefined) throw new Error("no proxy");
    const position = log.position;
    await proxy.sshd.stop("SIGKILL");
    await log.waitFor(/gate1\.example\.org/, { after: position });
    expect((await device.status()).lastError).toMatch(/gate1\.example\.org/);
    expect((await device.status()).tunnel).not.toBe("up");
    // It says how long until the next try, for as long as it waits.
    const waiting = await eventually("it waits", () => device.status(), {
      fits: ({ nextTryIn }) => nextTryIn !== null,
    });
    expect(waiting.nextTryIn).toBeGreaterThanOrEqual(0);
    expect(waiting.nextTryIn).toBeLessThanOrEqual(36);
    expect(await world.must(device.host, "device", "status")).toMatch(/^next try in +(\d+ s|-)$/m);
    const back = world.daemon.position;
    await startSshd(proxy.host);
    await world.daemon.waitFor(/event=tunnel-up/, { after: back, timeout: 60_000 });
    await log.waitFor(/the tunnel is up/, { after: position });
    expect((await device.status()).tunnel).toBe("up");
  }, 180_000);

  test("the server is restarted: devices come back without being asked about", async () => {
    const { world, node } = await enrolled();
    expect(await world.stopServer()).toBe(0);
    // A clean stop leaves neither bridge, TAP nor socket.
    const links = await world.server.must(["ip", "-o", "link"]);
    expect(links).not.toMatch(/walt-net|tap-/);
    expect((await world.walt(world.server, "node", "show")).stderr).toMatch(/no daemon: .*does not exist/);
    expect(world.server.processes().filter((p) => /dnsmasq|walt/.test(p.command))).toEqual([]);
    await world.startServer();
    await world.daemon.waitFor(/event=tunnel-up/, { timeout: 60_000 });
    expect((await world.nodes())[0]).toMatchObject({ name: node, state: "up" });
  }, 180_000);

  test("the server is killed with -9: its successor finds nothing in its way", async () => {
    const { world } = await enrolled();
    await world.stopServer("SIGKILL");
    await world.startServer();
    await world.daemon.waitFor(/event=tunnel-up/, { timeout: 60_000 });
  }, 180_000);

  test("a second `walt device run` and a second `walt server run` are refused with a reason", async () => {
    const { world, device } = await enrolled();
    const again = await world.walt(device.host, "device", "run");
    expect(again.status).toBe(1);
    expect(again.stderr).toMatch(/already/);
    const server = await world.walt(world.server, "server", "run");
    expect(server.status).toBe(1);
    expect(server.stderr).toMatch(/already/);
    // Neither did any harm.
    expect((await world.nodes())[0]?.state).toBe("up");
    expect(await device.status()).toMatchObject({ tunnel: "up" });
  }, 180_000);

  test("the device is killed with -9: its successor finds nothing in its way", async () => {
    const { world, device } = await enrolled();
    await device.stop("SIGKILL");
    const position = world.daemon.position;
    device.start();
    await world.daemon.waitFor(/event=tunnel-up/, { after: position, timeout: 60_000 });
    expect(await device.stop()).toBe(0);
    // And a clean stop leaves nothing at all.
    expect(await device.host.must(["ip", "-o", "link"])).not.toMatch(/walt-/);
    expect(device.host.processes().filter((p) => /ssh|walt|qemu/.test(p.command))).toEqual([]);
  }, 180_000);

  test("an end that is there but does nothing is noticed by the other, and the path is built anew", async () => {
    const { world, device, node } = await impatient();
    const process = device.process;
    if (process === undefined) throw new Error("no device");
    for (const stopped of [world.daemon, process]) {
      const other = stopped === process ? world.daemon : process;
      const [at, back] = [other.position, world.daemon.position];
      stopped.kill("SIGSTOP");
      await other.waitFor(/the peer was silent for 3\.0 s/, { after: at });
      stopped.kill("SIGCONT");
      await world.daemon.waitFor(/event=tunnel-up/, { after: back, timeout: 60_000 });
    }
    expect((await world.nodes())[0]).toMatchObject({ name: node, state: "up" });
    // Both ends know how the path is, and say so.
    const [known] = await eventually("the server's pings are answered", () => world.nodes(), {
      fits: ([one]) => (one?.traffic?.pings ?? 0) > 0,
    });
    expect(known?.rtt).toBeGreaterThan(0);
    expect(known?.loss).toBeNumber();
    expect(await world.must(world.server, "node", "show", node)).toMatch(
      /^state +up$[\s\S]*^entrypoint +gate1\.example\.org:22$[\s\S]*^from the node +\d+ frames, [\s\S]*^late pings +\d+\.\d % lately; \d+ of \d+ in all$/m,
    );
    const status = await eventually("the device's pings are answered", () => device.status(), {
      fits: ({ traffic }) => (traffic?.pings ?? 0) > 0,
    });
    expect(status.rtt).toBeGreaterThan(0);
    expect(status.loss).toBeNumber();
    expect(await world.must(device.host, "device", "status")).toMatch(
      /^from the server +\d+ frames, [\s\S]*^round trip +\d+\.\d ms, /m,
    );
  }, 180_000);

  test("a pulled wire is noticed by both ends, and the path is built anew", async () => {
    const { world, device } = await impatient();
    const [node] = await world.nodes();
    const plugged = await device.plugNode("192.168.192.77", node?.mac ?? "");
    expect(await pingable(plugged, WALT_NET)).toBe(true);
    const [at, from] = [world.daemon.position, device.process?.position ?? 0];
    await device.host.port().wire("down");
    await world.daemon.waitFor(/event=tunnel-down .*silent|event=tunnel-down .*nothing/, { after: at });
    await device.process?.waitFor(/silent|nothing could be sent/, { after: from });
    expect((await world.nodes())[0]?.state).toBe("down");
    await device.host.port().wire("up");
    await world.daemon.waitFor(/event=tunnel-up/, { after: at, timeout: 60_000 });
    // What was plugged into the device's bridge is still there, and works.
    expect(await pingable(plugged, WALT_NET, 30)).toBe(true);
  }, 180_000);
});
