/** `walt server run`: the parts of the server, put together, and taken apart in order. */

import { chmodSync } from "node:fs";
import { hostname } from "node:os";
import { dirname, join } from "node:path";
import { formatHostPort, SERVER_PORT } from "../address.ts";
import { groupId, listenApi, refuseSecond } from "../api/listen.ts";
import type { DeviceInfo, NodeInfo } from "../api/types.ts";
import type { Config } from "../config/schema.ts";
import { encodeReply, type Grant } from "../enrolment/messages.ts";
import { messageOf, WaltError } from "../errors.ts";
import { makeFolders } from "../linux/files.ts";
import { notifySystemd } from "../linux/notify.ts";
import type { Log } from "../log.ts";
import { fingerprint, parsePublicKey, publicKeyLine, sameKey, shortCode } from "../ssh/keys/ed25519.ts";
import { encodePrivateKey } from "../ssh/keys/key-files.ts";
import { LogLimiter, NO_LIMIT } from "../ssh/server/log-limiter.ts";
import { PumpThread } from "../tunnel/pump-thread.ts";
import { VERSION } from "../version.ts";
import { AccessRequests } from "./access-requests.ts";
import { apiHandler } from "./api.ts";
import { grant } from "./credentials.ts";
import { Endpoint } from "./endpoint.ts";
import { serveEnrolment } from "./enrol.ts";
import { loadServerKeys } from "./keys.ts";
import { metricsPage, type ServerMetrics, serveMetrics } from "./metrics.ts";
import { openWaltNet } from "./net/walt-net.ts";
import { type Device, Registry } from "./registry.ts";
import { Tunnels } from "./tunnels.ts";

/**
 * Run the server until `signal` is aborted and everything it started is gone.
 * @throws WaltError when a part cannot be started; what was started before it is stopped.
 */
