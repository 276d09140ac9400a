/** The page's server on 127.0.0.1: its files for everybody, all else for whoever has the token. */

import { ApiError } from "../../api/api-error.ts";
import type { ApiClient } from "../../api/client.ts";
import { codeOf, messageOf, usageError, WaltError } from "../../errors.ts";
import { Fields } from "../../parse.ts";
import { CONSOLE_MODES, CONSOLE_PROTOCOL, type Refused, TYPED_MAX } from "../../web/messages.ts";
import { READS, WRITES } from "./_actions.ts";
import { WebConsole } from "./_console.ts";
import { pageFiles } from "./_files.ts";
import { Gate, newToken, type Refusal, securityHeaders } from "./_gate.ts";
import type { LiveOverview } from "./_overview.ts";

/** Bytes of a request's body. */
const MAX_BODY = 8192;
/** Requests that are being answered at once, and consoles. */
const MAX_REQUESTS = 64;
const MAX_CONSOLES = 8;
/** Seconds after which a connection on which nothing comes is closed; longer than a page waits for news. */
const IDLE = 60;

export interface WebServer {
  /** With the token behind the `#`, which browsers send to nobody. */
  readonly address: string;
  stop(): Promise<void>;
}

/**
 * Serve the page.
 * @param port 0: one that is free.
 * @throws WaltError when the port is in use.
 */
export async function servePage(api: ApiClient, live: LiveOverview, port: number): Promise<WebServer> {
  const token = newToken();
  const files = await pageFiles();
  let answering = 0;
  const consoles = new Set<WebConsole>();
  const server = listening(port, () =>
    Bun.serve<{ node: string; mode: (typeof CONSOLE_MODES)[number]; console?: WebConsole }>({
      hostname: "127.0.0.1",
      port,
      idleTimeout: IDLE,
      maxRequestBodySize: MAX_BODY,
      development: false,
      fetch: async (request, self) => {
        const own = self.port ?? 0;
        const gate = new Gate(token, own);
        const foreign = gate.foreign(request);
        if (foreign !== undefined) return refused(foreign, own);
        const url = new URL(request.url);
        const file = request.method === "GET" ? files.get(url.pathname) : undefined;
        if (file !== undefined) {
          const headers = { ...securityHeaders(own), "content-type": file.type };
          return new Response(file.body, { headers });
        }
        const refusal = gate.refusal(request);
        if (refusal !== undefined) return refused(refusal, own);
        if (url.pathname === "/api/console") {
          if (consoles.size >= MAX_CONSOLES) return said({ error: "too many consoles are open" }, 503, own);
          const data = consoleOf(url);
          if (data === undefined) return said({ error: "no such console" }, 404, own);
          const headers = { "sec-websocket-protocol": CONSOLE_PROTOCOL };
          if (self.upgrade(request, { data, headers })) return;
          return said({ error: "a console is a WebSocket" }, 426, own);
        }
        if (answering >= MAX_REQUESTS) return said({ error: "too many requests at once" }, 503, own);
        answering++;
        try {
          return await answered(request, url, own);
        } finally {
          answering--;
        }
      },
      websocket: {
        maxPayloadLength: TYPED_MAX,
        idleTimeout: 120,
        sendPings: true,
        open: (socket) => {
          const shown = new WebConsole(socket, socket.data.node, socket.data.mode);
          socket.data.console = shown;
          consoles.add(shown);
          void shown.show(api).finally(() => consoles.delete(shown));
        },
        message: (socket, typed) => socket.data.console?.type(Buffer.from(typed)),
        drain: (socket) => socket.data.console?.drained(),
        close: (socket) => socket.data.console?.leave(),
      },
    }),
  );

  async function answered(request: Request, url: URL, own: number): Promise<Response> {
    const name = /^\/api\/([a-z]+)$/.exec(url.pathname)?.[1] ?? "";
    const actions = request.method === "GET" ? READS : request.method === "POST" ? WRITES : {};
    const action = Object.hasOwn(actions, name) ? actions[name] : undefined;
    if (action === undefined) return said({ error: "there is nothing of that name" }, 404, own);
    try {
      const fields =
        request.method === "GET"
          ? new Fields(Object.fromEntries(url.searchParams), "request")
          : Fields.parse(await request.text(), "request", MAX_BODY);
      return said(await action({ api, live, fields, signal: request.signal }), 200, own);
    } catch (error) {
      if (!(error instanceof WaltError)) throw error;
      const { hint } = error;
      const refusal: Refused = { error: messageOf(error), ...(hint === undefined ? {} : { hint }) };
      return said(refusal, error instanceof ApiError && error.code === "unknown-node" ? 404 : 400, own);
    }
  }

  return {
    address: `http://127.0.0.1:${server.port}/#${token}`,
    stop: async () => {
      for (const shown of consoles) shown.leave();
      await server.stop(true);
    },
  };
}

function listening<T>(port: number, listen: () => T): T {
  try {
    return listen();
  } catch (error) {
    if (codeOf(error) !== "EADDRINUSE") throw error;
    throw new WaltError(`another program listens on port ${port} of 127.0.0.1`, {
      hint: "Choose another --port, or none: then a free one is used.",
    });
  }
}

function consoleOf(url: URL): { node: string; mode: (typeof CONSOLE_MODES)[number] } | undefined {
  const mode = CONSOLE_MODES.find((one) => one === url.searchParams.get("mode"));
  const node = url.searchParams.get("node") ?? "";
  return mode === undefined || node === "" || node.length > 200 ? undefined : { node, mode };
}

function said(what: unknown, status: number, port: number): Response {
  return Response.json(what, { status, headers: securityHeaders(port) });
}

function refused({ status, error }: Refusal, port: number): Response {
  return said({ error } satisfies Refused, status, port);
}

/** A TCP port as it was typed; 0 when none was. @throws WaltError (usage). */
export function parsePort(text: string | undefined): number {
  if (text === undefined) return 0;
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (port < 1 || port > 65_535) throw usageError(`--port must be a port from 1 to 65535, found "${text}"`);
  return port;
}
