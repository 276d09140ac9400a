/**
 * The SNMP agent: net-snmp's snmpd(8), as our child, which asks us by the relay (`walt server snmp-relay`). It is
 * started again when it dies.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { chmodSync, chownSync, closeSync, mkdirSync, rmSync, statSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { dirname, join } from "node:path";
import { messageOf, WaltError } from "../../errors.ts";
import { readText, writeFileAtomic } from "../../linux/files.ts";
import { ipBatch } from "../../linux/ip.ts";
import { LineCutter } from "../../linux/lines.ts";
import { sleep } from "../../linux/sleep.ts";
import { udpSocket } from "../../linux/udp-socket.ts";
import type { Log } from "../../log.ts";
import { safeText } from "../../text.ts";
import { ROOTS } from "./mib.ts";
import { LINE_MAX, Pass, type PassParts } from "./pass.ts";
import script from "./snmpd.sh" with { type: "text" };

/** The user and the group of snmpd when we are root: `nobody` and `nogroup` of Debian's base-passwd. */
const NOBODY = 65_534;
/** Where SNMP agents are asked, by UDP (RFC 3417). */
const PORT = 161;
/** Relays at once; snmpd starts two. */
const RELAYS_MAX = 8;
/** ms until a snmpd that has ended is started again. */
const AGAIN = 1000;
/** ms after which a snmpd that still runs is taken for started. */
const SETTLED = 500;

export interface AgentOptions {
  /** IPv4 address of the switch, which this machine gets; the agent answers only requests from this machine. */
  readonly address: string;
  /** The file with the community, which only its owner may read. */
  readonly communityFile: string;
  /** Folder for the agent's files; gone after a reboot. */
  readonly run: string;
  /** The words that run the relay; the path of the socket is added. */
  readonly relay: readonly string[];
}

/**
 * The community in a file.
 * @throws WaltError when it is missing, readable by group or others, or no community.
 */
export function readCommunity(path: string): string {
  const text = readText(path, 1024).trim();
  if ((statSync(path).mode & 0o077) !== 0)
    throw new WaltError(`${path} has mode ${(statSync(path).mode & 0o777).toString(8)}: others can read it`, {
      hint: `chmod 600 ${path}`,
    });
  if (/^[A-Za-z0-9_.-]{1,64}$/.test(text)) return text;
  throw new WaltError(`${path} holds no SNMP community`, {
    hint: "Write one line of 1 to 64 letters, digits, dots, hyphens and underscores into it.",
  });
}

/** snmpd.conf(5). Nothing of this machine is shown but what we say. */
export function snmpdConfig(address: string, community: string, relay: readonly string[]): string {
  const { lldp, interfaces, power } = ROOTS;
  const views = [lldp, interfaces, power, ".1.3.6.1.2.1.1"].map((root) => `view walt included ${root}\n`);
  // Each registration is a process. The second one has `interfaces` and `power`.
  const passes = [lldp, ".1.3.6.1.2.1"].map((root) => `pass_persist ${root} ${relay.join(" ")}\n`);
  return `agentAddress udp:${address}:${PORT}
sysName walt-vpn
sysDescr WalT VPN: a port for each node
${views.join("")}rwcommunity ${community} ${address} -V walt
${passes.join("")}`;
}

/** An agent that runs until it is stopped. */
export class SnmpAgent {
  readonly #stop = new AbortController();
  #child: ChildProcess | undefined;
  /**
   * snmpd's socket, as a file descriptor. Its address is one of the loopback interface, and it is bound to that
   * interface: the kernel gives it nothing that comes from another machine. snmpd itself binds a socket to its
   * interface twice, which needs CAP_NET_RAW (seen with 5.9), and so it is given one.
   */
  #udp: number | undefined;
  #loop: Promise<void> = Promise.resolve();
  readonly #relays = new Set<Socket>();

  private constructor(
    readonly options: AgentOptions,
    readonly parts: PassParts,
    readonly log: Log,
  ) {}

