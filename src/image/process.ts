/** Runs the tools of this machine that make and check images. */

import { WaltError } from "../errors.ts";
import { type RunOptions, type RunResult, run, runAny, started } from "../linux/run.ts";
import { toolEnvironment } from "./tools.ts";

/**
 * Milliseconds. The slowest step, compressing the root partition on one slow processor, takes some minutes.
 */
const TIMEOUT = 30 * 60_000;

/** How a tool is run. */
export interface ToolOptions extends RunOptions {
  /** The current time as the tool is to see it, in seconds since 1970. */
  epoch?: number;
  /** Environment variables besides those of `toolEnvironment`. */
  more?: Record<string, string>;
}

function options(o: ToolOptions): RunOptions {
  return { timeout: TIMEOUT, ...o, env: { ...toolEnvironment(o.epoch), ...o.more } };
}

/** Run a tool and return its standard output. @throws WaltError with the tool's own message when it fails. */
export async function tool(command: readonly string[], o: ToolOptions = {}): Promise<string> {
  return await run(command, options(o));
}

/** Run a tool and return its output and exit status, whether it succeeds or not. */
export async function toolAny(command: readonly string[], o: ToolOptions = {}): Promise<RunResult> {
  return await runAny(command, options(o));
}

/**
 * Run a tool and return its standard output as bytes.
 * @throws WaltError with the tool's own message when it fails.
 */
export async function toolBytes(command: readonly string[], o: ToolOptions = {}): Promise<Buffer> {
  const child = started(command[0] ?? "", () =>
    Bun.spawn([...command], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      env: { ...toolEnvironment(o.epoch), ...o.more },
    }),
  );
  const [bytes, stderr, status] = await Promise.all([
    new Response(child.stdout).arrayBuffer(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  if (status !== 0) throw new WaltError(`${command.join(" ")} failed (exit ${status}): ${stderr.trim()}`);
  return Buffer.from(bytes);
}

/**
 * The environment variables by which this user's programs reach the network, as apt and its helpers read them:
 * the addresses of HTTP proxies.
 */
export function proxyEnvironment(): Record<string, string> {
  const names = ["http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"];
  return Object.fromEntries(
    names.flatMap((name) => {
      const value = process.env[name];
      return value === undefined ? [] : [[name, value]];
    }),
  );
}
