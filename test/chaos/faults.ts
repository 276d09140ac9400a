/** What befalls the site: which faults there are, how one is chosen, and how it is done. */

import { SERVER } from "../../src/api/routes.ts";
import { eventually } from "../lab/eventually.ts";
import type { Host } from "../lab/host.ts";
import type { Choice } from "./choice.ts";
import { canMoveClocks, moveClock } from "./clock.ts";
import { processesOf } from "./inventory.ts";
import type { ChaosDevice, Site, SiteProxy } from "./site.ts";

/** A fault that was chosen. */
export interface Fault {
  /** What the table calls it. */
  readonly kind: string;
  /** What exactly happens, in words, for a failure. */
  readonly words: string;
  /** Let it happen. @returns when it was over and everything could come back, ms since 1970. */
  befall(): Promise<number>;
}

/** Seconds by which a clock is moved; 1970 is further away than any other. */
const CLOCKS: readonly (readonly [string, () => number])[] = [
  ["2 h ahead", () => 7200],
  ["2 h behind", () => -7200],
  ["30 days ahead", () => 30 * 86_400],
  ["in 1970", () => 86_400 - Math.floor(Date.now() / 1000)],
];
/** ms until a clock that was moved is noticed by the programs of its host. */
const CLOCK_DELAY = 1200;
/** The shortest and the longest stop of a process, or cut of a wire, ms. Beyond 3000 it is noticed as silence. */
const SHORTEST = 200;
const LONGEST = 4000;
/** Moments of an enrolment, ms after its start. */
const ENROLMENT = 2500;

const SIGNALS = ["kill", "stop"] as const;

/** The processes of each role that run all the time: all are killed and stopped. */
export const VICTIMS: Readonly<Record<string, readonly string[]>> = {
  server: ["daemon", "dnsmasq", "dnsmasq.sh"],
  proxy: ["sshd", "sshd, root's part of a session", "sshd, user's part of a session", "heartbeat's cat"],
  device: ["supervisor", "outer ssh", "ip monitor"],
};

/** What a host is: `server`, `proxy` or `device`. */
export const roleOf = (host: Host): string => host.name.replace(/\d+$/, "").replace("gate", "proxy");

/** A random fault of any kind. */
export function chooseFault(site: Site, choice: Choice): Fault {
  const roll = choice.between(1, 100);
  if (roll <= 55) return processFault(site, choice);
  if (roll <= 70) return cutFault(site, choice);
  if (roll <= 76) return replaceFault(site, choice);
  if (roll <= 84) return enrolmentFault(site, choice);
  if (roll <= 92 || !canMoveClocks()) return renewalFault(site, choice);
  return clockFault(site, choice);
}

/** One process is killed, or stops for a while. */
function processFault(site: Site, choice: Choice): Fault {
  const role = choice.of(Object.keys(VICTIMS));
  const kind = choice.of(VICTIMS[role] ?? []);
  const signal = choice.percent(65) ? SIGNALS[0] : SIGNALS[1];
  const ms = choice.between(SHORTEST, LONGEST);
  const pick = choice.between(0, 1_000_000);
  return {
    kind: `${kind}: ${signal === "kill" ? "killed" : "stopped and continued"}`,
    words: `${signal} ${kind} of a ${role}${signal === "kill" ? "" : ` for ${ms} ms`}`,
    befall: async () => {
      const hosts = site.hosts.filter((host) => roleOf(host) === role);
      const some = hosts.flatMap((host) => processesOf(host)).filter((one) => one.kind === kind);
      const found = some[pick % Math.max(1, some.length)];
      if (found === undefined) return Date.now(); // an earlier fault of the same round ended it
      if (signal === "kill") {
        site.signal(found.pid, "SIGKILL");
        return Date.now();
      }
      site.signal(found.pid, "SIGSTOP");
      try {
        await Bun.sleep(ms); // how long it is stopped is what is tried
      } finally {
        site.signal(found.pid, "SIGCONT");
      }
      return Date.now();
    },
  };
}

/** A wire is pulled for a while. */
function cutFault(site: Site, choice: Choice): Fault {
  const ports = site.hosts.flatMap((host) => host.ports.map((port) => ({ host, port })));
  const { host, port } = choice.of(ports);
  const ms = choice.between(SHORTEST, LONGEST);
  const role = roleOf(host);
  return {
    kind: `wire of a ${role}: cut`,
    words: `cut ${port.device} of ${host.name} for ${ms} ms`,
    befall: async () => {
      await port.wire("down");
      try {
        await Bun.sleep(ms); // how long it is cut is what is tried
      } finally {
        await port.wire("up");
      }
      return Date.now();
    },
  };
}

