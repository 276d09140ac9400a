/** `walt server run`: the parts of the server, put together, and taken apart in order. */

import { chmodSync, closeSync, statSync } from "node:fs";
import { hostname } from "node:os";
import { dirname, join } from "node:path";
import { formatHostPort, SERVER_PORT } from "../address.ts";
import { groupId, listenApi, refuseSecond } from "../api/listen.ts";
import { NODE_EVENTS, type NodeInfo } from "../api/messages.ts";
import type { Config } from "../config/schema.ts";
import type { Answer } from "../control/asker.ts";
import type { Order } from "../control/orders.ts";
import { messageOf, WaltError } from "../errors.ts";
import { makeFolders } from "../linux/files.ts";
import { anyAddress } from "../linux/ipv6.ts";
import { requireDescriptors } from "../linux/limits.ts";
import { notifySystemd } from "../linux/notify.ts";
import { aborted, sleep } from "../linux/sleep.ts";
import { openTap, TUN_CURE } from "../linux/tap.ts";
import { thisProgram } from "../linux/this-program.ts";
import type { Log } from "../log.ts";
import { sourceOf } from "../source.ts";
import { fingerprint, parsePublicKey } from "../ssh/keys/ed25519.ts";
import { LogLimiter, NO_LIMIT } from "../ssh/server/log-limiter.ts";
import { isDamage, reasonOf } from "../system-error.ts";
import { PumpThread } from "../tunnel/pump-thread.ts";
import { VERSION } from "../version.ts";
import { AccessRequests } from "./access-requests.ts";
import { serverHandler } from "./api.ts";
import { CopyKeeper } from "./copy-keeper.ts";
import { Devices } from "./devices.ts";
import { Endpoint } from "./endpoint.ts";
import { give, serveEnrolment } from "./enrol.ts";
import { Histories } from "./history.ts";
import { ServerKeys } from "./keys.ts";
import { metricsPage, serveMetrics } from "./metrics.ts";
import { Surroundings } from "./net/surroundings.ts";
import { nodeAddresses, openWaltNet } from "./net/walt-net.ts";
import { WaltNodes } from "./net/walt-nodes.ts";
import { diskSpace, Notices } from "./notices.ts";
import { OrderShares } from "./order-shares.ts";
import { Orders, orderDetails } from "./orders.ts";
import { PING_ORDERS, pingParts } from "./ping.ts";
import { PowerSwitch } from "./power-switch.ts";
import { Presence } from "./presence.ts";
import { Refusals } from "./refusals.ts";
import { type Device, Registry, RegistryLocked } from "./registry.ts";
import { Reports } from "./reports.ts";
import { Rotation } from "./rotation.ts";
import { refuseOlder, SerialMark } from "./serial-mark.ts";
import { SharedKeys, sharedCure, sharedText } from "./shared-keys.ts";
import { SnmpAgent } from "./snmp/agent.ts";
import { rowsOf } from "./snmp/mib.ts";
import { Spread } from "./spread.ts";
import { Tunnels } from "./tunnels.ts";
import { deviceList, metricsSnapshot, nodeDetails, nodeList, trustInfo } from "./views.ts";
import { Webhook } from "./webhook.ts";

/** ms for which the start waits for a registry that another program has locked, and ms between two tries. */
const LOCKED = 60_000;
const PAUSE = 500;

/**
 * Files that root made among those of the service's user could not be read by the service.
 * @throws WaltError when the state belongs to another user, and we are root.
 */
function refuseAnothersState(state: string): void {
  const { uid } = statSync(state);
  if (uid === 0 || process.geteuid?.() !== 0) return;
  throw new WaltError(`${state} belongs to the user with the number ${uid}, as whom the service runs`, {
    hint: "Start the service: systemctl start walt-vpn. To run the server by hand as root, name another folder as server.state, or chown -R root this one.",
  });
}

/** @throws WaltError when we cannot make TAPs, which would be noticed only with the first tunnel. */
function requireTun(): void {
  try {
    closeSync(openTap("walt-try%d").fd);
  } catch (error) {
    throw new WaltError(messageOf(error), { hint: TUN_CURE, cause: error });
  }
}

