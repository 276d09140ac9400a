/**
 * Logins on nodes, by OpenSSH: on the server directly, elsewhere through the connection to the server's machine.
 * A node must show a host key that it has shown before. Another one is learnt at the first contact, and later
 * only if the operator agrees.
 */

import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import type { ArgsDef } from "citty";
import type { ApiClient } from "../../api/client.ts";
import { SERVER } from "../../api/routes.ts";
import { usageError, WaltError } from "../../errors.ts";
import { smallFolder } from "../../linux/files.ts";
import { runAny, started } from "../../linux/run.ts";
import { hostKeyArguments, type NodeArguments, nodeOptions } from "../../ssh/openssh/node-arguments.ts";
import { safeText } from "../../text.ts";
import { confirm } from "../_ask.ts";
import { type ServerConnection, serverOptions, withServerNetwork } from "../_server.ts";
import { beforeSignal } from "../_signals.ts";
import { firstKey, KnownNodes, shownKey } from "./_known-nodes.ts";
import {
  addressOf,
  type LoginNode,
  loginFailure,
  mixedFailure,
  refusedHostKey,
  type Wanted,
} from "./_login-failure.ts";
import { aboutNewKey, rebootedSince } from "./_new-host-key.ts";

export const loginOptions = {
  user: { type: "string", valueHint: "name", default: "root", description: "The user on the node" },
  identity: {
    type: "string",
    alias: "i",
    valueHint: "file",
    description: "A private key, beside those of the agent, as for ssh -i",
  },
  "new-host-key": {
    type: "boolean",
    description: "Accept a host key that the node has not shown before: it has booted another image",
  },
  ...serverOptions,
} as const satisfies ArgsDef;

interface LoginArgs {
  readonly user: string;
  readonly "new-host-key"?: boolean | undefined;
  readonly config?: string | undefined;
  readonly server?: string | undefined;
}

/** Milliseconds for the agent's answer: one on another machine may be out of reach. */
const AGENT_LONGEST = 5000;

/** The exit status of ssh and scp when ssh itself failed. The command on the node may have the same one. */
const SSH_FAILED = 255;

/** How an ssh or scp ended. */
export interface Login {
  readonly status: number;
  /** What it said itself, apart from what a command on the node said. */
  readonly said: string;
}

/** @throws WaltError as `withServerNetwork`, and what `use` throws. */
export async function withLogins<T>(
  args: LoginArgs,
  identities: readonly string[],
  use: (api: ApiClient, logins: Logins) => Promise<T>,
): Promise<T> {
  if (!/^[A-Za-z_][\w.-]{0,31}\$?$/.test(args.user))
    throw usageError(`--user ${JSON.stringify(args.user)} is no name of a user`);
  return await withServerNetwork(args, async (api, connection) => {
    using logins = new Logins(api, connection, args.user, identities, args["new-host-key"] ?? false);
    return await use(api, logins);
  });
}

export class Logins implements Disposable {
  /** For temporary files, once there are any. */
  #folder: string | undefined;
  readonly #children = new Set<Bun.Subprocess>();
  readonly #atSignal = beforeSignal(() => this.#end());
  #files = 0;

  constructor(
    readonly api: ApiClient,
    readonly connection: ServerConnection | undefined,
    readonly user: string,
    readonly identities: readonly string[],
    readonly takesNewKeys: boolean,
    readonly known = new KnownNodes(),
  ) {}

  [Symbol.dispose](): void {
    this.#atSignal[Symbol.dispose]();
    this.#end();
  }

