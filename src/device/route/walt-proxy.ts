/**
 * Recognises a proxy of WalT's own VPN. It lets a device in as ours do, but runs an ssh of its own to the next
 * hop, which is to authenticate with the agent that the device forwards. So its sshd takes an agent and
 * forbids to forward a port; a proxy of ours does the reverse.
 */

import { existsSync, readFileSync } from "node:fs";
import type { HostPort } from "../../address.ts";
import type { End } from "../../end.ts";
import { readText } from "../../linux/files.ts";
import { askPermissions, ChannelError } from "../../ssh/client/open-channel.ts";
import { CERTIFICATE_TYPE } from "../../ssh/keys/certificate.ts";
import { MAX_LINE, parseKeyLine } from "../../ssh/keys/ed25519.ts";
import { loadKey } from "../../ssh/keys/key-files.ts";
import { pinnedKeys } from "../../ssh/keys/known-hosts.ts";

/** ms for a connection, and for the login and two questions after it. */
const CONNECT_TIMEOUT = 8000;
const ASK_TIMEOUT = 15_000;

const WALT_PROXY =
  "this is a proxy of WalT's own: it needs agent forwarding, which this device does not do. " +
  "Use another entrypoint, or another user there (entrypoint USER@HOST)";

/** What is asked, and as whom. */
export interface WaltProxyOptions {
  /** Where it answers: the proxy itself, or the local port that the connection before forwards to it. */
  readonly connect: HostPort;
  /** The user there; `walt-vpn` unless given. */
  readonly user?: string | undefined;
  /** The name under which its host key is in `knownHosts`. */
  readonly alias: string;
  /** Path of the file with the pinned host keys. */
  readonly knownHosts: string;
  /** Paths of private keys; the first one is used. */
  readonly keyFiles: readonly string[];
  /** Paths of certificates of that key. ssh also knows the one beside the key (ssh(1), option -i). */
  readonly certificateFiles?: readonly string[];
  /** The next hop. */
  readonly to: HostPort;
  /** Gives up. */
  readonly signal: AbortSignal;
}

/**
 * The reason of the end of a session that a machine let us open and that came to nothing: that it is a proxy
 * of WalT's own, otherwise `end`. It never rejects: a machine that does not answer is not recognised.
 * @param peer the machine's name in messages, such as `proxy a:22`.
 */
export async function unlessWaltProxy(o: WaltProxyOptions, peer: string, end: End): Promise<End> {
  const [keyFile = ""] = o.keyFiles;
  for (const certificate of [...certificates(o), undefined]) {
    try {
      const { agent, forward } = await askPermissions(
        {
          ...{ connect: o.connect, key: loadKey(keyFile), signal: o.signal },
          login: { user: o.user, certificate },
          hostKeys: pinnedKeys(readFileSync(o.knownHosts, "utf8"), o.alias, o.knownHosts),
          ...{ connectTimeout: CONNECT_TIMEOUT, openTimeout: ASK_TIMEOUT },
        },
        o.to,
      );
      return agent && !forward ? { kind: "walt-proxy", text: `${peer}: ${WALT_PROXY}` } : end;
    } catch (error) {
      const refused = error instanceof ChannelError && error.kind === "key-refused";
      if (!refused) return end; // otherwise the next certificate may be the one that it accepts
    }
  }
  return end;
}

/** Those that can be read, as they go over the wire. */
function certificates({ keyFiles, certificateFiles = [] }: WaltProxyOptions): Buffer[] {
  return [...certificateFiles, `${keyFiles[0]}-cert.pub`].filter(existsSync).flatMap((file) => {
    try {
      return [parseKeyLine(readText(file, MAX_LINE).trim(), CERTIFICATE_TYPE, file).blob];
    } catch {
      return [];
    }
  });
}
