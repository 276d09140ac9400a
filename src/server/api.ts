/** The server's API: what `walt vpn …` and `walt node …` ask, over HTTP on a UNIX socket. */

import type { DeviceInfo, MonitorEvent, NodeInfo, TrustInfo } from "../api/types.ts";
import { messageOf, WaltError } from "../errors.ts";
import type { Log } from "../log.ts";
import { Fields } from "../parse.ts";
import { safeText } from "../text.ts";
import type { AccessRequests } from "./access-requests.ts";

export interface ServerApi {
  requests: AccessRequests;
  nodes(): Promise<NodeInfo[]>;
  devices(): DeviceInfo[];
  trust(): TrustInfo;
  /** @throws WaltError when there is no such node. */
  revoke(node: string, by: string): void;
  log: Log;
}

/**
 * A monitor's connection says something at least this often (ms), so that a lost one is noticed by both ends.
 */
const ALIVE = 10_000;

/** The handler of all requests. */
export function apiHandler(api: ServerApi): (request: Request) => Promise<Response> {
  const route = async (request: Request): Promise<Response> => {
    const url = new URL(request.url);
    const [, version, what, id, verb, ...more] = url.pathname.split("/");
    const key =
      version === "v1" && more.length === 0
        ? `${request.method} ${[what, id === undefined ? "" : "ID", verb].filter((t) => t).join("/")}`
        : "";
    const body = async (): Promise<Fields> => Fields.parse(await request.text(), "request");
    switch (key) {
      case "GET nodes":
        return Response.json(await api.nodes());
      case "GET devices":
        return Response.json(api.devices());
      case "GET trust":
        return Response.json(api.trust());
      case "GET monitor":
        return monitor(api, safeText(url.searchParams.get("name") ?? "unknown", 60), request.signal);
      case "POST requests/ID": {
        const fields = await body();
        if (!fields.has("fingerprint")) {
          throw new WaltError("the answer does not say which key it is for; nothing was done", {
            hint: "Give the request's fingerprint with it. A `walt` that does not is older than this server.",
          });
        }
        const node = api.requests.answer(id ?? "", {
          accept: fields.boolean("accept"),
          fingerprint: fields.text("fingerprint", 100),
          by: safeText(fields.text("by", 100), 60),
        });
        return Response.json({ node: node ?? null });
      }
      case "POST devices/ID/revoke": {
        api.revoke(decoded(id ?? ""), safeText((await body()).text("by", 100), 60));
        return Response.json({});
      }
      default:
        return Response.json(
          { error: `no such request: ${request.method} ${url.pathname}` },
          { status: 404 },
        );
    }
  };
  return async (request) => {
    try {
      return await route(request);
    } catch (error) {
      if (!(error instanceof WaltError)) {
        api.log.error("a request failed", {
          request: new URL(request.url).pathname,
          reason: messageOf(error),
        });
        throw error;
      }
      return Response.json({ error: error.message, hint: error.hint }, { status: 400 });
    }
  };
}

/** A word of a path. @throws WaltError when its per cent signs are not those of a URL. */
function decoded(word: string): string {
  try {
    return decodeURIComponent(word);
  } catch {
    throw new WaltError(`not a word of a path: ${safeText(word)}`);
  }
}

/** Bytes of events that may wait for a monitor that does not read them; then its watch is ended. */
const MOST_UNREAD = 1 << 20;

/**
 * A stream of MonitorEvents, one JSON object a line, for as long as the monitor's connection lives and is
 * read.
 */
function monitor(api: ServerApi, name: string, signal: AbortSignal): Response {
  const encoder = new TextEncoder();
  const watch = { over: false, unwatch: (): void => {}, end: (_error?: WaltError): void => {} };
  const stream = new ReadableStream<Uint8Array>(
    {
      start(controller) {
        const tell = (event: MonitorEvent): void => {
          if (watch.over) return;
          controller.enqueue(encoder.encode(`${JSON.stringify(event)}\n`));
          if ((controller.desiredSize ?? 0) <= 0) watch.end(new WaltError("it does not read its events"));
        };
        const timer = setInterval(() => tell({ type: "alive" }), ALIVE);
        watch.end = (error) => {
          if (watch.over) return;
          watch.over = true;
          clearInterval(timer);
          watch.unwatch();
          if (error !== undefined) controller.error(error);
          const monitors = api.requests.monitors;
          api.log.info("a monitor left", { monitor: name, monitors, reason: error?.message });
        };
        signal.addEventListener("abort", () => watch.end());
        tell({ type: "watching" });
        watch.unwatch = api.requests.watch(tell);
        if (watch.over) watch.unwatch();
        api.log.info("a monitor watches", { monitor: name, monitors: api.requests.monitors });
      },
      cancel() {
        watch.end();
      },
    },
    new ByteLengthQueuingStrategy({ highWaterMark: MOST_UNREAD }),
  );
  return new Response(stream, { headers: { "content-type": "application/x-ndjson" } });
}
