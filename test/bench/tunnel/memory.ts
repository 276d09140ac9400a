/** What tunnels cost in memory: many idle ones at a server, and one at full speed at its device. */

import { readFileSync } from "node:fs";
import { generateKey } from "../../../src/ssh/keys/ed25519.ts";
import { encodePrivateKey } from "../../../src/ssh/keys/key-files.ts";
import { INTERNET } from "../../lab/lab.ts";
import { World } from "../../lab/world.ts";

const CROWD = [process.execPath, new URL("./crowd.ts", import.meta.url).pathname];
/** ms in which the server's memory comes to rest. */
const SETTLE = 15_000;

export interface IdleMemory {
  tunnels: number;
  /** Resident memory of the server without a tunnel, with all of them, and after they are gone, bytes. */
  before: number;
  during: number;
  after: number;
  /** Bytes a tunnel. */
  each: number;
  /** Processor time that the idle tunnels cost the server, s per s. */
  load: number;
}

/** A number of /proc/PID/status in bytes: what is resident, the most it ever was, or what is resident and of no file. */
export function memoryOf(pid: number, what: "VmRSS" | "VmHWM" | "RssAnon"): number {
  const found = new RegExp(`${what}:\\s+(\\d+) kB`).exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return Number(found?.[1]) * 1024;
}

/** Processor time of a process so far, s. */
export function processorTime(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100; // sysconf(_SC_CLK_TCK)
}

/** So many tunnels at a server of its own, all up at once, none with anything to do. */
export async function idleMemory(tunnels: number): Promise<IdleMemory> {
  await using world = await World.create({ proxies: 0 });
  const { server } = world;
  const { pid } = world.daemon;
  if (pid === undefined) throw new Error("the server is not running");
  const keys = Array.from({ length: tunnels }, () => encodePrivateKey(generateKey("")));
  const input = keys.map((key) => `${JSON.stringify(key)}\n`).join("");
  await server.must([...CROWD, "register", "/var/lib/walt-vpn/registry.sqlite"], { input });
  const boards = await world.lab.host("boards", { networks: [INTERNET] });
  await Bun.sleep(2000);
  const before = memoryOf(pid, "VmRSS");
  const crowd = boards.spawn([...CROWD, "up", world.serverAddress, "2222"]);
  crowd.write(input);
  await crowd.closeInput();
  await crowd.waitFor(/up \d+\n/, { timeout: 120_000 });
  await Bun.sleep(SETTLE);
  const start = processorTime(pid);
  await Bun.sleep(SETTLE);
  const load = (processorTime(pid) - start) / (SETTLE / 1000);
  const during = memoryOf(pid, "VmRSS");
  const up = (await world.nodes()).filter((node) => node.state === "up").length;
  if (up !== tunnels) throw new Error(`${up} of ${tunnels} tunnels are up: ${crowd.output.slice(-500)}`);
  await crowd.stop("SIGKILL");
  await Bun.sleep(SETTLE);
  return { tunnels, before, during, after: memoryOf(pid, "VmRSS"), each: (during - before) / tunnels, load };
}
