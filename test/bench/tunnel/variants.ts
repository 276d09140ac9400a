/** What is compared: our tunnel, and three other ways over the same proxy, each up beside the others and idle until its turn. */

import { hasAes } from "../../../src/linux/cpu.ts";
import { proxyCiphers } from "../../../src/ssh/openssh/arguments.ts";
import { eventually } from "../../lab/eventually.ts";
import type { Host } from "../../lab/host.ts";
import type { LabProcess } from "../../lab/process.ts";
import { startSshd } from "../../lab/sshd.ts";
import { pingable, WALT_NET, type World, type WorldDevice } from "../../lab/world.ts";
import { median } from "../stats.ts";
import { flood, type Moved, parseFlood, pings, smallFrames, tcp } from "./measure.ts";

export interface Variant {
  readonly name: string;
  up(seconds: number): Promise<Moved>;
  down(seconds: number): Promise<Moved>;
  /** Frames of 60 bytes a second, from the device's side to the server's. */
  small?(seconds: number): Promise<number>;
  /** Whence and where to ping; undefined for a pipe. */
  readonly ping: { from: Host; to: string } | undefined;
}

const PLAIN_LOOP = [process.execPath, new URL("./plain-loop.ts", import.meta.url).pathname];
const SERVER = "walt.lab.example";

/** A key for root on proxy and server, and an sshd on the server that lets tunnels through. */
export async function letRootIn(world: World, device: Host): Promise<void> {
  const script =
    "mkdir -p -m 700 ~/.ssh && [ -e ~/.ssh/id_ed25519 ] || ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519";
  await device.must(["sh", "-c", script]);
  const key = await device.must(["sh", "-c", "cat ~/.ssh/id_ed25519.pub"]);
  for (const host of [world.server, ...world.proxies.map((p) => p.host)]) {
    const file = Bun.file(host.path("/root/.ssh/authorized_keys"));
    const known = (await file.exists()) ? await file.text() : "";
    host.writeFile("/root/.ssh/authorized_keys", known + key, 0o600);
  }
  for (const { host } of world.proxies) host.hosts({ [SERVER]: world.serverAddress });
}

export async function startPlainServer(world: World): Promise<void> {
  await startSshd(world.server, { extraConfig: "PermitTunnel yes" });
}

/** ssh to the server's sshd through an outer one, with the same ciphers as ours. */
async function nestedSsh(world: World, device: Host): Promise<string[]> {
  const options = ["-F", "/dev/null", "-T", "-a", "-x", "-o", "BatchMode=yes", "-o", "IPQoS=none"];
  const trust = [
    "-o",
    "StrictHostKeyChecking=no",
    "-o",
    "UserKnownHostsFile=/dev/null",
    "-o",
    "LogLevel=ERROR",
  ];
  const inner = ["ssh", ...options, ...trust, "-o", "Ciphers=aes128-gcm@openssh.com"];
  const [proxy] = world.proxies;
  if (proxy === undefined) return [...inner, `root@${SERVER}`];
  const outer = device.spawn([
    ...["ssh", ...options, ...trust, "-o", `Ciphers=${proxyCiphers(hasAes()).join(",")}`],
    ...["-L", `127.0.0.1:2200:${SERVER}:22`, `root@${proxy.name}`, "echo ready; exec cat"],
  ]);
  await outer.waitFor(/ready/);
  return [...inner, "-p", "2200", "root@127.0.0.1"];
}

/** Round trip of the bare path, ms: the sum over its proxies. */
export async function bareRtt(world: World, device: Host): Promise<number> {
  const proxies = [device, ...world.proxies.map((p) => p.host)];
  let sum = 0;
  for (const [i, hop] of proxies.entries()) {
    const next = proxies[i + 1];
    const to = next === undefined ? world.serverAddress : (next.ports[0]?.ipv4 ?? "");
    sum += median(await pings(hop, to, 30, 0.02));
  }
  return sum;
}

/** TCP without any tunnel, over the path from the device to its proxy. */
function bareTcp(world: World, device: Host, own: string | undefined, flows: number): Variant[] {
  const [proxy] = world.proxies;
  if (proxy === undefined || own === undefined) return [];
  const there = proxy.host.address();
  return [
    {
      name: "bare TCP",
      ping: { from: device, to: there },
      up: (seconds) => tcp(device, proxy.host, there, seconds, flows),
      down: (seconds) => tcp(proxy.host, device, own, seconds, flows),
    },
  ];
}

