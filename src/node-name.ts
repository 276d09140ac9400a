/** The names that people give to nodes. */

import { usageError } from "./errors.ts";
import { NODE_NAME } from "./parse.ts";
import { quoted } from "./text.ts";

/** What commands take for all nodes. */
export const ALL_NODES = "all";

/** @throws WaltError (usage) when the text cannot be a node's name. */
export function parseNodeName(text: string): string {
  if (text === ALL_NODES) throw usageError(`a node cannot be called ${ALL_NODES}, which means all nodes`);
  if (NODE_NAME.test(text)) return text;
  throw usageError(
    `${quoted(text)} cannot be a node's name`,
    "A name has up to 32 lower-case letters, digits and dashes. It begins with a letter, and does not end with a dash.",
  );
}
