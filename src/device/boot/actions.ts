/** What a device does at each step of its boot: the I/O around the state machine, and all that it owns. */

import { type Entrypoint, formatEntrypoint } from "../../address.ts";
import type { Config } from "../../config/schema.ts";
import type { End } from "../../end.ts";
import { ENROL_COMMAND, RENEW_COMMAND } from "../../enrolment/messages.ts";
import { messageOf, WaltError } from "../../errors.ts";
import { Children } from "../../linux/child.ts";
import { withJitter } from "../../linux/sleep.ts";
import type { Log } from "../../log.ts";
import { fingerprint, type KeyPair, shortCode } from "../../ssh/keys/ed25519.ts";
import type { LinkStats } from "../../tunnel/counters.ts";
import { PumpThread } from "../../tunnel/pump-thread.ts";
import type { DeviceFiles } from "../files.ts";
import { type BoardIdentity, bridgeMac, nodeOf } from "../identity/board.ts";
import { type Credentials, writeCredentials } from "../identity/credentials.ts";
import { ask, renew } from "../identity/enrol.ts";
import { Renewer } from "../identity/renewer.ts";
import { makeBridge, removeBridge } from "../net/bridge.ts";
import { Tunnel } from "../net/tunnel.ts";
import { type Interface, NetworkWatch } from "../net/uplink.ts";
import { ProxyChain } from "../route/proxy-chain.ts";
import { endOf } from "../route/route-failure.ts";
import { runServerCommand, type ServerCommandOptions } from "../route/server-command.ts";
import type { Event, ProxyKey, State } from "./state.ts";
import type { Actions } from "./supervisor.ts";

export interface DeviceParts {
  readonly config: Config;
  readonly files: DeviceFiles;
  /** The ways to the server, in the order of the state machine's. */
  readonly entrypoints: readonly Entrypoint[];
  readonly key: KeyPair;
  readonly identity: BoardIdentity;
  readonly log: Log;
  readonly signal: AbortSignal;
  /** Called once, when the tunnel is up for the first time. */
  firstUp(nodeMac: string): void;
}

type Tell = (event: Event) => void;

export class DeviceActions implements Actions {
  readonly #children = new Children();
  readonly #network = new NetworkWatch(this.#children);
  #interface: Interface | undefined;
  #proxies: ProxyChain | undefined;
  #tunnel: Tunnel | undefined;
  #pumps: Promise<PumpThread> | undefined;
  #bridge: Promise<void> | undefined;
  readonly #renewer = new Renewer();
  /** Of the node's network, as last agreed on with the server, bytes. */
  mtu = 1500;
  #asked = false;
  #wasUp = false;
  #renewing = Promise.resolve();
  /** When it tries again, by performance.now(). */
  #waitsUntil: number | undefined;

  constructor(
    readonly parts: DeviceParts,
    /** What the device was given, once it was. */
    public credentials: Credentials | undefined,
  ) {}