/** A part was stopped. What cannot be removed is left behind, which is no reason not to stop the others. */
async function ended(stop: Promise<unknown>, what: string, log: Log): Promise<void> {
  try {
    await stop;
  } catch (error) {
    log.error(`${what} could not be taken away in order: ${reasonOf(error)}`, { event: "stop-failed" });
  }
}

/**
 * Open the registry, and wait for another program that has locked it, such as one that makes a backup.
 * @throws WaltError as `Registry`, and when it is locked for longer than LOCKED.
 */
async function openRegistry(path: string, log: Log, signal: AbortSignal): Promise<Registry> {
  const from = performance.now();
  for (let said = false; ; said = true) {
    try {
      return new Registry(path);
    } catch (error) {
      if (!(error instanceof RegistryLocked) || performance.now() - from > LOCKED || signal.aborted)
        throw error;
      if (!said) log.warn(`${error.message}: waiting for it`, { event: "registry-locked" });
      await sleep(PAUSE, signal);
    }
  }
}

/**
 * Run the server until `signal` is aborted and everything it started is gone.
 * @throws WaltError when a part cannot be started; what was started before it is stopped.
 */
export async function runServer(config: Config, log: Log, signal: AbortSignal): Promise<void> {
  try {
    await run(config, log, signal);
  } catch (error) {
    if (!signal.aborted) throw error;
    log.info("server stops", { event: "server-stops", reason: `it was starting: ${reasonOf(error)}` });
  }
}

