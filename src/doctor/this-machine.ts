/** The machine that this program runs on, as `walt doctor` looks at it. */

import { createSocket } from "node:dgram";
import { constants, readFileSync, watch } from "node:fs";
import { access, readdir, stat, statfs } from "node:fs/promises";
import { connect, createServer, isIP, isIPv6 } from "node:net";
import type { HostPort } from "../address.ts";
import { codeOf } from "../errors.ts";
import { readTextIfAny } from "../linux/files.ts";
import { runAny } from "../linux/run.ts";
import type { Machine, Ran, Resolved, Space, Talk } from "./machine.ts";

/** Milliseconds that a program may run. */
const RUN_LONGEST = 5000;
/** Characters of each of a program's outputs that are kept. */
const OUTPUT = 65_536;
/** Bytes of a file that are read. */
const FILE = 1 << 20;
/** Milliseconds for a connection, for the peer's first line, and for its end after that. */
const CONNECT_LONGEST = 5000;
const LINE_LONGEST = 4000;
const END_LONGEST = 4000;
/** Characters of a peer's first line (RFC 4253 section 4.2). */
const LINE = 255;
/** Milliseconds for names: the C library asks each server for 5 s, which is not waited for. */
const RESOLVE_LONGEST = 4000;
/** Milliseconds for the answer to a datagram. */
const ASK_LONGEST = 2000;
/** Folders of programs, whatever this one was started with. */
const PATH = `${process.env["PATH"] ?? ""}:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin`;

/** @param signal ends all that is under way when it is aborted. */
export function thisMachine(signal: AbortSignal): Machine {
  return {
    now: Date.now,
    has: (program) => Bun.which(program, { PATH }) !== null,
    run: (command, ms = RUN_LONGEST) => run(command, ms, signal),
    read: async (path) => readTextIfAny(path, FILE),
    list: async (folder) => await readdir(folder).catch(() => []),
    stat: async (path) => {
      try {
        const { mode, uid, mtimeMs } = await stat(path);
        return { mode: mode & 0o7777, uid, modified: mtimeMs };
      } catch (error) {
        if (["ENOENT", "ENOTDIR"].includes(codeOf(error) ?? "")) return undefined;
        throw error;
      }
    },
    access: (path) => codeOfFailure(access(path, constants.R_OK | constants.W_OK)),
    space: async (path) => spaceOf(await statfs(path)),
    resolve: (host) => resolve(host),
    talk: (to, send) => talk(to, send, signal),
    ask: (to, question) => ask(to, question, signal),
    listen: (at) => listen(at),
    watch: (folder) =>
      codeOfFailure(
        (async () => {
          watch(folder).close();
        })(),
      ),
  };
}

async function codeOfFailure(work: Promise<unknown>): Promise<string | undefined> {
  try {
    await work;
    return undefined;
  } catch (error) {
    return codeOf(error) ?? "EIO";
  }
}

function spaceOf(s: { bsize: number; blocks: number; bavail: number; files: number; ffree: number }): Space {
  return { size: s.bsize * s.blocks, free: s.bsize * s.bavail, files: s.files, freeFiles: s.ffree };
}

async function run(command: readonly string[], ms: number, signal: AbortSignal): Promise<Ran | undefined> {
  const program = Bun.which(command[0] ?? "", { PATH });
  if (program === null) return undefined;
  const env = { PATH, HOME: "/", LC_ALL: "C" };
  try {
    const { status, stdout, stderr } = await runAny([program, ...command.slice(1)], {
      timeout: ms,
      signal,
      env,
    });
    return { status, stdout: stdout.slice(0, OUTPUT), stderr: stderr.slice(0, OUTPUT) };
  } catch {
    return undefined; // it cannot be started (no permission, no memory, no process), or it was killed
  }
}

async function resolve(host: string): Promise<Resolved> {
  if (isIP(host) !== 0) return { addresses: [host] };
  const late = Promise.withResolvers<Resolved>();
  const timer = setTimeout(() => late.resolve({ code: "TIMEOUT" }), RESOLVE_LONGEST);
  const look = async (): Promise<Resolved> => {
    try {
      const all = await Bun.dns.lookup(host, { backend: "libc", socketType: "tcp" });
      return { addresses: [...new Set(all.map(({ address }) => address))] };
    } catch (error) {
      return { code: (codeOf(error) ?? "ENOTFOUND").replace(/^DNS_/, "") };
    }
  };
  try {
    return await Promise.race([late.promise, look()]);
  } finally {
    clearTimeout(timer);
  }
}

function talk(to: HostPort, send: Uint8Array | undefined, signal: AbortSignal): Promise<Talk> {
  return new Promise((done) => {
    const socket = connect({ host: to.host, port: to.port, noDelay: true });
    let there = false;
    let text = "";
    let line: string | undefined;
    let timer: Timer;
    const finish = (result: Talk): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", abort);
      socket.destroy();
      done(result);
    };
    const none = (code: string): void => finish({ is: "none", code });
    const end = (ended: boolean): void => finish({ is: "there", line, ended });
    const abort = (): void => (there ? end(false) : none("TIMEOUT"));
    timer = setTimeout(() => none("TIMEOUT"), CONNECT_LONGEST);
    signal.addEventListener("abort", abort);
    socket.once("connect", () => {
      there = true;
      clearTimeout(timer);
      timer = setTimeout(() => end(false), LINE_LONGEST);
    });
    socket.on("data", (bytes) => {
      if (line !== undefined) return;
      text += bytes.toString("latin1", 0, LINE);
      if (!text.includes("\n") && text.length < LINE) return;
      line = text.split(/\r?\n/, 1)[0]?.slice(0, LINE) ?? "";
      if (send === undefined) return end(false);
      clearTimeout(timer);
      timer = setTimeout(() => end(false), END_LONGEST);
      socket.write(send);
    });
    socket.once("end", () => end(true));
    socket.once("error", (error) => (there ? end(true) : none(codeOf(error) ?? "EIO")));
    if (signal.aborted) abort();
  });
}

function ask(to: HostPort, question: Uint8Array, signal: AbortSignal): Promise<Uint8Array | undefined> {
  return new Promise((done) => {
    const socket = createSocket(isIPv6(to.host) ? "udp6" : "udp4");
    let isOpen = true;
    const finish = (answer?: Uint8Array): void => {
      if (!isOpen) return;
      isOpen = false;
      clearTimeout(timer);
      signal.removeEventListener("abort", none);
      socket.close();
      done(answer);
    };
    const none = (): void => finish();
    const timer = setTimeout(none, ASK_LONGEST);
    signal.addEventListener("abort", none);
    socket.once("message", (bytes) => finish(bytes));
    socket.on("error", none);
    socket.send(question, to.port, to.host, (error) => {
      if (error) none();
    });
    if (signal.aborted) none();
  });
}

function listen({ host, port }: HostPort): Promise<string | undefined> {
  return new Promise((done) => {
    const server = createServer();
    server.once("error", (error) => done(codeOf(error) ?? "EIO"));
    // The daemons listen on both families with "::", and on IPv4 alone where there is no IPv6.
    server.listen({ host: host === "::" && !hasIpv6() ? "0.0.0.0" : host, port }, () =>
      server.close(() => done(undefined)),
    );
  });
}

function hasIpv6(): boolean {
  try {
    return readFileSync("/proc/net/if_inet6", "utf8").trim() !== "";
  } catch {
    return false;
  }
}
