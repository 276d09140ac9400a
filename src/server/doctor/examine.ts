/** Examines a server: all checks, in the order in which faults must be mended. */

import { Database } from "bun:sqlite";
import { SERVER_PORT } from "../../address.ts";
import type { Diagnosis } from "../../api/diagnosis.ts";
import { API_HEADER, VERSION_HEADER } from "../../api/routes.ts";
import type { Config } from "../../config/schema.ts";
import { type Check, denied, fault, noted, OK, unknown } from "../../doctor/check.ts";
import { examine, LONGEST, type Planned, plan } from "../../doctor/examine.ts";
import { lookAtPrograms, lookAtTun } from "../../doctor/needs.ts";
import { lookAtFreePort, lookAtOwnSshPort } from "../../doctor/ports.ts";
import { lookAtClock, lookAtDescriptors, lookAtInotify, lookAtMemory } from "../../doctor/resources.ts";
import { lookAtDiskErrors, lookAtRoom } from "../../doctor/storage.ts";
import { thisMachine } from "../../doctor/this-machine.ts";
import { messageOf, WaltError } from "../../errors.ts";
import { loadKey } from "../../ssh/keys/key-files.ts";
import { safeText } from "../../text.ts";
import { VERSION } from "../../version.ts";
import { type RegistryFacts, type ServerCase, serverCase } from "./case.ts";
import { INSTALLATION_CHECKS } from "./installation.ts";
import { lookAtInstalled } from "./installed.ts";
import { NET_CHECKS } from "./net.ts";
import { STATE_CHECKS } from "./state.ts";

/** The programs that a server runs, and the Debian package of each. */
const PROGRAMS = { ip: "iproute2", bridge: "iproute2", "ssh-keygen": "openssh-client" };
/** Milliseconds for the daemon's answer. */
const ANSWER = 4000;
/** Checks whose faults keep the daemon from starting. */
const PREREQUISITES = [
  "installation",
  "beside-walt",
  "programs",
  "disk",
  "tun",
  "keys",
  "registry",
  "network",
  "bridge",
  "port",
  "other-ports",
  "dnsmasq",
];

const MACHINE_CHECKS: readonly Check<ServerCase>[] = [
  {
    id: "programs",
    what: "ip, bridge and ssh-keygen are installed.",
    after: [],
    look: ({ machine }) => lookAtPrograms(machine, PROGRAMS),
  },
  {
    id: "disk",
    what: "The state folder (`server.state`) can be written and has room.",
    after: [],
    look: ({ machine, config }) => lookAtRoom(machine, config.server.state),
  },
  {
    id: "disk-errors",
    what: "The kernel has counted no errors of a disk (ext4).",
    after: [],
    look: ({ machine }) => lookAtDiskErrors(machine),
  },
  {
    id: "memory",
    what: "Memory is left.",
    after: [],
    look: ({ machine }) => lookAtMemory(machine),
  },
  {
    id: "descriptors",
    what: "File descriptors are left, on the machine and for the daemon.",
    after: [],
    look: async ({ machine, daemon }) => await lookAtDescriptors(machine, await daemon()),
  },
  {
    id: "inotify",
    what: "Changes of files can be watched (inotify).",
    after: [],
    look: ({ machine }) => lookAtInotify(machine),
  },
  {
    id: "clock",
    what: "The clock is later than this version and than the newest certificate.",
    after: [],
    look: async ({ machine, registry }) => {
      const newest = (await registry().catch(() => undefined))?.newestIssue;
      const known = newest === undefined ? [] : [newest];
      return lookAtClock(
        machine,
        known.map((time) => ({ time, from: "the newest certificate was issued" })),
      );
    },
  },
  {
    id: "tun",
    what: "TAPs can be made (`/dev/net/tun`).",
    after: [],
    look: ({ machine }) => lookAtTun(machine),
  },
];

