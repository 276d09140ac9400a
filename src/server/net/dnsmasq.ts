/**
 * DHCP on a managed walt-net: dnsmasq(8) with a configuration of its own, as another user than this process, so that it
 * cannot read the keys. As root we start it, and it changes its user itself. As another user we cannot, and ask systemd
 * (`walt-vpn-dhcp.socket` of `walt server install`).
 */

import { createConnection, isIPv4 } from "node:net";
import { join } from "node:path";
import { AddressRange } from "../../address-range.ts";
import { messageOf, WaltError } from "../../errors.ts";
import { readTextIfAny, writeFileAtomic } from "../../linux/files.ts";
import { paced } from "../../linux/output.ts";
import { started } from "../../linux/run.ts";
import { backoff, sleep, within } from "../../linux/sleep.ts";
import type { Log } from "../../log.ts";
import { MAC } from "../../parse.ts";
import { LogLimiter } from "../../ssh/server/log-limiter.ts";
import script from "./dnsmasq.sh" with { type: "text" };

/** Connections here start the service, with `dnsmasq.sh` at the other end. Also in the unit. */
export const DHCP_SOCKET = "/run/walt-vpn-dhcp.sock";
/** The service's folder, in which it may write. */
const SERVICE_STATE = "/var/lib/walt-vpn-dhcp";
const LEASES = "dhcp.leases";

/** ms that dnsmasq may take to start, and to end after it was told to; it is killed then. */
const STARTING = 15_000;
const ENDING = 4000;
/** ms between two starts at most. One that ran for so long is started again at once, or nearly so. */
const LONGEST_WAIT = 8000;
const RAN = 10_000;

/** A running `dnsmasq.sh`. */
interface Running {
  /** Write to its standard input; nothing happens when it has ended. */
  write(text: string): void;
  /** End its standard input, so that it ends. */
  end(): void;
  /** End it without asking. */
  kill(): void;
  /** What dnsmasq says; ends when it has ended. */
  output: AsyncIterable<Uint8Array>;
}

export interface DnsmasqOptions {
  bridge: string;
  /** The server's address with the prefix length of walt-net, `192.168.192.1/22`. */
  address: string;
  /** Where an iPXE client goes after DHCP. */
  bootUrl: string;
  /** Folder of the configuration, which dnsmasq's user can read; gone after a reboot. */
  run: string;
  /** The file in which dnsmasq keeps its leases. */
  leases: string;
}

/** Whether this process has to ask systemd for dnsmasq. */
const isConfined = (): boolean => process.geteuid?.() !== 0;

/** What dnsmasq says at its end (src/inotify.c, src/dhcp.c, src/lease.c and the C library's words), and what to do. */
const CURES: readonly (readonly [words: RegExp, cure: string])[] = [
  [
    /inotify/,
    "Raise fs.inotify.max_user_instances (sysctl -w): other programs of the machine have as many watches of files as they may.",
  ],
  [
    /Address (already )?in use/,
    "Another DHCP server is on this bridge: `ss -lunp sport = :67` shows it. Stop it, or bind it to other interfaces.",
  ],
  [/No space left/, "Make room on the disk (df -h, df -i)."],
  [/[Mm]emory/, "No memory is left: free -m shows how much there is."],
  [/[Tt]oo many open files|No file descriptors/, "Raise LimitNOFILE of the service (ulimit -n)."],
  [
    /[Cc]annot fork|Resource temporarily/,
    "As many processes run as the limit allows (TasksMax of the service).",
  ],
];

/** What to do when dnsmasq ends at its start. @param reason what it said last. */
export function cureOf(reason: string): string {
  const known = CURES.find(([words]) => words.test(reason));
  if (known !== undefined) return known[1];
  return isConfined()
    ? `Is it installed (apt-get install dnsmasq-base), is no other DHCP server on this bridge, and does systemd listen on ${DHCP_SOCKET} (walt server install)?`
    : "Is it installed (apt-get install dnsmasq-base), and is no other DHCP server on this bridge?";
}

