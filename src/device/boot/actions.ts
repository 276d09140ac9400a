/** The actions of a device's boot: the I/O that the state machine (state.ts) asks for, and what it starts. */

import { existsSync } from "node:fs";
import { basename } from "node:path";
import type { Entrypoint } from "../../address.ts";
import type { Config } from "../../config/schema.ts";
import type { OrderHandler } from "../../control/answerer.ts";
import type { Hop } from "../../control/hops.ts";
import type { End } from "../../end.ts";
import { encodeCommand } from "../../enrolment/commands.ts";
import type { Grant } from "../../enrolment/messages.ts";
import { TOKEN } from "../../enrolment/token.ts";
import { messageOf, WaltError } from "../../errors.ts";
import { Children } from "../../linux/child.ts";
import { readEditedIfAny } from "../../linux/files.ts";
import type { Log } from "../../log.ts";
import { BACKDATE, date, parseCertificateLine } from "../../ssh/keys/certificate.ts";
import { fingerprint, type KeyPair, shortCode } from "../../ssh/keys/ed25519.ts";
import { loadOrCreateKey } from "../../ssh/keys/key-files.ts";
import type { LinkStats } from "../../tunnel/counters.ts";
import type { DeviceFiles } from "../files.ts";
import { type BoardIdentity, nodeOf } from "../identity/board.ts";
import {
  type Credentials,
  DEVICE_KEY_COMMENT,
  removeCredentials,
  writeCredentials,
} from "../identity/credentials.ts";
import { ask, confirm, renew } from "../identity/enrol.ts";
import { Renewer } from "../identity/renewer.ts";
import { trustServerKeys, writeServerKeys } from "../identity/server-keys.ts";
import type { LaneTransport } from "../net/lanes.ts";
import { Tunnel } from "../net/tunnel.ts";
import { type Interface, NetworkWatch } from "../net/uplink.ts";
import { ProxyChain } from "../route/proxy-chain.ts";
import { endOf } from "../route/route-failure.ts";
import { runServerCommand, type ServerCommandOptions } from "../route/server-command.ts";
import { openTransport } from "../route/tunnel-transport.ts";
import { Prerequisites } from "./prerequisites.ts";
import { type Event, entrypointOf, type ProxyKey, type State } from "./state.ts";
import type { Actions } from "./supervisor.ts";
import { type Peers, waitTime } from "./waiting.ts";

/** What `runDevice` gives to the actions. */
export interface DeviceParts {
  readonly config: Config;
  readonly files: DeviceFiles;
  /** The device key. */
  readonly key: KeyPair;
  readonly identity: BoardIdentity;
  readonly log: Log;
  /** Aborted when the device is to stop. */
  readonly signal: AbortSignal;
  /** Carries out the server's orders. */
  readonly orders: OrderHandler;
  /** Lines of known_hosts that an operator set. */
  readonly hostKeys: readonly string[];
  /** Called whenever a tunnel has come up. */
  tunnelUp(): void;
}

/** ms between two round trips to the proxies that are measured on demand, and how long to wait for one. */
const HOP_PAUSE = 250;
const HOP_PATIENCE = 5000;

/** Passes an event to the state machine while an action runs. */
type Tell = (event: Event) => void;

export class DeviceActions implements Actions {
  readonly #children = new Children();
  readonly #network = new NetworkWatch(this.#children);
  /** The interface that leads to the entrypoints, once it was found. */
  #interface: Interface | undefined;
  /** The connections to the proxies; undefined while there are none. */
  #proxies: ProxyChain | undefined;
  /** The tunnel that is up or being built. */
  #tunnel: Tunnel | undefined;
  readonly prerequisites: Prerequisites;
  #config: Config;
  /** Lines of known_hosts that an operator set. */
  #hostKeys: readonly string[];
  /** Stops the present action. */
  #interruption = new AbortController();
  readonly #renewer = new Renewer();
  /** MTU of the node's network, bytes, as last agreed on with the server. */
  mtu = 1500;
  /** The devices with tunnels through the same entrypoint, as the server last said. */
  peers: Peers = { count: 1 };
  /** The log has said which device asks for access. */
  #asked = false;
  /** Resolves when no renewal is running. */
  #renewing = Promise.resolve();
  /** When the current wait ends, ms of performance.now(); undefined while no action waits. */
  #waitsUntil: number | undefined;

