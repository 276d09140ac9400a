/** DHCP on a managed walt-net: dnsmasq(8) as a child with a configuration of ours. */

import { join } from "node:path";
import { messageOf, WaltError } from "../../errors.ts";
import { readTextIfAny, writeFileAtomic } from "../../linux/files.ts";
import { diesWithParent } from "../../linux/run.ts";
import type { Log } from "../../log.ts";

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

/** First and last address of a network that can be given out, the server's own left below where it is the first. */
export function dhcpRange(address: string): { first: string; last: string; mask: string } {
  const [ip = "", length = "24"] = address.split("/");
  const own = ip.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
  const size = 2 ** (32 - Number(length));
  const base = Math.floor(own / size) * size;
  const text = (n: number): string =>
    [24, 16, 8, 0].map((shift) => Math.floor(n / 2 ** shift) % 256).join(".");
  // The larger part of the network on one side of the server's own address.
  const below = own - base - 1;
  const above = base + size - 2 - own;
  const [first, last] = above >= below ? [own + 1, base + size - 2] : [base + 1, own - 1];
  return { first: text(first), last: text(last), mask: text(2 ** 32 - size) };
}

/** dnsmasq.conf(5). No DNS, no router: walt-net is isolated. */
export function dnsmasqConfig(o: DnsmasqOptions): string {
  const { first, last, mask } = dhcpRange(o.address);
  return `port=0
interface=${o.bridge}
except-interface=lo
bind-interfaces
no-resolv
no-hosts
dhcp-authoritative
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

/** A dnsmasq that is started again when it dies, until it is stopped. */
export class Dnsmasq {
  #child: Bun.Subprocess | undefined;
  #stopped = false;
  #loop: Promise<void> = Promise.resolve();
  #wake: () => void = () => {};

  private constructor(
    readonly options: DnsmasqOptions,
    readonly log: Log,
  ) {}

  /** @throws WaltError when dnsmasq is not installed or ends at once, with its own words. */
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
        // User root: it is confined with the daemon, and must read files that only root may.
        diesWithParent([
          "dnsmasq",
          "--keep-in-foreground",
          `--conf-file=${join(this.options.run, "dnsmasq.conf")}`,
          "--pid-file=",
          "--user=root",
          "--group=",
        ]),
        { stdin: "ignore", stdout: "ignore", stderr: "pipe" },
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
          // The outcome of an exchange is an event; how it went is detail.
          if (/ DHCPACK\(| DHCPNAK\(|no address available/.test(` ${last}`))
            this.log.info(last, { event: "dhcp" });
          else this.log.debug(last, { event: "detail" });
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
      reason = await this.#spawn().ended;
    }
  }

  /** Node names by MAC address, `52:54:00:01:02:03,vpn-010203` on each line. */
  setHosts(hosts: string): void {
    writeFileAtomic(join(this.options.run, "dhcp-hosts"), hosts);
    this.#child?.kill("SIGHUP");
  }

  /** The address leased to a MAC address, if any. */
  lease(mac: string): string | undefined {
    for (const line of (readTextIfAny(join(this.options.state, "dhcp.leases"), 4 << 20) ?? "").split("\n")) {
      const [, owner, address] = line.split(" ");
      if (owner === mac) return address;
    }
    return undefined;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#wake();
    this.#child?.kill("SIGTERM");
    await this.#loop;
  }
}
