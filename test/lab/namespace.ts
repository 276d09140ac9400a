/**
 * Namespaces with a holder: one process that owns them. They have no names and no files, so they are gone when it is,
 * and it goes when the pipe to us breaks: even `kill -9` of the test leaves no namespace, process or mount behind.
 */

import { WaltError } from "../../src/errors.ts";
import { SYSTEM_PATH } from "./need.ts";
import { childrenOf, signal } from "./proc.ts";

/** The holder is the first process of its PID namespace: with it ends every process in it, whatever session it is in. */
export class Holder {
  readonly #child: Bun.Subprocess<"pipe", "pipe", "pipe">;

  private constructor(
    child: Bun.Subprocess<"pipe", "pipe", "pipe">,
    /** Id of the first process inside, as the outside sees it. */
    readonly pid: number,
  ) {
    this.#child = child;
  }

  /**
   * Make the namespaces and run `setup`, a POSIX shell script, in them; `after` is run when they are to end.
   * @throws WaltError with the output when a step of the set-up fails.
   */
  static async start(setup: string, args: readonly string[], after = ""): Promise<Holder> {
    // Ignoring SIGCHLD makes the kernel reap orphans, which become children of this process.
    const script = `set -eu\n${setup}\ntrap '' CHLD\necho ready\n${after === "" ? "exec cat >/dev/null" : `cat >/dev/null\n${after}`}`;
    const child = Bun.spawn(
      // biome-ignore format: one option group a line
      [
        "unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc",
        "sh", "-c", script, "lab", ...args,
      ],
      {
        stdin: "pipe",
        stdout: "pipe",
        stderr: "pipe",
        detached: true,
        env: { PATH: SYSTEM_PATH, LC_ALL: "C" },
      },
    );
    const stderr = new Response(child.stderr).text();
    let said = "";
    const decoder = new TextDecoder();
    const reader = child.stdout.getReader();
    while (!said.includes("ready\n")) {
      const { done, value } = await reader.read();
      if (done) {
        throw new WaltError(
          `cannot make the namespaces of a laboratory: ${(await stderr).trim() || said.trim()}`,
          {
            hint: "It needs root, and a kernel with network, mount and PID namespaces, overlayfs and tmpfs.",
          },
        );
      }
      said += decoder.decode(value, { stream: true });
    }
    reader.releaseLock();
    const pid = childrenOf(child.pid)[0];
    if (pid === undefined) throw new WaltError("the holder of the namespaces ended at once");
    return new Holder(child, pid);
  }

  /** Arguments in front of a command that is to run inside. */
  enter(): string[] {
    return ["nsenter", `--target=${this.pid}`, "--net", "--mount", "--uts", "--ipc", "--pid"];
  }

  /** Arguments in front of a command of the outside that is to see only the network inside. */
  enterNetwork(): string[] {
    return ["nsenter", `--net=/proc/${this.pid}/ns/net`];
  }

  /** End it, and with it all processes inside; resolves when they are gone. */
  async stop(): Promise<void> {
    await this.#child.stdin.end();
    const timer = setTimeout(() => signal(this.pid, "SIGKILL"), 3000);
    await this.#child.exited;
    clearTimeout(timer);
  }
}
