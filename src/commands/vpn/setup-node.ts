/** `walt vpn setup-node` */

import { resolve } from "node:path";
import {
  type Entrypoint,
  formatEntrypoint,
  formatHostPort,
  type HostPort,
  MAX_ENTRYPOINTS,
  parseEntrypoint,
  parseHostPort,
  SERVER_PORT,
} from "../../address.ts";
import { BOARD_NAMES, BOARDS } from "../../boards.ts";
import { loadConfig } from "../../config/load.ts";
import { TOKEN } from "../../enrolment/token.ts";
import { usageError } from "../../errors.ts";
import { fingerprint } from "../../ssh/keys/ed25519.ts";
import { ask } from "../_ask.ts";
import { command, print, printError, STDOUT } from "../_command.ts";
import { serverOptions, withServer } from "../_server.ts";
import { printed } from "../node/_output.ts";
import { deviceFiles, folderArchive, refuseExisting, writeFolder } from "./_device-files.ts";
import { pinnedHostKeys } from "./_host-keys.ts";
import { fetchTrust } from "./_trust.ts";

const QUESTION =
  "hostname or IP of the VPN entrypoint (a proxy, a chain of proxies with commas, or ssh://host:port for the server itself)";

/** The default folder for a machine with its own system. */
const FOLDER = "walt-device";

export default command({
  name: "walt vpn setup-node",
  description: "Write an SD-card image for Raspberry Pi boards, or the configuration of a mini-PC",
  examples: [
    "walt vpn setup-node --entrypoint gate.example.org",
    "walt vpn setup-node --entrypoint gate.example.org,inner.lab.example --known-hosts ./checked_hosts --compress",
    "walt vpn setup-node --entrypoint gate.example.org --entrypoint gate2.example.org --yes",
    "walt vpn setup-node --board generic --entrypoint ssh://walt.lab.example:2222 --yes -o bench-devices",
  ],
  args: {
    entrypoint: {
      type: "string",
      valueHint: "a[,b…]",
      description:
        "A proxy, a chain of proxies (the exposed one first), or ssh://host:port for the server itself. Repeat it for others to try when it fails",
    },
    next: {
      type: "string",
      valueHint: "host[:port]",
      description:
        "The server's address as the last proxy knows it: the --next of its setup-proxy (default: server.address)",
    },
    board: {
      type: "enum",
      options: BOARD_NAMES,
      default: "rpi-3-b-plus",
      description: "The kind of board. generic: a machine with its own Debian, for which a folder is written",
    },
    "known-hosts": {
      type: "string",
      valueHint: "file",
      description: "Take the proxies' host keys from this known_hosts file instead of the network",
    },
    output: {
      type: "string",
      alias: "o",
      valueHint: "path",
      description:
        "The image or folder to write, or - for standard output: then the folder is a tar archive (default: rpi3bp-vpn.dd, rpi3b-vpn.dd or walt-device)",
    },
    yes: {
      type: "boolean",
      alias: "y",
      description: "Ask no questions: trust the host keys from the network, and write to the card",
    },
    flash: {
      type: "string",
      valueHint: "/dev/sdX",
      description: "Write directly to the card in this reader",
    },
    compress: { type: "boolean", description: "Compress the image with zstd" },
    force: {
      type: "boolean",
      description:
        "Replace an existing image. With --flash: write to a device that does not look like a card",
    },
    base: {
      type: "string",
      valueHint: "file",
      description: "Use this base, which may be compressed with zstd, instead of the one in the cache",
    },
    hostname: { type: "string", valueHint: "name", description: "The board's host name" },
    address: {
      type: "string",
      valueHint: "ip/length",
      description: "A static IPv4 address for the board, instead of DHCP",
    },
    gateway: { type: "string", valueHint: "ip", description: "With --address: the default route" },
    dns: { type: "string", valueHint: "ip[,ip]", description: "With --address: DNS servers" },
    mtu: {
      type: "string",
      valueHint: "bytes",
      description: "The largest packet of the board's network (default: what DHCP says)",
    },
    vlan: { type: "string", valueHint: "number", description: "The VLAN that the board is in" },
    ntp: {
      type: "string",
      valueHint: "host[,host]",
      description: "NTP servers for the board's clock, which need not be set",
    },
    "ssh-key": {
      type: "string",
      valueHint: "file",
      description: "Public keys that may log in to the board's own system as root (default: none)",
    },
    token: {
      type: "string",
      valueHint: "token",
      description:
        "A token from `walt vpn token add`: devices with this image or folder are accepted without a question. `-` reads it from standard input",
    },
    ...serverOptions,
  },
  async run(args, every) {
    const token = args.token === undefined ? undefined : await readToken(args.token);
    const given = entrypointsOf(every("entrypoint"));
    if (args.next !== undefined) parseHostPort(args.next, SERVER_PORT);
    const { board, flash } = args;
    const toStdout = args.output === STDOUT;
    const output = resolve(args.output ?? BOARDS[board].image ?? FOLDER);
    const { compress = false, force = false, yes = false, base } = args;
    const os = {
      hostname: args.hostname,
      address: args.address,
      gateway: args.gateway,
      dns: args.dns?.split(","),
      vlan: numberOf(args.vlan, "--vlan"),
      mtu: numberOf(args.mtu, "--mtu"),
      ntp: args.ntp?.split(","),
    };
    const loginKeys = args["ssh-key"];
    const forCard = { flash, compress: args.compress, force: args.force, base, ...os, "ssh-key": loginKeys };
    const surplus = Object.entries(forCard).find(([, value]) => value !== undefined);
    if (board === "generic" && surplus !== undefined) {
      throw usageError(`--${surplus[0]} is for an SD card, but --board generic has none`);
    }
    if (flash !== undefined && (compress || args.output !== undefined)) {
      throw usageError(
        "--flash writes to the card and not to a file, so that -o and --compress cannot be used with it",
      );
    }
    let system = {};
    if (toStdout && process.stdout.isTTY)
      throw usageError("-o - would write to the terminal", "Pipe it into a program, or name a file.");
    if (board === "generic") {
      if (!toStdout) refuseExisting(output);
    } else {
      // All arguments are checked before a question is asked.
      const { lookAtCard, systemFiles } = await import("./_card.ts");
      system = systemFiles(os, loginKeys);
      if (flash !== undefined) lookAtCard(flash, force);
      else if (!force && !toStdout) refuseExisting(compress ? `${output}.zst` : output);
    }
    await withServer(args, async (api) => {
      const trust = await fetchTrust(api);
      const entrypoints = given.length > 0 ? given : entrypointsOf([await ask(QUESTION, "--entrypoint")]);
      const server = parseHostPort(args.next ?? trust.address, SERVER_PORT);
      const hostKeys = await pinnedHostKeys(proxiesOf(entrypoints), {
        file: args["known-hosts"],
        yes,
      });
      const files = deviceFiles({ entrypoints, server, board, hostKeys, token }, trust);
      const ways = entrypoints.map(formatEntrypoint).join(", then ");
      const about = `for devices with entrypoint ${ways}; server key ${trust.serverKeys.map(fingerprint).join(" or ")}`;
      if (board === "generic") {
        if (toStdout) {
          await printed(await folderArchive(files));
          printError(`A tar archive is written, ${about}.`);
          return;
        }
        writeFolder(output, files);
        print(`${output} is written, ${about}.`);
        print("Copy it to the device, then run there: sudo walt device install FOLDER");
        return;
      }
      const { chooseCard, flashFiles, printCard, writeCard } = await import("./_card.ts");
      const what = { base, system, mirror: loadConfig(args.config).image.mirror };
      if (flash !== undefined) {
        const card = await chooseCard(flash, { force, yes });
        await flashFiles(files, card, what);
        print(`${card.device} is written and verified, ${about}.`);
        return;
      }
      if (toStdout) {
        await printCard(files, { ...what, compress });
        printError(`The image is written, ${about}.`);
        return;
      }
      const written = await writeCard(files, { ...what, output, compress, force });
      print(`${written.image} is written, ${about}.`);
      print(
        `Flash it: ${compress ? `zstd -dc ${written.image} | ` : ""}dd ${compress ? "" : `if=${written.image} `}of=/dev/sdX bs=4M conv=fsync status=progress`,
      );
    });
  },
});

