/** The server's answers to `walt vpn …` and `walt node …`. */

import { apiHandler, type Handle, serve, serveAnswer, serveStream } from "../api/handler.ts";
import type { DeviceInfo, NodeInfo, TrustInfo } from "../api/messages.ts";
import { SERVER } from "../api/routes.ts";
import type { Log } from "../log.ts";
import type { AccessRequests } from "./access-requests.ts";
import type { Devices } from "./devices.ts";
import type { Orders } from "./orders.ts";
import type { Rotation } from "./rotation.ts";

export interface ServerApi {
  requests: AccessRequests;
  devices: Pick<Devices, "addToken" | "expect" | "invitations" | "withdraw">;
  rotation: Pick<Rotation, "list" | "begin" | "finish">;
  orders: Orders;
  nodes(): Promise<NodeInfo[]>;
  registered(): DeviceInfo[];
  trust(): TrustInfo;
  /**
   * @returns until when the certificate passes the proxies, if it still does.
   * @throws ApiError when there is no such node.
   */
  revoke(node: string, by: string): string | null;
  log: Log;
}

/**
 * A monitor's connection says something at least this often (ms), so that a lost one is noticed by both ends.
 */
const ALIVE = 10_000;

/** The handler of all requests. */
export function serverHandler(api: ServerApi): Handle {
  const { requests, devices, rotation, orders, log } = api;
  return apiHandler(
    [
      serve(SERVER.nodes, api.nodes),
      serve(SERVER.devices, api.registered),
      serve(SERVER.trust, api.trust),
      serve(SERVER.answer, ({ id, ...answer }) => ({ node: requests.answer(id, answer) ?? null })),
      serve(SERVER.requests, () => requests.list()),
      serve(SERVER.invitations, () => devices.invitations()),
      serve(SERVER.addToken, (order) => devices.addToken(order)),
      serve(SERVER.expect, (order) => devices.expect(order)),
      serve(SERVER.withdraw, ({ kind, id, by }) => {
        devices.withdraw(kind, id, by);
        return {};
      }),
      serve(SERVER.rotations, () => rotation.list()),
      serve(SERVER.rotate, ({ key, by }) => rotation.begin(key, by)),
      serve(SERVER.finishRotation, ({ key, force, by }) => rotation.finish(key, force, by)),
      serveAnswer(SERVER.order, ({ node, order }, user) => orders.begin(node, order, user)),
      serve(SERVER.input, async ({ session, bytes, end }, user) => {
        await orders.input(session, user, Buffer.from(bytes, "base64"), end);
        return {};
      }),
      serve(SERVER.revoke, ({ node, by }) => ({ passesUntil: api.revoke(node, by) })),
      serveStream(SERVER.monitor, ({ name }, tell) => {
        tell({ type: "watching" });
        const unwatch = requests.watch(tell);
        const timer = setInterval(() => tell({ type: "alive" }), ALIVE);
        log.info("a monitor watches", { event: "monitor-began", monitor: name, monitors: requests.monitors });
        return () => {
          clearInterval(timer);
          unwatch();
          log.info("a monitor left", { event: "monitor-left", monitor: name, monitors: requests.monitors });
        };
      }),
    ],
    log,
  );
}
