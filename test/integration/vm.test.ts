/** The virtual machine's own life: it starts after the tunnel, survives it, and is started again when it dies. */

import { expect, test } from "bun:test";
import { ownTarget } from "../lab/binary.ts";
import { eventually } from "../lab/eventually.ts";
import { describeWith } from "../lab/need.ts";
import { startSshd } from "../lab/sshd.ts";
import { INTEGRATION, World, type WorldDevice } from "../lab/world.ts";

const QEMU = ownTarget() === "arm64" ? "qemu-system-aarch64" : "qemu-system-x86_64";

/** Process ids of QEMU on the device's host. */
function qemus(device: WorldDevice): number[] {
  return device.host
    .processes()
    .filter((p) => p.command.includes(`${QEMU} `) && p.command.includes("walt-vm"))
    .map((p) => p.pid);
}

describeWith([...INTEGRATION, { programs: [QEMU] }], "virtual machine", () => {
  test("gets its address through the tunnel, survives a tunnel that goes and comes, is started again when killed, ends with its device", async () => {
    await using world = await World.create();
    const device = await world.device("device1", { toml: "[device.vm]\nmemory = 128\n" });
    const node = await device.enrol();
    const log = device.process;
    const [proxy] = world.proxies;
    if (log === undefined || proxy === undefined) throw new Error("nothing runs");
    await log.waitFor(/event=vm-started/);
    const ack = await world.daemon.waitFor(
      new RegExp(`DHCPACK\\(walt-net\\) (\\S+) ([0-9a-f:]{17}) ${node}`),
      {
        timeout: 60_000,
      },
    );
    expect((await world.nodes())[0]).toMatchObject({ name: node, address: ack[1], mac: ack[2] });
    // The laboratory has no boot files: the machine loops in iPXE, and that is no node that is in order.
    const shown = await eventually(
      "the server sees it wait",
      () => world.must(world.server, "node", "show", node),
      {
        fits: (text) => text.includes("no boot files"),
      },
    );
    expect(shown).toMatch(/state +up, no boot files/);
    expect(shown).toMatch(/why +its virtual machine waits for boot files: there is no \S+vmlinuz/);
    const before = qemus(device);
    expect(before).toHaveLength(1);

    // The proxy goes and comes back: the machine never notices.
    const [down, up] = [log.position, world.daemon.position];
    await proxy.sshd.stop("SIGKILL");
    await log.waitFor(/gate1/, { after: down });
    await startSshd(proxy.host);
    await world.daemon.waitFor(/event=tunnel-up/, { after: up, timeout: 60_000 });
    expect(qemus(device)).toEqual(before);

    // The machine dies: it alone is started again.
    const [died, tunnel] = [log.position, world.daemon.position];
    process.kill(before[0] ?? 0, "SIGKILL");
    await log.waitFor(/event=vm-started/, { after: died });
    expect(qemus(device)).not.toEqual(before);
    expect(world.daemon.output.slice(tunnel)).not.toMatch(/event=tunnel-down/);
    const status = await eventually("the machine runs", () => device.status(), {
      fits: ({ vm }) => vm === "running",
    });
    expect(status).toMatchObject({ stage: "watch", tunnel: "up", node });

    expect(await device.stop()).toBe(0);
    expect(device.host.processes().filter((p) => /qemu|ssh|walt/.test(p.command))).toEqual([]);
    expect(await device.host.must(["ip", "-o", "link"])).not.toMatch(/walt-/);
  }, 120_000);
});
