/** `walt vpn setup-proxy` */

import { lookup } from "node:dns/promises";
import { networkInterfaces } from "node:os";
import { basename, resolve } from "node:path";
import { stringify } from "smol-toml";
import { formatHostPort, type HostPort, PROXY_PORT, parseHostPort } from "../../address.ts";
import { writeFileAtomic } from "../../linux/files.ts";
import { proxySetupScript } from "../../proxy/script.ts";
import { publicKeyLine } from "../../ssh/keys/ed25519.ts";
import { VERSION } from "../../version.ts";
import { ask } from "../_ask.ts";
import { command, print, printError, STDOUT, write } from "../_command.ts";
import { serverOptions, withServer } from "../_server.ts";
import { chooseServer } from "../_servers.ts";
import { fetchTrust, type Trust } from "./_trust.ts";

export default command({
  name: "walt vpn setup-proxy",
  description: "Write a script that makes a UNIX-like machine with OpenSSH a proxy",
  examples: [
    "walt vpn setup-proxy --next walt.lab.example",
    "walt vpn setup-proxy --next inner-proxy.lab.example:22 -o outer-setup.sh   # first of two proxies",
    "walt vpn setup-proxy --next walt.lab.example -o - | ssh root@gate.example.org sh",
    "walt vpn setup-proxy --toml -o vpn.toml   # for `walt proxy setup` and `walt proxy run`",
  ],
  args: {
    next: {
      type: "string",
      valueHint: "host[:port]",
      description: "Address of the server, or of the next proxy in a chain",
    },
    output: {
      type: "string",
      alias: "o",
      valueHint: "file",
      description:
        "The file to write, or - for standard output (default: proxy-setup.sh, or vpn.toml with --toml)",
    },
    toml: {
      type: "boolean",
      description: "Write a vpn.toml for `walt proxy setup` and `walt proxy run` instead of a script",
    },
    ...serverOptions,
  },
  async run(args) {
    // The arguments are checked before anything is asked or fetched.
    if (args.next !== undefined) parseHostPort(args.next, PROXY_PORT);
    await withServer(args, async (api) => {
      const trust = await fetchTrust(api);
      const answer =
        args.next ??
        (await ask(
          "hostname or IP of the walt server, or next proxy in case of several hops",
          "--next",
          trust.address,
        ));
      const { next, notes } = await nextHop(answer, trust, chooseServer(args.server) === undefined);
      const content = args.toml
        ? proxyToml(next, trust)
        : proxySetupScript({
            cas: trust.caKeys,
            enrolments: trust.enrolmentKeys,
            mark: trust.mark,
            revoked: trust.revokedKeys,
            next,
            serverCaFile: trust.caFile,
            version: VERSION,
            written: new Date(),
          });
      const name = args.output ?? (args.toml ? "vpn.toml" : "proxy-setup.sh");
      // What is said goes where the script does not.
      const say = name === STDOUT ? printError : print;
      const file = name === STDOUT ? "The script" : resolve(name);
      if (name === STDOUT) write(content);
      else writeFileAtomic(file, content, { mode: args.toml ? 0o644 : 0o755, exclusive: true });
      say(`${file} is written. The proxy will let devices reach ${formatHostPort(next)} and nothing else.`);
      for (const note of notes) say(`Note: ${note}`);
      if (name === STDOUT) return;
      say(
        args.toml
          ? "On the proxy, put it at /etc/walt/vpn.toml, then: walt proxy setup (or: walt proxy run)"
          : `Copy it to the proxy and run it there, as root or with sudo:  sh ${basename(file)}`,
      );
    });
  },
});

/**
 * The next hop with its port: the endpoint's for the server, 22 for a proxy; and what the operator should
 * know.
 */
async function nextHop(
  text: string,
  trust: Trust,
  isLocal: boolean,
): Promise<{ next: HostPort; notes: string[] }> {
  const server = parseHostPort(trust.address, PROXY_PORT);
  const given = parseHostPort(text, PROXY_PORT);
  const notes: string[] = [];
  const addresses = await lookup(given.host, { all: true }).catch(() => []);
  const own = Object.values(networkInterfaces()).flatMap((i) => i?.map((a) => a.address) ?? []);
  const isServer = given.host === server.host || (isLocal && addresses.some((a) => own.includes(a.address)));
  const next = isServer ? parseHostPort(text, server.port) : given;
  if (addresses.length === 0)
    notes.push(`${given.host} does not resolve on this machine; it must on the proxy.`);
  if (isServer && formatHostPort(next) !== trust.address) {
    notes.push(
      `devices must use the same address: walt vpn setup-node --next ${formatHostPort(next)} (or set server.address).`,
    );
  }
  // A port other than sshd's was typed on purpose.
  if (!isServer && given.port === PROXY_PORT)
    notes.push(
      `${formatHostPort(next)} is treated as a proxy. If it is the server, use the port of its endpoint: ${given.host}:${server.port}`,
    );
  return { next, notes };
}

function proxyToml(next: HostPort, trust: Trust): string {
  return stringify({
    role: "proxy",
    proxy: {
      next: formatHostPort(next),
      ca: only(trust.caKeys.map(publicKeyLine)),
      enrolment: only(trust.enrolmentKeys.map(publicKeyLine)),
      mark: trust.mark,
    },
  });
}

/** One key stands in the configuration without the brackets of an array. */
function only(keys: readonly string[]): string | string[] {
  const [first = "", ...others] = keys;
  return others.length === 0 ? first : [first, ...others];
}
