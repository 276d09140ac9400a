/**
 * The server's SSH under attack, as a daemon in namespaces: its memory and processor stay as they are, and
 * honest devices are served.
 */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describeWith } from "../lab/need.ts";
import type { LabProcess } from "../lab/process.ts";
import { INTEGRATION, World, type WorldDevice } from "../lab/world.ts";

const ATTACKER = join(import.meta.dir, "attacker.ts");
const ENROLMENT = "/etc/walt/enrolment_key";
const DEVICE = "/var/lib/walt-vpn/device_key";

describeWith(INTEGRATION, "the server's SSH under attack", () => {
  let world: World;
  let device: WorldDevice;

  beforeAll(async () => {
    world = await World.create({ proxies: 0 });
    device = await world.device("device1");
    await device.enrol();
    await device.stop();
  }, 120_000);
  afterAll(() => world?.lab.stop());

  const attack = (mode: string, key: string, count = 1): LabProcess =>
    device.host.spawn([process.execPath, ATTACKER, mode, "walt.lab.example", "2222", key, String(count)]);

  /** Resident memory of the daemon, MB, and processor time that it has used, s. */
  function used(): { memory: number; time: number } {
    const pid = world.daemon.pid ?? 0;
    const memory = Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1000;
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return { memory, time: (Number(fields[11]) + Number(fields[12])) / 100 };
  }

  /** A device gets its tunnel. */
  async function served(): Promise<void> {
    const position = world.daemon.position;
    device.start();
    await world.daemon.waitFor(/event=tunnel-up/, { after: position });
    expect(await device.stop()).toBe(0);
  }

  test("packets of 0 bytes: refused, and nothing turns without end", async () => {
    const before = used();
    const attacker = attack("tiny", ENROLMENT, 30);
    await attacker.waitFor(/done/);
    await attacker.stop("SIGKILL");
    const time = used().time;
    await Bun.sleep(1000);
    expect(used().time - time).toBeLessThan(0.3);
    expect(used().memory - before.memory).toBeLessThan(60);
    await served();
  }, 120_000);

  test("data that nobody reads: a few kB of each connection are kept, whatever is sent", async () => {
    const before = used();
    const flood = attack("flood", ENROLMENT, 16); // 16 × 8 × 4 MB
    await flood.waitFor(/done/);
    await flood.stop("SIGKILL");
    expect(used().memory - before.memory).toBeLessThan(80);
    expect(world.daemon.output).toMatch(/not a valid enrolment request/);
    const unread = attack("unread", ENROLMENT, 64);
    await unread.waitFor(/done/, { timeout: 20_000 });
    expect(used().memory - before.memory).toBeLessThan(80);
    await served();
    await unread.stop("SIGKILL");
  }, 120_000);

  test("thousands of half-open connections at once: few stay, and a device gets in meanwhile", async () => {
    const attacker = attack("burst", ENROLMENT, 3000);
    await served();
    await attacker.waitFor(/done/);
    // The kernel counts those, too, that the daemon has not accepted yet: as it does, the oldest go.
    const open = async (): Promise<number> => {
      const list = await world.server.must(["ss", "-Htn", "state", "established", "sport", "=", ":2222"]);
      return list.trim().split("\n").length;
    };
    const late = performance.now() + 10_000;
    while ((await open()) > 130 && performance.now() < late);
    expect(await open()).toBeLessThanOrEqual(130);
    await served();
    await attacker.stop("SIGKILL");
  }, 120_000);

  test("after a revocation a connection that was there gets no further command", async () => {
    const second = await world.device("device2");
    const node = await second.enrol();
    await second.stop();
    const spawned = second.host.spawn([
      process.execPath,
      ATTACKER,
      "renew",
      "walt.lab.example",
      "2222",
      DEVICE,
    ]);
    await spawned.waitFor(/in\n/);
    await world.must(world.server, "vpn", "revoke", node, "--yes");
    spawned.write("now\n");
    await spawned.waitFor(/refused|granted/);
    expect(spawned.stdout).toContain("refused");
    expect(world.daemon.output).not.toMatch(/event=certificate-renewed .*\n.*event=device-revoked/);
  }, 120_000);

  test("in the middle of all of it, SIGTERM ends the server", async () => {
    const attackers = [attack("tiny", ENROLMENT, 100_000), attack("flood", ENROLMENT, 100_000)];
    await world.daemon.waitFor(/not a valid enrolment request/, { after: world.daemon.position });
    expect(await world.stopServer("SIGTERM")).toBe(0);
    for (const attacker of attackers) await attacker.stop("SIGKILL");
  }, 120_000);
});
