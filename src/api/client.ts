/**
 * The commands' side of a daemon's API: every answer is parsed by its route, and one that does not fit is
 * explained.
 */

import { accessSync, constants, existsSync } from "node:fs";
import { codeOf, messageOf, WaltError } from "../errors.ts";
import { Fields, parseJson } from "../parse.ts";
import { safeText } from "../text.ts";
import { VERSION } from "../version.ts";
import { parseError } from "./api-error.ts";
import { API, API_HEADER, encodeRequest, type Route, type StreamRoute, VERSION_HEADER } from "./routes.ts";

/** Longest line of a stream, and longest answer, in characters. */
const MAX_EVENT = 65_536;
const MAX_ANSWER = 64 << 20;

/** A stream says something every 10 s (src/server/api.ts); one that is silent for so long, ms, is broken. */
const SILENCE = 30_000;

/** The daemon that a command talks to. */
export interface Peer {
  /** Path of its UNIX socket, or of one that leads to it. */
  readonly socket: string;
  /** The command that starts it, for the error message. */
  readonly start: string;
  /** What the user calls it; `the daemon on SOCKET` unless given. */
  readonly name?: string;
  /** Why the way to it is lost, in words; undefined while it is there. Such a way is tried again. */
  readonly lost?: () => string | undefined;
  /** A stream of it has fallen silent. */
  readonly silent?: () => void;
}

/** The daemon is of a version that does not fit this one: trying again does not help. */
export class MisfitError extends WaltError {}

/** The daemon cannot be reached, or does not answer. */
export class UnreachableError extends WaltError {}

/** How long answers may take, ms; parameters for tests. */
export interface Patience {
  readonly answer: number;
  readonly silence: number;
}

type AnyRoute = Pick<Route<unknown, unknown>, "method" | "path">;

export class ApiClient {
  readonly #name: string;
  #version: string | undefined;

  constructor(
    readonly peer: Peer,
    readonly patience: Patience = { answer: 30_000, silence: SILENCE },
  ) {
    this.#name = peer.name ?? `the daemon on ${peer.socket}`;
  }

  /** The daemon's version; undefined until it has answered. */
  get version(): string | undefined {
    return this.#version;
  }

  /**
   * One request, and its answer.
   * @throws ApiError when the daemon refuses; MisfitError when it is of a version that does not fit;
   * WaltError when it cannot be reached, or is no daemon of walt.
   */
  async call<Q extends object, A>(route: Route<Q, A>, request: Q): Promise<A> {
    const signal = AbortSignal.timeout(this.patience.answer);
    try {
      const response = await this.#fetch(route, request, signal);
      const text = await textOf(response, MAX_ANSWER);
      return this.#fitting(response, () => route.answer(parseJson(text, ANSWER, MAX_ANSWER), ANSWER));
    } catch (error) {
      if (error instanceof WaltError) throw error;
      throw signal.aborted ? this.#tooLong(this.patience.answer) : this.#unreachable(error);
    }
  }

  /**
   * A stream of events, until the daemon ends it.
   * @throws as `call`, also when the daemon breaks off or falls silent; what the abort of `signal` gives.
   */
  async *stream<Q extends object, E>(
    route: StreamRoute<Q, E>,
    request: Q,
    signal: AbortSignal,
  ): AsyncGenerator<E> {
    const silence = new Silence(this.patience.silence);
    try {
      const response = await this.#fetch(route, request, AbortSignal.any([signal, silence.signal]));
      for await (const line of linesOf(response, silence)) {
        const parse = (): E | undefined => route.event(Fields.parse(line, EVENT, MAX_EVENT));
        const event = this.#fitting(response, parse);
        if (event !== undefined) yield event;
      }
    } catch (error) {
      if (signal.aborted || error instanceof WaltError) throw error;
      if (!silence.signal.aborted) throw this.#unreachable(error);
      this.peer.silent?.();
      throw this.#tooLong(this.patience.silence);
    } finally {
      silence.stop();
    }
  }