/**
 * What --entrypoint said, the preferred one first.
 * @throws WaltError (usage) when one is none, or there are too many.
 */
function entrypointsOf(texts: readonly string[]): Entrypoint[] {
  const byName = new Map(texts.map(parseEntrypoint).map((one) => [formatEntrypoint(one), one]));
  if (byName.size > MAX_ENTRYPOINTS)
    throw usageError(`${byName.size} entrypoints are too many`, `The maximum is ${MAX_ENTRYPOINTS}.`);
  return [...byName.values()];
}

/** The proxies on all ways, each once. */
function proxiesOf(entrypoints: readonly Entrypoint[]): HostPort[] {
  const all = entrypoints.flatMap((one) => ("proxies" in one ? one.proxies : []));
  return [...new Map(all.map((proxy) => [formatHostPort(proxy), proxy])).values()];
}

/** The token that --token names. @throws WaltError (usage) when it is none. */
async function readToken(option: string): Promise<string> {
  const text = (option === "-" ? await Bun.stdin.slice(0, 1000).text() : option).trim();
  if (TOKEN.test(text)) return text;
  throw usageError(
    option === "-" ? "standard input has no token" : "--token is not a token",
    "`walt vpn token add` makes one. It begins with walt_.",
  );
}

/** @throws WaltError (usage) naming the value when it is no number. */
function numberOf(text: string | undefined, option: string): number | undefined {
  if (text === undefined) return undefined;
  if (!/^\d{1,6}$/.test(text)) throw usageError(`${option} ${JSON.stringify(text)} is no whole number`);
  return Number(text);
}
