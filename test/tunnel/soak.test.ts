/**
 * The whole tunnel under stress: through a proxy's sshd, with new keys every 16 MB in both connections. It
 * gets more than it can carry, both ways at once; its ends are stopped for a while; its wire delays and loses
 * packets, and is cut. WALT_SOAK=600 runs ten minutes, with long stops.
 */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { memoryOf } from "../bench/tunnel/memory.ts";
import { FAR, Wire } from "../bench/tunnel/wire.ts";
import { eventually } from "../lab/eventually.ts";
import type { Host } from "../lab/host.ts";
import { describeWith, SYSTEM_PATH } from "../lab/need.ts";
import { childrenOf } from "../lab/proc.ts";
import type { LabProcess } from "../lab/process.ts";
import { startSshd } from "../lab/sshd.ts";
import { INTEGRATION, pingable, WALT_NET, World, type WorldDevice } from "../lab/world.ts";

const SECONDS = Number(process.env["WALT_SOAK"] ?? 3);
const LONG = SECONDS >= 60;
const ADDRESS = "192.168.192.77";
const PORT = "7100";
/** ms for what may take long on a busy machine: what counts is that it happens. More than a transfer gives itself. */
const SLOW = 150_000;
const program = (name: string): string[] => [process.execPath, new URL(name, import.meta.url).pathname];

const FLOOD = program("../bench/tunnel/flood.ts");

/** ms for a test that waits for several of these. */
const TIMEOUT = 2 * SLOW;
/** ms that an end stands still: half of the silence after which the other gives it up. */
const STANDS = 5000;

/** Bytes by which a process may grow in a long run. In a short one pool and code are still being loaded. */
const GROWTH = 20 << 20;
/** Bytes that a process may have at any time. Many times more are sent during the test. */
const MOST = 250 << 20;
/** OpenSSH's client to the proxy, with new keys every 16 MB, as in the tunnel's own connection. */
const SSH = `#!/bin/sh\nexec ${Bun.which("ssh", { PATH: SYSTEM_PATH })} -o RekeyLimit=16M "$@"\n`;

/** A device with its tunnel, and the load on both. */
class Load {
  private constructor(
    readonly world: World,
    readonly device: WorldDevice,
    readonly node: Host,
  ) {}

  /** @param network where the device is; `internet` unless told. */
  static async create(world: World, network?: Wire): Promise<Load> {
    const toml = "rekey_limit = 16\n[device.vm]\nstart = false\n";
    const device = await world.device("device", { toml, ...(network === undefined ? {} : { network: FAR }) });
    await network?.admit(device.host, 1);
    device.host.writeFile("/root/bin/ssh", SSH, 0o755);
    device.env = { PATH: `/root/bin:${SYSTEM_PATH}` };
    const name = await device.enrol();
    const { mac } = (await world.nodes()).find((one) => one.name === name) ?? { mac: "" };
    const node = await device.plugNode(ADDRESS, mac);
    expect(await pingable(node, WALT_NET)).toBe(true);
    for (const host of [node, world.server]) {
      await host.spawn([...FLOOD, "sink", PORT]).waitFor(/listening/);
      await host.spawn([...program("transfer.ts"), "serve"]).waitFor(/serving/);
    }
    return new Load(world, device, node);
  }

  /** When the tunnel came up. */
  async since(): Promise<string | null> {
    return (await this.world.nodes())[0]?.since ?? null;
  }

  /** Resident memory of both ends, bytes. */
  memory(): number[] {
    return [this.world.daemon, this.device.process].map((one) => memoryOf(one?.pid ?? 0, "VmRSS"));
  }

  /** Send TCP and UDP both ways, several times as much as the tunnel can carry. */
  async saturate(seconds: number): Promise<void> {
    const { world, node } = this;
    const floods: LabProcess[] = [];
    for (const [from, to] of [
      [node, WALT_NET],
      [world.server, ADDRESS],
    ] as const) {
      floods.push(from.spawn([...FLOOD, "source", to, PORT, String(seconds)]));
      floods.push(from.spawn([...program("blast.ts"), to, "1000000000"]));
    }
    await Bun.sleep(seconds * 1000); // what is tested: so much for so long
    for (const flood of floods) if (flood.ended === undefined) await flood.stop("SIGKILL");
  }

  /**
   * Check that the tunnel is the same, uses no more memory, holds nothing back, and passes bytes unchanged.
   */
  async isWell(began: string | null, before?: readonly number[]): Promise<void> {
    expect(await pingable(this.node, WALT_NET, 60)).toBe(true);
    // The kernel goes on sending what killed programs gave it; then nothing is left standing.
    const queued = async (): Promise<number | undefined> => (await this.device.status()).traffic?.queued;
    await eventually("nothing waits in the tunnel", queued, { fits: (n) => n === 0, within: SLOW });
    for (const [i, now] of this.memory().entries()) {
      expect(now).toBeLessThan(MOST);
      if (LONG && before !== undefined) expect(now - (before[i] ?? 0)).toBeLessThan(GROWTH);
    }
    expect(await this.since()).toBe(began);
    expect(await this.transfer(8 << 20)).toBe("same\n");
  }

  transfer(bytes: number): Promise<string> {
    return this.node.must([...program("transfer.ts"), "tcp", WALT_NET, String(bytes)], { timeout: SLOW });
  }

