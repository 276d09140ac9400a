/** A TCP port to listen on. */

import type { Server } from "node:net";
import { formatHostPort, type HostPort } from "../address.ts";
import { messageOf, WaltError } from "../errors.ts";

/**
 * Let `server` listen on an address. Afterwards errors of single connections are told to `failed`.
 * @throws WaltError when the port cannot be had.
 */
export async function listenOn(
  server: Server,
  address: HostPort,
  failed: (error: Error) => void,
): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) =>
      reject(
        new WaltError(`cannot listen on ${formatHostPort(address)}: ${messageOf(error)}`, {
          hint: "Is something else listening there, or is a port below 1024 only root's?",
          cause: error,
        }),
      ),
    );
    server.listen(address.port, address.host, resolve);
  });
  server.on("error", failed);
}

/** Where `server` listens: with the port that it was given when `asked` has port 0. */
export function addressOf(server: Server, asked: HostPort): HostPort {
  const address = server.address();
  return typeof address === "object" && address !== null
    ? { host: address.address, port: address.port }
    : asked;
}
