/**
 * What carries the tunnel's bytes to the server: an SSH connection of our own that goes on in the pump's thread; to a server of WalT's
 * own VPN, which is any sshd, OpenSSH's ssh with its standard input and output on a socketpair.
 */

import { closeSync, readFileSync } from "node:fs";
import { type End, isStreamEnd } from "../../end.ts";
import type { Memory } from "../../linux/libc.ts";
import { socketPair } from "../../linux/socketpair.ts";
import { ChannelError, openChannel } from "../../ssh/client/open-channel.ts";
import { encodeState } from "../../ssh/handshake/connection-state.ts";
import type { KeyPair } from "../../ssh/keys/ed25519.ts";
import { pinnedKeys } from "../../ssh/keys/known-hosts.ts";
import { CONNECTED, SERVER_ALIAS } from "../../ssh/openssh/arguments.ts";
import { serverWords } from "../../ssh/openssh/failure.ts";
import { CONNECT_TIMEOUT } from "./proxy-chain.ts";
import { RouteFailure } from "./route-failure.ts";
import { innerCommand, type ServerCommandOptions } from "./server-command.ts";

/** ms from the TCP connection to the command that runs: key exchange on a slow board over a slow path. */
const OPEN_TIMEOUT = 30_000;

export interface TunnelTransport {
  /** For the pump, which owns the descriptor from then on. */
  readonly stream: number;
  readonly ssh?: Memory;
  /** Resolves when the server has let us in. */
  readonly entered: Promise<unknown>;
  /** Why it ended, from what the link says, once everything that belongs to it is gone. */
  explain(end: End, wasUp: boolean): Promise<End>;
}

/** @throws RouteFailure when the server cannot be reached, is another one, or refuses. */
export async function openTransport(
  o: ServerCommandOptions & { key: KeyPair; command: string },
  signal: AbortSignal,
): Promise<TunnelTransport> {
  const { proxies, key, command, knownHosts } = o;
  const { mark } = proxies;
  try {
    const { fd, state } = await openChannel({
      ...{ connect: proxies.target, key, command, signal },
      hostKeys: pinnedKeys(readFileSync(knownHosts, "utf8"), SERVER_ALIAS, knownHosts),
      connectTimeout: CONNECT_TIMEOUT * 1000,
      openTimeout: OPEN_TIMEOUT,
    });
    const explain = async (end: End, wasUp: boolean): Promise<End> => {
      if (end.kind === "refused") return { kind: "refused", text: serverWords(end.text) ?? end.text };
      if (wasUp || !isStreamEnd(end)) return end;
      return await proxies.blame({ kind: "closed", text: `${proxies.peer}: it closed the connection` }, mark);
    };
    return { stream: fd, ssh: encodeState(state), entered: Promise.resolve(), explain };
  } catch (error) {
    if (!(error instanceof ChannelError)) throw error;
    const end = { kind: error.kind, text: `${proxies.peer}: ${error.message}` };
    throw new RouteFailure(await proxies.blame(end, mark));
  }
}

/** Without a command. @param silence ms after which ssh takes the server for dead. */
export function openOriginalTransport(o: ServerCommandOptions, silence: number): TunnelTransport {
  const { proxies } = o;
  const { mark } = proxies;
  const [ours, theirs] = socketPair();
  try {
    // Only ssh can tell that the server is silent: after three times this it gives up.
    const alive = Math.max(1, Math.round(silence / 3000));
    const child = o.children.spawn(innerCommand({ ...o, alive }), theirs);
    const explain = async (end: End, wasUp: boolean): Promise<End> => {
      // Its stdio is closed: an ssh that is well ends by itself at once, and one that failed has said why.
      const status = await Promise.race([child.exited, Bun.sleep(300)]);
      await child.stop();
      const stderr = child.stderr.replace(CONNECTED, "");
      // What the link saw is better than ssh's words, unless it saw nothing but ssh's end.
      if (status !== 255 || stderr.trim() === "" || (wasUp && !isStreamEnd(end))) {
        const words = serverWords(stderr);
        return words === undefined ? end : { kind: "refused", text: words };
      }
      return await proxies.explain(stderr, mark);
    };
    // Without a hello it is ssh's own word that the server has let us in; before it frames would wait in vain.
    return { stream: ours, entered: child.printed(CONNECTED), explain };
  } catch (error) {
    closeSync(ours);
    throw error;
  } finally {
    closeSync(theirs);
  }
}
