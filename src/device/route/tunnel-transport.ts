/**
 * What carries the tunnel's bytes to the server: an SSH connection of our own that goes on in the pump's thread; to a server of WalT's
 * own VPN, which is any sshd, OpenSSH's ssh with its standard input and output on a socketpair.
 */

import { closeSync, readFileSync } from "node:fs";
import type { Memory } from "../../linux/libc.ts";
import { socketPair } from "../../linux/socketpair.ts";
import { ChannelError, openChannel } from "../../ssh/client/open-channel.ts";
import { encodeState } from "../../ssh/handshake/connection-state.ts";
import type { KeyPair } from "../../ssh/keys/ed25519.ts";
import { pinnedKeys } from "../../ssh/keys/known-hosts.ts";
import { CONNECTED, SERVER_ALIAS } from "../../ssh/openssh/arguments.ts";
import { SILENCE } from "../../tunnel/pump-protocol.ts";
import { CONNECT_TIMEOUT } from "./proxy-chain.ts";
import { innerCommand, type ServerCommandOptions } from "./server-command.ts";
import { SshFailure, serverWords } from "./ssh-failure.ts";

/** ms from the TCP connection to the command that runs: key exchange on a slow board over a slow path. */
const OPEN_TIMEOUT = 30_000;

export interface TunnelTransport {
  /** For the pump, which owns the descriptor from then on. */
  readonly stream: number;
  readonly ssh?: Memory;
  /** Resolves when the server has let us in. */
  readonly entered: Promise<unknown>;
  /** Why it ended, from what the pump says, once all that belongs to it is gone. */
  end(reason: string, wasUp: boolean): Promise<SshFailure>;
}

/** @throws SshFailure when the server cannot be reached, is another one, or refuses. */
export async function openTransport(
  o: ServerCommandOptions & { key: KeyPair; command: string },
  signal: AbortSignal,
): Promise<TunnelTransport> {
  const { hops, key, command, knownHosts } = o;
  const { mark } = hops;
  try {
    const { fd, state } = await openChannel({
      ...{ connect: hops.target, key, command, signal },
      hostKeys: pinnedKeys(readFileSync(knownHosts, "utf8"), SERVER_ALIAS, knownHosts),
      connectTimeout: CONNECT_TIMEOUT * 1000,
      openTimeout: OPEN_TIMEOUT,
    });
    const end = async (reason: string, wasUp: boolean): Promise<SshFailure> => {
      const words = serverWords(reason);
      if (words !== undefined) return new SshFailure(words);
      if (wasUp || !/\bstream\b/.test(reason)) return new SshFailure(reason, false, SILENCE.test(reason));
      return await hops.blame(new SshFailure(`${hops.peer}: it closed the connection`), mark);
    };
    return { stream: fd, ssh: encodeState(state), entered: Promise.resolve(), end };
  } catch (error) {
    if (!(error instanceof ChannelError)) throw error;
    const words = `${hops.peer}: ${error.message}`;
    throw await hops.blame(new SshFailure(words, error.kind === "refused", error.kind === "silent"), mark);
  }
}

/** Without a command. @param silence ms after which ssh takes the server for dead. */
export function openOriginalTransport(o: ServerCommandOptions, silence: number): TunnelTransport {
  const { hops } = o;
  const { mark } = hops;
  const [ours, theirs] = socketPair();
  try {
    // Only ssh can tell that the server is silent: after three times this it gives up.
    const alive = Math.max(1, Math.round(silence / 3000));
    const child = o.children.spawn(innerCommand({ ...o, alive }), theirs);
    const end = async (reason: string, wasUp: boolean): Promise<SshFailure> => {
      // Its stdio is closed: an ssh that is well ends by itself at once, and one that failed has said why.
      const status = await Promise.race([child.exited, Bun.sleep(300)]);
      await child.stop();
      const stderr = child.stderr.replace(CONNECTED, "");
      // What the pump saw is better than ssh's words, unless it saw nothing but ssh's end.
      if (status !== 255 || stderr.trim() === "" || (wasUp && !/\bstream\b/.test(reason))) {
        return new SshFailure(serverWords(stderr) ?? reason, false, SILENCE.test(reason));
      }
      return await hops.explain(stderr, mark);
    };
    // Without a hello it is ssh's own word that the server has let us in; before it frames would wait in vain.
    return { stream: ours, entered: child.printed(CONNECTED), end };
  } catch (error) {
    closeSync(ours);
    throw error;
  } finally {
    closeSync(theirs);
  }
}
