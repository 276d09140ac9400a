/**
 * A daemon's side of the API: requests are parsed by their routes and handed on, and every answer carries the
 * version.
 */

import { messageOf, WaltError } from "../errors.ts";
import { EVENTS } from "../linux/http.ts";
import type { Log } from "../log.ts";
import { Fields } from "../parse.ts";
import { explained, reasonOf } from "../system-error.ts";
import { safeText } from "../text.ts";
import { VERSION } from "../version.ts";
import { ApiError, CODES, encodeError } from "./api-error.ts";
import {
  API,
  API_HEADER,
  matchPath,
  type Route,
  type StreamRoute,
  type TextRoute,
  VERSION_HEADER,
} from "./routes.ts";

/** Bytes of events that wait for a client who does not read; then its stream ends. */
const MAX_WAITING = 1 << 20;

/** What begins an error about a request. */
const WHERE = "request";

/** A route with what answers it. */
export interface Served {
  readonly route: { readonly method: string; readonly path: string };
  /** @param user who asks: the user at the other end of the socket, as the kernel says */
  respond(fields: Fields, request: Request, user: string): Response | Promise<Response>;
}

/** @param give may throw an ApiError, or another WaltError, whose code is then `failed`. */
export function serve<Q, A>(route: Route<Q, A>, give: (request: Q, user: string) => A | Promise<A>): Served {
  return {
    route,
    respond: async (fields, _, user) =>
      json(
        await give(
          understood(() => route.request(fields)),
          user,
        ),
      ),
  };
}

/** @param say gives lines of printable ASCII, and a status of HTTP, which is 200 unless given. */
export function serveText(
  route: TextRoute,
  say: () => { lines: readonly string[]; status?: number },
): Served {
  const respond = (): Response => {
    const { lines, status } = say();
    return answer(lines.map((line) => `${line}\n`).join(""), "text/plain; charset=us-ascii", status);
  };
  return { route, respond };
}

/**
 * @param watch begins to tell events, and returns what ends it. It is ended once, when the client is gone;
 * `tell` does nothing from then on.
 */
export function serveStream<Q, E>(
  route: StreamRoute<Q, E>,
  watch: (request: Q, tell: (event: E) => void, user: string) => () => void,
): Served {
  return {
    route,
    respond: (fields, { signal }, user) => {
      const asked = understood(() => route.request(fields));
      return answer(
        streamOf((tell) => watch(asked, tell, user), signal),
        EVENTS,
      );
    },
  };
}

/** ms between two signs of life on a stream that has nothing else to say. */
const ALIVE = 10_000;

/**
 * An answer that comes bit by bit, as fast as the client reads it.
 * @param give begins, and may throw as for `serve`; then gives the events. `signal` is aborted when the client
 *   is gone, perhaps before anything was asked of the events.
 */
export function serveAnswer<Q>(
  route: StreamRoute<Q, unknown>,
  give: (request: Q, user: string, signal: AbortSignal) => Promise<AsyncGenerator<object>>,
): Served {
  return {
    route,
    respond: async (fields, { signal }, user) => {
      const asked = understood(() => route.request(fields));
      return answer(pulledFrom(await give(asked, user, signal)), EVENTS);
    },
  };
}

/** Answers a request. @param user as for `Served.respond`. */
export type Handle = (request: Request, user: string) => Promise<Response>;

/** The handler of all requests. */
export function apiHandler(served: readonly Served[], log: Log): Handle {
  return async (request, user) => {
    // The URL has the header Host in it, which may be anything.
    const { pathname, searchParams } = URL.parse(request.url) ?? new URL("http://walt/");
    try {
      for (const { route, respond } of served) {
        const inPath = route.method === request.method ? matchPath(route, pathname) : undefined;
        if (inPath === undefined) continue;
        const rest =
          request.method === "POST"
            ? await bodyOf(request)
            : new Fields(Object.fromEntries(searchParams), WHERE);
        return await respond(rest.with(inPath), request, user);
      }
      throw new ApiError("unknown-request", `no such request: ${request.method} ${safeText(pathname)}`);
    } catch (error) {
      return refusal(error, pathname, log);
    }
  };
}

async function bodyOf(request: Request): Promise<Fields> {
  const text = await request.text().catch(() => {
    throw new ApiError("malformed", "the client went away in the middle of its request");
  });
  return understood(() => Fields.parse(text, WHERE));
}

/** What `parse` gives. What it says of a request that is not as it should be has the code `malformed`. */
function understood<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw error instanceof WaltError ? new ApiError("malformed", error.message, error.hint) : error;
  }
}

function refusal(error: unknown, pathname: string, log: Log): Response {
  if (error instanceof ApiError) return json(encodeError(error), CODES[error.code]);
  const known = explained(error);
  if (known !== undefined) {
    if (known !== error)
      log.error("a request failed", { event: "request-failed", request: pathname, reason: reasonOf(error) });
    return json(encodeError(new ApiError("failed", known.message, known.hint)), CODES.failed);
  }
  log.error("a request failed", { event: "api-failed", request: pathname, reason: messageOf(error) });
  const words = `internal error: ${messageOf(error)}`;
  return json(encodeError(new ApiError("internal", words)), CODES.internal);
}

function json(value: unknown, status = 200): Response {
  return answer(JSON.stringify(value), "application/json", status);
}

function answer(body: string | ReadableStream<Uint8Array>, type: string, status = 200): Response {
  const headers = { "content-type": type, [API_HEADER]: String(API), [VERSION_HEADER]: VERSION };
  return new Response(body, { status, headers });
}

/** Events as lines of JSON, each asked for when the client has room; `alive` when there is none for a while. */
function pulledFrom(events: AsyncGenerator<object>): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  let next: Promise<IteratorResult<object>> | undefined;
  return new ReadableStream<Uint8Array>(
    {
      pull: async (controller) => {
        next ??= events.next();
        let timer: Timer | undefined;
        const quiet = new Promise<undefined>((resolve) => {
          timer = setTimeout(() => resolve(undefined), ALIVE);
        });
        const result = await Promise.race([next, quiet]).finally(() => clearTimeout(timer));
        if (result !== undefined) next = undefined;
        if (result?.done === true) controller.close();
        else controller.enqueue(encoder.encode(`${JSON.stringify(result?.value ?? { type: "alive" })}\n`));
      },
      cancel: () => void events.return(undefined).catch(() => {}),
    },
    { highWaterMark: 0 },
  );
}

/** Events as lines of JSON, for as long as the client's connection lives. */
function streamOf<E>(
  watch: (tell: (event: E) => void) => () => void,
  signal: AbortSignal,
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  let stop = (): void => {};
  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        let over = false;
        let unwatch = (): void => {};
        stop = () => {
          if (over) return;
          over = true;
          unwatch();
        };
        unwatch = watch((event) => {
          if (over) return;
          if ((controller.desiredSize ?? 0) <= 0) {
            stop();
            controller.error(new Error("the client does not read"));
            return;
          }
          try {
            controller.enqueue(encoder.encode(`${JSON.stringify(event)}\n`));
          } catch {
            stop(); // the connection is gone, and its end is on its way
          }
        });
        if (over) unwatch();
        signal.addEventListener("abort", () => stop());
      },
      cancel: () => stop(),
    },
    { highWaterMark: MAX_WAITING, size: (bytes) => bytes?.byteLength ?? 0 },
  );
}
