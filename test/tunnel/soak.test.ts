/**
 * The tunnel on its real way, through a proxy's sshd that changes keys every 16 MB, with more than it can carry both ways at
 * once, and with a server that stands still for a while. WALT_SOAK=600 makes ten minutes of it.
 */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import type { Host } from "../lab/host.ts";
import { describeWith } from "../lab/need.ts";
import { childrenOf } from "../lab/proc.ts";
import type { LabProcess } from "../lab/process.ts";
import { startSshd } from "../lab/sshd.ts";
import { INTEGRATION, pingable, WALT_NET, World, type WorldDevice } from "../lab/world.ts";

const SECONDS = Number(process.env["WALT_SOAK"] ?? 5);
const ADDRESS = "192.168.192.77";
const PORT = "7100";
const program = (name: string): string[] => [process.execPath, new URL(name, import.meta.url).pathname];

const FLOOD = program("../bench/tunnel/flood.ts");

/** Resident memory of a process, bytes. */
function rss(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) * 1024;
}

describeWith(INTEGRATION, "a tunnel that has too much to do", () => {
  let world: World;
  let device: WorldDevice;
  let node: Host;

  beforeAll(async () => {
    world = await World.create();
    for (const proxy of world.proxies) {
      await proxy.sshd.stop();
      await startSshd(proxy.host, { extraConfig: "RekeyLimit 16M" });
    }
    device = await world.device("device");
    const name = await device.enrol();
    const { mac } = (await world.nodes()).find((one) => one.name === name) ?? { mac: "" };
    node = await device.plugNode(ADDRESS, mac);
    expect(await pingable(node, WALT_NET)).toBe(true);
    for (const host of [node, world.server]) {
      await host.spawn([...FLOOD, "sink", PORT]).waitFor(/listening/);
      await host.spawn([...program("transfer.ts"), "serve"]).waitFor(/serving/);
    }
  }, 120_000);
  afterAll(async () => {
    await world?.[Symbol.asyncDispose]();
  }, 60_000);

  const pids = (): number[] =>
    [world.daemon, device.process].map((one) => one?.pid).filter((pid) => pid !== undefined);
  const since = async (): Promise<string | null | undefined> => (await world.nodes())[0]?.since;

  /** TCP and UDP both ways, at several times what the tunnel carries. */
  async function saturate(seconds: number): Promise<void> {
    const floods: LabProcess[] = [];
    for (const [from, to] of [
      [node, WALT_NET],
      [world.server, ADDRESS],
    ] as const) {
      floods.push(from.spawn([...FLOOD, "source", to, PORT, String(seconds)]));
      floods.push(from.spawn([...program("blast.ts"), to, "100000000"]));
    }
    await Bun.sleep(seconds * 1000);
    for (const flood of floods) if (flood.ended === undefined) await flood.stop("SIGKILL");
  }

  test(
    `both ways at once for ${SECONDS} s, with new keys every 16 MB: then it answers, and its memory is what it was`,
    async () => {
      const began = await since();
      await saturate(2); // code is compiled, buffers are touched
      const before = pids().map(rss);
      await saturate(SECONDS);
      expect(await pingable(node, WALT_NET)).toBe(true);
      for (const [i, pid] of pids().entries()) expect(rss(pid) - (before[i] ?? 0)).toBeLessThan(40 << 20);
      // It is still the same tunnel, and it lost frames only at its ends.
      expect(await since()).toBe(began ?? null);
      expect((await device.status()).traffic?.framesOut).toBeGreaterThan(1000);
      // The kernel goes on sending what the killed programs gave it; then nothing is left standing.
      const deadline = performance.now() + 20_000;
      let queued: number | undefined;
      do queued = (await device.status()).traffic?.queued;
      while (queued !== 0 && performance.now() < deadline);
      expect(queued).toBe(0);
      expect(await node.must([...program("transfer.ts"), "tcp", WALT_NET, String(8 << 20)])).toBe("same\n");
    },
    (SECONDS + 60) * 1000,
  );

  test("a server that stands still for 5 s is waited for", async () => {
    const began = await since();
    const transfer = node.spawn([...program("transfer.ts"), "tcp", WALT_NET, String(64 << 20)]);
    await Bun.sleep(200);
    world.daemon.kill("SIGSTOP");
    await Bun.sleep(5000);
    world.daemon.kill("SIGCONT");
    await transfer.waitFor(/same/);
    expect(await pingable(node, WALT_NET, 2)).toBe(true);
    expect(await since()).toBe(began ?? null);
  }, 60_000);

  test("so is an ssh of the device", async () => {
    const began = await since();
    const ssh = childrenOf(device.process?.pid ?? 0);
    expect(ssh.length).toBeGreaterThanOrEqual(2);
    for (const pid of ssh) process.kill(pid, "SIGSTOP");
    await Bun.sleep(5000);
    for (const pid of ssh) process.kill(pid, "SIGCONT");
    expect(await pingable(node, WALT_NET, 3)).toBe(true);
    expect(await since()).toBe(began ?? null);
    expect(await node.must([...program("transfer.ts"), "tcp", WALT_NET, String(8 << 20)])).toBe("same\n");
  }, 60_000);
});
