/** The metrics of the server for Prometheus, and the HTTP service that provides them. */

import { formatHostPort, type HostPort } from "../address.ts";
import type { Report } from "../control/report.ts";
import { messageOf, WaltError } from "../errors.ts";
import { addressOf, HttpServer } from "../linux/http.ts";
import type { LinkStats } from "../tunnel/counters.ts";
import { CONTENT_TYPE, exposition, type Family, type Sample } from "./exposition.ts";
import type { DiskSpace } from "./notices.ts";
import type { Totals } from "./tunnels.ts";

/** Connections at once, and of one address: Prometheus needs one. */
const MOST = 64;
const EACH = 16;
/** ms without a byte after which a connection is ended. */
const IDLE = 30_000;

export interface NodeMetrics {
  node: string;
  up: boolean;
  totals: Totals;
  /** Refusals of its certificate that it has reported. */
  refusals: number;
  /** Counters of the tunnel; undefined while it is down. */
  stats: LinkStats | undefined;
  /** What its board last told, while the tunnel is up. */
  report?: Report | undefined;
}

export interface ServerMetrics {
  version: string;
  /** Of devices that are not revoked. */
  nodes: readonly NodeMetrics[];
  revoked: number;
  monitors: number;
  /** Requests for access that wait for an answer. */
  pending: number;
  /** The file system with the server's state. */
  disk: DiskSpace;
}

type NodeRow = readonly [name: string, help: string, value: (node: NodeMetrics) => number | undefined];

/** Since the server's start, over all tunnels of a node. */
const COUNTERS: readonly NodeRow[] = [
  ["tunnels", "Tunnels of the node that came up.", (n) => n.totals.tunnels],
  ["receive_frames", "Frames from the node.", (n) => n.totals.framesIn],
  ["receive_bytes", "Bytes of frames from the node.", (n) => n.totals.bytesIn],
  ["transmit_frames", "Frames to the node.", (n) => n.totals.framesOut],
  ["transmit_bytes", "Bytes of frames to the node.", (n) => n.totals.bytesOut],
  ["dropped_frames", "Frames dropped: no room, too old, or to slow a flow down.", (n) => n.totals.dropped],
  ["marked_frames", "Frames marked instead of dropped (ECN).", (n) => n.totals.marked],
  ["refused_frames", "Frames from the node that it may not send.", (n) => n.totals.refused],
  ["pings", "PINGs to the device that were answered or given up.", (n) => n.totals.pings],
  ["certificate_refusals", "Refusals of the device's certificate by a proxy.", (n) => n.refusals],
  ["key_exchanges", "Key exchanges on the tunnels' connections.", (n) => n.totals.rekeys],
  ["late_pings", "PINGs to the device that were answered late or not at all.", (n) => n.totals.late],
];

/** Left out while there is no tunnel, or the value is not known. */
const GAUGES: readonly NodeRow[] = [
  ["queue_bytes", "Bytes that wait in the queue to the node.", (n) => n.stats?.queued],
  ["queue_delay_seconds", "How long frames wait in that queue.", (n) => seconds(n.stats?.queueDelay)],
  ["rtt_seconds", "Round trip time through the tunnel.", (n) => seconds(n.stats?.rtt || undefined)],
  [
    "min_rtt_seconds",
    "Minimum round trip time of the last seconds.",
    (n) => seconds(n.stats?.minRtt || undefined),
  ],
  [
    "late_ping_ratio",
    "Share of late PINGs in the last minutes.",
    (n) => (n.stats?.pings ? n.stats.loss : undefined),
  ],
  ["lanes", "Connections that the tunnel consists of.", (n) => n.stats?.lanes || undefined],
  ["window_bytes", "Bytes that may be in flight to the device.", (n) => n.stats?.window || undefined],
  [
    "in_flight_bytes",
    "Bytes that are in flight to the device.",
    (n) => (n.stats?.window ? n.stats.inFlight : undefined),
  ],
  [
    "rate_bytes_per_second",
    "The best rate of the path in the last seconds.",
    (n) => n.stats?.rate || undefined,
  ],
];

