/** Devices at the desk: denied by the operator, two devices and two monitors, a monitor that is killed, an answer that does not come. */

import { expect, test } from "bun:test";
import { describeWith } from "../lab/need.ts";
import { INTEGRATION, World } from "../lab/world.ts";

describeWith(INTEGRATION, "monitors", () => {
  test("a device denied by the operator is told so, and asks again", async () => {
    await using world = await World.create();
    const device = await world.device("device1");
    const monitor = await world.monitor();
    const log = device.start();
    await monitor.answer("n");
    await monitor.process.waitFor(/denied/);
    await log.waitFor(/denied: the operator denied this device/);
    expect(await world.nodes()).toEqual([]);
    // It comes again, and may be accepted then.
    await monitor.answer("y", monitor.process.position);
    await log.waitFor(/tunnel is up/);
  }, 60_000);

  test("two devices and two monitors: both are told, the first answer wins, requests wait their turn", async () => {
    await using world = await World.create();
    const [one, two] = [await world.device("device1"), await world.device("device2")];
    const [first, second] = [await world.monitor(), await world.monitor()];
    one.start();
    await Promise.all([first, second].map((m) => m.process.waitFor(/Accept this device\?/)));
    two.start();
    // The second request does not break into the first one's question.
    await Promise.all([first, second].map((m) => m.process.waitFor(/one more device is waiting/)));

    const before = second.process.position;
    first.process.write("y\n");
    await first.process.waitFor(/becomes node/);
    const told = await second.process.waitFor(/\S+ accepted by \S+@server as node (\S+)/, { after: before });
    expect(told[1]).toMatch(/^vpn-/);
    // Now the second device is asked about, on both.
    await second.answer("y", before);
    await first.process.waitFor(/accepted by \S+@server as node/);
    await Promise.all([one, two].map((d) => d.process?.waitFor(/tunnel is up/)));
    const nodes = await world.nodes();
    expect(nodes.map((n) => n.state)).toEqual(["up", "up"]);
    expect(new Set(nodes.map((n) => n.mac)).size).toBe(2);
  }, 60_000);

  test("a monitor that is killed stops counting at once", async () => {
    await using world = await World.create();
    const device = await world.device("device1");
    const monitor = await world.monitor();
    const log = device.start();
    await monitor.process.waitFor(/Accept this device\?/);
    const position = world.daemon.position;
    await monitor.stop("SIGKILL");
    await world.daemon.waitFor(/a monitor left .*monitors=0/, { after: position, timeout: 2000 });
    // What waited for its answer is denied, like what comes later.
    await log.waitFor(/nobody runs `walt vpn monitor`/);
  }, 60_000);

  test("a request that nobody answers is denied", async () => {
    await using world = await World.create({ server: 'answer_timeout = "2s"' });
    const device = await world.device("device1");
    const monitor = await world.monitor();
    const log = device.start();
    await monitor.process.waitFor(/Accept this device\?/);
    await log.waitFor(/no operator answered in time/);
    await monitor.process.waitFor(/nobody answered in time/);
  }, 60_000);

  test("--json gives events, and takes answers by number", async () => {
    await using world = await World.create();
    const device = await world.device("device1");
    const monitor = await world.monitor("--json");
    device.start();
    await monitor.process.waitFor(/"type":"request"/);
    const request = monitor.events().find((e) => e.type === "request");
    expect(request?.type === "request" && request.request.mac).toMatch(/^[0-9a-f:]{17}$/);
    monitor.process.write("accept 99\nnonsense\n");
    await monitor.process.waitFor(/request 99 does not wait/);
    await monitor.process.waitFor(/not \\"accept ID\\" or \\"deny ID\\"/);
    monitor.process.write(`accept ${request?.type === "request" ? request.request.id : ""}\n`);
    await monitor.process.waitFor(/"type":"node","node":"vpn-[0-9a-f]{6}","state":"up"/);
    expect(await monitor.stop()).toBe(0);
  }, 60_000);

  test("a monitor goes on when the server is restarted", async () => {
    await using world = await World.create();
    const monitor = await world.monitor();
    await world.stopServer();
    await monitor.process.waitFor(/connection to the server is lost/);
    await world.startServer();
    await monitor.process.waitFor(/Connected again/);
    const device = await world.device("device1");
    device.start();
    await monitor.answer("y");
    await monitor.process.waitFor(/is up, through/);
  }, 60_000);
});
