/** How commands reach the server's daemon: its socket here, or through ssh the one on another machine. */

import { existsSync, rmSync } from "node:fs";
import { hostname, userInfo } from "node:os";
import { join } from "node:path";
import type { ArgsDef } from "citty";
import { type ApiClient, UnreachableError } from "../api/client.ts";
import { loadConfig } from "../config/load.ts";
import { WaltError } from "../errors.ts";
import { smallFolder } from "../linux/files.ts";
import { paced } from "../linux/output.ts";
import { runAny, started } from "../linux/run.ts";
import { within } from "../linux/sleep.ts";
import { throughServer } from "../ssh/openssh/node-arguments.ts";
import {
  forwardArguments,
  operatorArguments,
  operatorSockets,
  SOCKET_FOLDER_LONGEST,
} from "../ssh/openssh/operator-arguments.ts";
import { safeText } from "../text.ts";
import { configOption } from "./_command.ts";
import { NamesClient } from "./_names.ts";
import { chooseServer } from "./_servers.ts";
import { beforeSignal } from "./_signals.ts";

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

/** Lines of refusals that are kept. */
const MAX_REFUSALS = 1000;
/** ms between looks whether ssh has logged in. */
const LOOK = 20;
/** ms that an ssh may take that does not use the network. */
const SHORT = 15_000;
/** ms that ssh may take to end; it is killed then. */
const ENDING = 2000;
/** ms until a refusal that was heard of has been read. */
const READ_TIME = 500;

/** Lines such as `channel 3: open failed: connect failed: Connection refused`. They do not say what was refused. */
export class Refusals {
  readonly #lines: string[] = [];
  #added = Promise.withResolvers<void>();

  get count(): number {
    return this.#lines.length;
  }

  add(line: string): void {
    if (this.#lines.length === MAX_REFUSALS) return;
    this.#lines.push(line);
    this.#added.resolve();
    this.#added = Promise.withResolvers();
  }

  /** The lines after the first `count`. When there are none, waits a moment for one. */
  async after(count: number): Promise<string[]> {
    if (this.count === count) await Promise.race([this.#added.promise, Bun.sleep(READ_TIME)]);
    return this.#lines.slice(count);
  }
}

/**
 * Use the server's API.
 * @throws WaltError when it cannot be reached.
 */
export function withServer<T>(args: ServerArgs, use: (api: ApiClient) => Promise<T>): Promise<T> {
  return withServerNetwork(args, (api) => use(api));
}

/**
 * Use the server's API, and walt-net behind the server.
 * @param use gets the connection to the server's machine; undefined where this is the server's machine itself.
 * @throws WaltError when the server cannot be reached.
 */
export async function withServerNetwork<T>(
  args: ServerArgs,
  use: (api: ApiClient, connection: ServerConnection | undefined) => Promise<T>,
): Promise<T> {
  const remote = chooseServer(args.server);
  const { socket } = loadConfig(args.config).server;
  if (remote === undefined) {
    const start = startCommand("walt-vpn", "walt server run");
    return await use(new NamesClient({ socket, start }), undefined);
  }
  const { user, host, port } = remote;
  await using parts = new AsyncDisposableStack();
  const folder = smallFolder((made) => {
    operatorSockets(made);
    return made;
  }, SOCKET_FOLDER_LONGEST);
  const removeFolder = (): void => rmSync(folder, { recursive: true, force: true });
  parts.defer(removeFolder);
  const { control, api: local } = operatorSockets(folder);
  // A signal that ends this command would leave an ssh behind that nobody ends.
  const stop = new AbortController();
  const atSignal = beforeSignal(() => {
    stop.abort();
    removeFolder();
  });
  parts.defer(() => atSignal[Symbol.dispose]());
  const short = { timeout: SHORT, signal: stop.signal };
  const version = await runAny(["ssh", "-V"], short);
  const machine = host.replace(/^\[|\]$/g, "");
  // The operator's own ssh, with its agent and passphrase: the login on the server gives the permission.
  const child = started("ssh", () =>
    Bun.spawn(operatorArguments({ host: machine, user, port, control, version: version.stderr }), {
      ...{ stdin: "inherit", stdout: "ignore", stderr: "pipe", lazy: true },
    }),
  );
  const refusals = new Refusals();
  const passed = passOn(child.stderr, refusals);
  stop.signal.addEventListener("abort", () => child.kill());
  parts.defer(async () => {
    child.kill();
    await within(ENDING, child.exited, new Error("late")).catch(() => child.kill("SIGKILL"));
  });
  // It may ask for a passphrase, so that there is no limit of time.
  while (!existsSync(control)) {
    const status = await Promise.race([child.exited, Bun.sleep(LOOK)]);
    if (status === undefined) continue;
    await Promise.race([passed, Bun.sleep(ENDING)]);
    throw new WaltError(`ssh to ${host} ended with status ${status}`, {
      hint: "The message of ssh is above.",
    });
  }
  const forward = await runAny(forwardArguments(control, local, socket), short);
  if (forward.status !== 0) {
    throw new WaltError(
      `ssh to ${host} does not forward ${socket}: ${safeText(forward.stderr.trim(), 300)}`,
      {
        hint: "See that nothing in your ssh_config is for another use of this host (ssh -G shows it).",
      },
    );
  }
  const api = new NamesClient({
    socket: local,
    start: `systemctl start walt-vpn (on ${host})`,
    name: `the server at ${remote.address}`,
  });
  try {
    return await use(api, { control, refusals });
  } catch (error) {
    // sshd gives no reason for a refused connection to the socket of the API.
    if (!(error instanceof UnreachableError) || (await refusals.after(0)).length === 0) throw error;
    const isForbidden = await forbidsForwarding(control, refusals);
    throw isForbidden ? forwardingForbidden() : ((await refusedSocket(control, host, socket)) ?? error);
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

/** Pass on what ssh says, but for what it says of connections through it: these lines are kept. */
async function passOn(stderr: ReadableStream<Uint8Array>, refusals: Refusals): Promise<void> {
  const decoder = new TextDecoder();
  let rest = "";
  const take = (line: string): void => {
    if (/^channel \d+: open failed: /.test(line)) refusals.add(line.trim());
    else process.stderr.write(line);
  };
  for await (const bytes of paced(stderr)) {
    const lines = (rest + decoder.decode(bytes, { stream: true })).split(/(?<=\n)/);
    // A line that is not complete may be a question.
    rest = /^c[^\n]*$/.test(lines.at(-1) ?? "") ? (lines.pop() ?? "") : "";
    for (const line of lines) take(line);
  }
  take(rest);
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