/** Where dnsmasq keeps its leases. @param state the server's state folder */
export function leasesFile(state: string): string {
  return join(isConfined() ? SERVICE_STATE : state, LEASES);
}

/** dnsmasq.conf(5). No DNS, no router: walt-net is isolated. */
export function dnsmasqConfig(o: DnsmasqOptions): string {
  const { first, last, mask } = AddressRange.beside(o.address).texts;
  return `port=0
interface=${o.bridge}
except-interface=lo
bind-interfaces
no-resolv
no-hosts
dhcp-authoritative
# A client is known by its MAC address alone, which the guard has checked.
dhcp-ignore-clid
dhcp-range=${first},${last},${mask},12h
dhcp-leasefile=${o.leases}
dhcp-hostsfile=${join(o.run, "dhcp-hosts")}
dhcp-option=option:router
dhcp-option=option:dns-server
# iPXE says so by its encapsulated options (175); others cannot boot from an URL.
dhcp-match=set:ipxe,175
# iPXE otherwise waits 3 s for a ProxyDHCP server that may have more to say (option 176, no-pxedhcp).
dhcp-option=tag:ipxe,encap:175,176,1b
dhcp-boot=tag:ipxe,${o.bootUrl}
log-facility=-
log-dhcp
`;
}

/** Takes what dnsmasq says, and writes it into the log. What one node causes there, by its MAC address, is bounded. */
export function dnsmasqLog(log: Log): (line: string) => void {
  const limiter = new LogLimiter();
  return (line) => {
    const [client = ""] = /(?:[0-9a-f]{2}:){5}[0-9a-f]{2}/.exec(line) ?? [];
    // The result of an exchange is an event; the steps before it are details.
    if (/ DHCPACK\(| DHCPNAK\(|no address available/.test(` ${line}`))
      limiter.limit(log, client).info(line, { event: "dhcp" });
    else log.debug(line, { event: "detail" });
  };
}

/** A dnsmasq that is started again when it dies, until it is stopped. */
export class Dnsmasq {
  #running: Running | undefined;
  #loop: Promise<void> = Promise.resolve();
  readonly #stop = new AbortController();
  readonly #say: (line: string) => void;

  private constructor(
    readonly options: DnsmasqOptions,
    readonly log: Log,
  ) {
    this.#say = dnsmasqLog(log);
  }

  /**
   * @param signal gives up the start.
   * @throws WaltError when dnsmasq is not installed, or ends at once, with dnsmasq's message; or when it does not
   *   start in time.
   */
  static async start(
    options: DnsmasqOptions,
    hosts: string,
    log: Log,
    signal?: AbortSignal,
  ): Promise<Dnsmasq> {
    const dnsmasq = new Dnsmasq(options, log);
    writeFileAtomic(join(options.run, "dnsmasq.conf"), dnsmasqConfig(options));
    writeFileAtomic(join(options.run, "dhcp-hosts"), hosts);
    const first = dnsmasq.#spawn();
    const given = Promise.withResolvers<string>();
    const giveUp = (): void => given.resolve("the server is being stopped");
    signal?.addEventListener("abort", giveUp);
    if (signal?.aborted) giveUp();
    const timer = setTimeout(() => given.resolve(`it did not start within ${STARTING / 1000} s`), STARTING);
    const failed = await Promise.race([first.listening.then(() => undefined), first.ended, given.promise]);
    clearTimeout(timer);
    signal?.removeEventListener("abort", giveUp);
    if (failed !== undefined) {
      await dnsmasq.#end(first.ended);
      throw new WaltError(`dnsmasq ended at its start: ${failed}`, { hint: cureOf(failed) });
    }
    dnsmasq.#loop = dnsmasq.#watch(first.ended);
    return dnsmasq;
  }

  #spawn(): { listening: Promise<void>; ended: Promise<string> } {
    const running = isConfined() ? connect() : startChild();
    this.#running = running;
    running.write(`${join(this.options.run, "dnsmasq.conf")}\n`);
    const { promise: listening, resolve: isListening } = Promise.withResolvers<void>();
    const read = async (): Promise<string> => {
      let last = "";
      let rest = "";
      const decoder = new TextDecoder();
      try {
        for await (const bytes of running.output) {
          const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
          rest = (lines.pop() ?? "").slice(-4096);
          for (const line of lines) {
            last = line.replace(/^dnsmasq(-dhcp)?(\[\d+\])?: /, "");
            if (/^started/.test(last)) isListening();
            this.#say(last);
          }
        }
      } catch (error) {
        last = messageOf(error);
      }
      this.#running = undefined;
      running.end();
      return last === "" ? "it said nothing" : last;
    };
    return { listening, ended: read() };
  }

  /** End it. Resolves when it has ended. */
  async #end(ended: Promise<unknown>): Promise<void> {
    const running = this.#running;
    running?.end();
    await within(ENDING, ended, new Error("late")).catch(() => running?.kill());
  }

  async #watch(first: Promise<string>): Promise<void> {
    const { signal } = this.#stop;
    let ended = first;
    for (let failures = 0; ; ) {
      const from = performance.now();
      const reason = await ended;
      if (signal.aborted) return;
      failures = performance.now() - from > RAN ? 1 : failures + 1;
      this.log.error("dnsmasq ended; starting it again", { event: "dhcp-restart", reason });
      await sleep(Math.min(LONGEST_WAIT, backoff(failures)), signal);
      if (signal.aborted) return;
      try {
        ended = this.#spawn().ended;
      } catch (error) {
        ended = Promise.resolve(messageOf(error)); // it cannot be started now, as there are too many processes
      }
    }
  }

  /** Set what DHCP assigns to nodes, `52:54:00:01:02:03,192.168.192.2,vpn-010203` on each line. */
  setHosts(hosts: string): void {
    writeFileAtomic(join(this.options.run, "dhcp-hosts"), hosts);
    this.#running?.write("\n");
  }

  /** Addresses that were given, by MAC address. */
  leases(): Map<string, string> {
    return readLeases(this.options.leases);
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#end(this.#loop);
  }
}

