/** A client of QMP, QEMU's machine protocol: commands and events as lines of JSON over a UNIX socket. */

import { codeOf, messageOf, WaltError } from "../../errors.ts";
import { safeText } from "../../text.ts";

/** Characters that a line of QEMU may have. The longest line that we expect is its greeting, of some 200. */
const MAX_LINE = 1 << 20;

interface Pending {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

/** An event of QEMU: its name, such as `SHUTDOWN`, and its data. */
export type QmpEvent = { name: string; data: Readonly<Record<string, unknown>> };

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A connection to one QEMU. The protocol is described in docs/interop/qmp-spec of QEMU. */
export class Qmp {
  #socket: Bun.Socket | undefined;
  #rest = "";
  #next = 1;
  #pending = new Map<number, Pending>();
  readonly #decoder = new TextDecoder();
  readonly #greeting = Promise.withResolvers<void>();
  readonly #onEvent: (event: QmpEvent) => void;
  readonly #ended = Promise.withResolvers<void>();

  private constructor(onEvent: (event: QmpEvent) => void) {
    this.#onEvent = onEvent;
    this.#greeting.promise.catch(() => {}); // it may be rejected before connect() awaits it
  }

  /** Resolves when the connection has ended: QEMU has ended, or `stop` was called. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /**
   * Connect, and leave the protocol's negotiation mode.
   * @param path of QEMU's socket.
   * @param onEvent called with each event.
   * @param timeout milliseconds.
   * @returns undefined when no program listens on `path`.
   * @throws WaltError when the program that listens does not speak QMP within `timeout`.
   */
  static async connect(
    path: string,
    onEvent: (event: QmpEvent) => void = () => {},
    timeout = 5000,
  ): Promise<Qmp | undefined> {
    const qmp = new Qmp(onEvent);
    try {
      qmp.#socket = await Bun.connect({
        unix: path,
        socket: {
          data: (_, bytes) => qmp.#take(qmp.#decoder.decode(bytes, { stream: true })),
          close: () => qmp.#end("QEMU closed the connection"),
          error: (_, error) => qmp.#end(messageOf(error)),
        },
      });
    } catch (error) {
      const code = codeOf(error);
      if (code === "ENOENT" || code === "ECONNREFUSED") return undefined;
      throw new WaltError(`cannot reach QEMU at ${path}: ${messageOf(error)}`, { cause: error });
    }
    const timer = setTimeout(
      () => qmp.#end(`the program on ${path} did not speak QMP within ${timeout} ms`),
      timeout,
    );
    try {
      await qmp.#greeting.promise;
      await qmp.execute("qmp_capabilities");
      return qmp;
    } catch (error) {
      qmp.stop();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * Run a command, and return its result.
   * @throws WaltError with QEMU's message when it refuses, or when the connection ends before the answer.
   */
  execute(command: string, args: Record<string, unknown> = {}): Promise<unknown> {
    const socket = this.#socket;
    if (socket === undefined)
      return Promise.reject(new WaltError(`cannot run the QMP command ${command}: QEMU has ended`));
    const id = this.#next++;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#pending.set(id, { resolve, reject });
    // The socket takes the whole line: commands are far smaller than its buffer, and few are under way at a
    // time.
    socket.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
    return promise;
  }

  /** End the connection. QEMU keeps running. */
  stop(): void {
    this.#end("the connection to QEMU was closed");
  }

  #take(text: string): void {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop() ?? "";
    if (this.#rest.length > MAX_LINE) this.#end(`QEMU sent a line of more than ${MAX_LINE} characters`);
    for (const line of lines) if (line.trim() !== "") this.#line(line);
  }

  #line(line: string): void {
    let message: unknown;
    try {
      message = JSON.parse(line);
    } catch {
      // A line that is not JSON is reported below.
    }
    if (!isRecord(message)) {
      this.#end(`QEMU sent a line that is not QMP: ${safeText(line)}`);
    } else if ("QMP" in message) {
      this.#greeting.resolve();
    } else if (typeof message["event"] === "string") {
      this.#onEvent({ name: message["event"], data: isRecord(message["data"]) ? message["data"] : {} });
    } else if (typeof message["id"] === "number") {
      const pending = this.#pending.get(message["id"]);
      this.#pending.delete(message["id"]);
      const error = message["error"];
      if (isRecord(error)) pending?.reject(new WaltError(`QEMU: ${safeText(String(error["desc"]), 200)}`));
      else pending?.resolve(message["return"]);
    }
  }

  #end(why: string): void {
    const error = new WaltError(why);
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const one of pending) one.reject(error);
    this.#greeting.reject(error);
    this.#socket?.end();
    this.#socket = undefined;
    this.#ended.resolve();
  }
}
