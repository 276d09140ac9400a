/**
 * Names of the nodes that the last command saw, one a line in ~/.cache/walt/nodes: what a shell completes
 * (_completion.ts). Nobody misses the file when it cannot be written.
 */

import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { ApiClient } from "../api/client.ts";
import { type Route, SERVER } from "../api/routes.ts";
import { makeFolders, writeFileAtomic } from "../linux/files.ts";
import { ALL_NODES } from "../node-name.ts";

/** The API, whose lists of nodes are remembered. */
export class NamesClient extends ApiClient {
  override async call<Q extends object, A>(route: Route<Q, A>, request: Q): Promise<A> {
    const answer = await super.call(route, request);
    // A route is one object, so that this answer is the list of nodes.
    if ((route as unknown) === SERVER.nodes) remember(answer as readonly { readonly name: string }[]);
    return answer;
  }
}

function remember(nodes: readonly { readonly name: string }[]): void {
  const { env } = process;
  const path = join(env["XDG_CACHE_HOME"] || join(env["HOME"] || homedir(), ".cache"), "walt/nodes");
  const text = [...nodes.map(({ name }) => name), ALL_NODES].map((name) => `${name}\n`).join("");
  try {
    makeFolders(dirname(path), 0o755);
    writeFileAtomic(path, text);
  } catch {
    // A home that is read-only or full.
  }
}
