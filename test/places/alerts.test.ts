/** The example of alert rules: Prometheus' own tool accepts it and runs its tests, and its metrics are ours. */

import { expect, test } from "bun:test";
import { join } from "node:path";
import { parseReport } from "../../src/control/report.ts";
import { runAny } from "../../src/linux/run.ts";
import { metricsPage } from "../../src/server/metrics.ts";
import type { Totals } from "../../src/server/tunnels.ts";
import { TRAFFIC } from "../api/messages.ts";
import { describeWith } from "../lab/need.ts";
import { parseExposition } from "../lab/prometheus.ts";

const RULES = join(import.meta.dir, "../../docs/alerts/walt.yml");

describeWith({ programs: ["promtool"] }, "alert rules", () => {
  test("are well-formed, and do what their tests say", async () => {
    const checked = await runAny(["promtool", "check", "rules", RULES]);
    expect([checked.status, checked.stdout]).toEqual([0, expect.stringContaining("10 rules found")]);
    const tested = await runAny(["promtool", "test", "rules", join(import.meta.dir, "alerts.yml")]);
    expect([tested.status, tested.stderr]).toEqual([0, ""]);
  }, 120_000);
});

test("every metric that they name is on the server's page", async () => {
  const totals = new Proxy({}, { get: () => 1 }) as Totals;
  const report = parseReport({ disk: { size: 100, free: 5 }, vm: { state: "running" } });
  const node = { node: "lab-1", up: true, totals, stats: TRAFFIC, report, refusals: 1 };
  const page = metricsPage({
    ...{ version: "1", nodes: [node], revoked: 0, monitors: 0, pending: 0 },
    disk: { size: 100, free: 50 },
  });
  const named = (await Bun.file(RULES).text()).match(/\bwalt_[a-z_]+/g) ?? [];
  const ours = [...parseExposition(page).keys()];
  expect([...new Set(named)].filter((name) => !ours.includes(name))).toEqual([]);
  expect(named.length).toBeGreaterThan(9);
});