async function run(config: Config, log: Log, signal: AbortSignal): Promise<void> {
  const { server } = config;
  requireDescriptors();
  await refuseSecond(server.socket);
  // Taken apart in the reverse order of how they were put together.
  await using parts = new AsyncDisposableStack();
  try {
    makeFolders(server.state, 0o755);
    makeFolders(dirname(server.socket), 0o755);
  } catch (error) {
    throw new WaltError(`cannot make the server's folders: ${messageOf(error)}`, {
      hint: "Start the service (systemctl start walt-vpn), or run the server as root.",
    });
  }
  refuseAnothersState(server.state);
  requireTun();
  const keys = ServerKeys.load(server.state);
  const registry = await openRegistry(join(server.state, "registry.sqlite"), log, signal);
  parts.defer(() => registry.close());
  refuseOlder(registry.path, registry.lastSerial);
  const mark = new SerialMark(server.state, () => registry.lastSerial, log.with("registry"));
  parts.defer(() => mark.stop());
  chmodSync(registry.path, 0o600);
  const { journal } = registry;
  const copies = new CopyKeeper(registry, log);
  parts.defer(() => copies.stop());
  journal.failed = (lost, error) => {
    if (isDamage(error)) copies.soon();
    log.error("events could not be written into the journal", {
      event: "journal-failed",
      lost,
      reason: reasonOf(error),
    });
  };

  const addresses = nodeAddresses(config);
  for (const node of addresses === undefined ? [] : registry.assignAddresses(...addresses))
    log.error("walt-net has no address left for a node", { event: "dhcp-no-address", node });
  const net = await openWaltNet(config, registry.active(), log, signal);
  parts.defer(() => ended(net.stop(), "walt-net", log));
  const pumps = await PumpThread.start();
  parts.defer(() => pumps.stop());

  const devices = new Devices(
    registry,
    keys,
    net,
    () => nodeAddresses(config),
    server.certificate_validity,
    log,
  );
  const requests = new AccessRequests({
    answerTimeout: server.answer_timeout,
    now: Date.now,
    after: (ms, what) => {
      const timer = setTimeout(what, ms);
      return () => clearTimeout(timer);
    },
    blocked: (block, { code, fingerprint, address }, by) =>
      log.info("requests for access are blocked", {
        event: "enrolment-blocked",
        ...{ block, code, fingerprint, from: address, by },
      }),
    lifted: (block, what, by) =>
      log.info("requests for access are shown again", {
        event: "enrolment-block-lifted",
        ...{ block, what, by },
      }),
    overloaded: (denied, from) =>
      log.warn("requests for access were denied: too many at once", {
        event: "enrolment-overload",
        denied,
        from: from.join(","),
      }),
    remember: server.admission === "queue",
    accept: (request, by, name) => devices.accept(request, by, name),
    record: (kind, { code, mac, model, serialNumber, address }, by) => {
      const what = { kind, details: { code, board: mac, model, serialNumber, from: address } };
      if (by === undefined) journal.ofStranger(what, sourceOf(address));
      else journal.order(what, by);
    },
  });
  // Strangers cannot use up what devices may say.
  const deviceLines = new LogLimiter(undefined, NO_LIMIT);
  const sharedKeys = new SharedKeys();
  const tunnels = new Tunnels(
    pumps,
    net,
    server.silence,
    (device) => deviceLines.limit(log.with("tunnel"), device.node),
    (device) => registry.nameOf(device),
    (device, state, via, over) => {
      requests.tell({ type: "node", node: device.node, state, via });
      if (state === "up") {
        sharedKeys.cameUp(device);
        presence.up(device);
        reports.follow(device);
      }
      spread.changed(device);
      if (over === undefined) journal.ofDevice({ kind: "tunnel-up", device, details: { via } });
      else {
        const { end, lasted } = over;
        presence.down(device, end);
        const details = { via, end: end.kind, reason: end.text, lasted };
        journal.ofDevice({ kind: "tunnel-down", device, details });
      }
    },
    (device) => {
      if (!sharedKeys.keeps(device)) return undefined;
      const boards = sharedKeys.boards(device);
      return boards && sharedText(registry.nameOf(device), boards);
    },
  );
  const presence = new Presence(
    registry,
    () => tunnels.present(registry.active()).map(({ device }) => device),
    log.with("presence"),
  );
  parts.defer(() => presence.stop());
  const histories = new Histories(
    join(server.state, "history.sqlite"),
    () => registry.active(),
    tunnels,
    log.with("history"),
  );
  parts.defer(() => histories.stop());
  const spread = new Spread(
    () => tunnels.present(registry.active()),
    async (device, peers) => (await tunnels.give(device, { order: "peers", ...peers })).done,
  );
  parts.defer(() => spread.stop());
  const ourName = formatHostPort(
    server.address ?? { host: hostname(), port: server.listen?.port ?? SERVER_PORT },
  );
  const webhook = server.notify === undefined ? undefined : new Webhook(server.notify, log.with("notify"));
  parts.defer(async () => await webhook?.stop());
  const notices = new Notices({
    nodes: () => registry.active(),
    isUp: (device) => tunnels.isUp(device),
    presence,
    diskOf: (device) => reports.of(device)?.facts.disk,
    serverDisk: () => diskSpace(server.state),
    down: server.notify_down,
    tell: (notice) => {
      requests.tell({ type: "notice", notice });
      webhook?.send({ ...notice, server: ourName });
    },
  });
  parts.defer(() => notices.stop());
  const lastEvent = journal.events({ last: 1 })[0]?.id ?? 0;
  parts.defer(journal.follow(lastEvent, (event) => notices.event(event)));
  const refusals = new Refusals(journal, (device, reason) =>
    deviceLines.limit(log, device.node).warn("a proxy refused a certificate", {
      event: "certificate-refused",
      node: device.node,
      reason,
    }),
  );
  const reports = new Reports(
    (device) => tunnels.give(device, { order: "report", now: Date.now() }),
    (device, error) =>
      deviceLines.limit(log.with("reports"), device.node).info("no reports of a device", {
        event: "no-reports",
        node: device.node,
        reason: messageOf(error),
      }),
    (device, { board: { mac, serialNumber }, refusal }) => {
      refusals.told(device, refusal);
      if (mac === null || !sharedKeys.seen(device, { mac, serialNumber: serialNumber ?? "" })) return;
      const boards = sharedKeys.boards(device);
      if (boards === undefined) return;
      const [board, other] = boards;
      const node = registry.nameOf(device);
      const text = `${sharedText(node, boards)}. ${sharedCure(node, boards)}`;
      deviceLines.limit(log, device.node).error(text, { event: "key-shared", node, board, other });
      journal.ofDevice({ kind: "key-shared", device: { ...device, node }, details: { board, other } });
      requests.tell({ type: "key-shared", node, boards });
    },
  );
  const logLimiter = new LogLimiter();
  const listen = server.listen ?? { host: "::", port: SERVER_PORT };
  const host = anyAddress(listen.host);
  if (host !== listen.host)
    log.warn("the kernel has no IPv6: listening on IPv4 alone", { event: "ipv6-missing" });
  const endpoint = await Endpoint.start({
    logLimiter,
    listen: { ...listen, host },
    hostKey: () => keys.of("host"),
    log: log.with("endpoint"),
    // A tunnel that notices the silence itself tells it in its own words: it comes first.
    silence: server.silence + 500,
    identify: (key) => devices.identify(key),
    enrol: (channel, from, keep) =>
      serveEnrolment(channel, from, keep, {
        requests,
        registry,
        grant: (device) => devices.grant(device),
        acceptInvited: (request) => devices.acceptInvited(request),
        confirmation: (key) => devices.confirmation(key),
        retryAfter: Math.ceil(server.retry_after / 1000),
        log: logLimiter.limit(log.with("enrolment"), sourceOf(from)),
      }),
    renew: async (device, channel) => {
      const next = devices.grant(device);
      deviceLines.limit(log, device.node).info("certificate renewed", {
        event: "certificate-renewed",
        node: device.node,
        next: next.renewAfter,
      });
      journal.ofDevice({ kind: "certificate-renewed", device });
      const key = parsePublicKey(device.publicKey, `registry: key of ${device.node}`);
      await give(channel, next, devices.confirmation(key));
    },
    tunnel: (device, request, via, from) => tunnels.open(device, request, via, from),
    lane: (device, request, name, from) => tunnels.addLane(device, request, name, from),
    originalTunnel: (device, request, from) => tunnels.open(device, request, undefined, from),
  });
  parts.defer(async () => {
    // The reason goes out before the connections end.
    await ended(tunnels.stopAll("the server stops"), "the tunnels", log);
    await endpoint.stop();
    await ended(tunnels.stop("the server stops"), "the tunnels", log);
  });

  const surroundings = new Surroundings(config["server.network"], log.with("net"), () => tunnels.count);
  parts.defer(() => surroundings.stop());

  const cannotAccept = (error: unknown): void =>
    log.warn("cannot accept a connection", { event: "connection-failed", error: messageOf(error) });
  // Beside a WalT server, which has the network.
  const walt = config["server.network"].managed ? undefined : new WaltNodes();
  const shown = async (some: readonly Device[]): Promise<NodeInfo[]> =>
    nodeList(some, tunnels, await net.addresses(some.map(({ mac }) => mac)), { presence, reports, net });
  const address = server.address ?? { host: hostname(), port: endpoint.address.port };
  const shares = new OrderShares();
  const api = await listenApi(
    server.socket,
    groupId(server.group) === undefined ? undefined : server.group,
    serverHandler({
      requests,
      devices,
      rotation: new Rotation(keys, registry, log),
      orders: new Orders(
        (node, order) => tunnels.give(devices.byNode(node), order),
        (node, order) =>
          journal.order(
            { kind: "order", device: devices.byNode(node), details: orderDetails(order) },
            order.by,
          ),
        shares,
      ),
      journal,
      nodes: () => shown(registry.active()),
      node: async (name) => {
        const device = devices.byNode(name);
        const [node] = await shown([device]);
        const [registered] = deviceList([device], tunnels);
        if (node === undefined || registered === undefined) throw new Error("a node is shown as none");
        const events = journal.events({ node: name, last: NODE_EVENTS });
        const known = await walt?.byMac();
        return nodeDetails(node, registered, events, reports.of(device), known?.get(device.mac));
      },
      history: (name, span) => histories[span](devices.byNode(name)),
      histories: () => registry.active().map((device) => histories.overview(device)),
      ping: async (name, rounds, user) => {
        const giveBack = shares.take(name, user, PING_ORDERS);
        using _ = { [Symbol.dispose]: giveBack };
        const device = devices.byNode(name);
        const [node] = await shown([device]);
        const give = (order: Order): Promise<Answer> => tunnels.give(device, order);
        return await pingParts({ via: node?.via ?? "", address: node?.address ?? null, give }, rounds);
      },
      registered: () => deviceList(registry.list(), tunnels),
      troubles: () => [
        ...surroundings.troubles,
        ...registry.active().flatMap((device) => {
          const boards = sharedKeys.boards(device);
          if (boards === undefined) return [];
          const { node } = device;
          return [{ kind: "shared-key", text: sharedText(node, boards), cure: sharedCure(node, boards) }];
        }),
      ],
      setBoard: (node, mac, by) => {
        const device = devices.setBoard(node, mac, by);
        // Of two boards with one key the other one may have the tunnel now.
        if (sharedKeys.boards(device) !== undefined && !sharedKeys.keeps(device))
          void tunnels.stop("an operator gave the node to another board with this key", device);
      },
      trust: () => trustInfo(keys, registry.revokedWithCertificate(new Date()), address),
      revoke: (node, by, reenrol) => devices.revoke(node, by, { tunnels, endpoint }, reenrol),
      log: log.with("api"),
    }),
    cannotAccept,
  );
  parts.defer(() => api.stop());
  const snmp = config["server.snmp"];
  if (snmp.address !== "") {
    let known: ReadonlyMap<string, string> = new Map();
    const power = new PowerSwitch({
      devices: () => registry.active(),
      address: (device) => known.get(device.mac) ?? device.address,
      isUp: (device) => tunnels.info(device)?.state === "up",
      report: (device) => reports.of(device)?.facts,
      give: (device, order) => tunnels.give(device, order),
      record: (device, order) =>
        journal.order({ kind: "order", device, details: orderDetails(order) }, order.by),
      failed: (device, reason) =>
        log.warn("a node's power was not switched", { event: "snmp-power", node: device.node, reason }),
    });
    const agent = await SnmpAgent.start(
      {
        address: snmp.address,
        communityFile: snmp.community,
        run: join(dirname(server.socket), "snmp"),
        relay: [...thisProgram(), "server", "snmp-relay"],
      },
      {
        rows: async () => {
          known = await net.addresses(registry.active().map(({ mac }) => mac));
          return rowsOf(power.ports(), snmp.uplink);
        },
        power: (port, on) => power.set(port, on),
        failed: (why) => log.warn("a request by SNMP failed", { event: "snmp-power", reason: why }),
      },
      log.with("snmp"),
    );
    parts.defer(() => agent.stop());
  }
  if (server.metrics !== undefined) {
    const metrics = await serveMetrics(
      server.metrics,
      () =>
        metricsPage(
          metricsSnapshot(registry.list(), tunnels, requests, reports, refusals, diskSpace(server.state)),
        ),
      cannotAccept,
    );
    parts.defer(() => metrics.stop());
  }

  log.info("server is ready", {
    event: "server-ready",
    endpoint: formatHostPort(endpoint.address),
    socket: server.socket,
    metrics: server.metrics === undefined ? undefined : formatHostPort(server.metrics),
    hostKey: fingerprint(keys.of("host").publicKey),
    version: VERSION,
  });
  journal.order({ kind: "server-ready", details: { version: VERSION } }, null);
  notifySystemd("READY=1");
  const reason = await Promise.race([
    pumps.failed.then((error) => new WaltError(`the pump thread died: ${messageOf(error)}`)),
    aborted(signal).then(() => undefined),
  ]);
  notifySystemd("STOPPING=1");
  journal.order({ kind: "server-stops", details: { reason: reason?.message } }, null);
  log.info("server stops", { event: "server-stops", reason: reason?.message });
  if (reason !== undefined) throw reason;
}
