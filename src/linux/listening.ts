/**
 * A port or a UNIX socket to listen on, for as long as there are file descriptors. When they run out, a connection
 * that waits to be accepted would have the event loop turn without end, as it can be neither accepted nor put off.
 * So before that the port is closed, and opened again when there are descriptors again.
 */

import { closeSync, openSync } from "node:fs";
import type { Server } from "node:net";
import { formatHostPort, type HostPort } from "../address.ts";
import { codeOf, messageOf, WaltError } from "../errors.ts";

/** Descriptors that are left for what is not a connection: files, and programs that are run. */
const RESERVE = 16;
/** ms between looks whether there are descriptors, while it listens, and while it does not. */
const LOOK = 1000;
const LOOK_AGAIN = 100;
/** ms in which it is told once that descriptors have run out. */
const SILENT = 60_000;

/** Where to listen. Of a UNIX socket `bind` makes the socket, also when it is opened again. */
export type Place = HostPort | { path: string; bind: (listen: () => void) => void };

/** Whether only the reserve of file descriptors is left, or less: of this process, or of the machine. */
export function isOutOfDescriptors(reserve = RESERVE): boolean {
  const opened: number[] = [];
  try {
    for (let i = 0; i < reserve; i++) opened.push(openSync("/dev/null", "r"));
    return false;
  } catch (error) {
    if (["EMFILE", "ENFILE"].includes(codeOf(error) ?? "")) return true;
    throw error;
  } finally {
    for (const fd of opened) closeSync(fd);
  }
}

export class Listening {
  #timer: Timer | undefined;
  /** Until then it is not told again that descriptors have run out; of performance.now(). */
  #toldUntil = 0;
  #isOpen = true;
  #isStopped = false;

  private constructor(
    private readonly server: Server,
    private readonly place: Place,
    private readonly failed: (error: Error) => void,
  ) {
    server.on("error", (error) => {
      this.#isOpen = this.server.listening; // somebody else has the port: it is tried again
      this.failed(error);
    });
    server.on("connection", () => this.#look());
    this.#lookIn(LOOK);
  }

  /**
   * Let `server` listen. Afterwards errors, and that descriptors have run out, are told to `failed`.
   * @throws WaltError when the port cannot be had.
   */
  static async start(server: Server, place: Place, failed: (error: Error) => void): Promise<Listening> {
    await new Promise<void>((resolve, reject) => {
      const refused = (error: unknown): void => {
        const where = "path" in place ? place.path : formatHostPort(place);
        reject(
          new WaltError(`cannot listen on ${where}: ${messageOf(error)}`, {
            hint: "Is something else listening there, or is a port below 1024 only root's?",
            cause: error,
          }),
        );
      };
      server.once("error", refused);
      server.once("listening", () => {
        server.off("error", refused);
        resolve();
      });
      listenOn(server, place);
    });
    const given = server.address();
    const isPort = typeof given === "object" && given !== null && !("path" in place);
    // The same port when it is opened again.
    return new Listening(server, isPort ? { host: given.address, port: given.port } : place, failed);
  }

  /** Where it listens: with the port that it was given when 0 was asked for. */
  get address(): HostPort {
    return "path" in this.place ? { host: this.place.path, port: 0 } : this.place;
  }

  /** Stop listening. Resolves when there is no connection any more, which their owner has to end. */
  stop(): Promise<void> {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    return new Promise((resolve) => this.server.close(() => resolve()));
  }

  #tell(): void {
    const now = performance.now();
    if (now < this.#toldUntil) return;
    this.#toldUntil = now + SILENT;
    this.failed(new Error("there are no file descriptors left; connections are refused until there are"));
  }

  #lookIn(ms: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#look(), ms);
    if (this.#isOpen) this.#timer.unref(); // else nothing but this may keep the process from ending
  }

  #look(): void {
    if (this.#isStopped) return;
    const isOut = isOutOfDescriptors(this.#isOpen ? RESERVE : 2 * RESERVE);
    if (isOut && this.#isOpen) {
      this.#isOpen = false;
      this.server.close();
      this.#tell();
    } else if (!isOut && !this.#isOpen) {
      this.#isOpen = true;
      listenOn(this.server, this.place);
    }
    this.#lookIn(this.#isOpen ? LOOK : LOOK_AGAIN);
  }
}

function listenOn(server: Server, place: Place): void {
  if ("path" in place) place.bind(() => server.listen(place.path));
  else server.listen(place.port, place.host);
}
