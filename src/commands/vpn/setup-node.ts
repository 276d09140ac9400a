/** `walt vpn setup-node` */

import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { messageOf, usageError, WaltError } from "../../errors.ts";
import { syncFolder, writeFileAtomic } from "../../linux/files.ts";
import { runAny } from "../../linux/run.ts";
import {
  type Entrypoint,
  formatEntrypoint,
  formatHostPort,
  type HostPort,
  parseEntrypoint,
  parseHostPort,
  SERVER_PORT,
} from "../../ssh/address.ts";
import { SERVER_ALIAS } from "../../ssh/client.ts";
import { fingerprint } from "../../ssh/keys.ts";
import { knownHostsLine, scanHostKeys } from "../../ssh/known-hosts.ts";
import { ask, confirm } from "../_ask.ts";
import { command, print } from "../_command.ts";
import { serverOptions, withServer } from "../_server.ts";
import { fetchTrust } from "./_trust.ts";

export default command({
  name: "walt vpn setup-node",
  description: "Write the configuration folder that devices with the same entrypoint start from",
  examples: [
    "walt vpn setup-node --entrypoint gate.example.org",
    "walt vpn setup-node --entrypoint gate.example.org,inner.lab.example --known-hosts ./checked_hosts",
    "walt vpn setup-node --entrypoint ssh://walt.lab.example:2222 --yes -o bench-devices",
  ],
  args: {
    entrypoint: {
      type: "string",
      valueHint: "a[,b…]",
      description: "The exposed proxy, a chain of proxies, or ssh://host:port for the server itself",
    },
    next: {
      type: "string",
      valueHint: "host[:port]",
      description: "The server as the last proxy names it (its setup-proxy --next; default: server.address)",
    },
    board: {
      type: "enum",
      options: ["generic", "rpi-3-b-plus"],
      default: "generic",
      description: "The kind of board",
    },
    "known-hosts": {
      type: "string",
      valueHint: "file",
      description: "Take the proxies' host keys from this known_hosts file, rather than scan them",
    },
    output: {
      type: "string",
      alias: "o",
      valueHint: "folder",
      default: "walt-device",
      description: "The folder to make",
    },
    yes: { type: "boolean", alias: "y", description: "Trust the scanned host keys without asking" },
    ...serverOptions,
  },
  async run(args) {
    if (args.entrypoint !== undefined) parseEntrypoint(args.entrypoint);
    if (args.next !== undefined) parseHostPort(args.next, SERVER_PORT);
    const folder = resolve(args.output);
    if (existsSync(folder))
      throw new WaltError(`${folder} exists already`, {
        hint: "Nothing was written. Move it away, or name another folder with -o.",
      });
    if (!existsSync(dirname(folder))) throw new WaltError(`${dirname(folder)} does not exist`);
    await withServer(args, async (api) => {
      const trust = await fetchTrust(api);
      const text =
        args.entrypoint ??
        (await ask(
          "hostname or IP of the VPN entrypoint (a proxy; several with commas; ssh://host:port for the server itself)",
          "--entrypoint",
        ));
      const entrypoint = parseEntrypoint(text);
      const server = parseHostPort(args.next ?? trust.address, SERVER_PORT);
      const known = [knownHostsLine(SERVER_ALIAS, trust.serverKey)];
      if ("proxies" in entrypoint) {
        for (const proxy of entrypoint.proxies) {
          const keys =
            args["known-hosts"] === undefined
              ? await scanned(proxy)
              : await checked(proxy, args["known-hosts"]);
          known.push(...keys.map((key) => knownHostsLine(formatHostPort(proxy), key)));
        }
        if (
          args["known-hosts"] === undefined &&
          !args.yes &&
          !(await confirm(
            "Are these the host keys of your proxies? Compare them with `ssh-keygen -lf` there.",
            "--yes",
          ))
        ) {
          throw new WaltError("the host keys were not confirmed; nothing was written");
        }
      }
      writeFolder(folder, {
        "walt.toml": [deviceToml(entrypoint, server, args.board), 0o644],
        known_hosts: [`${known.join("\n")}\n`, 0o644],
        enrolment_key: [trust.enrolmentPrivateKey, 0o600],
      });
      print(
        `${folder} is written, for devices with entrypoint ${formatEntrypoint(entrypoint)} and board ${args.board}.`,
      );
      print(`server key  ${fingerprint(trust.serverKey)}`);
      print("Copy it to the device as /etc/walt, then run there: walt device run");
    });
  },
});

/** Host keys from the network, shown with their fingerprints. */
async function scanned(proxy: HostPort): Promise<string[]> {
  let keys: string[];
  try {
    keys = await scanHostKeys(proxy);
  } catch (error) {
    throw new WaltError(messageOf(error), {
      hint: "A proxy that cannot be reached from here: collect its keys there and give them with --known-hosts FILE.",
      cause: error,
    });
  }
  const { stdout } = await runAny(["ssh-keygen", "-l", "-f", "-"], {
    input: keys.map((key) => `${key}\n`).join(""),
  });
  process.stderr.write(
    `Host keys of ${formatHostPort(proxy)}:\n${stdout
      .trim()
      .split("\n")
      .map((line) => `  ${line.replace(" no comment", "")}\n`)
      .join("")}`,
  );
  return keys;
}

/** Host keys out of a known_hosts file, hashed names included. */
async function checked(proxy: HostPort, file: string): Promise<string[]> {
  if (!existsSync(file)) throw new WaltError(`${file} does not exist`);
  const name = proxy.port === 22 ? proxy.host : `[${proxy.host}]:${proxy.port}`;
  const { stdout } = await runAny(["ssh-keygen", "-F", name, "-f", file]);
  const keys = stdout
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#") && !line.startsWith("@"))
    .map((line) => line.split(/\s+/).slice(1, 3).join(" "));
  if (keys.length === 0)
    throw usageError(
      `${file} has no host key of ${name}`,
      `Add one, for example the output of: ssh-keyscan -p ${proxy.port} ${proxy.host}`,
    );
  return keys;
}

function deviceToml(entrypoint: Entrypoint, server: HostPort, board: string): string {
  return `role = "device"

[device]
entrypoint = "${formatEntrypoint(entrypoint)}"
server = "${formatHostPort(server)}"
board = "${board}"
`;
}

/** The folder appears with all its files, or not at all. */
function writeFolder(folder: string, files: Record<string, [content: string, mode: number]>): void {
  let temp: string | undefined;
  try {
    temp = mkdtempSync(`${folder}.`);
    for (const [name, [content, mode]] of Object.entries(files))
      writeFileAtomic(join(temp, name), content, { mode });
    mkdirSync(folder); // fails when somebody else made it meanwhile
    renameSync(temp, folder);
    syncFolder(dirname(folder));
  } catch (error) {
    if (temp !== undefined) rmSync(temp, { recursive: true, force: true });
    if (error instanceof WaltError) throw error;
    throw new WaltError(`cannot write ${folder}: ${messageOf(error)}`, { cause: error });
  }
}
