/** One action on many nodes at once: a line for each as it ends, and the worst exit status. */

import { EXIT, messageOf, WaltError } from "../../errors.ts";
import { print } from "../_command.ts";

/** Actions at the same time. */
const MOST = 16;

/** What became of one node. */
export interface Outcome {
  /** For people: `reboots`. */
  readonly text: string;
  /** Exit status; 0 unless given. */
  readonly status?: number;
}

/**
 * Run `act` on each node. Failures go to standard error.
 * @param show prints a line; standard output unless given.
 * @throws WaltError with the worst exit status when one of them failed, or when there are no nodes; of a node
 *   alone what `act` throws.
 */
export async function sideBySide<T extends { readonly name: string }>(
  nodes: readonly T[],
  act: (node: T) => Promise<Outcome>,
  show: (line: string) => void = print,
): Promise<void> {
  if (nodes.length === 0) throw new WaltError("none of these nodes is in that state; nothing was done");
  const left = [...nodes];
  const statuses: number[] = [];
  const work = async (): Promise<void> => {
    for (let node = left.shift(); node !== undefined; node = left.shift()) {
      const { name } = node;
      try {
        const { text, status = EXIT.done } = await act(node);
        show(`${name}: ${text}`);
        statuses.push(status);
      } catch (error) {
        if (nodes.length === 1 || !(error instanceof WaltError)) throw error;
        const hint = error.hint === undefined ? "" : `. ${error.hint}`;
        process.stderr.write(`${name}: ${messageOf(error)}${hint}\n`);
        statuses.push(error.exitCode);
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(MOST, nodes.length) }, work));
  const failed = statuses.filter((status) => status !== EXIT.done);
  if (failed.length === 0) return;
  const exitCode = Math.max(...failed);
  throw new WaltError(`${failed.length} of ${nodes.length} nodes failed`, { exitCode });
}