const DAEMON_CHECKS: readonly Check<ServerCase>[] = [
  {
    id: "port",
    what: "The endpoint's port (`server.listen`) is the daemon's, or free for it.",
    after: [],
    look: async ({ machine, config, daemonVersion }) => {
      const at = config.server.listen ?? { host: "::", port: SERVER_PORT };
      return (await daemonVersion()) === undefined
        ? await lookAtFreePort(machine, at, "server.listen")
        : await lookAtOwnSshPort(machine, at, "server.listen");
    },
  },
  {
    id: "other-ports",
    what: "The ports for Prometheus (`server.metrics`) and boot files (`server.network.boot_port`) are the daemon's, or free for it.",
    after: [],
    look: async ({ machine, config, daemonVersion }) => {
      const { managed, address, boot_port } = config["server.network"];
      const isUp = (await daemonVersion()) !== undefined;
      const { metrics } = config.server;
      const boot = { host: address.split("/")[0] ?? "", port: boot_port };
      // While the daemon does not run, the server does not have its address on walt-net.
      const ports = [
        ...(metrics === undefined ? [] : [{ at: metrics, key: "server.metrics" }]),
        ...(managed && isUp ? [{ at: boot, key: "server.network.boot_port" }] : []),
      ];
      for (const { at, key } of ports) {
        const free = await lookAtFreePort(machine, at, key);
        const isTaken = free.is === "fault";
        if (isTaken && !isUp) return free;
        if (!isTaken && isUp)
          return fault(
            `the daemon runs, and nothing listens on ${at.host}:${at.port} (${key})`,
            "the port is free",
            "Restart it: systemctl restart walt-vpn. Was vpn.toml changed since it was started?",
          );
      }
      return OK;
    },
  },
  {
    id: "daemon",
    what: "The daemon runs, and answers on its socket.",
    after: PREREQUISITES,
    look: async ({ machine, config, daemonVersion, daemon }) => {
      if ((await daemonVersion()) !== undefined) return OK;
      const pid = await daemon();
      const unit = await machine.run(["systemctl", "show", "walt-vpn", "-p", "ActiveState,Result,NRestarts"]);
      const shown = unit?.status === 0 ? `; ${unit.stdout.trim().replaceAll("\n", ", ")}` : "";
      return fault(
        pid === undefined ? "the daemon is not running" : "the daemon runs, and does not answer",
        `${config.server.socket} does not answer${pid === undefined ? "" : `; process ${pid}`}${shown}`,
        "Start it: systemctl start walt-vpn (or walt server run). `journalctl -u walt-vpn -n 20` says why it ended.",
      );
    },
  },
  {
    id: "version",
    what: "The daemon has the version of this command.",
    after: ["daemon"],
    look: async ({ daemonVersion }) => {
      const version = await daemonVersion();
      if (version === undefined) return unknown("the daemon did not answer");
      if (version === VERSION) return noted(VERSION);
      return fault(
        `the daemon is walt ${version}, and this command is walt ${VERSION}`,
        "the header walt-version of the daemon's answers",
        "Restart the daemon, so that it runs the installed version: systemctl restart walt-vpn",
      );
    },
  },
];

/** All checks of a server, in their order. */
export const SERVER_CHECKS: readonly Check<ServerCase>[] = [
  ...INSTALLATION_CHECKS,
  ...MACHINE_CHECKS,
  ...STATE_CHECKS,
  ...NET_CHECKS,
  ...DAEMON_CHECKS,
];

export function planServer(server: ServerCase): Planned[] {
  return plan(SERVER_CHECKS, server);
}

/**
 * Examine this machine as a server. It ends within `LONGEST` ms, and never rejects.
 * @param signal ends it early.
 */
export async function examineServer(config: Config, signal: AbortSignal): Promise<Diagnosis> {
  const until = AbortSignal.any([signal, AbortSignal.timeout(LONGEST)]);
  const machine = thisMachine(until);
  const server = serverCase(machine, config, {
    daemonVersion: async () => {
      const { socket } = config.server;
      if ((await machine.access(socket)) === "EACCES") throw denied(socket);
      return await daemonVersion(socket, until);
    },
    checkKey: (path) => void loadKey(path),
    registry: readRegistry,
    installed: () => lookAtInstalled("/", process.execPath),
  });
  return await examine(planServer(server), { signal: until, now: machine.now });
}

async function daemonVersion(socket: string, signal: AbortSignal): Promise<string | undefined> {
  try {
    // Every answer has the version, that to an unknown path as well.
    const bound = AbortSignal.any([signal, AbortSignal.timeout(ANSWER)]);
    const { headers } = await fetch("http://walt/doctor", { unix: socket, signal: bound });
    if (!headers.has(API_HEADER)) return undefined;
    return safeText(headers.get(VERSION_HEADER) ?? "", 40);
  } catch {
    return undefined;
  }
}

/** Read the registry as it is. @throws WaltError when it cannot be read. */
export function readRegistry(path: string): RegistryFacts {
  try {
    using db = new Database(path, { readonly: true, strict: true });
    const [{ user_version: version } = { user_version: 0 }] = db
      .query<{ user_version: number }, []>("PRAGMA user_version")
      .all();
    const [{ quick_check: check } = { quick_check: "" }] = db
      .query<{ quick_check: string }, []>("PRAGMA quick_check(1)")
      .all();
    if (version === 0 || check !== "ok")
      return { version, check, newestIssue: undefined, lastSerial: 0, devices: [] };
    const devices = db
      .query<{ node: string; expires: string | null }, []>(
        `SELECT node, (SELECT max(expires_at) FROM certificates WHERE device_id = d.id) AS expires
         FROM devices d WHERE revoked_at IS NULL ORDER BY node`,
      )
      .all();
    const last = db
      .query<{ seq: number }, []>("SELECT seq FROM sqlite_sequence WHERE name = 'certificates'")
      .get();
    const newest = db.query<{ at: string | null }, []>("SELECT max(issued_at) AS at FROM certificates").get();
    return {
      version,
      check,
      lastSerial: last?.seq ?? 0,
      newestIssue: timeOf(newest?.at ?? null),
      devices: devices.map(({ node, expires }) => ({ node, expires: timeOf(expires) })),
    };
  } catch (error) {
    throw new WaltError(`cannot read the registry ${path}: ${messageOf(error)}`, { cause: error });
  }
}

function timeOf(text: string | null): number | undefined {
  const time = text === null ? Number.NaN : Date.parse(text);
  return Number.isNaN(time) ? undefined : time;
}
