/** Running the host's tools. */

import { WaltError } from "../errors.ts";
import { type RunOptions, type RunResult, run, runAny } from "../linux/run.ts";
import { toolEnvironment } from "./tools.ts";

/** The slowest step, compressing the root on one slow processor, takes some minutes. */
const TIMEOUT = 30 * 60_000;

export interface ToolOptions extends RunOptions {
  /** Seconds since 1970: the time that the tool is to take for now. */
  epoch?: number;
  /** More variables. */
  more?: Record<string, string>;
}

function options(o: ToolOptions): RunOptions {
  return { timeout: TIMEOUT, ...o, env: { ...toolEnvironment(o.epoch), ...o.more } };
}

/** Run a tool that must succeed; its standard output. @throws WaltError with its words. */
export async function tool(command: readonly string[], o: ToolOptions = {}): Promise<string> {
  return await run(command, options(o));
}

/** Run a tool whatever its exit status. */
export async function toolAny(command: readonly string[], o: ToolOptions = {}): Promise<RunResult> {
  return await runAny(command, options(o));
}

/** Run a tool that writes bytes to its standard output. @throws WaltError with its words. */
export async function toolBytes(command: readonly string[], o: ToolOptions = {}): Promise<Buffer> {
  const child = Bun.spawn([...command], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    env: { ...toolEnvironment(o.epoch), ...o.more },
  });
  const [bytes, stderr, status] = await Promise.all([
    new Response(child.stdout).arrayBuffer(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  if (status !== 0) throw new WaltError(`${command.join(" ")} failed (exit ${status}): ${stderr.trim()}`);
  return Buffer.from(bytes);
}