  async #fetch(route: AnyRoute, request: object, signal: AbortSignal): Promise<Response> {
    const { path, body } = encodeRequest(route, request);
    const { method } = route;
    const init = body === undefined ? {} : { body, headers: { "content-type": "application/json" } };
    const response = await fetch(`http://walt${path}`, { unix: this.peer.socket, method, signal, ...init });
    const { api, version } = await this.#identify(response);
    if (api !== API) {
      throw this.#misfit(response, `it speaks version ${api} of the API, and this one version ${API}`);
    }
    if (response.ok) return response;
    const text = await textOf(response, MAX_EVENT);
    const error = this.#fitting(response, () => parseError(Fields.parse(text, ANSWER, MAX_EVENT)));
    // A request that the daemon does not know is of another build, also when both call themselves the same.
    const isForeign = error.code === "unknown-request" || (error.code === "malformed" && version !== VERSION);
    throw isForeign ? this.#misfit(response, error.message) : error;
  }

  /** The versions in an answer. @throws WaltError when it has none: then it is not from a daemon of walt. */
  async #identify(response: Response): Promise<{ api: number; version: string }> {
    const api = response.headers.get(API_HEADER) ?? "";
    const version = response.headers.get(VERSION_HEADER) ?? "";
    if (/^\d{1,9}$/.test(api) && /^[\w.+-]{1,40}$/.test(version)) {
      this.#version = version;
      return { api: Number(api), version };
    }
    const start = safeText((await textOf(response, 1000, true)).trim());
    const said = start === "" ? "nothing" : start;
    throw new WaltError(
      `${this.#name} is no daemon of walt: it answered with status ${response.status}: ${said}`,
      { hint: `Does another program listen there? The daemon is started with \`${this.peer.start}\`.` },
    );
  }

  /**
   * What `parse` makes of a part of an answer.
   * @throws WaltError that names both versions when it does not fit.
   */
  #fitting<T>(response: Response, parse: () => T): T {
    try {
      return parse();
    } catch (error) {
      throw error instanceof WaltError ? this.#misfit(response, error.message) : error;
    }
  }

  /** @param what does not fit, in words. */
  #misfit(response: Response, what: string): MisfitError {
    const version = response.headers.get(VERSION_HEADER) ?? "";
    const versions =
      version === VERSION ? `is walt ${version}, as this is` : `is walt ${version}, this is walt ${VERSION}`;
    return new MisfitError(`${this.#name} ${versions}: ${what}`, {
      hint: version === VERSION ? "Install the same build on both." : "Install the same version on both.",
    });
  }

  #tooLong(ms: number): WaltError {
    return new WaltError(`${this.#name} takes longer than ${ms / 1000} s to answer`, {
      hint: "Its log may tell why.",
    });
  }

  #unreachable(error: unknown): UnreachableError {
    const { socket, start } = this.peer;
    const lost = this.peer.lost?.();
    if (lost !== undefined) {
      return new UnreachableError(`the way to ${this.#name} is lost: ssh: ${lost}`, {
        hint: "It is tried again. ssh cannot ask for a passphrase meanwhile: an ssh-agent must have the key.",
      });
    }
    if (!existsSync(socket)) {
      return new UnreachableError(`no daemon: ${socket} does not exist`, {
        hint: `Start it with \`${start}\`.`,
      });
    }
    try {
      accessSync(socket, constants.R_OK | constants.W_OK);
    } catch {
      return new UnreachableError(`no permission to use ${socket}`, {
        hint: "Run the command as root, or become a member of the socket's group (`ls -l` shows it).",
      });
    }
    const code = codeOf(error);
    const reason = code === undefined ? messageOf(error) : (REASONS[code] ?? code);
    return new UnreachableError(`${this.#name} does not answer: ${reason}`, {
      hint: `Is it running? Start it with \`${start}\`.`,
    });
  }
}

/** What begins an error about an answer, or about an event. */
const ANSWER = "answer";
const EVENT = "event";

/** Codes of fetch's errors in words. Its own words are for programmers. */
const REASONS: Readonly<Record<string, string>> = {
  ECONNREFUSED: "no program listens there",
  ECONNRESET: "the connection was closed before the whole answer came",
  Malformed_HTTP_Response: "what came is not HTTP",
};

/** Aborts its signal when nothing was heard for so many ms. */
class Silence {
  readonly #controller = new AbortController();
  #timer: Timer;

  constructor(readonly limit: number) {
    this.#timer = this.#start();
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  heard(): void {
    clearTimeout(this.#timer);
    this.#timer = this.#start();
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  #start(): Timer {
    return setTimeout(() => this.#controller.abort(), this.limit);
  }
}

/** The text of a body. @param cut the rest is left out, else more than `max` bytes are an error. */
async function textOf(response: Response, max: number, cut = false): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  let size = 0;
  for await (const bytes of response.body ?? []) {
    size += bytes.length;
    text += decoder.decode(bytes, { stream: true });
    if (size <= max) continue;
    if (cut) break;
    throw new UnreachableError(`the answer has more than ${max} bytes`);
  }
  return text;
}

/** The lines of a body that are not empty. A longer one than MAX_EVENT is given cut: it is no event. */
async function* linesOf(response: Response, silence: Silence): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const bytes of response.body ?? []) {
    silence.heard();
    rest += decoder.decode(bytes, { stream: true });
    const lines = rest.split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) if (line !== "") yield line;
    if (rest.length > MAX_EVENT) yield rest;
  }
}
