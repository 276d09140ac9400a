/** How commands reach the server's daemon: its socket here, or through ssh the one on another machine. */

import { existsSync, mkdtempSync, rmSync, watch } from "node:fs";
import { hostname, tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import type { ArgsDef } from "citty";
import { ApiClient } from "../api/client.ts";
import { loadConfig } from "../config/load.ts";
import { codeOf, usageError, WaltError } from "../errors.ts";
import { started } from "../linux/run.ts";
import { configOption } from "./_command.ts";

export const serverOptions = {
  ...configOption,
  server: {
    type: "string",
    valueHint: "ssh://user@host",
    description: "Use the server on another machine, through ssh",
  },
} as const satisfies ArgsDef;

/** Signals that end a command. */
const STOPS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** Who gives an answer, for the others' screens and the log. */
export function operator(): string {
  const { SUDO_USER, USER, LOGNAME } = process.env;
  const name = [SUDO_USER, USER, LOGNAME].find((one) => one !== undefined && one !== "");
  return `${name ?? (process.getuid?.() === 0 ? "root" : userInfo().username)}@${hostname()}`;
}

/**
 * Use the server's API.
 * @throws WaltError when it cannot be reached.
 */
export async function withServer<T>(
  args: { config?: string | undefined; server?: string | undefined },
  use: (api: ApiClient) => Promise<T>,
): Promise<T> {
  const config = loadConfig(args.config);
  const socket = config.server.socket;
  if (args.server === undefined) return await use(new ApiClient({ socket, start: startCommand() }));

  const match =
    /^ssh:\/\/(?:([A-Za-z0-9_][\w.-]*)@)?([A-Za-z0-9_][\w.-]*|\[[0-9A-Fa-f:]+\])(?::(\d{1,5}))?$/.exec(
      args.server,
    );
  if (match === null)
    throw usageError(`--server ${JSON.stringify(args.server)} is not of the form ssh://[user@]host[:port]`);
  const [, user, host = "", port] = match;
  await using parts = new AsyncDisposableStack();
  const folder = mkdtempSync(join(tmpdir(), "walt-"));
  parts.defer(() => rmSync(folder, { recursive: true, force: true }));
  const local = join(folder, "server.sock");
  const watcher = watch(folder);
  parts.defer(() => watcher.close());
  // The operator's own ssh, with its configuration, agent and passphrase: the login on the server gives the
  // permission.
  const child = started("ssh", () =>
    Bun.spawn(
      [
        ...["ssh", "-N", "-o", "ExitOnForwardFailure=yes", "-L", `${local}:${socket}`],
        ...(user === undefined ? [] : ["-l", user]),
        ...(port === undefined ? [] : ["-p", port]),
        ...["--", host.replace(/^\[|\]$/g, "")],
      ],
      { stdin: "inherit", stdout: "ignore", stderr: "inherit" },
    ),
  );
  // A signal that ends this command would leave an ssh behind that nobody ends.
  const endWithUs = (signal: NodeJS.Signals): void => {
    child.kill();
    if (process.listenerCount(signal) > 0) return; // the command ends in its own way
    rmSync(folder, { recursive: true, force: true });
    process.kill(process.pid, signal);
  };
  for (const signal of STOPS) process.once(signal, endWithUs);
  parts.defer(async () => {
    for (const signal of STOPS) process.off(signal, endWithUs);
    child.kill();
    await child.exited;
  });
  const appeared = new Promise<void>((resolve) => {
    watcher.on("change", () => existsSync(local) && resolve());
    if (existsSync(local)) resolve();
  });
  const status = await Promise.race([appeared.then(() => listening(local)), child.exited]);
  if (status !== undefined)
    throw new WaltError(`ssh to ${host} ended with status ${status}`, {
      hint: "The message of ssh is above.",
    });
  return await use(
    new ApiClient({
      socket: local,
      start: `walt server run (on ${host})`,
      name: `the server at ${args.server}`,
    }),
  );
}

/**
 * The command that starts the server on this machine: the service where `walt server install` has made one.
 */
function startCommand(): string {
  return existsSync("/etc/systemd/system/walt-vpn.service") ? "systemctl start walt-vpn" : "walt server run";
}

/**
 * A socket's file is there as soon as ssh has bound it, a moment before ssh listens: until then connections
 * are refused.
 */
async function listening(path: string): Promise<undefined> {
  for (;;) {
    try {
      const connection = await Bun.connect({ unix: path, socket: { data: () => {} } });
      connection.end();
      return;
    } catch (error) {
      if (codeOf(error) !== "ECONNREFUSED") throw error;
      await Bun.sleep(5);
    }
  }
}
