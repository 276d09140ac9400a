/** An `ssh` that is a script of the test's: what it is asked is kept, and what it does is decided by the host key's alias. */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eventually } from "../../lab/eventually.ts";

/** One command line of ssh, taken apart as far as tests look at it. */
export interface SshCall {
  /** Process id, to send signals to. */
  readonly pid: number;
  /** Values of `-o Name=value`, without their quotes. */
  readonly options: Readonly<Record<string, string>>;
  /** Where it connects: the host behind `--`, and `-p`. */
  readonly host: string;
  readonly port: number;
  /** `-L`: the local port, and what it leads to. */
  readonly forward: { readonly localPort: number; readonly to: string } | undefined;
  /** The command behind the host. */
  readonly command: string | undefined;
}

/** Sends every line back, as a proxy does. A `read` that a signal interrupted is tried again. */
export const ECHO = 'while read -r line || [ "$again" ]; do again=; echo "$line"; done';
/** The same; at SIGUSR1 it ends as an ssh does whose proxy closed the connection. */
export const ECHO_UNTIL_USR1 = `trap 'echo "Connection to gate closed by remote host." >&2; exit 255' USR1\n${ECHO}`;
/** The same; at SIGUSR1 it says that the proxy could not reach what is behind it, and goes on. */
export const ECHO_AND_COMPLAIN = `trap 'again=1; echo "channel 2: open failed: connect failed: Connection refused" >&2' USR1\n${ECHO}`;

/** Puts a folder with scripts named like programs in front of the PATH, where children find them; `dispose` undoes it. */
export class FakeSsh implements Disposable {
  readonly dir = mkdtempSync(join(tmpdir(), "walt-fake-ssh-"));
  readonly #path = process.env["PATH"];

  constructor() {
    // The call is one line of the log, its words separated by a character that none of them has.
    this.program(
      "ssh",
      `{ printf '%s' "$$"; printf '\\037%s' "$@"; echo; } >>'${this.dir}/calls'
for word; do case $word in HostKeyAlias=*) alias=\${word#*=} ;; esac; done
. "${this.dir}/$alias"`,
    );
    writeFileSync(join(this.dir, "calls"), "");
    process.env["PATH"] = `${this.dir}:${this.#path}`;
  }

  /** A program of this name: a shell script. */
  program(name: string, script: string): void {
    writeFileSync(join(this.dir, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  }

  /** What ssh does from now on where the host key of `alias` is asked for. */
  plays(alias: string, script: string): void {
    writeFileSync(join(this.dir, alias), `${script}\n`);
  }

  /** All calls so far. */
  get calls(): SshCall[] {
    const lines = readFileSync(join(this.dir, "calls"), "utf8").split("\n");
    return lines.filter((line) => line !== "").map((line) => parse(line.split("\u001f")));
  }

  /** The n-th call from 0, once it was made. */
  async call(n: number): Promise<SshCall> {
    return await eventually(`call ${n} of ssh`, () => this.calls[n]);
  }

  [Symbol.dispose](): void {
    process.env["PATH"] = this.#path;
    rmSync(this.dir, { recursive: true });
  }
}

function parse([pid = "", ...words]: string[]): SshCall {
  const after = (name: string): string | undefined =>
    words.includes(name) ? words[words.indexOf(name) + 1] : undefined;
  const options = words
    .filter((_, i) => words[i - 1] === "-o")
    .map((word) => [word.slice(0, word.indexOf("=")), word.slice(word.indexOf("=") + 1).replaceAll('"', "")]);
  const [, localPort, to = ""] = /^127\.0\.0\.1:(\d+):(.*)$/.exec(after("-L") ?? "") ?? [];
  const [host = "", command] = words.slice(words.indexOf("--") + 1);
  return {
    pid: Number(pid),
    options: Object.fromEntries(options) as Record<string, string>,
    host,
    port: Number(after("-p")),
    forward: localPort === undefined ? undefined : { localPort: Number(localPort), to },
    command,
  };
}
