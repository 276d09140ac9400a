/** The page for Prometheus: read strictly, with values that want escaping, and over real HTTP. */

import { afterEach, expect, test } from "bun:test";
import { exposition, type Family } from "../../src/server/exposition.ts";
import { metricsPage, type NodeMetrics, serveMetrics } from "../../src/server/metrics.ts";
import type { LinkStats } from "../../src/tunnel/counters.ts";
import { parseExposition } from "../lab/prometheus.ts";

const STATS: LinkStats = {
  ...{ framesIn: 1, framesOut: 2, bytesIn: 3, bytesOut: 4, dropped: 5, refused: 6, marked: 7 },
  ...{ rtt: 23.5, minRtt: 20, queued: 3000, queueDelay: 12.5, window: 48_000, inFlight: 1200 },
  ...{ rate: 2.5e6, pings: 128, late: 2, loss: 1 / 64, rekeys: 0, lanes: 2 },
};
const TOTALS = {
  ...{ tunnels: 3, framesIn: 11, framesOut: 12, bytesIn: 13, bytesOut: 14, dropped: 15, refused: 16 },
  ...{ marked: 17, pings: 18, late: 19, rekeys: 20 },
};
const UP: NodeMetrics = { node: "vpn-010203", up: true, totals: TOTALS, refusals: 2, stats: STATS };
const DOWN: NodeMetrics = {
  node: "vpn-040506",
  up: false,
  totals: { ...TOTALS, tunnels: 0 },
  refusals: 0,
  stats: undefined,
};
const server = {
  ...{ version: "0.1.0", nodes: [UP, DOWN], revoked: 4, monitors: 1, pending: 2 },
  disk: { size: 1000, free: 100 },
};

test("every value stands under its name, in base units", () => {
  const metrics = parseExposition(metricsPage(server));
  const of = (name: string, labels = 'node="vpn-010203"') => metrics.get(name)?.samples.get(labels);
  expect(metrics.get("walt_devices")?.samples).toEqual(
    new Map([
      ['state="up"', 1],
      ['state="down"', 1],
      ['state="revoked"', 4],
    ]),
  );
  expect(of("walt_build_info", 'version="0.1.0"')).toBe(1);
  expect(of("walt_monitors", "")).toBe(1);
  expect(of("walt_requests_pending", "")).toBe(2);
  const shown = Object.fromEntries(
    [...metrics].flatMap(([name, { samples }]) => {
      const value = samples.get('node="vpn-010203"');
      return value === undefined ? [] : [[name.replace("walt_node_", ""), value]];
    }),
  );
  expect(shown).toEqual({
    certificate_refusals_total: 2,
    up: 1,
    tunnels_total: 3,
    receive_frames_total: 11,
    receive_bytes_total: 13,
    transmit_frames_total: 12,
    transmit_bytes_total: 14,
    dropped_frames_total: 15,
    refused_frames_total: 16,
    marked_frames_total: 17,
    pings_total: 18,
    late_pings_total: 19,
    queue_bytes: 3000,
    queue_delay_seconds: 0.0125,
    rtt_seconds: 0.0235,
    min_rtt_seconds: 0.02,
    key_exchanges_total: 20,
    late_ping_ratio: 1 / 64,
    lanes: 2,
    window_bytes: 48_000,
    in_flight_bytes: 1200,
    rate_bytes_per_second: 2.5e6,
  });
  for (const name of ["cpu_seconds_total", "resident_memory_bytes", "start_time_seconds"])
    expect(of(`process_${name}`, "")).toBeGreaterThan(0);
});

test("a node without a tunnel keeps its counters, and has no values that nobody knows", () => {
  const metrics = parseExposition(metricsPage(server));
  const of = (name: string) => metrics.get(`walt_node_${name}`)?.samples.get('node="vpn-040506"');
  expect([of("up"), of("tunnels_total"), of("receive_bytes_total")]).toEqual([0, 0, 13]);
  for (const name of [
    "queue_bytes",
    "rtt_seconds",
    "late_ping_ratio",
    "window_bytes",
    "rate_bytes_per_second",
  ])
    expect(of(name)).toBeUndefined();
});

test("a tunnel of which nothing is known yet: zeros are counts, and unknown is not zero", () => {
  const zero = Object.fromEntries(Object.keys(STATS).map((key) => [key, 0])) as unknown as LinkStats;
  const page = metricsPage({ ...server, nodes: [{ ...UP, stats: zero }] });
  const metrics = parseExposition(page);
  expect(metrics.get("walt_node_queue_bytes")?.samples.get('node="vpn-010203"')).toBe(0);
  for (const name of ["rtt_seconds", "min_rtt_seconds", "late_ping_ratio", "window_bytes"])
    expect(metrics.has(`walt_node_${name}`)).toBe(false);
});

test("a server without devices has a page", () => {
  const metrics = parseExposition(metricsPage({ ...server, nodes: [], revoked: 0 }));
  expect(metrics.get("walt_devices")?.samples.get('state="up"')).toBe(0);
  expect(metrics.has("walt_node_up")).toBe(false);
});

test("labels and help are escaped, numbers written as Go reads them", () => {
  const values = [0, -1, 1e21, 1e-7, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  const family: Family = {
    name: "walt_x",
    type: "gauge",
    help: 'a "quote", a \\ and\na line',
    samples: values.map((value, i) => ({ labels: { node: `${i} "\\\n}`, other: "é" }, value })),
  };
  const text = exposition([family, { ...family, name: "walt_y", samples: [] }]);
  expect(text).toStartWith('# HELP walt_x a "quote", a \\\\ and\\na line\n# TYPE walt_x gauge\n');
  expect(text).toContain('walt_x{node="0 \\"\\\\\\n}",other="é"} 0\n');
  expect([...(parseExposition(text).get("walt_x")?.samples.values() ?? [])]).toEqual(values);
});

let serving: { stop(): Promise<void> } | undefined;
afterEach(async () => {
  await serving?.stop();
  serving = undefined;
});

/** A port of the loopback that nobody has now. */
function freePort(): number {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  listener.stop(true);
  return listener.port;
}

test("it is served under /metrics, for reading only", async () => {
  const port = freePort();
  serving = await serveMetrics({ host: "127.0.0.1", port }, () => metricsPage(server));
  const at = `http://127.0.0.1:${port}`;
  const answer = await fetch(`${at}/metrics`);
  expect(answer.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
  expect(parseExposition(await answer.text()).size).toBeGreaterThan(20);
  expect((await fetch(`${at}/metrics`, { method: "POST", body: "x" })).status).toBe(405);
  expect((await fetch(`${at}/`)).status).toBe(404);
  expect((await fetch(`${at}/metrics/../v1/trust`)).status).toBe(404);
});

test("a port that somebody has is an error that names it", async () => {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  try {
    await expect(serveMetrics({ host: "127.0.0.1", port: listener.port }, () => "")).rejects.toThrow(
      `cannot serve metrics on 127.0.0.1:${listener.port}: `,
    );
  } finally {
    listener.stop(true);
  }
});
