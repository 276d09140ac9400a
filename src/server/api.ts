/** The server's answers to `walt vpn …` and `walt node …`. */

import { apiHandler, type Handle, serve, serveAnswer, serveStream } from "../api/handler.ts";
import type { History, Span } from "../api/history.ts";
import type { DeviceInfo, NodeDetails, NodeInfo, Trouble, TrustInfo } from "../api/messages.ts";
import type { Pinged } from "../api/ping.ts";
import { SERVER } from "../api/routes.ts";
import type { Log } from "../log.ts";
import type { AccessRequests } from "./access-requests.ts";
import type { Devices } from "./devices.ts";
import type { Journal } from "./journal.ts";
import { operatorOf } from "./operator.ts";
import type { Orders } from "./orders.ts";
import type { Rotation } from "./rotation.ts";

export interface ServerApi {
  requests: AccessRequests;
  devices: Pick<
    Devices,
    "addToken" | "expect" | "invitations" | "withdraw" | "rename" | "setNote" | "restore" | "remove"
  >;
  journal: Pick<Journal, "events" | "follow">;
  rotation: Pick<Rotation, "list" | "begin" | "finish">;
  orders: Orders;
  nodes(): Promise<NodeInfo[]>;
  /** @throws ApiError when there is no such node. */
  node(name: string): Promise<NodeDetails>;
  /** @throws ApiError when there is no such node. */
  history(node: string, span: Span): History;
  /** The last hour of all nodes, a sample for each minute. */
  histories(): History[];
  /** @throws ApiError when there is no such node. */
  ping(node: string, rounds: number, user: string): Promise<Pinged[]>;
  registered(): DeviceInfo[];
  /** What around walt-net harms it. */
  troubles(): readonly Trouble[];
  /** @throws ApiError when there is no such node. */
  setBoard(node: string, mac: string, by: string): void;
  trust(): TrustInfo;
  /**
   * @returns until when the certificate passes the proxies, if it still does.
   * @throws ApiError when there is no such node.
   */
  revoke(node: string, by: string, reenrol: boolean): string | null;
  log: Log;
}

/** A stream says something at least this often (ms), so that a lost connection is noticed by both ends. */
const ALIVE = 10_000;

/**
 * The handler of all requests. What a command claims of who gives an order stands behind the user who asks.
 */
export function serverHandler(api: ServerApi): Handle {
  const { requests, devices, rotation, orders, journal, log } = api;
  return apiHandler(
    [
      serve(SERVER.nodes, api.nodes),
      serve(SERVER.node, ({ node }) => api.node(node)),
      serve(SERVER.history, ({ node, span }) => api.history(node, span)),
      serve(SERVER.histories, () => api.histories()),
      serve(SERVER.rename, ({ node, name, by }, user) => {
        devices.rename(node, name, operatorOf(user, by));
        return {};
      }),
      serve(SERVER.board, ({ node, mac, by }, user) => {
        api.setBoard(node, mac, operatorOf(user, by));
        return {};
      }),
      serve(SERVER.note, ({ node, note, by }, user) => {
        devices.setNote(node, note, operatorOf(user, by));
        return {};
      }),
      serve(SERVER.events, (wanted) => journal.events(wanted)),
      serveStream(SERVER.follow, ({ after }, tell) => {
        const unfollow = journal.follow(after, (event) => tell({ type: "event", event }));
        const timer = setInterval(() => tell({ type: "alive" }), ALIVE);
        return () => {
          clearInterval(timer);
          unfollow();
        };
      }),
      serve(SERVER.devices, api.registered),
      serve(SERVER.troubles, () => [...api.troubles()]),
      serve(SERVER.trust, api.trust),
      serve(SERVER.answer, ({ id, by, ...answer }, user) => ({
        node: requests.answer(id, { ...answer, by: operatorOf(user, by) }) ?? null,
      })),
      serve(SERVER.requests, () => requests.list()),
      serve(SERVER.blocks, () => requests.blocks()),
      serve(SERVER.lift, ({ kind, what, by }, user) => {
        requests.lift(kind, what, operatorOf(user, by));
        return {};
      }),
      serve(SERVER.invitations, () => devices.invitations()),
      serve(SERVER.addToken, (order, user) => devices.addToken({ ...order, by: operatorOf(user, order.by) })),
      serve(SERVER.expect, (order, user) => devices.expect({ ...order, by: operatorOf(user, order.by) })),
      serve(SERVER.withdraw, ({ kind, id, by }, user) => {
        devices.withdraw(kind, id, operatorOf(user, by));
        return {};
      }),
      serve(SERVER.rotations, () => rotation.list()),
      serve(SERVER.rotate, ({ key, by }, user) => rotation.begin(key, operatorOf(user, by))),
      serve(SERVER.finishRotation, ({ key, force, by }, user) =>
        rotation.finish(key, force, operatorOf(user, by)),
      ),
      serve(SERVER.ping, ({ node, rounds }, user) => api.ping(node, rounds, user)),
      serveAnswer(SERVER.order, ({ node, order }, user, signal) => orders.begin(node, order, user, signal)),
      serve(SERVER.input, async ({ session, bytes, end }, user) => {
        await orders.input(session, user, Buffer.from(bytes, "base64"), end);
        return {};
      }),
      serve(SERVER.revoke, ({ node, by, reenrol }, user) => ({
        passesUntil: api.revoke(node, operatorOf(user, by), reenrol),
      })),
      serve(SERVER.restore, ({ node, fingerprint, by }, user) => {
        devices.restore(node, fingerprint, operatorOf(user, by));
        return {};
      }),
      serve(SERVER.remove, ({ node, fingerprint, by }, user) => {
        devices.remove(node, fingerprint, operatorOf(user, by));
        return {};
      }),
      serveStream(SERVER.monitor, ({ name }, tell, user) => {
        tell({ type: "watching" });
        const unwatch = requests.watch(tell);
        const timer = setInterval(() => tell({ type: "alive" }), ALIVE);
        const about = (): object => ({ monitor: operatorOf(user, name), monitors: requests.monitors });
        log.info("a monitor watches", { event: "monitor-began", ...about() });
        return () => {
          clearInterval(timer);
          unwatch();
          log.info("a monitor left", { event: "monitor-left", ...about() });
        };
      }),
    ],
    log,
  );
}
