/**
 * What a WalT server on this machine knows of nodes: from its web API, which answers this machine without
 * authentication. Where there is none, or something else answers, nothing is known.
 */

import { get } from "node:http";
import type { WaltNode } from "../../api/messages.ts";
import { Fields, MAC, parseList } from "../../parse.ts";

/** WalT has it since 2024-08-30. */
export const NODES_URL = "http://127.0.0.1/api/v1/nodes";
/** ms that the API may take: our own answer waits for it. */
const PATIENCE = 1000;
/** Bytes of an answer, and nodes in it. */
const ANSWER_MAX = 4 << 20;
const NODES_MAX = 10_000;
/** ms for which an answer counts. */
const FRESH = 5000;

export class WaltNodes {
  #last: { at: number; nodes: Promise<ReadonlyMap<string, WaltNode>> } | undefined;

  constructor(
    readonly url = NODES_URL,
    readonly now: () => number = () => performance.now(),
  ) {}

  /** The nodes by MAC address; none where WalT's API cannot be asked. It never rejects. */
  byMac(): Promise<ReadonlyMap<string, WaltNode>> {
    const last = this.#last;
    if (last !== undefined && this.now() - last.at < FRESH) return last.nodes;
    const nodes = read(this.url)
      .then(parseNodes)
      .catch(() => new Map<string, WaltNode>());
    this.#last = { at: this.now(), nodes };
    return nodes;
  }
}

/** Read a page. @throws Error when it cannot be had, is too long, or takes too long. */
function read(url: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = get(url, { signal: AbortSignal.timeout(PATIENCE) }, (answer) => {
      const parts: Buffer[] = [];
      let bytes = 0;
      answer.on("data", (part: Buffer) => {
        bytes += part.length;
        parts.push(part);
        if (bytes > ANSWER_MAX) request.destroy(new Error("the answer is too long"));
      });
      answer.on("error", reject);
      answer.on("end", () => {
        if (answer.statusCode === 200) resolve(Buffer.concat(parts).toString("utf8"));
        else reject(new Error(`status ${answer.statusCode}`));
      });
    });
    request.on("error", reject);
  });
}

/** @throws WaltError when it is something else. */
export function parseNodes(text: string): Map<string, WaltNode> {
  const f = Fields.parse(text, "WalT's nodes", ANSWER_MAX);
  const nodes = parseList(
    f.value("nodes"),
    "WalT's nodes",
    (node): [string, WaltNode] => [
      node.text("mac", 17, MAC),
      {
        name: node.words("name"),
        model: node.has("model") ? node.words("model") : null,
        image: node.has("image") ? node.words("image", 400) : null,
        booted: node.has("booted") ? node.boolean("booted") : null,
        address: node.has("ip") ? node.words("ip") : null,
      },
    ],
    NODES_MAX,
  );
  return new Map(nodes);
}
