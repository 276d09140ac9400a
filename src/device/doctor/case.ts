/** What the checks of a device are given: the machine, its settings, and what several checks need once. */

import { type Entrypoint, formatEntrypoint, formatHostPort, type HostPort } from "../../address.ts";
import type { Config } from "../../config/schema.ts";
import { once } from "../../doctor/check.ts";
import { ipJson, ipJsonIfAny } from "../../doctor/ip.ts";
import type { Machine, Resolved, Talk } from "../../doctor/machine.ts";
import { type Certificate, parseCertificateLine } from "../../ssh/keys/certificate.ts";
import { SERVER_ALIAS } from "../../ssh/openssh/arguments.ts";
import type { DeviceFiles } from "../files.ts";
import { type Link, parseDefaultRoutes, parseInterfaces } from "../net/uplink.ts";
import type { Attempt } from "./attempt.ts";

/** Addresses of a name that are tried: each may take seconds. */
const ADDRESSES = 2;

/** What is outside of the machine interface: programs of the device's own that do more than look. */
export interface Trials {
  /** Log in along an entrypoint, as far as the server, and end the connections. It never rejects. */
  attempt(entrypoint: Entrypoint): Promise<Attempt>;
  /** Why KVM does not work; undefined if it does. */
  kvm(): Promise<string | undefined>;
  /** @throws WaltError when the virtual machine lacks a program or a file. */
  checkVm(): void;
  /** Whether a supervisor listens on the device's socket. */
  isRunning(): Promise<boolean>;
}

export interface DeviceCase extends Trials {
  readonly machine: Machine;
  readonly config: Config;
  readonly files: DeviceFiles;
  /** Lines of known_hosts that were set from the lab, beside those of the file. */
  readonly hostKeys: readonly string[];
  /** The whole machine's network cards. Looked up once, as the others below. */
  links(): Promise<readonly Link[]>;
  /** Interfaces with a default route. */
  defaultRoutes(): Promise<readonly string[]>;
  resolve(host: string): Promise<Resolved>;
  /** The device's certificate; undefined if there is none. @throws WaltError when it is damaged. */
  certificate(): Promise<Certificate | undefined>;
  readonly ways: readonly WayCase[];
}

/** One entrypoint. */
export interface WayCase {
  readonly device: DeviceCase;
  readonly entrypoint: Entrypoint;
  /** As it stands in vpn.toml. */
  readonly name: string;
  /** The first machine on the route: a proxy, or the server itself. */
  readonly hop: HostPort;
  /** How messages call it: `proxy gate.example.org:22`. */
  readonly peer: string;
  /** The names under which the host keys on the route are pinned. */
  readonly aliases: readonly string[];
  /** What came of a connection to the first hop, at the address of it that answered. */
  greeting(): Promise<Talk & { readonly host: string }>;
  attempt(): Promise<Attempt>;
}

export function deviceCase(
  machine: Machine,
  config: Config,
  files: DeviceFiles,
  hostKeys: readonly string[],
  trials: Trials,
): DeviceCase {
  const names = new Map<string, Promise<Resolved>>();
  const device: DeviceCase = {
    ...trials,
    machine,
    config,
    files,
    hostKeys,
    links: once(async () => parseInterfaces(await ipJson(machine, ["address"]))),
    defaultRoutes: once(async () => {
      const show = ["route", "show", "default"];
      const both = await Promise.all([ipJson(machine, show), ipJsonIfAny(machine, ["-6", ...show])]);
      return both.flatMap(parseDefaultRoutes);
    }),
    resolve: (host) => {
      const known = names.get(host) ?? machine.resolve(host);
      names.set(host, known);
      return known;
    },
    certificate: once(async () => {
      const line = await machine.read(files.certificate);
      return line === undefined ? undefined : parseCertificateLine(line, files.certificate);
    }),
    get ways() {
      return ways();
    },
  };
  const ways = once(() => config.device.entrypoint.map((one) => wayCase(device, one)));
  return device;
}

function wayCase(device: DeviceCase, entrypoint: Entrypoint): WayCase {
  const direct = "direct" in entrypoint;
  const proxies = direct ? [] : entrypoint.proxies;
  const hop = direct ? entrypoint.direct : (proxies[0] ?? { host: "", port: 0 });
  return {
    device,
    entrypoint,
    name: formatEntrypoint(entrypoint),
    hop,
    peer: `${direct ? "the server" : "proxy"} ${formatHostPort(hop)}`,
    aliases: [...proxies.map(formatHostPort), SERVER_ALIAS],
    greeting: once(async () => {
      const found = await device.resolve(hop.host);
      // ssh tries all addresses; the first that answers will do.
      let last: Talk & { host: string } = { is: "none", code: "ENOTFOUND", host: hop.host };
      for (const host of "addresses" in found ? found.addresses.slice(0, ADDRESSES) : []) {
        last = { ...(await device.machine.talk({ ...hop, host })), host };
        if (last.is === "there") return last;
      }
      return last;
    }),
    attempt: once(() => device.attempt(entrypoint)),
  };
}
