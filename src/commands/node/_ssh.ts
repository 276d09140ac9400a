/** One ssh to one node: a command or a shell there. */

import { readTextIfAny } from "../../linux/files.ts";
import type { Login, Logins } from "./_login.ts";
import type { LoginNode } from "./_login-failure.ts";
import { nodeLines } from "./_node-lines.ts";

/** Bytes of ssh's own messages. */
const MAX_SAID = 1 << 20;

export interface SshUse {
  /** The command, as its user's shell on the node reads it; the shell itself unless given. */
  readonly line?: string;
  /**
   * Takes the lines of the output, and nothing is typed. Unless given, the terminal or whatever standard input and
   * output are is the command's.
   */
  takes?(line: string, isError: boolean): Promise<void>;
}

/** @returns the exit status of the command on the node. @throws WaltError when the login fails. */
export async function sshOn(logins: Logins, node: LoginNode, use: SshUse): Promise<number> {
  const takes = use.takes?.bind(use);
  const { status, said } = await logins.on(node, takes === undefined, async (options): Promise<Login> => {
    // What ssh says goes to a file, apart from what the command says.
    const log = logins.file("log");
    const words = use.line === undefined ? [] : [use.line];
    const mode = use.line === undefined ? [] : ["-T"];
    const command = ["ssh", ...options, "-E", log, ...mode, "--", node.name, ...words];
    const own =
      takes === undefined ? await withTerminal(logins, command) : await withLines(logins, command, takes);
    return { status: own, said: readTextIfAny(log, MAX_SAID) ?? "" };
  });
  if (status !== 0) process.stderr.write(said);
  return status;
}

function withTerminal(logins: Logins, command: readonly string[]): Promise<number> {
  return logins.spawn(command, ["inherit", "inherit", "inherit"]).exited;
}

async function withLines(
  logins: Logins,
  command: readonly string[],
  takes: (line: string, isError: boolean) => Promise<void>,
): Promise<number> {
  const ssh = logins.spawn(command, ["ignore", "pipe", "pipe"]);
  await Promise.all([
    nodeLines(ssh.stdout, (line) => takes(line, false)),
    nodeLines(ssh.stderr, (line) => takes(line, true)),
  ]);
  return await ssh.exited;
}