  /** A transfer that has begun to pass through the tunnel. */
  async underWay(bytes: number): Promise<LabProcess> {
    const sent = async (): Promise<number> => (await this.device.status()).traffic?.bytesOut ?? 0;
    const before = await sent();
    const transfer = this.node.spawn([...program("transfer.ts"), "tcp", WALT_NET, String(bytes)]);
    await eventually("bytes pass", sent, { fits: (n) => n > before + 100_000 });
    return transfer;
  }

  /** After the tunnel was given up: check that there is a new one, and that it works. */
  async comesBack(began: string | null): Promise<void> {
    expect(await pingable(this.node, WALT_NET, 60)).toBe(true);
    expect(await this.transfer(8 << 20)).toBe("same\n");
    expect(await this.since()).not.toBe(began);
  }
}

describeWith(INTEGRATION, "a tunnel with more traffic than it can carry", () => {
  let world: World;
  let load: Load;

  beforeAll(async () => {
    world = await World.create();
    for (const proxy of world.proxies) {
      await proxy.sshd.stop();
      await startSshd(proxy.host, { extraConfig: "RekeyLimit 16M" });
    }
    load = await Load.create(world);
  }, 120_000);
  afterAll(async () => {
    await world?.[Symbol.asyncDispose]();
  }, 120_000);

  test(
    `both ways at once for ${SECONDS} s, with new keys every 16 MB: then it answers, and its memory is what it was`,
    async () => {
      const began = await load.since();
      if (LONG) await load.saturate(20); // code is compiled, buffers are touched: memory is compared then
      const before = load.memory();
      await load.saturate(SECONDS);
      await load.isWell(began, before);
      if (LONG)
        console.log(`memory in MB: ${[...before, ...load.memory()].map((n) => (n / 1e6).toFixed(1))}`);
      // How long it takes until enough has passed for so many new keys depends on the machine.
      const traffic = async () => (await load.device.status()).traffic;
      while (((await traffic())?.rekeys ?? 0) <= 3) await load.saturate(1);
      expect((await traffic())?.framesOut).toBeGreaterThan(1000);
      // What still passes may bring new keys between two questions.
      const counted = async () => [(await traffic())?.rekeys, (await world.nodes())[0]?.traffic?.rekeys];
      await eventually("both ends count the same", counted, { fits: ([here, there]) => here === there });
    },
    SECONDS * 1000 + TIMEOUT,
  );

  test(
    "a server that is stopped for 5 s does not end the tunnel",
    async () => {
      const began = await load.since();
      const transfer = await load.underWay(64 << 20);
      world.daemon.kill("SIGSTOP");
      await Bun.sleep(STANDS); // what is tested: it does nothing for so long
      world.daemon.kill("SIGCONT");
      await transfer.waitFor(/same/, { timeout: SLOW });
      await load.isWell(began);
    },
    TIMEOUT,
  );

  test(
    "nor does the device's ssh to the proxy",
    async () => {
      const began = await load.since();
      const ssh = childrenOf(load.device.process?.pid ?? 0);
      expect(ssh.length).toBeGreaterThanOrEqual(1);
      for (const pid of ssh) process.kill(pid, "SIGSTOP");
      await Bun.sleep(STANDS); // what is tested, as above
      for (const pid of ssh) process.kill(pid, "SIGCONT");
      await load.isWell(began);
    },
    TIMEOUT,
  );

  test.if(LONG)(
    "one that stands still for 60 s, under load, is given up; there is a new tunnel when it goes on",
    async () => {
      const began = await load.since();
      const before = load.memory();
      const loaded = load.saturate(70);
      await Bun.sleep(3000); // it is stopped when it has been full for a while
      world.daemon.kill("SIGSTOP");
      await load.device.process?.waitFor(/silent for|nothing could be sent/, { timeout: 60_000 });
      await Bun.sleep(57_000); // what is tested: it stands still for so long
      world.daemon.kill("SIGCONT");
      await loaded;
      await load.comesBack(began);
      for (const [i, now] of load.memory().entries()) expect(now - (before[i] ?? 0)).toBeLessThan(GROWTH);
    },
    240_000,
  );
});

describeWith(INTEGRATION, "a tunnel over a wire that delays and loses packets", () => {
  let world: World;
  let wire: Wire;
  let load: Load;
  const shape = (): Promise<void> => wire.shape("40mbit");

  beforeAll(async () => {
    world = await World.create();
    wire = await Wire.lay(world);
    await shape();
    load = await Load.create(world, wire);
  }, 120_000);
  afterAll(async () => {
    await world?.[Symbol.asyncDispose]();
  }, 120_000);

  test(
    "both ways at once",
    async () => {
      const began = await load.since();
      if (LONG) await load.saturate(20);
      const before = load.memory();
      await load.saturate(LONG ? SECONDS / 5 : 4);
      await load.isWell(began, before);
      if (LONG)
        console.log(`memory in MB: ${[...before, ...load.memory()].map((n) => (n / 1e6).toFixed(1))}`);
    },
    SECONDS * 1000 + TIMEOUT,
  );

  test(
    "a wire that is cut for 3 s: what was in flight arrives",
    async () => {
      const began = await load.since();
      const transfer = await load.underWay(8 << 20);
      await wire.cut();
      await Bun.sleep(3000); // what is tested: nothing passes for so long
      await shape();
      await transfer.waitFor(/same/, { timeout: SLOW });
      await load.isWell(began);
    },
    TIMEOUT,
  );

  test.if(LONG)(
    "and is cut for 40 s: a new tunnel",
    async () => {
      const began = await load.since();
      await wire.cut();
      await Bun.sleep(40_000); // what is tested, as above
      await shape();
      await load.comesBack(began);
    },
    240_000,
  );
});
