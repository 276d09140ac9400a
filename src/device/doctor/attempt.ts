/**
 * A trial of the whole way to the server: the same connections as the supervisor makes, to the proxies and to
 * the server behind them. They are ended as soon as the server has let us in, and nothing is asked of it.
 */

import { existsSync } from "node:fs";
import type { Entrypoint } from "../../address.ts";
import type { Config } from "../../config/schema.ts";
import type { End } from "../../end.ts";
import { Children } from "../../linux/child.ts";
import { within } from "../../linux/sleep.ts";
import { CONNECTED, serverArguments } from "../../ssh/openssh/arguments.ts";
import type { DeviceFiles } from "../files.ts";
import { CONNECT_TIMEOUT, ProxyChain } from "../route/proxy-chain.ts";
import { endOf, RouteFailure } from "../route/route-failure.ts";

/** What came of a trial. */
export type Attempt =
  /**
   * All the way to the server. `refused`: why a proxy refused the certificate, if only the enrolment key
   * passed.
   */
  | { readonly is: "in"; readonly refused?: End }
  /** It failed at a proxy, or behind all of them at the server. */
  | { readonly is: "failed"; readonly at: "proxies" | "server"; readonly end: End };

/** Milliseconds for the whole way with one key. */
const LONGEST = 9000;

type Files = Pick<
  DeviceFiles,
  "credentials" | "deviceKey" | "certificate" | "nextCertificate" | "trustedHosts" | "trustedEnrolmentKeys"
>;

/**
 * Try the way along an entrypoint: as an accepted device with the device key, else with the enrolment key;
 * also if a proxy refuses the certificate, as the supervisor does then. It never rejects.
 * @param files those that ssh is given are there already.
 *
 */
export async function attemptWay(
  entrypoint: Entrypoint,
  config: Config,
  files: Files,
  signal: AbortSignal,
): Promise<Attempt> {
  const enrols = config.device.framing !== "original";
  const enrolmentKeys = { keyFiles: files.trustedEnrolmentKeys.filter(existsSync), certificateFiles: [] };
  const certificateFiles = enrols ? [files.certificate, files.nextCertificate].filter(existsSync) : [];
  const isKnown = existsSync(files.deviceKey) && (!enrols || existsSync(files.credentials));
  if (!isKnown) return await attempt(entrypoint, config, files, enrolmentKeys, signal);
  const deviceKey = { keyFiles: [files.deviceKey], certificateFiles };
  const first = await attempt(entrypoint, config, files, deviceKey, signal);
  if (first.is === "in" || first.at === "server" || first.end.kind !== "key-refused" || !enrols) return first;
  const second = await attempt(entrypoint, config, files, enrolmentKeys, signal);
  return second.is === "in" ? { is: "in", refused: first.end } : first;
}

interface Keys {
  readonly keyFiles: readonly string[];
  readonly certificateFiles: readonly string[];
}

async function attempt(
  entrypoint: Entrypoint,
  config: Config,
  files: Files,
  keys: Keys,
  signal: AbortSignal,
): Promise<Attempt> {
  const children = new Children();
  const stop = (): void => void children.stop();
  signal.addEventListener("abort", stop);
  let at: "proxies" | "server" = "proxies";
  const walk = async (): Promise<Attempt> => {
    const chain = await ProxyChain.open({
      ...{ entrypoint, server: config.device.server, knownHosts: files.trustedHosts, children, signal },
      ...{ silence: config.device.silence, ...keys },
    });
    at = "server";
    await chain.during(letIn(chain, keys.keyFiles, files.trustedHosts, children));
    return { is: "in" };
  };
  const late = new RouteFailure({
    kind: "silent",
    text: `no login within ${LONGEST / 1000} s: the connection hangs`,
  });
  try {
    return await within(LONGEST, walk(), late);
  } catch (error) {
    return { is: "failed", at, end: endOf(error) };
  } finally {
    signal.removeEventListener("abort", stop);
    await children.stop();
  }
}

/** Resolves when the server has let us in. @throws RouteFailure */
async function letIn(
  chain: ProxyChain,
  keyFiles: readonly string[],
  knownHosts: string,
  children: Children,
): Promise<void> {
  const { mark } = chain;
  const [ssh = "ssh", ...rest] = serverArguments({
    ...{ connect: chain.target, keyFiles, knownHosts, command: undefined, connectTimeout: CONNECT_TIMEOUT },
  });
  // -N: no session, which would be a tunnel of the original framing.
  const child = children.spawn([ssh, "-N", ...rest], "pipe");
  const ended = await Promise.race([child.printed(CONNECTED), child.exited]);
  if (ended !== undefined) throw new RouteFailure(await chain.explainStderr(child.stderr, mark));
}
