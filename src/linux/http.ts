/**
 * HTTP on a port or a UNIX socket, with a bound on the connections in all and of each client. Bun.serve takes any
 * number of connections and does not tell of them; so they are accepted here, and node:http speaks on them.
 */

import { createServer as createHttp, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer, type Socket } from "node:net";
import { codeOf } from "../errors.ts";
import { FairSet } from "../fair-set.ts";
import { plainAddress } from "../source.ts";
import { Listening, type Place } from "./listening.ts";

/** The type of an answer that goes on for as long as the client is there. Any other ends, and has its length in a header. */
export const EVENTS = "application/x-ndjson";

export interface HttpOptions {
  place: Place;
  /** Connections at once, and of one client at once. When there are more, the oldest of the client with most ends. */
  most: number;
  each: number;
  /** ms without a byte after which a connection is ended; 0 for never. */
  idle: number;
  /** Bytes that a request's body may have. */
  maxBody: number;
  /** Whose a connection is; undefined if it has gone already. */
  clientOf(socket: Socket): string | undefined;
  /** The answer to a request. What it throws is told to `failed`, and `onError` is answered. */
  answer(request: Request, client: string): Response | Promise<Response>;
  onError(error: unknown): Response;
  /** Of errors while accepting. */
  failed(error: unknown): void;
}

export class HttpServer {
  readonly #open: FairSet<Socket>;
  readonly #sockets = new Map<Socket, string>();
  /** The requests that are being answered, one of a connection. */
  readonly #current = new Map<Socket, IncomingMessage>();
  /** Connections that get events. */
  readonly #streams = new WeakSet<Socket>();
  readonly #http = createHttp((request, response) => void this.#respond(request, response));
  #listening: Listening | undefined;

  private constructor(private readonly o: HttpOptions) {
    this.#open = new FairSet(o.most, o.each);
    // Node.js has this property (http.Server, "httpAllowHalfOpen"), its types do not: a client that has said all may still read.
    Object.assign(this.#http, { httpAllowHalfOpen: true });
    this.#http.on("clientError", (error, socket) => {
      const status =
        codeOf(error) === "HPE_HEADER_OVERFLOW" ? "431 Request Header Fields Too Large" : "400 Bad Request";
      if (socket.writable) socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\n\r\n`);
      else socket.destroy();
    });
  }

  /** @throws WaltError when it cannot listen there. */
  static async start(o: HttpOptions): Promise<HttpServer> {
    const http = new HttpServer(o);
    const net = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => http.#take(socket));
    http.#listening = await Listening.start(net, o.place, o.failed);
    return http;
  }

  /** Stop listening and end every connection. */
  async stop(): Promise<void> {
    const stopped = this.#listening?.stop();
    for (const socket of this.#sockets.keys()) socket.destroy();
    await stopped;
  }

  #take(socket: Socket): void {
    const client = this.o.clientOf(socket);
    if (client === undefined) {
      socket.destroy();
      return;
    }
    this.#sockets.set(socket, client);
    socket.on("error", () => {}); // `close` comes after it
    // Who has said all still gets the answer to a whole request, but no events: a monitor that was killed looks the same.
    socket.once("end", () => {
      const request = this.#current.get(socket);
      if (request === undefined) socket.end();
      else if (!request.complete || this.#streams.has(socket)) socket.destroy();
    });
    socket.once("close", () => {
      this.#sockets.delete(socket);
      this.#open.delete(socket);
    });
    if (this.o.idle > 0) socket.setTimeout(this.o.idle, () => socket.destroy());
    const evicted = this.#open.add(socket, client);
    evicted?.destroy();
    if (evicted !== socket) this.#http.emit("connection", socket);
  }

  async #respond(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const socket = incoming.socket as Socket;
    // One request at a time: node:http would begin with all that a client sends at once.
    if (this.#current.has(socket)) {
      socket.destroy();
      return;
    }
    this.#current.set(socket, incoming);
    const gone = new AbortController();
    outgoing.once("close", () => gone.abort());
    try {
      const response = await this.#answer(incoming, gone.signal);
      if (response.headers.get("content-type") === EVENTS) {
        if (socket.readableEnded) throw new Error("the client has gone");
        this.#streams.add(socket);
      } else if (!response.headers.has("content-length")) {
        const content = new Uint8Array(await response.arrayBuffer());
        response.headers.set("content-length", String(content.length));
        outgoing.writeHead(response.status, Object.fromEntries(response.headers));
        outgoing.end(incoming.method === "HEAD" ? undefined : content);
        return;
      }
      await send(response, outgoing, incoming.method === "HEAD", gone.signal);
    } catch {
      socket.destroy(); // the answer has begun, and cannot be finished
    } finally {
      this.#current.delete(socket);
      if (socket.readableEnded) socket.end();
    }
  }

  async #answer(incoming: IncomingMessage, signal: AbortSignal): Promise<Response> {
    const { socket, url = "", method = "", headers } = incoming;
    // The header Host may be anything, and no service of ours asks for it.
    const target = url.startsWith("/") ? URL.parse(`http://walt${url}`) : URL.parse(url);
    if (target === null || !["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"].includes(method))
      return refusal(400, "not a request for this server");
    const body = await bodyOf(incoming, this.o.maxBody);
    if (body === undefined) return refusal(413, `a body has at most ${this.o.maxBody} bytes`);
    const fields = Object.entries(headers).flatMap(([name, value]): [string, string][] =>
      typeof value === "string" ? [[name, value]] : [],
    );
    try {
      const hasBody = method !== "GET" && method !== "HEAD";
      const request = new Request(target.href, {
        method,
        headers: fields,
        signal,
        ...(hasBody ? { body } : {}),
      });
      return await this.o.answer(request, this.#sockets.get(socket) ?? "");
    } catch (error) {
      return this.o.onError(error);
    }
  }
}

/** The address of a TCP connection's client. */
export function addressOf({ remoteAddress }: Socket): string | undefined {
  return remoteAddress === undefined ? undefined : plainAddress(remoteAddress);
}

function refusal(status: number, reason: string): Response {
  return new Response(`${reason}\n`, { status, headers: { connection: "close" } });
}

/** The body of a request; undefined if it has more than `max` bytes. @throws when the client goes away in the middle. */
async function bodyOf(incoming: IncomingMessage, max: number): Promise<Uint8Array<ArrayBuffer> | undefined> {
  if (Number(incoming.headers["content-length"] ?? 0) > max) return undefined;
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of incoming) {
    const bytes = part as Uint8Array;
    length += bytes.length;
    if (length > max) return undefined;
    parts.push(bytes);
  }
  return new Uint8Array(Buffer.concat(parts));
}

/** Send an answer in pieces, as fast as the client reads. @throws when its source breaks off. */
async function send(
  response: Response,
  outgoing: ServerResponse,
  isHead: boolean,
  gone: AbortSignal,
): Promise<void> {
  const body = response.body?.getReader();
  const cancel = (): void => void body?.cancel().catch(() => {});
  gone.addEventListener("abort", cancel);
  if (gone.aborted || isHead) cancel();
  outgoing.writeHead(response.status, Object.fromEntries(response.headers));
  outgoing.flushHeaders();
  for (;;) {
    const { done, value } = isHead || body === undefined ? { done: true } : await body.read();
    if (done || value === undefined) break;
    if (!outgoing.write(value) && !gone.aborted) {
      await new Promise<void>((resolve) => {
        outgoing.once("drain", resolve);
        gone.addEventListener("abort", () => resolve(), { once: true });
      });
    }
  }
  outgoing.end();
}
