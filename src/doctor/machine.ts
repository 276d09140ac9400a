/**
 * The machine that `walt doctor` looks at: all that its checks may ask of it. Each answer comes within a
 * bounded time, and has a bounded size. Tests use a machine that is not there.
 *
 */

import type { HostPort } from "../address.ts";

/** What a program printed, and its exit status. */
export interface Ran {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** What is known of a file without reading it. */
export interface FileFacts {
  /** Permission bits. */
  readonly mode: number;
  /** The number of the user that it belongs to. */
  readonly uid: number;
  /** When its content was changed last, ms since 1970. */
  readonly modified: number;
}

/** The room of a file system. */
export interface Space {
  /** Bytes. */
  readonly size: number;
  readonly free: number;
  /** Files that it can have; 0 if their number is not limited. */
  readonly files: number;
  readonly freeFiles: number;
}

/** The addresses of a name, or why there are none. */
export type Resolved =
  | { readonly addresses: readonly string[] }
  /** `code`: the system's, such as ENOTFOUND; TIMEOUT if no answer came. */
  | { readonly code: string };

/** What came of a TCP connection. */
export type Talk =
  /** There was none. `code`: the system's, such as ECONNREFUSED; TIMEOUT if no answer came. */
  | { readonly is: "none"; readonly code: string }
  /**
   * The peer was there. `line`: its first line, at most 255 characters; undefined if none came. `ended`: the
   * peer closed the connection.
   */
  | { readonly is: "there"; readonly line: string | undefined; readonly ended: boolean };

export interface Machine {
  /** ms since 1970, by this machine's clock. */
  now(): number;
  /** Whether a program is installed. */
  has(program: string): boolean;
  /**
   * Run a program, in English, for at most `ms` (5000 unless given).
   * @returns undefined if it is not installed, cannot be started, or took longer.
   */
  run(command: readonly string[], ms?: number): Promise<Ran | undefined>;
  /** The text of a file; undefined if there is none. @throws WaltError if it cannot be read. */
  read(path: string): Promise<string | undefined>;
  /** The names in a folder; none if there is no folder. */
  list(folder: string): Promise<string[]>;
  /** undefined if there is no such file. @throws the system's error if that cannot be found out. */
  stat(path: string): Promise<FileFacts | undefined>;
  /** Why a file or folder cannot be read and written: the system's code; undefined if it can be. */
  access(path: string): Promise<string | undefined>;
  /** @throws the system's error. */
  space(path: string): Promise<Space>;
  /** Ask the system's resolver, as ssh does. */
  resolve(host: string): Promise<Resolved>;
  /**
   * Connect, and wait for the peer's first line; with `send`, send these bytes then and wait for the peer to
   * close the connection.
   */
  talk(to: HostPort, send?: Uint8Array): Promise<Talk>;
  /** Send a datagram (UDP), and wait for the answer; undefined if none came. */
  ask(to: HostPort, question: Uint8Array): Promise<Uint8Array | undefined>;
  /** Why a port cannot be listened on (TCP): the system's code; undefined if it can be. */
  listen(at: HostPort): Promise<string | undefined>;
  /** Why changes of a folder cannot be watched (inotify): the system's code; undefined if they can be. */
  watch(folder: string): Promise<string | undefined>;
}
