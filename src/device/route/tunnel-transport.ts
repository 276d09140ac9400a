/**
 * Opens the transport that carries a tunnel's bytes to the server.
 *
 * To `walt server run`, it is an SSH connection of our own, which the pump's thread takes over. To a server
 * of WalT's own VPN, which may be any sshd, it is OpenSSH's ssh with its standard input and output on a pair
 * of sockets.
 */

import { closeSync, readFileSync } from "node:fs";
import { type End, isStreamEnd } from "../../end.ts";
import { tunnelName } from "../../enrolment/commands.ts";
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
import { type ServerCommandOptions, serverCommandLine } from "./server-command.ts";
import { unlessWaltProxy } from "./walt-proxy.ts";

/**
 * Milliseconds from the TCP connection to the start of the command: a key exchange on a slow board over a
 * slow path.
 */
const OPEN_TIMEOUT = 30_000;
/** ms within which a session ends that comes to nothing. A longer one has carried a tunnel. */
const SOON = 60_000;

/** A transport that is open. */
export interface TunnelTransport {
  /** File descriptor of the bytes, which the pump owns from then on. */
  readonly stream: number;
  /**
   * State of the SSH connection on `stream`, for the pump; undefined when `stream` has the tunnel's bytes as
   * they are.
   */
  readonly ssh?: Memory;
  /** Name of the tunnel that begins on this connection (enrolment/commands.ts). */
  readonly name?: string;
  /** Resolves when the server has let us in. */
  readonly entered: Promise<unknown>;
  /**
   * End everything that belongs to the transport, and find out why it ended.
   * @param end the reason as the link saw it.
   * @param wasUp whether the tunnel was up before.
   * @param signal gives up what takes long.
   */
  explain(end: End, wasUp: boolean, signal: AbortSignal): Promise<End>;
}

/**
 * Open a transport to `walt server run`.
 * @throws RouteFailure when the server cannot be reached, has another host key, or refuses.
 */
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
    const explain = async (end: End, wasUp: boolean, giveUp: AbortSignal): Promise<End> => {
      if (end.kind === "refused") {
        const text = serverWords(end.text);
        return text === undefined ? await unlessProxy(o, end, giveUp) : { kind: "refused", text };
      }
      if (wasUp || !isStreamEnd(end)) return end;
      return await proxies.explainEnd(
        { kind: "closed", text: `${proxies.peer}: it closed the connection` },
        mark,
      );
    };
    const name = tunnelName(state.session.id);
    return { stream: fd, ssh: encodeState(state), name, entered: Promise.resolve(), explain };
  } catch (error) {
    if (!(error instanceof ChannelError)) throw error;
    const end = { kind: error.kind, text: `${proxies.peer}: ${error.message}` };
    throw new RouteFailure(await proxies.explainEnd(end, mark));
  }
}

/**
 * Open a transport to a server of WalT's own VPN: by OpenSSH's ssh, without a command.
 * @param silence milliseconds after which ssh takes the server for dead.
 * @throws WaltError when ssh cannot be started.
 */
export function openOriginalTransport(o: ServerCommandOptions, silence: number): TunnelTransport {
  const { proxies } = o;
  const { mark } = proxies;
  const [ours, theirs] = socketPair();
  try {
    // This framing has no message by which the link could detect a silent server, so that ssh has to. It asks
    // for a sign of life after `alive` seconds, and gives up after three times that.
    const alive = Math.max(1, Math.round(silence / 3000));
    const child = o.children.spawn(serverCommandLine({ ...o, alive }), theirs);
    const entered = child.printed(CONNECTED);
    let enteredAt = -Infinity;
    void entered.then(() => {
      enteredAt = performance.now();
    });
    const explain = async (end: End, wasUp: boolean, giveUp: AbortSignal): Promise<End> => {
      const lasted = performance.now() - enteredAt;
      // Its standard input and output are closed by now: an ssh without trouble ends at once, and one that
      // failed has printed why.
      const status = await Promise.race([child.exited, Bun.sleep(300)]);
      await child.stop();
      if (isStreamEnd(end) && lasted < SOON) {
        const found = await unlessProxy(o, end, giveUp);
        if (found !== end) return found;
      }
      const stderr = child.stderr.replace(CONNECTED, "");
      // The link knows the reason better than ssh, unless all that it saw was the end of ssh.
      if (status !== 255 || stderr.trim() === "" || (wasUp && !isStreamEnd(end))) {
        const words = serverWords(stderr);
        return words === undefined ? end : { kind: "refused", text: words };
      }
      return await proxies.explainStderr(stderr, mark);
    };
    // This framing has no greeting of the server, so that only ssh tells that the server has let us in.
    return { stream: ours, entered, explain };
  } catch (error) {
    closeSync(ours);
    throw error;
  } finally {
    closeSync(theirs);
  }
}

/**
 * The server of the configuration may be a proxy of WalT's own: this end unless it is. See `unlessWaltProxy`.
 */
async function unlessProxy(o: ServerCommandOptions, end: End, signal: AbortSignal): Promise<End> {
  const { proxies, keyFiles, knownHosts } = o;
  const connect = proxies.target;
  return await unlessWaltProxy(
    { connect, alias: SERVER_ALIAS, knownHosts, keyFiles, to: proxies.options.server ?? connect, signal },
    proxies.peer,
    end,
  );
}
