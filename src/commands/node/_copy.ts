/** What is copied where by `walt node cp`, as its words say. */

import { join } from "node:path";
import { usageError } from "../../errors.ts";
import { quoted } from "../../text.ts";

/** A path on nodes. */
interface NodePath {
  /** The nodes: a name or a pattern. */
  readonly nodes: string;
  readonly path: string;
}

export type Copy =
  | { readonly to: "nodes"; readonly sources: readonly string[]; readonly target: NodePath }
  | { readonly to: "here"; readonly sources: readonly NodePath[]; readonly target: string };

/** The part of a copy that is one node's, in the words of scp. */
export interface NodeCopy {
  readonly sources: readonly string[];
  readonly target: string;
  /** A folder here that must be there before. */
  readonly folder?: string;
}

/**
 * What the words say: sources, and at the end the target. As for scp, a word with a colon before the first slash is a
 * path on a node.
 * @throws WaltError (usage) when not exactly one side is on nodes.
 */
export function copyOf(words: readonly string[]): Copy {
  const [last = "", ...others] = words.toReversed();
  const sources = others.toReversed();
  const target = nodePath(last);
  const nodePaths = sources.flatMap((word) => nodePath(word) ?? []);
  if (target !== undefined && nodePaths.length === 0) return { to: "nodes", sources, target };
  if (target === undefined && nodePaths.length === sources.length)
    return { to: "here", sources: nodePaths, target: last };
  const hint = "A path on a node is NODE:PATH. Write ./ before a file here that has a colon in its name.";
  const [from] = nodePaths;
  if (from === undefined) throw usageError(`neither ${quoted(last)} nor a source is on a node`, hint);
  if (target !== undefined)
    throw usageError(
      `both ${quoted(last)} and a source are on nodes`,
      "Copy the files to this machine first.",
    );
  throw usageError("some sources are on nodes and some are here", hint);
}

function nodePath(word: string): NodePath | undefined {
  const [, nodes, path] = /^([^/:]+):(.*)$/s.exec(word) ?? [];
  return nodes === undefined || path === undefined ? undefined : { nodes, path };
}

/** The names and patterns of a copy. */
export function patternsOf(copy: Copy): string[] {
  return copy.to === "nodes" ? [copy.target.nodes] : copy.sources.map(({ nodes }) => nodes);
}

/**
 * The part of one node.
 * @param isOf whether the node has this name, or one of this pattern.
 * @param folders whether the files of each node go to a folder of its own.
 */
export function pathsOf(
  copy: Copy,
  name: string,
  isOf: (pattern: string) => boolean,
  folders: boolean,
): NodeCopy {
  if (copy.to === "nodes") return { sources: copy.sources, target: `${name}:${copy.target.path}` };
  const sources = copy.sources.filter(({ nodes }) => isOf(nodes)).map(({ path }) => `${name}:${path}`);
  if (!folders) return { sources, target: copy.target };
  const folder = join(copy.target, name);
  return { sources, target: folder, folder };
}