  /** @throws WaltError when there is no community, or snmpd ends at once, with snmpd's message. */
  static async start(options: AgentOptions, parts: PassParts, log: Log): Promise<SnmpAgent> {
    const agent = new SnmpAgent(options, parts, log);
    const { address, run } = options;
    const community = readCommunity(options.communityFile);
    const socket = join(run, "relay.sock");
    const isRoot = process.geteuid?.() === 0;
    mkdirSync(run, { recursive: true });
    chmodSync(run, 0o700);
    if (isRoot) chownSync(run, NOBODY, NOBODY);
    const relay = [...options.relay, socket];
    writeFileAtomic(join(run, "snmpd.conf"), snmpdConfig(address, community, relay), { mode: 0o600 });
    rmSync(socket, { force: true });
    const server = await agent.#listen(socket);
    if (isRoot) chownSync(socket, NOBODY, NOBODY);
    await ipBatch([`addr replace ${address}/32 dev lo`]);
    agent.stop = async () => {
      agent.#stop.abort();
      agent.#child?.stdin?.end();
      await agent.#loop;
      for (const one of agent.#relays) one.destroy();
      server.close();
      if (agent.#udp !== undefined) closeSync(agent.#udp);
      await ipBatch([`addr del ${address}/32 dev lo`]).catch(() => {});
    };
    try {
      agent.#udp = udpSocket(address, PORT, "lo");
    } catch (error) {
      await agent.stop();
      throw new WaltError(`the SNMP agent cannot start: ${messageOf(error)}`, {
        hint: "Debian's own snmpd may have the port: systemctl disable --now snmpd",
        cause: error,
      });
    }
    const ended = agent.#spawn(isRoot);
    const failed = await Promise.race([ended, sleep(SETTLED, agent.#stop.signal).then(() => undefined)]);
    if (failed !== undefined) {
      await agent.stop();
      throw new WaltError(`snmpd ended at its start: ${failed}`, {
        hint: "Is it installed (apt-get install snmpd)?",
      });
    }
    agent.#loop = agent.#watch(ended, isRoot);
    log.info("the SNMP agent runs", { event: "snmp-ready", address });
    return agent;
  }

  /** End it. Resolves when snmpd has ended. */
  stop: () => Promise<void> = () => Promise.resolve();

  async #listen(path: string): Promise<Server> {
    const server = createServer((socket) => this.#serve(socket));
    server.maxConnections = RELAYS_MAX;
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(path, resolve);
    });
    return server;
  }

  #serve(socket: Socket): void {
    this.#relays.add(socket);
    const lines = new LineCutter(LINE_MAX);
    const pass = new Pass(this.parts);
    let last = Promise.resolve();
    const answer = async (line: string): Promise<void> => {
      const said = await pass.take(line);
      if (said !== undefined) socket.write(`${said.join("\n")}\n`);
    };
    socket.on("data", (bytes) => {
      try {
        for (const line of lines.push(bytes)) last = last.then(() => answer(line));
        last.catch((error: unknown) => this.#broken(socket, error));
      } catch (error) {
        this.#broken(socket, error);
      }
    });
    socket.on("error", () => {}); // the relay has ended
    socket.on("close", () => this.#relays.delete(socket));
  }

  #broken(socket: Socket, error: unknown): void {
    this.log.error("a request of snmpd failed", { event: "snmp-failed", reason: messageOf(error) });
    socket.destroy();
  }

  /** @returns snmpd's last words when it has ended. */
  #spawn(isRoot: boolean): Promise<string> {
    const { run } = this.options;
    const user = isRoot ? ["-u", "nobody", "-g", "nogroup"] : [];
    // Messages from warnings on; without the modules that would show this machine's own interfaces.
    const words = ["-f", "-C", "-c", join(run, "snmpd.conf"), "-LE", "4", ...user];
    const modules = ["-I", "-ifTable,-ifXTable,-interfaces,-smux"];
    const env = {
      PATH: process.env["PATH"] ?? "/usr/sbin:/usr/bin:/sbin:/bin",
      MIBS: "",
      SNMPCONFPATH: run,
      // What snmpd keeps; it makes the folder. Not `run`: it would be called snmpd.conf there, too.
      SNMP_PERSISTENT_DIR: join(run, "kept"),
      LC_ALL: "C",
    };
    // In a process group of its own, so that Ctrl-C at the terminal ends us first.
    const child = spawn("sh", ["-c", script, "sh", ...words, ...modules], {
      ...{ stdio: ["pipe", "ignore", "pipe", this.#udp], detached: true, cwd: dirname(run), env },
    });
    this.#child = child;
    child.stdin?.on("error", () => {}); // it has ended
    const last: string[] = [];
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      for (const line of text.split("\n").filter((one) => one.trim() !== "")) {
        this.log.debug(safeText(line.trim(), 300), { event: "detail" });
        if (last.push(safeText(line.trim(), 150)) > 2) last.shift();
      }
    });
    return new Promise((resolve) => {
      child.on("error", (error) => resolve(messageOf(error)));
      child.on("close", () => resolve(last.join("; ") || "it said nothing"));
    });
  }

  async #watch(first: Promise<string>, isRoot: boolean): Promise<void> {
    const { signal } = this.#stop;
    for (let reason = await first; !signal.aborted; ) {
      this.log.error("snmpd ended; starting it again", { event: "snmp-restart", reason });
      await sleep(AGAIN, signal);
      if (signal.aborted) return;
      reason = await this.#spawn(isRoot);
    }
  }
}