  #key: KeyPair;

  /** @param credentials the credentials on the disk, if there are any. They are replaced by every grant. */
  constructor(
    readonly parts: DeviceParts,
    public credentials: Credentials | undefined,
  ) {
    this.prerequisites = new Prerequisites(parts.identity, parts.log);
    this.#config = parts.config;
    this.#hostKeys = parts.hostKeys;
    this.#key = parts.key;
  }

  /** The device key: another one once the device had to forget it. */
  get key(): KeyPair {
    return this.#key;
  }

  /**
   * Use another configuration and other host keys from now on. Whatever is going on is stopped.
   * @throws WaltError when the host keys cannot be written for ssh.
   */
  reconfigure(config: Config, hostKeys: readonly string[]): void {
    this.#config = config;
    this.#hostKeys = hostKeys;
    this.trustServerKeys();
    this.#interruption.abort();
    void this.#tunnel?.stop("the device was given other settings");
  }

  /** Whether the server is one of WalT's own VPN, which gives out no credentials and no certificate. */
  get #original(): boolean {
    return this.parts.config.device.framing === "original";
  }

  /** The node's name and MAC address; undefined while they are not known. */
  get node(): Pick<Credentials, "node" | "name" | "mac"> | undefined {
    if (!this.#original) return this.credentials;
    return this.#interface === undefined ? undefined : nodeOf(this.#interface.boardMac);
  }

  /** Name of the interface that leads to the entrypoint; undefined until it is known. */
  get interfaceName(): string | undefined {
    return this.#interface?.name;
  }

  /** MAC address of the board: of that interface. */
  get boardMac(): string | undefined {
    return this.#interface?.boardMac;
  }

  /** Counters of the tunnel; undefined while there is none. */
  get traffic(): LinkStats | undefined {
    return this.#tunnel?.stats;
  }

  /** Seconds until the device tries again, rounded up; undefined while it is not waiting. */
  get nextTryIn(): number | undefined {
    if (this.#waitsUntil === undefined) return undefined;
    return Math.max(0, Math.ceil((this.#waitsUntil - performance.now()) / 1000));
  }

  /** When the certificate is to be renewed next, ISO 8601; undefined without credentials. */
  get renewal(): string | undefined {
    return this.credentials === undefined ? undefined : this.#renewer.due;
  }

  /** The round trip times to the proxies; see `ProxyChain.hops`. */
  async hops(rounds: number): Promise<Hop[]> {
    return (await this.#proxies?.hops(rounds, HOP_PAUSE, HOP_PATIENCE)) ?? [];
  }

  proxiesAlive(): boolean {
    return this.#proxies?.alive ?? false;
  }

  async perform(state: State, tell: Tell): Promise<Event> {
    const { signal } = this.parts;
    const interruption = new AbortController();
    this.#interruption = interruption;
    const stop = (): void => interruption.abort();
    signal.addEventListener("abort", stop);
    if (signal.aborted) stop();
    try {
      return await this.#perform(state, tell);
    } finally {
      signal.removeEventListener("abort", stop);
    }
  }

  async #perform(state: State, tell: Tell): Promise<Event> {
    const { action } = state;
    switch (action.do) {
      case "find-network":
        return await this.#findNetwork(tell);
      case "open-proxies":
        return await this.#openProxies(action.key, entrypointOf(state));
      case "ask":
        return await this.#ask(tell);
      case "forget":
        return this.#forget();
      case "renew":
        return { type: "renewed", clocks: clocksAt(await this.#renew()) };
      case "tunnel":
        return await this.#connect(entrypointOf(state), state.key, tell);
      case "wait":
        return await this.#wait(waitTime({ ...action, ...state, peers: this.peers }), action.keepProxies);
    }
  }

  /** End tunnel, connections and child processes. The caller stops the virtual machine first. */
  async stop(): Promise<void> {
    await this.#tunnel?.stop("the device is being stopped");
    await this.#proxies?.stop();
    await this.#children.stop();
    await this.#renewing;
  }

  async #findNetwork(tell: Tell): Promise<Event> {
    const { log } = this.parts;
    const { device } = this.#config;
    const why = (words: string): void => tell({ type: "no-network", why: words });
    const found = await this.#network.ready(device.interface, why, this.#interruption.signal);
    if (found.name !== this.#interface?.name || found.address !== this.#interface.address) {
      log.info("network", {
        event: "network",
        interface: found.name,
        address: found.address,
        mac: found.boardMac,
      });
      if (this.#original) this.#tellCertificate(found.boardMac);
    }
    this.#interface = found;
    return { type: "network" };
  }

  /**
   * How the administrator of a server of WalT's own VPN makes a certificate for this device, in place of a line for
   * its key: ssh finds the certificate beside the key (ssh(1), option -i). The paths of the CA's key, and the name of
   * a certificate, are those of WalT.
   */
  #tellCertificate(boardMac: string): void {
    const { log, files } = this.parts;
    const sign = (ca: string): string =>
      `ssh-keygen -s ${ca} -I vpn_${boardMac.replaceAll(":", "")} -n walt-vpn ${basename(files.deviceKey)}.pub`;
    log.info("or the server's CA signs the key", {
      event: "key-to-sign",
      certificate: `${files.deviceKey}-cert.pub`,
      walt9: sign("/var/lib/walt/vpn/.ssh/vpn-ca-key"),
      walt10: sign("/var/lib/walt/vpn-server/vpn-ca-key"),
    });
  }

  async #openProxies(key: ProxyKey, entrypoint: Entrypoint): Promise<Event> {
    await this.#proxies?.stop();
    this.#proxies = undefined;
    this.#proxies = await this.#chain(key, entrypoint, this.#interruption.signal);
    return { type: "proxies-open" };
  }

  /** Open connections to the proxies. @throws as `ProxyChain.open`. */
  async #chain(key: ProxyKey, entrypoint: Entrypoint, signal: AbortSignal): Promise<ProxyChain> {
    const { files } = this.parts;
    const { device } = this.#config;
    return await ProxyChain.open({
      entrypoint,
      server: device.server,
      knownHosts: files.trustedHosts,
      silence: device.silence,
      signal,
      children: this.#children,
      ...(key === "enrolment"
        ? { keyFiles: files.trustedEnrolmentKeys.filter(existsSync) }
        : {
            keyFiles: [files.deviceKey],
            certificateFiles: this.#original
              ? []
              : [files.certificate, ...[files.nextCertificate].filter(existsSync)],
          }),
    });
  }

  /** Open a transport for a further lane, over connections of its own. @throws RouteFailure. */
  async #openLane(
    key: ProxyKey,
    entrypoint: Entrypoint,
    tunnel: string,
    signal: AbortSignal,
  ): Promise<LaneTransport> {
    const proxies = await this.#chain(key, entrypoint, signal);
    const close = (): Promise<void> => proxies.stop();
    const { files } = this.parts;
    try {
      const transport = await openTransport(
        {
          ...{
            proxies,
            keyFiles: [files.deviceKey],
            knownHosts: files.trustedHosts,
            children: this.#children,
          },
          ...{ key: this.#key, command: encodeCommand({ name: "lane", tunnel }) },
        },
        signal,
      );
      const lost = proxies.during(new Promise<never>(() => {})).catch(() => {});
      return { transport, lost, close };
    } catch (error) {
      await close();
      throw error;
    }
  }

  async #ask(tell: Tell): Promise<Event> {
    const { identity, log, files } = this.parts;
    const key = this.#key;
    const code = shortCode(key.publicKey);
    const board = { mac: this.#interface?.boardMac ?? "", ...identity };
    if (!this.#asked) {
      log.info("this device asks for access", {
        event: "access-asked",
        code,
        fingerprint: fingerprint(key.publicKey),
        ...board,
      });
    }
    this.#asked = true;
    const pending = (): void => tell({ type: "pending", code });
    const command = this.#serverCommand(
      files.trustedEnrolmentKeys.filter(existsSync),
      encodeCommand({ name: "enrol" }),
    );
    const token = this.#token();
    const answer = await runServerCommand(command, (lines) => ask(lines, board, key, token, pending));
    if ("denied" in answer) return { type: "denied", denial: answer.denied, proxies: this.proxiesAlive() };
    this.credentials = writeCredentials(files, answer.granted);
    this.#renewer.schedule(answer.granted.renewAfter * 1000);
    log.info("access granted", {
      event: "access-granted",
      node: answer.granted.name ?? answer.granted.node,
      mac: answer.granted.mac,
    });
    return { type: "granted" };
  }

  /** Delete credentials and key, as the server has ordered, and make a new key. */
  #forget(): Event {
    const { files, log } = this.parts;
    removeCredentials(files);
    this.credentials = undefined;
    this.#asked = false;
    this.#key = loadOrCreateKey(files.deviceKey, DEVICE_KEY_COMMENT);
    const code = shortCode(this.#key.publicKey);
    log.warn("the server told this device to forget its key", { event: "key-forgotten", code });
    return { type: "forgotten", proxies: this.proxiesAlive() };
  }

  /** Write what the server gave to the disk: its keys first, so that a certificate is never newer than they are. */
  #store(grant: Grant): void {
    const { files } = this.parts;
    if (grant.serverKeys !== undefined) {
      writeServerKeys(files, grant.serverKeys);
      this.trustServerKeys();
    }
    this.credentials = writeCredentials(files, grant);
  }

  /** Use the server's keys as they are known now. @throws WaltError when they cannot be written for ssh. */
  trustServerKeys(): void {
    const { files, log } = this.parts;
    const damaged = (why: string): void =>
      log.warn(`what the server said of its keys is damaged, so those of the card count: ${why}`, {
        event: "server-keys-damaged",
      });
    trustServerKeys(files, !this.#original, damaged, this.#hostKeys);
  }

  /** The token on the card; undefined when there is none, or it is damaged. */
  #token(): string | undefined {
    const { files, log } = this.parts;
    const token = readEditedIfAny(files.enrolmentToken)?.trim();
    if (token === undefined || TOKEN.test(token)) return token;
    log.warn("the token is damaged, so an operator will be asked", {
      event: "token-damaged",
      file: files.enrolmentToken,
    });
    return undefined;
  }

  /** Fetch a new certificate, and write it to the disk. */
  async #renew(): Promise<Grant> {
    const { files, log } = this.parts;
    const key = this.#key;
    const known = this.credentials;
    if (known === undefined) throw new WaltError("the device has no credentials to renew");
    const command = this.#serverCommand([files.deviceKey], encodeCommand({ name: "renew" }));
    const grant = await runServerCommand(command, async (lines) => {
      const granted = await renew(lines, key.publicKey, known);
      this.#store(granted);
      await confirm(lines);
      return granted;
    });
    log.info("certificate renewed", {
      event: "certificate-renewed",
      node: grant.name ?? grant.node,
      renewAfter: grant.renewAfter,
    });
    this.#renewer.schedule(grant.renewAfter * 1000);
    return grant;
  }

  /** Build the tunnel, and wait until it ends. While it is up, renew the certificate whenever that is due. */
  async #connect(entrypoint: Entrypoint, proxyKey: ProxyKey, tell: Tell): Promise<Event> {
    const { files } = this.parts;
    const key = this.#key;
    const { device } = this.#config;
    const { signal } = this.#interruption;
    const tunnelCommand = this.#original ? undefined : encodeCommand({ name: "tunnel", via: entrypoint });
    const command = this.#serverCommand([files.deviceKey], tunnelCommand);
    const pumps = await this.prerequisites.pumps();
    const bridge = this.prerequisites.bridge();
    signal.throwIfAborted();
    const tunnel = new Tunnel({
      ...command,
      key,
      pumps,
      bridge,
      silence: device.silence,
      mtu: device.mtu,
      rekeyLimit: device.rekey_limit,
      lanes: device.lanes,
      openLane: (name, stop) => this.#openLane(proxyKey, entrypoint, name, stop),
      orders: this.parts.orders,
      log: this.parts.log.with("orders"),
    });
    this.#tunnel = tunnel;
    const over = new AbortController();
    let upAt: number | undefined;
    void tunnel.up.then((mtu) => {
      this.mtu = mtu;
      if (over.signal.aborted || signal.aborted) return;
      upAt = performance.now();
      tell({ type: "tunnel-up" });
      this.parts.tunnelUp();
      if (this.#original) return;
      // If the connections to the proxies have ended, the end of the tunnel will say so.
      const trouble = (error: string): void => {
        if (this.proxiesAlive()) tell({ type: "trouble", error });
      };
      // A renewal over an earlier tunnel may still be running. It ends first: by itself, or with its proxies.
      this.#renewing = this.#renewing.then(() =>
        this.#renewer.run(async () => (await this.#renew()).renewAfter * 1000, trouble, over.signal),
      );
    });
    const end = await this.#endOf(tunnel, command.proxies);
    const up = upAt === undefined ? 0 : performance.now() - upAt;
    over.abort();
    this.#tunnel = undefined;
    return { type: "tunnel-ended", end, up, proxies: this.proxiesAlive() };
  }

  /** Why the tunnel ended. If the connections to the proxies below it ended, that is the reason. */
  async #endOf(tunnel: Tunnel, proxies: ProxyChain): Promise<End> {
    try {
      return await proxies.during(tunnel.ended);
    } catch (error) {
      await tunnel.stop(messageOf(error));
      return endOf(error);
    }
  }

  /** Wait for so many ms, or until the network is another one. */
  async #wait(wait: number, keepProxies: boolean): Promise<Event> {
    if (!keepProxies) {
      await this.#proxies?.stop();
      this.#proxies = undefined;
    }
    this.#waitsUntil = performance.now() + wait;
    try {
      const changed = await this.#network.quiet(
        wait,
        this.#interface,
        this.#config.device.interface,
        this.#interruption.signal,
      );
      return { type: "waited", proxies: this.proxiesAlive(), changed };
    } finally {
      this.#waitsUntil = undefined;
    }
  }

  /** What is needed to run a command on the server. @throws WaltError when the proxies are not connected. */
  #serverCommand(keyFiles: readonly string[], command: string | undefined): ServerCommandOptions {
    const { files } = this.parts;
    if (this.#proxies === undefined) throw new WaltError("the proxies are not connected");
    return {
      proxies: this.#proxies,
      keyFiles,
      knownHosts: files.trustedHosts,
      command,
      children: this.#children,
    };
  }
}

/** What the clocks showed when the server made the certificate of a grant, which has come just now. */
function clocksAt({ certificate }: Grant): string {
  const { validAfter } = parseCertificateLine(certificate, "the certificate from the server");
  const [server, device] = [validAfter + BACKDATE, Date.now() / 1000].map((s) => date(Math.floor(s)));
  return `${server} by the server's clock, ${device} by this device's`;
}
