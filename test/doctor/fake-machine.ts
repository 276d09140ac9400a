/**
 * A machine that is not there, for the checks of `walt doctor`: it is well, but for what a test says of it.
 */

import type { FileFacts, Machine, Ran, Resolved, Space, Talk } from "../../src/doctor/machine.ts";

/** 2026-12-01T12:00:00Z */
export const NOW = Date.UTC(2026, 11, 1, 12);

export interface Fake {
  now?: number;
  /** Programs that are not installed. */
  missing?: readonly string[];
  /**
   * What commands print, by their words; undefined for one that hangs. Those that are not here fail with
   * status 1.
   */
  commands?: Readonly<Record<string, string | Ran | undefined>>;
  /** Texts of files; undefined for one that is not there. Their folders are there, too. */
  files?: Readonly<Record<string, string | undefined>>;
  facts?: Readonly<Record<string, Partial<FileFacts>>>;
  /** Names in folders; others are those of `files`. */
  folders?: Readonly<Record<string, readonly string[]>>;
  /** Why a path cannot be used, by path. */
  access?: Readonly<Record<string, string>>;
  space?: Partial<Space>;
  /** Addresses of names; others are not known. */
  names?: Readonly<Record<string, readonly string[]>>;
  /** What comes of a connection, by `host:port`; others are refused. `send`: the length of what is sent. */
  talk?: Readonly<Record<string, Talk | ((send: number) => Talk)>>;
  /** Answers to datagrams, by host. */
  answers?: Readonly<Record<string, Uint8Array>>;
  /** Why a port cannot be listened on, by port. */
  ports?: Readonly<Record<number, string>>;
  watch?: string;
}

const ROOM: Space = { size: 10e9, free: 5e9, files: 1000, freeFiles: 900 };
const MEMINFO = "MemTotal: 900000 kB\nMemAvailable:   500000 kB\n";

export function fakeMachine(fake: Fake = {}): Machine {
  const given = { "/proc/meminfo": MEMINFO, ...fake.files };
  const files = Object.fromEntries(Object.entries(given).filter(([, text]) => text !== undefined));
  const isFolder = (path: string): boolean => Object.keys(files).some((file) => file.startsWith(`${path}/`));
  return {
    now: () => fake.now ?? NOW,
    has: (program) => fake.missing?.includes(program) !== true,
    run: async (command) => {
      const words = command.join(" ");
      if (fake.missing?.includes(command[0] ?? "") === true) return undefined;
      if (fake.commands === undefined || !Object.hasOwn(fake.commands, words))
        return { status: 1, stdout: "", stderr: "" };
      const ran = fake.commands[words];
      return typeof ran === "string" ? { status: 0, stdout: ran, stderr: "" } : ran;
    },
    read: async (path) => files[path],
    list: async (folder) => [
      ...(fake.folders?.[folder] ??
        new Set(
          Object.keys(files).flatMap((file) =>
            file.startsWith(`${folder}/`) ? [file.slice(folder.length + 1).split("/")[0] ?? ""] : [],
          ),
        )),
    ],
    stat: async (path) => {
      const facts = fake.facts?.[path];
      if (facts === undefined && files[path] === undefined && !isFolder(path)) return undefined;
      return { mode: 0o600, uid: 0, modified: NOW, ...facts };
    },
    access: async (path) => fake.access?.[path],
    space: async () => ({ ...ROOM, ...fake.space }),
    resolve: async (host): Promise<Resolved> => {
      if (/^[\d.]+$/.test(host)) return { addresses: [host] };
      const addresses = fake.names?.[host];
      return addresses === undefined ? { code: "ENOTFOUND" } : { addresses };
    },
    talk: async ({ host, port }, send) => {
      const talk = fake.talk?.[`${host}:${port}`] ?? { is: "none", code: "ECONNREFUSED" };
      return typeof talk === "function" ? talk(send?.length ?? 0) : talk;
    },
    ask: async ({ host }) => fake.answers?.[host],
    listen: async ({ port }) => fake.ports?.[port],
    watch: async () => fake.watch,
  };
}

/** A peer that greets, and closes the connection when it is asked to. */
export const SSHD: Talk = { is: "there", line: "SSH-2.0-OpenSSH_10.0", ended: true };
