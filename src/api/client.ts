/** The commands' side of a daemon's API. */

import { accessSync, constants, existsSync } from "node:fs";
import { codeOf, messageOf, WaltError } from "../errors.ts";
import { Fields } from "../parse.ts";
import { safeText } from "../text.ts";

/** Longest line of a stream, in characters. */
const MAX_EVENT = 65_536;

/** A daemon's API behind a UNIX socket. */
export class ApiClient {
  constructor(
    readonly socket: string,
    /** How to start the daemon, for the error message. */
    readonly daemon: string,
    /** The socket as the user knows it, when this one only leads there. */
    readonly place = socket,
    /** ms for the answer to one request. */
    readonly timeout = 30_000,
  ) {}

  /**
   * One request; the JSON of its answer.
   * @throws WaltError with the daemon's own words when it refuses, or why it cannot be reached.
   */
  async call(method: "GET" | "POST", path: string, body?: unknown): Promise<unknown> {
    const signal = AbortSignal.timeout(this.timeout);
    try {
      const response = await this.#fetch(method, path, body, signal);
      return this.#parse(await response.text());
    } catch (error) {
      if (error instanceof WaltError) throw error;
      throw signal.aborted
        ? new WaltError(`the daemon on ${this.place} takes longer than ${this.timeout / 1000} s to answer`, {
            hint: "Its log may tell why.",
          })
        : this.#unreachable(error);
    }
  }

  /**
   * A stream of JSON lines, until the daemon ends it.
   * @throws WaltError when the daemon cannot be reached or breaks off; what the abort of `signal` gives.
   */
  async *stream(path: string, signal: AbortSignal): AsyncGenerator<unknown> {
    const response = await this.#fetch("GET", path, undefined, signal);
    if (response.body === null) return;
    const decoder = new TextDecoder();
    let rest = "";
    try {
      for await (const bytes of response.body) {
        rest += decoder.decode(bytes, { stream: true });
        const lines = rest.split("\n");
        rest = lines.pop() ?? "";
        for (const line of lines) if (line !== "") yield this.#parse(line);
        if (rest.length > MAX_EVENT) throw this.#nonsense(rest);
      }
    } catch (error) {
      if (signal.aborted || error instanceof WaltError) throw error;
      throw this.#unreachable(error);
    }
  }

  /** @throws WaltError when it is not JSON: somebody else listens there. */
  #parse(text: string): unknown {
    try {
      return JSON.parse(text);
    } catch {
      throw this.#nonsense(text);
    }
  }

  #nonsense(text: string): WaltError {
    return new WaltError(`${this.place} answered what walt does not understand: ${safeText(text)}`, {
      hint: "Does a daemon of walt listen there, and of this version?",
    });
  }

  async #fetch(method: string, path: string, body: unknown, signal: AbortSignal): Promise<Response> {
    let response: Response;
    try {
      response = await fetch(`http://walt${path}`, {
        unix: this.socket,
        method,
        signal,
        ...(body === undefined
          ? {}
          : { body: JSON.stringify(body), headers: { "content-type": "application/json" } }),
      });
    } catch (error) {
      if (signal.aborted && codeOf(error) === undefined) throw error;
      throw this.#unreachable(error);
    }
    if (response.ok) return response;
    const text = await response.text();
    let reason: Fields;
    try {
      reason = Fields.parse(text, "answer", 65_536);
    } catch {
      throw new WaltError(`${this.place} answered ${response.status}: ${safeText(text)}`);
    }
    const hint = reason.optionalText("hint", 1000);
    throw new WaltError(
      reason.optionalText("error", 4000) ?? `status ${response.status}`,
      hint === undefined ? {} : { hint },
    );
  }

  #unreachable(error: unknown): WaltError {
    if (!existsSync(this.socket)) {
      return new WaltError(`no daemon: ${this.socket} does not exist`, {
        hint: `Start it with \`${this.daemon}\`.`,
      });
    }
    try {
      accessSync(this.socket, constants.R_OK | constants.W_OK);
    } catch {
      return new WaltError(`no permission to use ${this.socket}`, {
        hint: "Run the command as root, or become a member of the socket's group (`ls -l` shows it).",
      });
    }
    // Bun's advice to programmers is none to a user.
    const reason = messageOf(error).replace(/ For more information, pass .*$/, "");
    return new WaltError(`the daemon does not answer on ${this.place}: ${reason}`, {
      hint: `Is it running? Start it with \`${this.daemon}\`.`,
    });
  }
}
