/** Memory that the control channel costs while nothing happens: at a server with many devices, and at a device. */

import { SERVER } from "../../../src/api/routes.ts";
import { generateKey } from "../../../src/ssh/keys/ed25519.ts";
import { encodePrivateKey } from "../../../src/ssh/keys/key-files.ts";
import { eventually } from "../../lab/eventually.ts";
import { INTERNET } from "../../lab/lab.ts";
import { World } from "../../lab/world.ts";
import { memoryOf, processorTime } from "../tunnel/memory.ts";

const program = (name: string): string[] => [process.execPath, new URL(name, import.meta.url).pathname];
const CROWD = program("./crowd.ts");
const REGISTER = [...program("../tunnel/crowd.ts"), "register", "/var/lib/walt-vpn/registry.sqlite"];
/** ms in which a process's memory comes to rest. */
const SETTLE = 15_000;

/** One run of each; bytes a device, and processor time of all of them, s per s. */
export interface ServerIdle {
  readonly without: { memory: number; load: number };
  readonly reports: { memory: number; load: number };
}

/** So many idle devices at a server of its own: once without control channel, once with it. */
export async function serverIdle(
  devices: number,
  runs: number,
  say: (line: string) => void,
): Promise<ServerIdle[]> {
  await using world = await World.create({ proxies: 0 });
  const keys = Array.from({ length: devices }, () => encodePrivateKey(generateKey("")));
  const input = keys.map((key) => `${JSON.stringify(key)}\n`).join("");
  await world.server.must(REGISTER, { input });
  const boards = await world.lab.host("boards", { networks: [INTERNET] });
  const hostKey = (await world.api.call(SERVER.trust, {})).hostKeys[0] ?? "";

  const measure = async (control: "none" | "reports"): Promise<{ memory: number; load: number }> => {
    await world.stopServer();
    await world.startServer();
    const { pid } = world.daemon;
    if (pid === undefined) throw new Error("the server is not running");
    await Bun.sleep(2000);
    const before = memoryOf(pid, "VmRSS");
    const crowd = boards.spawn([...CROWD, world.serverAddress, "2222", hostKey, control]);
    crowd.write(input);
    await crowd.closeInput();
    await crowd.waitFor(/up \d+\n/, { timeout: 600_000 });
    await Bun.sleep(SETTLE);
    const start = processorTime(pid);
    await Bun.sleep(SETTLE);
    const load = (processorTime(pid) - start) / (SETTLE / 1000);
    const memory = (memoryOf(pid, "VmRSS") - before) / devices;
    await check(world, devices, control === "reports");
    await crowd.stop("SIGKILL");
    return { memory, load };
  };

  const found: ServerIdle[] = [];
  for (let run = 0; run < runs; run++) {
    const one = { without: await measure("none"), reports: await measure("reports") };
    found.push(one);
    const kb = ({ memory }: { memory: number }): string => (memory / 1000).toFixed(1);
    say(
      `idle ${run + 1}/${runs}: ${kb(one.without)} kB a tunnel without, ${kb(one.reports)} kB with reports`,
    );
  }
  return found;
}

/** All tunnels are up, and all devices or none have reported. @throws Error. */
async function check(world: World, devices: number, reports: boolean): Promise<void> {
  const nodes = await world.nodes();
  const up = nodes.filter((node) => node.state === "up").length;
  if (up !== devices) throw new Error(`${up} of ${devices} tunnels are up`);
  const { report } = await world.api.call(SERVER.node, { node: nodes[0]?.name ?? "" });
  if ((report !== null) !== reports) throw new Error(`a report is ${report === null ? "missing" : "there"}`);
}

/**
 * Of the device's process: memory that is its own, bytes, without the pages of the binary, which all
 * processes of the same binary share; and how many processes the device has.
 */
export interface DeviceIdle {
  memory: number;
  processes: number;
}

/** A real device with an idle tunnel, run by each of these binaries in turn: for each what its runs found. */
export async function deviceIdle(
  binaries: readonly string[],
  runs: number,
  say: (line: string) => void,
): Promise<DeviceIdle[][]> {
  await using world = await World.create();
  const device = await world.device("device");
  await device.enrol();
  await device.stop();
  const found = binaries.map((): DeviceIdle[] => []);
  for (let run = 0; run < runs; run++) {
    for (const [index, binary] of binaries.entries()) {
      const after = world.daemon.position;
      const walt = device.host.spawn([binary, "device", "run"]);
      await world.daemon.waitFor(/event=tunnel-up/, { after });
      await Bun.sleep(SETTLE);
      const all = device.host.processes().filter(({ command }) => /walt|ssh/.test(command));
      const memory = memoryOf(walt.pid ?? 0, "RssAnon");
      found[index]?.push({ memory, processes: all.length });
      say(`device ${run + 1}/${runs}: ${binary} ${(memory / 1e6).toFixed(1)} MB`);
      await walt.stop("SIGTERM", { grace: SETTLE });
      await eventually("the server sees it", async () => (await world.nodes())[0]?.state === "down");
    }
  }
  return found;
}
