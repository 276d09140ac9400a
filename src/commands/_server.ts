/** How commands reach the server's daemon: its socket here, or through ssh the one on another machine. */

import { existsSync } from "node:fs";
import { hostname, userInfo } from "node:os";
import { join } from "node:path";
import type { ArgsDef } from "citty";
import { type ApiClient, UnreachableError } from "../api/client.ts";
import { loadConfig } from "../config/load.ts";
import { WaltError } from "../errors.ts";
import { runAny } from "../linux/run.ts";
import { throughServer } from "../ssh/openssh/node-arguments.ts";
import { safeText } from "../text.ts";
import { configOption } from "./_command.ts";
import { NamesClient } from "./_names.ts";
import { OperatorSsh, type Refusals } from "./_operator-ssh.ts";
import { chooseServer } from "./_servers.ts";

export const serverOptions = {
  ...configOption,
  server: {
    type: "string",
    valueHint: "name|ssh://[user@]host",
    description:
      "Use the server on another machine, through ssh (default: $WALT_SERVER, or what ~/.config/walt/config.toml says, or the one on this machine: local)",
  },
} as const satisfies ArgsDef;

/** Who gives an answer, for the others' screens and the log. */
export function operator(): string {
  const { SUDO_USER, USER, LOGNAME } = process.env;
  const name = [SUDO_USER, USER, LOGNAME].find((one) => one !== undefined && one !== "");
  return `${name ?? (process.getuid?.() === 0 ? "root" : userInfo().username)}@${hostname()}`;
}

/** The values of `serverOptions`. */
export interface ServerArgs {
  readonly config?: string | undefined;
  readonly server?: string | undefined;
}

/** The ssh connection to the server's machine, through which others may go. */
export interface ServerConnection {
  /** Path of the socket by which an `ssh -S` uses it. */
  readonly control: string;
  /** What its sshd says of connections through it that it does not make. */
  readonly refusals: Refusals;
}

/**
 * Use the server's API.
 * @throws WaltError when it cannot be reached.
 */
export function withServer<T>(args: ServerArgs, use: (api: ApiClient) => Promise<T>): Promise<T> {
  return reach(args, false, (api) => use(api));
}

/** As `withServer`, for a command that goes on: ssh connects again when it ends, as long as `use` runs. */
export function withServerKept<T>(args: ServerArgs, use: (api: ApiClient) => Promise<T>): Promise<T> {
  return reach(args, true, (api) => use(api));
}

/**
 * Use the server's API, and walt-net behind the server.
 * @param use gets the connection to the server's machine; undefined where this is the server's machine itself.
 * @throws WaltError when the server cannot be reached.
 */
export function withServerNetwork<T>(
  args: ServerArgs,
  use: (api: ApiClient, connection: ServerConnection | undefined) => Promise<T>,
): Promise<T> {
  return reach(args, false, use);
}

async function reach<T>(
  args: ServerArgs,
  isKept: boolean,
  use: (api: ApiClient, connection: ServerConnection | undefined) => Promise<T>,
): Promise<T> {
  const remote = chooseServer(args.server);
  const { socket } = loadConfig(args.config).server;
  if (remote === undefined) {
    const start = startCommand("walt-vpn", "walt server run");
    return await use(new NamesClient({ socket, start }), undefined);
  }
  const { host } = remote;
  await using ssh = await OperatorSsh.connect(remote, socket);
  const over = new AbortController();
  const kept = isKept ? ssh.keep(over.signal) : Promise.resolve();
  const { control, refusals } = ssh;
  const api = new NamesClient({
    socket: ssh.api,
    start: `systemctl start walt-vpn (on ${host})`,
    name: `the server at ${remote.address}`,
    ...(isKept && { lost: () => ssh.lost, silent: () => ssh.silent() }),
  });
  try {
    return await use(api, { control, refusals });
  } catch (error) {
    // sshd gives no reason for a refused connection to the socket of the API.
    if (!(error instanceof UnreachableError) || (await refusals.after(0)).length === 0) throw error;
    const isForbidden = await forbidsForwarding(control, refusals);
    throw isForbidden ? forwardingForbidden() : ((await refusedSocket(control, host, socket)) ?? error);
  } finally {
    over.abort();
    await kept;
  }
}

/** Why sshd could not connect to the socket of the API, as far as the user's login there tells. */
async function refusedSocket(control: string, host: string, socket: string): Promise<WaltError | undefined> {
  const file = `'${socket.replaceAll("'", "'\\''")}'`;
  const look = `test -e ${file} || echo absent; test -w ${file} || echo closed $(stat -c %G ${file}) $(id -un)`;
  const { stdout } = await runAny([...throughServer(control), "-T", "--", "server", look]);
  if (/^absent$/m.test(stdout)) {
    return new WaltError(`no daemon on ${host}: ${socket} does not exist there`, {
      hint: "Is the server installed there? `sudo systemctl start walt-vpn` there starts it.",
    });
  }
  const [, group, user] = /^closed (\S+) (\S+)$/m.exec(stdout) ?? [];
  if (group === undefined || user === undefined) return undefined;
  const [shownUser, shownGroup] = [safeText(user), safeText(group)];
  return new WaltError(
    `${shownUser} may not use the server on ${host}: ${socket} is for root and the group ${shownGroup}`,
    {
      hint: `On ${host}: sudo usermod -aG ${shownGroup} ${shownUser}. It counts from the next login there.`,
    },
  );
}

/** Whether sshd forbids every connection: a connection to a port on which nothing listens tells. */
async function forbidsForwarding(control: string, refusals: Refusals): Promise<boolean> {
  const before = refusals.count;
  await runAny([...throughServer(control), "-W", "127.0.0.1:1", "--", "server"]);
  return (await refusals.after(before)).some(isForbidden);
}

/** Whether sshd refused a connection because of its configuration. @param line of Refusals */
export function isForbidden(line: string): boolean {
  return line.includes("open failed: administratively prohibited");
}

export function forwardingForbidden(): WaltError {
  return new WaltError("the sshd of the server's machine forbids connections through it", {
    hint:
      "Allow them for your user in its sshd_config: `AllowTcpForwarding local`, and no PermitOpen. " +
      "Or run the command on the server.",
  });
}

/**
 * The command that starts a daemon on this machine: its service where there is one.
 * @param unit name of the service, without its ending.
 */
export function startCommand(unit: string, otherwise: string): string {
  const folders = ["/etc/systemd/system", "/usr/lib/systemd/system"];
  const isService = folders.some((folder) => existsSync(join(folder, `${unit}.service`)));
  return isService ? `systemctl start ${unit}` : otherwise;
}