/** Of the board, as it last told; left out while there is no tunnel, or the value is not known. */
const BOARD: readonly NodeRow[] = [
  [
    "board_temperature_celsius",
    "Temperature of the board's processor.",
    (n) => n.report?.temperature ?? undefined,
  ],
  [
    "board_memory_available_bytes",
    "Memory that programs on the board can still get.",
    (n) => n.report?.memory.available ?? undefined,
  ],
  ["board_disk_size_bytes", "Bytes of the board's state.", (n) => n.report?.disk.size ?? undefined],
  ["board_disk_free_bytes", "Free bytes of the board's state.", (n) => n.report?.disk.free ?? undefined],
  [
    "board_disk_errors",
    "Errors that the board's kernel found in its file systems.",
    (n) => n.report?.disk.errors ?? undefined,
  ],
  [
    "board_under_voltage",
    "1 while the board's supply is too low.",
    (n) => flag(n.report?.power.underVoltage),
  ],
  ["board_throttled", "1 while the board's firmware slows it down.", (n) => flag(n.report?.power.throttled)],
  ["board_uptime_seconds", "Time since the board's start.", (n) => n.report?.uptime.board ?? undefined],
  [
    "vm_running",
    "1 while the node's virtual machine runs.",
    (n) => flag(n.report && n.report.vm.state === "running"),
  ],
];

function known(value: number | null): Sample[] {
  return value === null ? [] : [{ value }];
}

function flag(value: boolean | null | undefined): number | undefined {
  return value == null ? undefined : Number(value);
}

function seconds(ms: number | undefined): number | undefined {
  return ms === undefined ? undefined : ms / 1000;
}

/** The page. */
export function metricsPage(server: ServerMetrics): string {
  const gauge = (name: string, help: string, samples: Sample[]): Family => ({
    name,
    type: "gauge",
    help,
    samples,
  });
  const ofNodes = (type: Family["type"], ending: string, rows: readonly NodeRow[]): Family[] =>
    rows.map(([name, help, value]) => ({
      name: `walt_node_${name}${ending}`,
      type,
      help,
      samples: server.nodes.flatMap((node) => {
        const found = value(node);
        return found === undefined ? [] : [{ labels: { node: node.node }, value: found }];
      }),
    }));
  const up = server.nodes.filter((node) => node.up).length;
  const state = (name: string, value: number): Sample => ({ labels: { state: name }, value });
  return exposition([
    gauge("walt_build_info", "The running version.", [{ labels: { version: server.version }, value: 1 }]),
    gauge("walt_devices", "Registered devices.", [
      state("up", up),
      state("down", server.nodes.length - up),
      state("revoked", server.revoked),
    ]),
    gauge("walt_monitors", "Monitors that are running.", [{ value: server.monitors }]),
    gauge("walt_requests_pending", "Requests for access that wait for an operator.", [
      { value: server.pending },
    ]),
    gauge(
      "walt_disk_size_bytes",
      "Bytes of the file system with the server's state.",
      known(server.disk.size),
    ),
    gauge("walt_disk_free_bytes", "Free bytes of it.", known(server.disk.free)),
    gauge(
      "walt_node_up",
      "Whether the node's tunnel is up.",
      server.nodes.map((node) => ({ labels: { node: node.node }, value: node.up ? 1 : 0 })),
    ),
    ...ofNodes("counter", "_total", COUNTERS),
    ...ofNodes("gauge", "", GAUGES),
    ...ofNodes("gauge", "", BOARD),
    ...processFamilies(),
  ]);
}

/** Metrics of the process, under the names that all Prometheus clients use. */
function processFamilies(): Family[] {
  const { user, system } = process.cpuUsage();
  const family = (name: string, type: Family["type"], help: string, value: number): Family => ({
    name: `process_${name}`,
    type,
    help,
    samples: [{ value }],
  });
  return [
    family("cpu_seconds_total", "counter", "Processor time of the server.", (user + system) / 1e6),
    family("resident_memory_bytes", "gauge", "Resident memory of the server.", process.memoryUsage.rss()),
    family("start_time_seconds", "gauge", "Start of the server, Unix time.", performance.timeOrigin / 1000),
  ];
}

/**
 * Answer `GET /metrics`.
 * @throws WaltError when it cannot listen there.
 */
export async function serveMetrics(
  address: HostPort,
  page: () => string,
  failed: (error: unknown) => void = () => {},
): Promise<{ stop(): Promise<void> }> {
  try {
    return await HttpServer.start({
      ...{ place: address, most: MOST, each: EACH, idle: IDLE, maxBody: 1024 },
      ...{ clientOf: addressOf, failed },
      answer: (request) => {
        if (new URL(request.url).pathname !== "/metrics") {
          return new Response("the only page is /metrics\n", { status: 404 });
        }
        if (request.method !== "GET" && request.method !== "HEAD") {
          return new Response("use GET or HEAD\n", { status: 405, headers: { allow: "GET, HEAD" } });
        }
        return new Response(page(), { headers: { "content-type": CONTENT_TYPE } });
      },
      onError: (error) => new Response(`internal error: ${messageOf(error)}\n`, { status: 500 }),
    });
  } catch (error) {
    throw new WaltError(`cannot serve metrics on ${formatHostPort(address)}: ${messageOf(error)}`, {
      hint: "Choose another port with server.metrics.",
      cause: error,
    });
  }
}
