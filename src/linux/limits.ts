/** The limits of this process (getrlimit(2)). */

import { WaltError } from "../errors.ts";
import { readTextIfAny } from "./files.ts";

/**
 * To be called at the start of a daemon: with fewer descriptors Bun itself ends somewhere, in words of its own.
 * @param least file descriptors that it needs with one or two tunnels.
 * @throws WaltError when this process may not have so many.
 */
export function requireDescriptors(least = 64): void {
  const limit = /^Max open files\s+(\d+)/m.exec(readTextIfAny("/proc/self/limits") ?? "")?.[1];
  if (limit === undefined || Number(limit) >= least) return;
  throw new WaltError(`this process may have ${limit} files open, and it needs ${least}`, {
    hint: "Raise the limit: LimitNOFILE of the service, or ulimit -n.",
  });
}