  /** The server is an original one: no credentials, no certificate. */
  get #original(): boolean {
    return this.parts.config.device.framing === "original";
  }

  /** The node, as far as it is known yet. */
  get node(): Pick<Credentials, "node" | "mac"> | undefined {
    if (!this.#original) return this.credentials;
    return this.#interface === undefined ? undefined : nodeOf(this.#interface.boardMac);
  }

  /** Counters of the tunnel; undefined without one. */
  get traffic(): LinkStats | undefined {
    return this.#tunnel?.stats;
  }

  /** Whole seconds until it tries again; undefined while it does not wait. */
  get nextTryIn(): number | undefined {
    if (this.#waitsUntil === undefined) return undefined;
    return Math.max(0, Math.ceil((this.#waitsUntil - performance.now()) / 1000));
  }

  /** When the certificate is to be renewed next. ISO 8601. */
  get renewal(): string | undefined {
    return this.credentials === undefined ? undefined : this.#renewer.due;
  }

  /** Begin with what does not depend on the network, so that it is done by the time it is needed. */
  prepare(): void {
    void this.#readyBridge();
    this.#readyPumps().catch(() => {}); // who needs them tries again and is told
  }

  proxiesAlive(): boolean {
    return this.#proxies?.alive ?? false;
  }

  async perform(state: State, tell: Tell): Promise<Event> {
    const { action } = state;
    switch (action.do) {
      case "find-network":
        return await this.#findNetwork(tell);
      case "open-proxies":
        return await this.#openProxies(action.key, state.entrypoint);
      case "ask":
        return await this.#ask(tell);
      case "renew":
        await this.#renew();
        return { type: "renewed" };
      case "tunnel":
        return await this.#connect(tell);
      case "wait":
        return await this.#wait(action.ms, action.keepProxies);
    }
  }

  /** End everything that was started, in order. The caller stops the virtual machine first. */
  async stop(): Promise<void> {
    await this.#tunnel?.stop("the device is being stopped");
    await this.#proxies?.stop();
    await this.#children.stop();
    await this.#renewing;
  }

  /** Take away what the network still knows of us, once nothing is done any more. */
  async cleanUp(): Promise<void> {
    const pumps = await this.#pumps?.catch(() => undefined);
    await pumps?.stop();
    if (this.#bridge === undefined) return;
    await this.#bridge.catch(() => {});
    await removeBridge();
  }

  async #findNetwork(tell: Tell): Promise<Event> {
    const { config, signal, log } = this.parts;
    const why = (words: string): void => tell({ type: "no-network", why: words });
    const found = await this.#network.ready(config.device.interface, why, signal);
    if (found.name !== this.#interface?.name || found.address !== this.#interface.address) {
      log.info("network", { interface: found.name, address: found.address, mac: found.boardMac });
    }
    this.#interface = found;
    return { type: "network" };
  }

  async #openProxies(key: ProxyKey, index: number): Promise<Event> {
    const { files, config, entrypoints } = this.parts;
    await this.#proxies?.stop();
    this.#proxies = undefined;
    const entrypoint = entrypoints[index];
    if (entrypoint === undefined) throw new Error(`there is no entrypoint ${index}`);
    this.#proxies = await ProxyChain.open({
      entrypoint,
      server: config.device.server,
      knownHosts: files.knownHosts,
      silence: config.device.silence,
      children: this.#children,
      ...(key === "enrolment"
        ? { keyFile: files.enrolmentKeyCopy }
        : {
            keyFile: files.deviceKey,
            ...(this.#original ? {} : { certificateFile: files.certificate }),
          }),
    });
    return { type: "proxies-open" };
  }

  async #ask(tell: Tell): Promise<Event> {
    const { key, identity, log, files } = this.parts;
    const code = shortCode(key.publicKey);
    const board = { mac: this.#interface?.boardMac ?? "", ...identity };
    if (!this.#asked)
      log.info("this device asks as", { code, fingerprint: fingerprint(key.publicKey), ...board });
    this.#asked = true;
    const pending = (): void => tell({ type: "pending", code });
    const session = this.#session(files.enrolmentKeyCopy, ENROL_COMMAND);
    const answer = await runServerCommand(session, (lines) => ask(lines, board, key, pending));
    if ("denied" in answer) return { type: "denied", denial: answer.denied, proxies: this.proxiesAlive() };
    this.credentials = writeCredentials(files, answer.granted);
    this.#renewer.schedule(answer.granted.renewAfter * 1000);
    log.info("access granted", { node: answer.granted.node, mac: answer.granted.mac });
    return { type: "granted" };
  }

  /** Fetch a new certificate and keep it; ms after which to fetch the next. */
  async #renew(): Promise<number> {
    const { files, key, log } = this.parts;
    const known = this.credentials;
    if (known === undefined) throw new WaltError("there are no credentials that could be renewed");
    const session = this.#session(files.deviceKey, RENEW_COMMAND);
    const grant = await runServerCommand(session, (lines) => renew(lines, key.publicKey, known));
    this.credentials = writeCredentials(files, grant);
    log.info("certificate renewed", { node: grant.node, renewAfter: grant.renewAfter });
    const ms = grant.renewAfter * 1000;
    this.#renewer.schedule(ms);
    return ms;
  }

  async #connect(tell: Tell): Promise<Event> {
    const { files, config, signal, key } = this.parts;
    const via = this.#proxies === undefined ? "" : formatEntrypoint(this.#proxies.options.entrypoint);
    const session = this.#session(files.deviceKey, this.#original ? undefined : `tunnel via=${via}`);
    const [pumps, bridge] = [await this.#readyPumps(), this.#readyBridge()];
    signal.throwIfAborted();
    const tunnel = new Tunnel({
      ...session,
      key,
      pumps,
      bridge,
      silence: config.device.silence,
      mtu: config.device.mtu,
      rekeyLimit: config.device.rekey_limit,
    });
    this.#tunnel = tunnel;
    const over = new AbortController();
    let upAt: number | undefined;
    void tunnel.up.then((mtu) => {
      this.mtu = mtu;
      if (over.signal.aborted || signal.aborted) return;
      upAt = performance.now();
      tell({ type: "tunnel-up" });
      if (!this.#wasUp && this.node !== undefined) this.parts.firstUp(this.node.mac);
      this.#wasUp = true;
      if (this.#original) return;
      // When the proxies died they are the news.
      const trouble = (error: string): void => {
        if (this.proxiesAlive()) tell({ type: "trouble", error });
      };
      // One that is still busy over an earlier tunnel ends first: by itself, or with its proxies.
      this.#renewing = this.#renewing.then(() =>
        this.#renewer.run(() => this.#renew(), trouble, over.signal),
      );
    });
    const end = await this.#endOf(tunnel, session.proxies);
    const up = upAt === undefined ? 0 : performance.now() - upAt;
    over.abort();
    this.#tunnel = undefined;
    return { type: "tunnel-ended", end, up, proxies: this.proxiesAlive() };
  }

  /** The tunnel's end, or that of the proxies below it, which is the better reason. */
  async #endOf(tunnel: Tunnel, proxies: ProxyChain): Promise<End> {
    try {
      return await proxies.during(tunnel.ended);
    } catch (error) {
      await tunnel.stop(messageOf(error));
      return endOf(error);
    }
  }

  async #wait(ms: number, keepProxies: boolean): Promise<Event> {
    const { config, signal } = this.parts;
    if (!keepProxies) {
      await this.#proxies?.stop();
      this.#proxies = undefined;
    }
    const wait = withJitter(ms);
    this.#waitsUntil = performance.now() + wait;
    try {
      await this.#network.quiet(wait, this.#interface, config.device.interface, signal);
    } finally {
      this.#waitsUntil = undefined;
    }
    return { type: "waited", proxies: this.proxiesAlive() };
  }

  #session(keyFile: string, command: string | undefined): ServerCommandOptions {
    const { files } = this.parts;
    if (this.#proxies === undefined) throw new WaltError("the way to the server is not open");
    return {
      proxies: this.#proxies,
      keyFile,
      knownHosts: files.knownHosts,
      command,
      children: this.#children,
    };
  }

  /** The pump thread; another one when it died. */
  #readyPumps(): Promise<PumpThread> {
    this.#pumps ??= this.#startPumps();
    return this.#pumps;
  }

  async #startPumps(): Promise<PumpThread> {
    const again = (why: string): void => {
      this.parts.log.error(`the tunnel's thread died: ${why}`);
      this.#pumps = undefined;
    };
    try {
      const pumps = await PumpThread.start();
      void pumps.failed.then((error) => again(error.message));
      return pumps;
    } catch (error) {
      again(messageOf(error));
      throw error;
    }
  }

  /** Bridge and TAP of the virtual machine; tried again when they could not be made. */
  #readyBridge(): Promise<void> {
    this.#bridge ??= makeBridge(bridgeMac(this.parts.identity));
    const made = this.#bridge;
    made.catch((error: unknown) => {
      if (this.#bridge !== made) return;
      this.parts.log.error(`no bridge: ${messageOf(error)}`);
      this.#bridge = undefined;
    });
    return made;
  }
}
