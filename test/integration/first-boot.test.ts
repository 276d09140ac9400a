/**
 * A device that knows nothing but its entrypoint is denied without a monitor, then accepted; then it never
 * asks again.
 */

import { expect, test } from "bun:test";
import type { Host } from "../lab/host.ts";
import { describeWith } from "../lab/need.ts";
import { INTEGRATION, pingable, WALT_NET, World } from "../lab/world.ts";

describeWith(INTEGRATION, "first boot", () => {
  test("denied without a monitor, accepted with one, and a restart does not ask", async () => {
    await using world = await World.create();
    const device = await world.device("device1");
    const log = device.start();

    // Nobody watches: denied, and asked again.
    await log.waitFor(/nobody runs `walt vpn monitor`/);
    const first = log.position;
    await log.waitFor(/nobody runs `walt vpn monitor`/, { after: first });
    expect(await world.nodes()).toEqual([]);

    const monitor = await world.monitor();
    const { text: question } = await monitor.answer("accept");
    const { code, fingerprint } = await device.status();
    expect(question).toContain(`short code     ${code}`);
    expect(question).toContain(`key            ${fingerprint}`);
    const [, node = ""] = await monitor.process.waitFor(/becomes node (\S+)/);
    await monitor.process.waitFor(new RegExp(`node ${node} is up, through gate1.example.org:22`));

    const [shown] = await world.nodes();
    expect(shown).toMatchObject({ name: node, type: "vpn", state: "up", via: "gate1.example.org:22" });
    // What the commands say is what the daemons answered.
    const said = async (host: Host, ...words: string[]): Promise<unknown> =>
      JSON.parse(await world.must(host, ...words, "--json"));
    expect(await said(world.server, "node", "show")).toMatchObject([
      { name: node, state: "up", mac: shown?.mac },
    ]);
    expect(await said(world.server, "vpn", "list")).toMatchObject([{ node, state: "up", code, fingerprint }]);
    expect(await said(device.host, "device", "status")).toMatchObject({ node, code, fingerprint });
    const plugged = await device.plugNode("192.168.192.77", shown?.mac ?? "");
    expect(await pingable(plugged, WALT_NET)).toBe(true);

    // With the monitor gone, a restart gets in by itself.
    expect(await monitor.stop()).toBe(0);
    expect(await device.stop()).toBe(0);
    const requests = (): number => world.daemon.output.match(/event=enrolment-requested/g)?.length ?? 0;
    const before = requests();
    const tunnels = world.daemon.position;
    device.start();
    await world.daemon.waitFor(/event=tunnel-up/, { after: tunnels });
    expect(requests()).toBe(before);
    expect(await device.stop()).toBe(0);
  }, 120_000);
});
