/** DHCP on a managed walt-net: dnsmasq(8) as a child process with its own configuration. */

import { isIPv4 } from "node:net";
import { join } from "node:path";
import { AddressRange } from "../../address-range.ts";
import { messageOf, WaltError } from "../../errors.ts";
import { readTextIfAny, writeFileAtomic } from "../../linux/files.ts";
import { diesWithParent } from "../../linux/run.ts";
import type { Log } from "../../log.ts";
import { MAC } from "../../parse.ts";
import { LogLimiter } from "../../ssh/server/log-limiter.ts";

export interface DnsmasqOptions {
  bridge: string;
  /** The server's address with the prefix length of walt-net, `192.168.192.1/22`. */
  address: string;
  /** Where an iPXE client goes after DHCP. */
  bootUrl: string;
  /** Folder of the configuration, gone after a reboot. */
  run: string;
  /** Folder of the leases. */
  state: string;
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
dhcp-leasefile=${join(o.state, "dhcp.leases")}
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
  #child: Bun.Subprocess | undefined;
  #stopped = false;
  #loop: Promise<void> = Promise.resolve();
  #wake: () => void = () => {};
  readonly #say: (line: string) => void;

  private constructor(
    readonly options: DnsmasqOptions,
    readonly log: Log,
  ) {
    this.#say = dnsmasqLog(log);
  }

  /** @throws WaltError when dnsmasq is not installed, or ends at once, with dnsmasq's message. */
  static async start(options: DnsmasqOptions, hosts: string, log: Log): Promise<Dnsmasq> {
    const dnsmasq = new Dnsmasq(options, log);
    writeFileAtomic(join(options.run, "dnsmasq.conf"), dnsmasqConfig(options));
    writeFileAtomic(join(options.run, "dhcp-hosts"), hosts);
    const first = dnsmasq.#spawn();
    const failed = await Promise.race([first.listening.then(() => undefined), first.ended]);
    if (failed !== undefined) {
      throw new WaltError(`dnsmasq ended at its start: ${failed}`, {
        hint: "Is it installed (apt-get install dnsmasq-base), and is no other DHCP server on this bridge?",
      });
    }
    dnsmasq.#loop = dnsmasq.#watch(first.ended);
    return dnsmasq;
  }

  #spawn(): { listening: Promise<void>; ended: Promise<string> } {
    let child: Bun.Subprocess<"ignore", "ignore", "pipe">;
    try {
      child = Bun.spawn(
        // Started by root it stays root, as it reads files that only root may; in the service neither of them is.
        diesWithParent([
          "dnsmasq",
          "--keep-in-foreground",
          `--conf-file=${join(this.options.run, "dnsmasq.conf")}`,
          "--pid-file=",
          "--user=root",
          "--group=",
        ]),
        // Said although it is our own: else Bun looks for the program in the PATH that we were started with.
        { stdin: "ignore", stdout: "ignore", stderr: "pipe", env: process.env },
      );
    } catch (error) {
      throw new WaltError(`cannot run dnsmasq: ${messageOf(error)}`, {
        hint: "Install it: apt-get install dnsmasq-base",
      });
    }
    this.#child = child;
    const { promise: listening, resolve: isListening } = Promise.withResolvers<void>();
    const read = async (): Promise<string> => {
      let last = "";
      let rest = "";
      const decoder = new TextDecoder();
      for await (const bytes of child.stderr) {
        const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
        rest = (lines.pop() ?? "").slice(-4096);
        for (const line of lines) {
          last = line.replace(/^dnsmasq(-dhcp)?(\[\d+\])?: /, "");
          if (/^started/.test(last)) isListening();
          this.#say(last);
        }
      }
      const status = await child.exited;
      return last === "" ? `exit status ${status}` : last;
    };
    return { listening, ended: read() };
  }

  async #watch(ended: Promise<string>): Promise<void> {
    let reason = await ended;
    while (!this.#stopped) {
      this.log.error("dnsmasq ended; starting it again", { event: "dhcp-restart", reason });
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, 1000);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      if (this.#stopped) return;
      try {
        reason = await this.#spawn().ended;
      } catch (error) {
        reason = messageOf(error); // it cannot be started now, as there are too many processes
      }
    }
  }

  /** Set what DHCP assigns to nodes, `52:54:00:01:02:03,192.168.192.2,vpn-010203` on each line. */
  setHosts(hosts: string): void {
    writeFileAtomic(join(this.options.run, "dhcp-hosts"), hosts);
    this.#child?.kill("SIGHUP");
  }

  /** Addresses that were given, by MAC address. */
  leases(): Map<string, string> {
    return readLeases(this.options.state);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#wake();
    this.#child?.kill("SIGTERM");
    await this.#loop;
  }
}

/** The leases that dnsmasq keeps in this folder: addresses by MAC address, also while it does not run. */
export function readLeases(state: string): Map<string, string> {
  const text = readTextIfAny(join(state, "dhcp.leases"), 4 << 20) ?? "";
  const leases = text.split("\n").map((line) => line.split(" "));
  return new Map(
    leases.flatMap(([, mac = "", address = ""]) =>
      MAC.test(mac) && isIPv4(address) ? [[mac, address] as const] : [],
    ),
  );
}
