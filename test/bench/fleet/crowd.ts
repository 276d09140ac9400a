/**
 * Many light devices in one process: the device's own state machine, waits and connections, without a board, a
 * bridge and a virtual machine. Standard input is a `CrowdConfig` as JSON. They go on until the process is ended.
 */

import type { Entrypoint } from "../../../src/address.ts";
import { Answerer, type OrderHandler } from "../../../src/control/answerer.ts";
import { parseReport, printReport } from "../../../src/control/report.ts";
import { type Event, entrypointOf, type State } from "../../../src/device/boot/state.ts";
import { type Actions, Supervisor } from "../../../src/device/boot/supervisor.ts";
import { type Peers, waitTime } from "../../../src/device/boot/waiting.ts";
import { ProxyChain } from "../../../src/device/route/proxy-chain.ts";
import { endOf } from "../../../src/device/route/route-failure.ts";
import { openTransport } from "../../../src/device/route/tunnel-transport.ts";
import { encodeCommand } from "../../../src/enrolment/commands.ts";
import { Children } from "../../../src/linux/child.ts";
import { sleep } from "../../../src/linux/sleep.ts";
import { recordPair } from "../../../src/linux/socketpair.ts";
import { TUN_F_ALL } from "../../../src/linux/tap.ts";
import { createLog } from "../../../src/log.ts";
import type { KeyPair } from "../../../src/ssh/keys/ed25519.ts";
import { parsePrivateKey } from "../../../src/ssh/keys/key-files.ts";
import { PumpThread } from "../../../src/tunnel/pump-thread.ts";

export interface CrowdConfig {
  /** The devices' private keys. */
  readonly keys: readonly string[];
  /** So many of them begin in a second, one after the other. */
  readonly perSecond: number;
  readonly entrypoint: Entrypoint;
  /** The server, as proxies know it. */
  readonly server: { readonly host: string; readonly port: number };
  /** Files: the key with which proxies are asked, and the pinned host keys. */
  readonly proxyKey: string;
  readonly knownHosts: string;
}

/** ms of silence, the device's own default. */
const SILENCE = 10_000;
/** ms between two reports of which nothing changes, as in src/device/orders.ts. */
const REPORT_EVERY = 60_000;
const REPORT = parseReport({ stage: "watch", at: new Date().toISOString(), uptime: { supervisor: 1 } });

const config = JSON.parse(await Bun.stdin.text()) as CrowdConfig;
const pumps = await PumpThread.start();
const children = new Children();
const log = createLog(0);
const { signal } = new AbortController();

/** What a light device does; what a real one does is in src/device/boot/actions.ts. */
class LightActions implements Actions {
  #proxies: ProxyChain | undefined;
  #peers: Peers = { count: 1 };

  constructor(readonly key: KeyPair) {}

  proxiesAlive(): boolean {
    return this.#proxies?.alive ?? false;
  }

  async perform(state: State, tell: (event: Event) => void): Promise<Event> {
    const { action } = state;
    switch (action.do) {
      case "find-network":
        return { type: "network" };
      case "open-proxies":
        return await this.#open(entrypointOf(state));
      case "tunnel":
        return await this.#tunnel(entrypointOf(state), tell);
      case "wait": {
        if (!action.keepProxies) await this.#close();
        await sleep(waitTime({ ...action, ...state, peers: this.#peers }), signal);
        return { type: "waited", proxies: this.proxiesAlive() };
      }
      default:
        throw new Error(`a light device does not ${action.do}`);
    }
  }

  async #close(): Promise<void> {
    await this.#proxies?.stop();
    this.#proxies = undefined;
  }

  async #open(entrypoint: Entrypoint): Promise<Event> {
    await this.#close();
    const { server, knownHosts, proxyKey } = config;
    const keyFiles = [proxyKey];
    const options = { entrypoint, server, knownHosts, keyFiles, silence: SILENCE, signal, children };
    this.#proxies = await ProxyChain.open(options);
    return { type: "proxies-open" };
  }

  async #tunnel(via: Entrypoint, tell: (event: Event) => void): Promise<Event> {
    const proxies = this.#proxies;
    if (proxies === undefined) throw new Error("the proxies are not connected");
    const command = encodeCommand({ name: "tunnel", via });
    const { knownHosts } = config;
    const { key } = this;
    const { stream, ssh } = await openTransport(
      { proxies, key, keyFiles: [], knownHosts, command, children },
      signal,
    );
    const [tap] = recordPair(); // frames of the server's bridge go nowhere
    const link = pumps.add({
      ...{ tap, stream, mtu: 1500, silence: SILENCE, offload: TUN_F_ALL },
      ...(ssh === undefined ? {} : { ssh }),
      channels: (out) => new Answerer(out, this.#answer, log),
    });
    let upAt: number | undefined;
    void link.up.then(() => {
      upAt = performance.now();
      tell({ type: "tunnel-up" });
    });
    const end = await proxies.during(link.ended).catch((error: unknown) => {
      link.stop("its proxy is gone");
      return endOf(error);
    });
    await link.ended;
    const up = upAt === undefined ? 0 : performance.now() - upAt;
    return { type: "tunnel-ended", end, up, proxies: this.proxiesAlive() };
  }

  readonly #answer: OrderHandler = async (order, stream) => {
    if (order.order === "peers") this.#peers = order;
    if (order.order !== "report") return;
    while (!stream.gone.aborted) {
      await stream.write(new TextEncoder().encode(`${printReport(REPORT)}\n`));
      await sleep(REPORT_EVERY, stream.gone);
    }
  };
}

for (const [index, key] of config.keys.entries()) {
  const actions = new LightActions(parsePrivateKey(key, "standard input"));
  const entrypoints = [config.entrypoint];
  const supervisor = new Supervisor({ credentials: true, vm: false, entrypoints }, actions, log);
  setTimeout(() => void supervisor.run(signal), (1000 * index) / config.perSecond);
}