export async function runServer(config: Config, log: Log, signal: AbortSignal): Promise<void> {
  const { server } = config;
  await refuseSecond(server.socket);
  // Taken apart in the reverse order of how they were put together.
  await using parts = new AsyncDisposableStack();
  try {
    makeFolders(server.state, 0o755);
    makeFolders(dirname(server.socket), 0o755);
  } catch (error) {
    throw new WaltError(`cannot make the server's folders: ${messageOf(error)}`, {
      hint: "The server runs as root.",
    });
  }
  const keys = loadServerKeys(server.state);
  const registry = new Registry(join(server.state, "registry.sqlite"));
  parts.defer(() => registry.close());
  chmodSync(registry.path, 0o600);

  const active = (): Device[] => registry.list().filter((d) => d.revokedAt === null);
  const names = (): Map<string, string> => new Map(active().map((d) => [d.mac, d.node]));
  const net = await openWaltNet(config, names(), log);
  parts.defer(() => net.close());
  const pumps = await PumpThread.start();
  parts.defer(() => pumps.stop());

  const give = (device: Device): Grant =>
    grant(registry, keys.ca, device, server.certificate_validity, new Date());
  const desk = new AccessRequests({
    answerTimeout: server.answer_timeout,
    now: Date.now,
    after: (ms, what) => {
      const timer = setTimeout(what, ms);
      return () => clearTimeout(timer);
    },
    accept: (request, by) => {
      const device = registry.accept(request, by, new Date());
      net.setNames(names());
      log.info("device accepted", {
        node: device.node,
        board: device.boardMac,
        fingerprint: fingerprint(request.publicKey),
        by,
      });
      return give(device);
    },
  });
  // Strangers cannot use up what devices may say.
  const deviceLines = new LogLimiter(undefined, NO_LIMIT);
  const tunnels = new Tunnels(
    pumps,
    net,
    server.silence,
    (device) => deviceLines.limit(log.with("tunnel"), device.node),
    (device, state, via) => desk.tell({ type: "node", node: device.node, state, via }),
  );
  const logLimiter = new LogLimiter();
  const endpoint = await Endpoint.start({
    logLimiter,
    listen: server.listen ?? { host: "::", port: SERVER_PORT },
    hostKey: keys.host,
    log: log.with("endpoint"),
    // A tunnel that notices the silence itself tells it in its own words: it comes first.
    silence: server.silence + 500,
    identify: (key) => {
      if (sameKey(key, keys.enrolment.publicKey)) return { kind: "enrolment" };
      const device = registry.byKey(key);
      return device === undefined || device.revokedAt !== null ? undefined : { kind: "device", device };
    },
    enrol: (channel, from) =>
      serveEnrolment(channel, from, {
        desk,
        registry,
        grant: give,
        retryAfter: Math.ceil(server.retry_after / 1000),
        log: logLimiter.limit(log.with("enrolment"), from),
      }),
    renew: (device, channel) => {
      const next = give(device);
      void channel.write(encodeReply({ type: "granted", ...next }));
      channel.end(0);
      logLimiter
        .limit(log, device.node)
        .info("certificate renewed", { node: device.node, next: next.renewAfter });
    },
    tunnel: (device, request, via, from) => tunnels.open(device, request, via, from),
    originalTunnel: (device, request, from) => tunnels.open(device, request, undefined, from),
  });
  parts.defer(async () => {
    // The reason goes out before the connections end.
    await tunnels.closeAll("the server stops");
    await endpoint.close();
    await tunnels.closeAll("the server stops");
  });

  const nodes = async (): Promise<NodeInfo[]> => {
    const devices = active();
    const addresses = await net.addresses(devices.map((d) => d.mac));
    return devices.map((device) => {
      const tunnel = tunnels.info(device);
      const up = tunnel?.state === "up";
      return {
        name: device.node,
        type: "vpn",
        state: tunnel?.state ?? "down",
        mac: device.mac,
        address: addresses.get(device.mac) ?? null,
        since: tunnel?.since.toISOString() ?? null,
        via: up ? tunnel.via || null : null,
        mtu: up ? (tunnel.mtu ?? null) : null,
        framing: up ? (tunnel.original ? "original" : "messages") : null,
        rtt: up ? tunnel.stats?.rtt || null : null,
        loss: up && tunnel.stats !== undefined && tunnel.stats.pings > 0 ? tunnel.stats.loss : null,
        traffic: up ? (tunnel.stats ?? null) : null,
      };
    });
  };
  const devices = (): DeviceInfo[] =>
    registry.list().map((device) => {
      const key = parsePublicKey(device.publicKey, "registry");
      return {
        node: device.node,
        state: device.revokedAt === null ? (tunnels.info(device)?.state ?? "down") : "revoked",
        boardMac: device.boardMac,
        model: device.model,
        serialNumber: device.serialNumber,
        fingerprint: fingerprint(key),
        code: shortCode(key),
        acceptedAt: device.acceptedAt,
        acceptedBy: device.acceptedBy,
        certificateSerial: String(device.certificateSerial),
        certificateExpires: device.certificateExpires,
        revokedAt: device.revokedAt,
      };
    });
  const measured = (): ServerMetrics => {
    const all = registry.list();
    const current = all.filter((device) => device.revokedAt === null);
    return {
      version: VERSION,
      nodes: current.map((device) => {
        const tunnel = tunnels.info(device);
        const up = tunnel?.state === "up";
        const stats = up ? tunnel.stats : undefined;
        return { node: device.node, up, totals: tunnels.totals(device), stats };
      }),
      revoked: all.length - current.length,
      monitors: desk.monitors,
      pending: desk.pending.length,
    };
  };
  const revoke = (node: string, by: string): void => {
    const device = registry.byNode(node);
    if (device === undefined) {
      throw new WaltError(`there is no node ${JSON.stringify(node)}`, {
        hint: "`walt vpn list` shows the nodes.",
      });
    }
    registry.revoke(device, new Date());
    // The tunnel still tells the device why, for which it has a moment; all its other connections end now.
    void tunnels.close(device, "this node was revoked");
    endpoint.cutOff(device.id);
    net.setNames(names());
    log.info("device revoked", { node, by });
  };
  const address = server.address ?? { host: hostname(), port: endpoint.address.port };
  const api = await listenApi(
    server.socket,
    groupId(server.group) === undefined ? undefined : server.group,
    apiHandler({
      desk,
      nodes,
      devices,
      revoke,
      log: log.with("api"),
      trust: () => ({
        ca: publicKeyLine(keys.ca.publicKey),
        hostKey: publicKeyLine(keys.host.publicKey),
        enrolmentPublicKey: publicKeyLine(keys.enrolment.publicKey),
        enrolmentPrivateKey: encodePrivateKey(keys.enrolment),
        caFile: keys.caFile,
        address: formatHostPort(address),
        version: VERSION,
      }),
    }),
  );
  parts.defer(() => api.stop());
  if (server.metrics !== undefined) {
    const metrics = serveMetrics(server.metrics, () => metricsPage(measured()));
    parts.defer(() => metrics.stop());
  }

  log.info("server is ready", {
    endpoint: formatHostPort(endpoint.address),
    socket: server.socket,
    metrics: server.metrics === undefined ? undefined : formatHostPort(server.metrics),
    hostKey: fingerprint(keys.host.publicKey),
    version: VERSION,
  });
  notifySystemd("READY=1");
  const reason = await Promise.race([
    pumps.failed.then((error) => new WaltError(`the pump thread died: ${messageOf(error)}`)),
    new Promise<undefined>((resolve) => {
      if (signal.aborted) resolve(undefined);
      signal.addEventListener("abort", () => resolve(undefined), { once: true });
    }),
  ]);
  notifySystemd("STOPPING=1");
  log.info("server stops", { reason: reason?.message });
  if (reason !== undefined) throw reason;
}