  #end(): void {
    for (const child of this.#children) child.kill();
    if (this.#folder !== undefined) rmSync(this.#folder, { recursive: true, force: true });
  }

  /** The path of a file that is there as long as the logins are. @throws WaltError when none can be made. */
  file(name: string): string {
    this.#folder ??= smallFolder((made) => made);
    return join(this.#folder, `${name}-${++this.#files}`);
  }

  /**
   * A program that ends with the logins at the latest.
   * @throws WaltError when it cannot be started.
   */
  spawn<
    In extends "inherit" | "ignore",
    Out extends "inherit" | "pipe" | "ignore",
    Err extends "inherit" | "pipe",
  >(command: readonly string[], stdio: readonly [In, Out, Err]): Bun.Subprocess<In, Out, Err> {
    const [stdin, stdout, stderr] = stdio;
    const child = started(command[0] ?? "", () =>
      Bun.spawn([...command], { stdin, stdout, stderr, env: process.env }),
    );
    this.#children.add(child);
    void child.exited.then(() => this.#children.delete(child));
    return child;
  }

  /**
   * Log in on a node.
   * @param attempt runs ssh or scp with these options. It is called again after a host key was learnt.
   * @param alone ssh may ask questions at the terminal: no other node is logged in on at the same time.
   * @returns the last attempt, whose status is that of what ran on the node.
   * @throws WaltError when the login fails.
   */
  async on(
    node: LoginNode,
    alone: boolean,
    attempt: (options: readonly string[]) => Promise<Login>,
  ): Promise<Login> {
    const h = this.#arguments(node, alone);
    if (this.known.keysOf(node.mac).length === 0) await this.#learn(node, alone);
    for (let again = false; ; again = true) {
      const before = this.connection?.refusals.count ?? 0;
      const login = await attempt(nodeOptions(h));
      if (login.status !== SSH_FAILED) return login;
      if (!refusedHostKey(login.said) || again) {
        const failure = await this.#failure(node, login.said, before);
        if (failure !== undefined) throw failure;
        return login;
      }
      await this.#learn(node, alone);
    }
  }

  #arguments(node: LoginNode, asks: boolean): NodeArguments {
    return {
      address: addressOf(node),
      alias: node.mac,
      user: this.user,
      knownHosts: this.known.path,
      identities: this.identities,
      control: this.connection?.control,
      asks,
    };
  }

  /** Learn the host key that the node shows. @throws WaltError when it shows none, or one that is refused. */
  async #learn(node: LoginNode, alone: boolean): Promise<void> {
    const { name, mac } = node;
    const file = this.file("key");
    const before = this.connection?.refusals.count ?? 0;
    const command = hostKeyArguments(name, { ...this.#arguments(node, false), knownHosts: file });
    const ssh = this.spawn(command, ["ignore", "ignore", "pipe"]);
    const said = await ssh.stderr.text();
    await ssh.exited;
    const key = existsSync(file) ? firstKey(readFileSync(file, "utf8")) : undefined;
    if (key === undefined) {
      throw (await this.#failure(node, said, before)) ?? new WaltError(`${name}: ${lastLine(said)}`);
    }
    const known = this.known.keysOf(mac);
    if (known.length > 0 && !this.takesNewKeys) {
      const words = await this.#aboutNewKey(node, key);
      const what = `${name} shows a host key that it has not shown before`;
      if (!alone || !process.stdin.isTTY) {
        throw new WaltError(`${what}\n${words}`, {
          hint: "If it has booted another image, repeat the command with --new-host-key.",
        });
      }
      process.stderr.write(`${what}.\n${words}\n`);
      if (!(await confirm("Has it booted another image, and is this its key?", "--new-host-key"))) {
        throw new WaltError(`the host key of ${name} was not accepted; nothing was done`);
      }
    }
    this.known.learn({ mac, key, name, learnt: new Date().toISOString() });
    const when = known.length === 0 ? "first contact" : "another image";
    process.stderr.write(`${name}: ${when}: host key ${shownKey(key)} is kept in ${this.known.path}\n`);
  }

  /** @throws WaltError when the server cannot be reached. */
  async #aboutNewKey({ name, mac }: LoginNode, key: string): Promise<string> {
    const known = this.known.keysOf(mac);
    const { report } = await this.api.call(SERVER.node, { node: name });
    const learnt = Date.parse(known.at(-1)?.learnt ?? "");
    return aboutNewKey({
      name,
      key,
      known,
      others: this.known.othersWith(key, mac),
      rebooted: Number.isNaN(learnt) ? undefined : rebootedSince(report, learnt),
    });
  }

  /**
   * Why a login failed; undefined if that is not known.
   * @param before how many refusals there were before it.
   */
  async #failure(node: LoginNode, said: string, before: number): Promise<WaltError | undefined> {
    const wanted: Wanted = {
      name: node.name,
      address: addressOf(node),
      user: this.user,
      tried: await triedKeys(this.identities),
    };
    // The node's sshd was not reached.
    const isWay = /Connection (closed|reset) by UNKNOWN|stdio forwarding|kex_exchange_identification/.test(
      said,
    );
    const refusals = isWay ? ((await this.connection?.refusals.after(before)) ?? []) : [];
    const reasons = [...new Set(refusals.map((line) => line.replace(/^channel \d+: /, "")))];
    if (reasons.length === 0) return loginFailure(said, wanted);
    return reasons.length === 1 ? loginFailure(reasons[0] ?? "", wanted) : mixedFailure(wanted, reasons);
  }
}

/** The keys that ssh tries, in words: those of the agent, and files. */
async function triedKeys(identities: readonly string[]): Promise<string> {
  // 0: it has keys; 1: it has none; 2: there is no agent.
  const agent = await runAny(["ssh-add", "-l"], { timeout: AGENT_LONGEST }).catch(() => undefined);
  const lines = agent?.status === 0 ? agent.stdout.trim().split("\n") : [];
  const ofAgent = lines.map((line) => line.split(" ").slice(2).join(" "));
  const folder = join(homedir(), ".ssh");
  const own = identities.length > 0 ? identities : defaultKeys(folder);
  const all = [...ofAgent.slice(0, 10).map((one) => `${one} of the agent`), ...own];
  return all.length === 0
    ? `no key, as there is none in the agent nor in ${folder}`
    : safeText(all.join(", "), 600);
}

/** The files that ssh tries by itself (ssh_config(5), IdentityFile) and that exist. */
function defaultKeys(folder: string): string[] {
  try {
    return readdirSync(folder)
      .filter((name) => /^id_(rsa|dsa|ecdsa|ecdsa_sk|ed25519|ed25519_sk|xmss)$/.test(name))
      .map((name) => join(folder, name));
  } catch {
    return [];
  }
}

function lastLine(text: string): string {
  return safeText(text.trim().split("\n").at(-1) ?? "", 200) || "ssh ended without a word";
}
