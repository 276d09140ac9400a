/**
 * What there is on a host of the laboratory: processes, interfaces, files and sockets, and the descriptors of
 * WalT's processes. After a fault it must be what it was before.
 */

import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import type { Host } from "../lab/host.ts";

/** How many there are of each thing, by words that name it. */
export type Inventory = ReadonlyMap<string, number>;

/** Runs from the first wait for the network on; when it has ended, from the next one on. */
const MONITOR = "ip monitor";
/** Sockets that the supervisor has for it: its standard input, output and error. */
const MONITOR_SOCKETS = 3;
/** A session of OpenSSH 9 goes on when this part of it is killed; later ones have it again. */
const ROOTS_PART = "sshd, root's part of a session";

/** What a process is, by its command line; the first that fits counts. */
const PROCESSES: readonly (readonly [RegExp, string])[] = [
  [/ server run$/, "daemon"],
  [/ device run$/, "supervisor"],
  [/^dnsmasq/, "dnsmasq"],
  [/^sh -c [\s\S]*dnsmasq/, "dnsmasq.sh"],
  [/^ssh -F .*HostKeyAlias=walt-server/, "inner ssh"],
  [/^ssh -F /, "outer ssh"],
  [/^ip monitor/, MONITOR],
  [/^\/usr\/sbin\/sshd /, "sshd"],
  [/^sshd.*\[listener\]/, "sshd"],
  [/^sshd[^:]*: \S+ \[priv\]/, ROOTS_PART],
  [/^sshd[^:]*: walt-vpn/, "sshd, user's part of a session"],
  [/^sshd/, "sshd, part of a login"],
  [/^(\S*sh -c )?(exec )?cat$/, "heartbeat's cat"],
  [/^nsenter |^sh -c |^ip |^bridge /, "tool"],
];

/** Files that come and go, or whose number may grow, and are bounded by other tests. */
const FILES_THAT_CHANGE = /\/copies\/|\/device-certificate-next\.pub$|\.sqlite-(wal|shm)$/;

/** Folders of a host in which WalT writes. */
const FOLDERS = ["/run", "/etc/walt", "/var/lib/walt", "/var/lib/walt-vpn", "/home"];

/** The kind of a process, by its command line. */
export function kindOf(command: string): string {
  return PROCESSES.find(([pattern]) => pattern.test(command))?.[1] ?? command.slice(0, 200);
}

/** Processes of a host that are no tool of a moment, with their kinds. */
export function processesOf(host: Host): { pid: number; kind: string }[] {
  return host
    .processes()
    .map(({ pid, command }) => ({ pid, kind: kindOf(command) }))
    .filter(({ kind }) => kind !== "tool");
}

/** Everything on these hosts together: a device may use another proxy than before. */
export function inventoryOf(hosts: readonly Host[]): Inventory {
  const found = new Map<string, number>();
  const add = (what: string): void => void found.set(what, (found.get(what) ?? 0) + 1);
  for (const host of hosts) addThings(host, add);
  return found;
}

function addThings(host: Host, add: (what: string) => void): void {
  const processes = processesOf(host);
  const monitors = processes.filter(({ kind }) => kind === MONITOR).length;
  for (const { pid, kind } of processes) {
    if (kind !== MONITOR) add(`process: ${kind}`);
    if (kind !== "daemon" && kind !== "supervisor") continue;
    const sockets = descriptorsOf(pid).filter((one) => one === "socket").length;
    for (let i = MONITOR_SOCKETS * monitors; i < sockets; i++) add(`descriptor of the ${kind}: socket`);
    for (const one of descriptorsOf(pid)) if (one !== "socket") add(`descriptor of the ${kind}: ${one}`);
  }
  for (const name of interfacesOf(host.pid)) add(`interface: ${name.replace(/^tap-.*/, "tap-…")}`);
  for (const folder of [...FOLDERS, join(host.dir, "tmp")])
    for (const file of filesBelow(host.path(folder)))
      if (!FILES_THAT_CHANGE.test(file)) add(`file: ${folder.replace(host.dir, "")}/${file}`);
}

/** So many descriptors more than before may belong to what happens right now: what leaks grows beyond that. */
const DESCRIPTORS = 4;

/** Whether there may be `now` of a thing of which there were `before`. */
function fits(name: string, before: number, now: number): boolean {
  if (name.startsWith("descriptor")) return now <= before + DESCRIPTORS;
  return name === `process: ${ROOTS_PART}` ? now <= before : now === before;
}

/** What is missing or too much, a line for each thing: `process: dnsmasq: 1 → 0`. */
export function differences(before: Inventory, now: Inventory): string[] {
  const names = [...new Set([...before.keys(), ...now.keys()])].sort();
  return names.flatMap((name) => {
    const [was, is] = [before.get(name) ?? 0, now.get(name) ?? 0];
    return fits(name, was, is) ? [] : [`${name}: ${was} → ${is}`];
  });
}

/** Descriptors of a process by what they are: `socket`, `pipe`, `/dev/net/tun`. */
function descriptorsOf(pid: number): string[] {
  const folder = `/proc/${pid}/fd`;
  return namesIn(folder).flatMap((number) => {
    try {
      // Bun opens files and folders for a moment; what it keeps open has one of these names.
      const target = readlinkSync(`${folder}/${number}`);
      const kind = /^(socket|pipe|anon_inode|\/dev\/net\/tun|\/dev\/kmsg)/.exec(target)?.[1];
      return kind === undefined ? [] : [kind];
    } catch {
      return []; // it is closed meanwhile
    }
  });
}

/** The network interfaces in the namespace of a process. */
function interfacesOf(pid: number): string[] {
  const lines = readFileSync(`/proc/${pid}/net/dev`, "utf8").split("\n").slice(2);
  return lines.flatMap((line) => /^\s*([^:\s]+):/.exec(line)?.[1] ?? []);
}

function filesBelow(folder: string): string[] {
  try {
    return readdirSync(folder, { recursive: true }).map(String);
  } catch {
    return []; // it is not there, or changes right now: it is looked at again
  }
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