export interface Arrangement {
  /** A number that makes addresses and names differ from those of other paths. */
  readonly net: number;
  /** How many lanes the tunnel has. */
  readonly lanes: number;
  /** How many TCP flows bulk consists of, but in the pipe, which is one stream. */
  readonly flows: number;
  /** Address of the device for its proxy, behind a wire. */
  readonly address: string | undefined;
}

/**
 * Everything between `device` and the world's server. The device is set up and not started yet.
 */
export async function variants(
  world: World,
  device: WorldDevice,
  { net, lanes, flows, address: own }: Arrangement,
): Promise<{ all: Variant[]; node: Host }> {
  const { host } = device;
  const { server } = world;
  const toml = await Bun.file(host.path("/etc/walt/vpn.toml")).text();
  host.writeFile("/etc/walt/vpn.toml", toml.replace("[device]\n", `[device]\nlanes = ${lanes}\n`));
  await device.enrol(); // while it has no other interface yet
  await letRootIn(world, host);
  const ssh = await nestedSsh(world, host);
  const quote = (command: readonly string[]): string => command.join(" ");
  const pipe: Variant = {
    name: "nested ssh pipe",
    ping: undefined,
    // The source begins when the sink is there. Otherwise what waited for it would come at once.
    up: async (seconds) => {
      const back = `/tmp/pipe-${net}-${process.pid}`;
      const source = `${quote(flood("stdout", seconds))} < ${back}`;
      return await moved(
        `mkfifo ${back}; ${source} | ${quote(ssh)} '${quote(flood("stdin"))}' > ${back}; rm ${back}`,
      );
    },
    down: async (seconds) =>
      await moved(`echo | ${quote(ssh)} '${quote(flood("stdout", seconds))}' | ${quote(flood("stdin"))}`),
  };
  async function moved(line: string): Promise<Moved> {
    const { stderr } = await host.run(["sh", "-c", line], { timeout: 120_000 });
    return parseFlood(stderr.split("\n").find((one) => /^\d+ [\d.]+ [\d,]+$/.test(one)) ?? "");
  }

  const addressed = async (name: string, n: number): Promise<Variant> => {
    for (const [one, last] of [
      [host, 1],
      [server, 2],
    ] as const) {
      await one.ip(`address add 10.${n}.${net}.${last}/24 dev ${name}`, `link set ${name} up`);
    }
    const there = `10.${n}.${net}.2`;
    if (!(await pingable(host, there))) throw new Error(`${name}: no answer`);
    return {
      name,
      ping: { from: host, to: there },
      up: (seconds) => tcp(host, server, there, seconds, flows),
      down: (seconds) => tcp(server, host, `10.${n}.${net}.1`, seconds, flows),
      small: (seconds) => smallFrames(host, server, there, seconds),
    };
  };
  const tap = `${50 + net}`;
  const openssh: LabProcess = host.spawn([
    ...ssh.slice(0, -1),
    // In this order: -w alone would settle for a layer 3 tunnel.
    ...["-o", "Tunnel=ethernet", "-w", `${tap}:${tap}`, ssh.at(-1) ?? "", "echo ready; exec cat"],
  ]);
  await openssh.waitFor(/ready/, { timeout: 60_000 });
  const w = await addressed(`tap${tap}`, 81);

  const name = `plain${net}`;
  const fifo = `/tmp/plain-${net}-${process.pid}`;
  const loop = host.spawn([
    "sh",
    "-c",
    `mkfifo ${fifo}; ${quote(ssh)} '${quote([...PLAIN_LOOP, name])}' < ${fifo} | ${quote([...PLAIN_LOOP, name])} > ${fifo}; rm ${fifo}`,
  ]);
  await loop.waitFor(/there[\s\S]*there/, { timeout: 60_000 });
  const plain = await addressed(name, 82);

  const mac = (await world.nodes()).at(-1)?.mac ?? "";
  const address = `192.168.192.${100 + net}`;
  const node = await device.plugNode(address, mac);
  if (!(await pingable(node, WALT_NET, 30))) throw new Error("the tunnel does not answer");
  const count = async (): Promise<number | undefined> => (await device.status()).traffic?.lanes;
  await eventually(`${lanes} lanes`, count, { fits: (there) => there === lanes, within: 120_000 });
  const ours: Variant = {
    name: "walt",
    ping: { from: node, to: WALT_NET },
    up: (seconds) => tcp(node, server, WALT_NET, seconds, flows),
    down: (seconds) => tcp(server, node, address, seconds, flows),
    small: (seconds) => smallFrames(node, server, WALT_NET, seconds),
  };
  return {
    all: [
      ...bareTcp(world, host, own, flows),
      pipe,
      { ...w, name: "ssh -w" },
      { ...plain, name: "plain loop" },
      ours,
    ],
    node,
  };
}
