/** The entrypoints of a device, as its configuration names them. */

import { type Entrypoint, formatEntrypoint } from "../../address.ts";
import type { Config } from "../../config/schema.ts";
import { WaltError } from "../../errors.ts";

/**
 * The entrypoints of the configuration, at least one.
 * @throws WaltError when there is none, or a proxy is named and no server.
 */
export function entrypointsOf(config: Config): readonly Entrypoint[] {
  const hint = "Use the vpn.toml that `walt vpn setup-node` writes: it sets both. Name it with --config.";
  const { entrypoint: entrypoints, server } = config.device;
  if (entrypoints.length === 0) throw new WaltError("device.entrypoint is not set", { hint });
  const proxy = entrypoints.find((entrypoint) => "proxies" in entrypoint);
  if (proxy !== undefined && server === undefined) {
    throw new WaltError(
      `device.server is not set, but the entrypoint ${formatEntrypoint(proxy)} is a proxy`,
      { hint },
    );
  }
  return entrypoints;
}
