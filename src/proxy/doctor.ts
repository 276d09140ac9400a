/**
 * Examines a machine with a relay (`walt proxy run`): all checks, in the order in which faults must be
 * mended.
 */

import { join } from "node:path";
import { formatHostPort, type HostPort, PROXY_PORT } from "../address.ts";
import type { Diagnosis } from "../api/diagnosis.ts";
import type { Config } from "../config/schema.ts";
import { type Check, fault, noted, OK, once, told } from "../doctor/check.ts";
import { examine, LONGEST, type Planned, plan } from "../doctor/examine.ts";
import type { Machine, Talk } from "../doctor/machine.ts";
import { lookAtFreePort, lookAtOwnSshPort } from "../doctor/ports.ts";
import { findProcess, runs } from "../doctor/processes.ts";
import { lookAtClock, lookAtDescriptors, lookAtMemory } from "../doctor/resources.ts";
import { lookAtDiskErrors, lookAtRoom } from "../doctor/storage.ts";
import { thisMachine } from "../doctor/this-machine.ts";
import { loadKey } from "../ssh/keys/key-files.ts";

export interface RelayCase {
  readonly machine: Machine;
  readonly config: Config;
  /** The next hop. @throws WaltError when the configuration lacks what the relay needs. */
  next(): HostPort;
  /** @throws WaltError when a private key cannot be used. */
  checkKey(path: string): void;
  /** The relay's process; undefined if none is found. Looked up once, as the others below. */
  relay(): Promise<number | undefined>;
  /** What came of a connection to the next hop; undefined if its name has no address. */
  greeting(): Promise<Talk | undefined>;
}

export const RELAY_CHECKS: readonly Check<RelayCase>[] = [
  {
    id: "settings",
    what: "vpn.toml has the next hop, and the public keys of the CA and of enrolment.",
    after: [],
    look: ({ next, config }) =>
      told(
        () => void next(),
        config.file ?? "no vpn.toml",
        "Copy the file of `walt vpn setup-proxy --toml` here.",
      ),
  },
  {
    id: "disk",
    what: "The state folder (`proxy.state`) can be written and has room.",
    after: [],
    look: ({ machine, config }) => lookAtRoom(machine, config.proxy.state),
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
    what: "File descriptors are left, on the machine and for the relay.",
    after: [],
    look: async ({ machine, relay }) => await lookAtDescriptors(machine, await relay()),
  },
  {
    id: "clock",
    what: "The clock is later than this version: by it the relay judges certificates.",
    after: [],
    look: ({ machine }) => lookAtClock(machine, []),
  },
  {
    id: "keys",
    what: "The relay's host key can be read, and by nobody else.",
    after: ["disk"],
    look: async ({ machine, config, checkKey }) => {
      const path = join(config.proxy.state, "proxy_host_key");
      if ((await machine.stat(path)) === undefined) return noted("it is made at the first start");
      return told(() => checkKey(path), path, "Restore it from a backup: devices pin it.");
    },
  },
  {
    id: "port",
    what: "The relay's port (`proxy.listen`) is its own, or free for it.",
    after: [],
    look: async ({ machine, config, relay }) => {
      const at = config.proxy.listen ?? { host: "::", port: PROXY_PORT };
      return (await relay()) === undefined
        ? await lookAtFreePort(machine, at, "proxy.listen")
        : await lookAtOwnSshPort(machine, at, "proxy.listen");
    },
  },
  {
    id: "relay",
    what: "The relay runs.",
    after: ["settings", "disk", "keys", "port"],
    look: async ({ relay }) =>
      (await relay()) !== undefined
        ? OK
        : fault(
            "the relay is not running",
            "no process is `walt proxy run` or `walt run`",
            "Start it: `walt proxy run`. Its last log lines say why it ended.",
          ),
  },
  {
    id: "name",
    what: "The next hop's name can be resolved.",
    after: ["settings"],
    look: async ({ machine, next }) => {
      const { host } = next();
      const found = await machine.resolve(host);
      if ("addresses" in found) return noted(found.addresses.join(", "));
      return fault(
        `the name of the next hop, ${host}, cannot be resolved`,
        found.code,
        "Correct proxy.next, or add the name to the DNS or to /etc/hosts. In a container, look at the container's own.",
      );
    },
  },
  {
    id: "next-hop",
    what: "The next hop can be reached, and answers as an SSH server.",
    after: ["name"],
    look: async ({ next, greeting }) => {
      const talk = await greeting();
      const place = formatHostPort(next());
      if (talk === undefined || talk.is === "none") {
        return fault(
          `the next hop ${place} cannot be reached`,
          `connect: ${talk?.code ?? "no address"}`,
          "Is the server (or the next proxy) running, and does a firewall let this machine through? `walt doctor` there tells more.",
        );
      }
      if (talk.line?.startsWith("SSH-2.0-")) return noted(talk.line);
      return fault(
        `what listens at the next hop ${place} is no SSH server`,
        `its first line is ${JSON.stringify(talk.line ?? "")}`,
        "Correct the port in proxy.next.",
      );
    },
  },
];

export function planRelay(relay: RelayCase): Planned[] {
  return plan(RELAY_CHECKS, relay);
}

/** What several checks need once. */
export function relayCase(
  machine: Machine,
  config: Config,
  o: Pick<RelayCase, "next" | "checkKey">,
): RelayCase {
  return {
    ...{ machine, config, ...o },
    relay: once(async () => await findProcess(machine, (words) => runs("proxy", words))),
    greeting: once(async () => {
      const to = o.next();
      const found = await machine.resolve(to.host);
      const host = "addresses" in found ? found.addresses[0] : undefined;
      return host === undefined ? undefined : await machine.talk({ ...to, host });
    }),
  };
}

/**
 * Examine this machine as a relay. It ends within `LONGEST` ms, and never rejects.
 * @param next see RelayCase. @param signal ends it early.
 */
export async function examineRelay(
  config: Config,
  next: RelayCase["next"],
  signal: AbortSignal,
): Promise<Diagnosis> {
  const until = AbortSignal.any([signal, AbortSignal.timeout(LONGEST)]);
  const machine = thisMachine(until);
  const relay = relayCase(machine, config, { next, checkKey: (path) => void loadKey(path) });
  return await examine(planRelay(relay), { signal: until, now: machine.now });
}