/** A proxy is replaced: its sshd and all sessions end, its account goes, and both are made again. */
function replaceFault(site: Site, choice: Choice): Fault {
  const proxy = choice.of(site.world.proxies);
  return {
    kind: "proxy: replaced",
    words: `replace ${proxy.host.name}`,
    befall: async () => {
      await replace(site, proxy);
      return Date.now();
    },
  };
}

async function replace(site: Site, proxy: SiteProxy): Promise<void> {
  const { host } = proxy;
  await site.endProxy(proxy);
  for (const { pid } of processesOf(host)) site.signal(pid, "SIGKILL");
  await host.must(["sh", "/root/proxy-setup.sh", "--remove"]);
  site.keepProxy(proxy);
  await host.must(["sh", "/root/proxy-setup.sh"], { timeout: 120_000 });
}

/** A device is revoked, forgets who it is and asks for access, and meanwhile something of its way is killed. */
function enrolmentFault(site: Site, choice: Choice): Fault {
  const device = choice.of(site.devices);
  const after = choice.between(0, ENROLMENT);
  const victim = choice.of(["supervisor", "daemon", "sshd", "inner ssh"]);
  const pick = choice.between(0, 1_000_000);
  return {
    kind: `enrolment: ${victim} killed`,
    words: `${device.host.name} enrols anew, and after ${after} ms its ${victim} is killed`,
    befall: async () => {
      await device.stop();
      const { node } = (await device.credentials()) ?? { node: "" };
      await site.world.api.call(SERVER.revoke, { node, reenrol: false, by: "chaos" });
      await site.world.must(device.host, "device", "forget");
      device.start();
      await Bun.sleep(after); // the moment is what is tried
      killOne(site, device, victim, pick);
      const over = Date.now();
      await device.plug();
      return over;
    },
  };
}

/** The supervisor starts anew and renews its certificate soon; something is killed while it does. */
function renewalFault(site: Site, choice: Choice): Fault {
  const device = choice.of(site.devices);
  const victim = choice.of(["supervisor", "daemon", "sshd", "inner ssh", "outer ssh"]);
  const after = choice.between(0, 150);
  const pick = choice.between(0, 1_000_000);
  return {
    kind: `renewal: ${victim} killed`,
    words: `${device.host.name} renews its certificate, and after ${after} ms its ${victim} is killed`,
    befall: async () => {
      killOne(site, device, "supervisor", 0);
      await eventually("a renewal", () => has(device, "inner ssh"), { within: 60_000 });
      await Bun.sleep(after); // the moment is what is tried
      killOne(site, device, victim, pick);
      return Date.now();
    },
  };
}

const has = (device: ChaosDevice, kind: string): boolean =>
  processesOf(device.host).some((one) => one.kind === kind);

/** Kill a process of this kind: the device's, the server's, or a proxy's listener. */
function killOne(site: Site, device: ChaosDevice, kind: string, pick: number): void {
  const { server, proxies } = site.world;
  const hosts = kind === "daemon" ? [server] : kind === "sshd" ? proxies.map((p) => p.host) : [device.host];
  const found = hosts.flatMap((host) => processesOf(host)).filter((one) => one.kind === kind);
  const one = found[pick % Math.max(1, found.length)];
  if (one !== undefined) site.signal(one.pid, "SIGKILL");
}

/** The clock of a host is wrong when a device has to connect anew; it is right again afterwards. */
function clockFault(site: Site, choice: Choice): Fault {
  const host = choice.of(site.hosts);
  const device = choice.of(site.devices);
  const [words, seconds] = choice.of(CLOCKS);
  const role = roleOf(host);
  return {
    kind: `clock of a ${role}: ${words}`,
    words: `the clock of ${host.name} is ${words}, and ${device.host.name} connects anew`,
    befall: async () => {
      moveClock(host, seconds());
      try {
        await Bun.sleep(CLOCK_DELAY); // libfaketime looks once a second
        killOne(site, device, "outer ssh", 0);
        const over = Date.now();
        await eventually("its way is lost", () => !device.pings?.areAnswered, { within: 60_000 });
        await eventually("it is up with a wrong clock", () => site.isUp(), { within: 120_000, every: 50 });
        return over;
      } finally {
        moveClock(host, 0);
        await Bun.sleep(CLOCK_DELAY);
      }
    },
  };
}
