/** What the parts of one run share. */

import type { Steps } from "../demo/steps.ts";
import type { LabProcess } from "../lab/process.ts";
import type { World } from "../lab/world.ts";
import type { Board } from "./board.ts";

export interface E2eOptions {
  /** Only until the VM has loaded `start.ipxe`. */
  short: boolean;
  json: boolean;
  /** Folder of downloads and bases; the command's own unless told. */
  cache: string | undefined;
  /** Folder that console logs are written to. Without it they are kept only when something fails. */
  logs: string | undefined;
}

export interface Run {
  readonly steps: Steps;
  /** Progress. */
  readonly out: NodeJS.WriteStream;
  /** A folder outside the repository. */
  readonly outside: string;
  readonly options: E2eOptions;
  world?: World;
  /** The boards' DHCP and DNS. */
  router?: LabProcess;
  readonly boards: Board[];
  /** The node's console, as the lab sees it, while it boots at a WalT server. */
  console?: LabProcess;
}

/**
 * How long anything may take that an emulated board does, ms: the longest takes a minute on two quiet cores. Only what has
 * come to a halt shall fail, not what is slow.
 */
export const SLOW = 600_000;

/**
 * How long the node may take from its boot script until it runs, ms: kernel and initramfs are some 15 MB. An emulated
 * board carries 20 KB/s for it while other programs keep the machine busy.
 */
export const DOWNLOAD = 2 * SLOW;

/** How often an emulated board is asked, and for how long. */
export const PATIENTLY = { within: SLOW, every: 1000 } as const;

/** A text file of the node's HTTP server, as WalT's server sees it; undefined when it cannot be had now. */
export async function fetchFrom(world: World, address: string, file: string): Promise<string | undefined> {
  const script = `const answer = await fetch("http://${address}/${file}", { signal: AbortSignal.timeout(20000) });
    if (!answer.ok) process.exit(1);
    process.stdout.write(await answer.text());`;
  const { status, stdout } = await world.server.run([process.execPath, "-e", script]);
  return status === 0 ? stdout : undefined;
}