/** The leases in a file of dnsmasq's: addresses by MAC address, also while it does not run. */
export function readLeases(file: string): Map<string, string> {
  const text = readTextIfAny(file, 4 << 20) ?? "";
  const leases = text.split("\n").map((line) => line.split(" "));
  return new Map(
    leases.flatMap(([, mac = "", address = ""]) =>
      MAC.test(mac) && isIPv4(address) ? [[mac, address] as const] : [],
    ),
  );
}

/** All leases that are known: those of earlier versions, and those that root's dnsmasq gave, are in the server's folder. */
export function knownLeases(state: string): Map<string, string> {
  return new Map([...readLeases(join(state, LEASES)), ...readLeases(leasesFile(state))]);
}

/**
 * dnsmasq as our child. The default of its options is to run as `nobody`, with the capabilities that it needs.
 * @throws WaltError when it cannot be started.
 */
function startChild(): Running {
  const child = started("sh", () =>
    Bun.spawn(["sh", "-c", script], {
      stdio: ["pipe", "ignore", "pipe"],
      env: process.env,
      // In a process group of its own, so that Ctrl-C at the terminal ends us first.
      detached: true,
      lazy: true, // else Bun reads, and keeps, all that comes
    }),
  );
  const ignored = (work: () => unknown): void => {
    try {
      Promise.resolve(work()).catch(() => {});
    } catch {
      // It has ended, which the output tells.
    }
  };
  return {
    write: (text) =>
      ignored(() => {
        child.stdin.write(text);
        return child.stdin.flush();
      }),
    end: () => ignored(() => child.stdin.end()),
    kill: () => {
      try {
        process.kill(-child.pid, "SIGKILL"); // the whole group
      } catch {
        // It has ended.
      }
    },
    output: paced(child.stderr),
  };
}

/** dnsmasq as a service of systemd. */
function connect(): Running {
  const socket = createConnection({ path: DHCP_SOCKET, allowHalfOpen: true });
  socket.on("error", () => {}); // the output tells
  return {
    write: (text) => void socket.write(text),
    end: () => void socket.end(),
    kill: () => void socket.destroy(),
    output: socket,
  };
}
