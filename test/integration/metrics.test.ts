/** The server's metrics as Prometheus gets them: a node that comes, carries frames and goes. */

import { expect, test } from "bun:test";
import { describeWith } from "../lab/need.ts";
import { type Metric, parseExposition } from "../lab/prometheus.ts";
import { INTEGRATION, pingable, WALT_NET, World } from "../lab/world.ts";

describeWith(INTEGRATION, "metrics", () => {
  test("nodes, their counters over several tunnels, devices and monitors; only on the loopback", async () => {
    await using world = await World.create({ server: 'metrics = "127.0.0.1"' });
    const scrape = async (): Promise<Map<string, Metric>> => {
      const get = 'process.stdout.write(await (await fetch("http://127.0.0.1:9586/metrics")).text())';
      return parseExposition(await world.server.must([process.execPath, "-e", get]));
    };
    const device = await world.device("device1");
    const node = await device.enrol();
    const one = (metrics: Map<string, Metric>, name: string): number | undefined =>
      metrics.get(`walt_node_${name}`)?.samples.get(`node="${node}"`);

    const [shown] = await world.nodes();
    const plugged = await device.plugNode("192.168.192.77", shown?.mac ?? "");
    expect(await pingable(plugged, WALT_NET)).toBe(true);
    const first = await scrape();
    expect(one(first, "up")).toBe(1);
    expect(one(first, "tunnels_total")).toBe(1);
    expect(one(first, "receive_frames_total")).toBeGreaterThan(0);
    expect(one(first, "transmit_bytes_total")).toBeGreaterThan(0);
    expect(first.get("walt_devices")?.samples.get('state="up"')).toBe(1);
    expect(first.get("walt_monitors")?.samples.get("")).toBe(0);

    // A tunnel that ends takes nothing away from the counters.
    const at = world.daemon.position;
    await device.stop();
    await world.daemon.waitFor(/event=tunnel-down/, { after: at });
    const between = await scrape();
    expect(one(between, "up")).toBe(0);
    expect(one(between, "rtt_seconds")).toBeUndefined();
    expect(one(between, "receive_frames_total")).toBeGreaterThanOrEqual(
      one(first, "receive_frames_total") ?? Number.NaN,
    );
    device.start();
    await world.daemon.waitFor(/event=tunnel-up/, { after: at });
    await device.host.ip("link set to-node master walt-br");
    expect(await pingable(plugged, WALT_NET)).toBe(true);
    const second = await scrape();
    expect(one(second, "tunnels_total")).toBe(2);
    expect(one(second, "receive_frames_total")).toBeGreaterThan(
      one(between, "receive_frames_total") ?? Number.NaN,
    );

    const monitor = await world.monitor();
    expect((await scrape()).get("walt_monitors")?.samples.get("")).toBe(1);
    await monitor.stop();
    await world.must(world.server, "vpn", "revoke", node, "--yes");
    const last = await scrape();
    expect(last.get("walt_devices")?.samples.get('state="revoked"')).toBe(1);
    expect(one(last, "up")).toBeUndefined();

    const outside = await world.server.run([
      ...[process.execPath, "-e"],
      `await fetch("http://${world.serverAddress}:9586/metrics")`,
    ]);
    expect(outside.status).not.toBe(0);
  }, 120_000);
});
