/** Devices that come in without anybody at the monitor: accepted later by code, by a token, or because they are expected. */

import { expect, test } from "bun:test";
import type { ListedRequest } from "../../src/api/events.ts";
import type { InvitationInfo } from "../../src/api/messages.ts";
import { eventually } from "../lab/eventually.ts";
import { describeWith } from "../lab/need.ts";
import { sharedWorld } from "../lab/shared-world.ts";
import { INTEGRATION, type World } from "../lab/world.ts";

const requests = async (world: World): Promise<ListedRequest[]> =>
  JSON.parse(await world.must(world.server, "vpn", "requests", "--json")) as ListedRequest[];

describeWith(INTEGRATION, "admission", () => {
  const fresh = sharedWorld({ proxies: 0 });

  test("a device that nobody saw is accepted by its code, and comes in when it asks again", async () => {
    const world = await fresh();
    const device = await world.device("device1");
    const log = device.start();
    await log.waitFor(/nobody runs `walt vpn monitor`/);
    const code = (await device.status()).code ?? "";
    expect(await requests(world)).toMatchObject([{ code, state: "remembered" }]);
    expect(await world.must(world.server, "vpn", "requests")).toMatch(
      new RegExp(`^CODE .*\\n${code} +remembered `),
    );
    expect((await world.walt(world.server, "vpn", "accept", "ZZZ")).status).toBe(
      code.startsWith("ZZZ") ? 0 : 1,
    );
    expect(await world.must(world.server, "vpn", "accept", code.slice(0, 5).toLowerCase())).toMatch(
      new RegExp(`^${code} is accepted as vpn-`),
    );
    await log.waitFor(/tunnel is up/);
    expect(await requests(world)).toEqual([]);
    expect(await world.must(world.server, "vpn", "requests")).toBe("No device asks for access.\n");
  });

  test("a device that is denied is told so, shown to no monitor, and may be accepted later", async () => {
    const world = await fresh();
    const device = await world.device("device1");
    const log = device.start();
    await log.waitFor(/nobody runs `walt vpn monitor`/);
    const code = (await device.status()).code ?? "";
    await world.must(world.server, "vpn", "deny", code);
    await log.waitFor(/denied: the operator denied this device/);
    const monitor = await world.monitor("--json");
    const seen = (await requests(world))[0]?.asked ?? 0;
    const after = log.position;
    await log.waitFor(/denied: the operator denied this device/, { after });
    expect(await requests(world)).toMatchObject([{ state: "denied", asked: expect.any(Number) }]);
    expect((await requests(world))[0]?.asked).toBeGreaterThan(seen);
    expect(monitor.events().map((event) => event.type)).not.toContain("request");
    await world.must(world.server, "vpn", "accept", code);
    await log.waitFor(/tunnel is up/);
  });

  test("what was blocked is listed, and lifted: monitors show it again", async () => {
    const world = await fresh();
    const device = await world.device("device1");
    const monitor = await world.monitor();
    const log = device.start();
    const { code } = await monitor.question();
    await monitor.type(`block ${code}`);
    await log.waitFor(/denied: the operator denied this device/);
    const listed = JSON.parse(await world.must(world.server, "vpn", "block", "list", "--json")) as unknown;
    expect(listed).toMatchObject([{ kind: "key", code, by: "root" }]);
    expect(await world.walt(world.server, "vpn", "block", "lift", "192.0.2.99")).toMatchObject({
      status: 1,
      stderr: expect.stringContaining("nothing is blocked that is called 192.0.2.99"),
    });
    const after = monitor.process.position;
    const lifted = await world.must(world.server, "vpn", "block", "lift", code.slice(0, 4).toLowerCase());
    expect(lifted).toContain(`The key ${code} is not blocked any more.`);
    await monitor.process.waitFor(/asks for access/, { after });
    await monitor.type(`block-source ${code}`);
    const source = async (): Promise<string> =>
      (await world.must(world.server, "vpn", "block", "list", "--columns", "blocked")).split("\n")[1] ?? "";
    const from = await eventually("the source is listed", source, { fits: (text) => text !== "" });
    const last = monitor.process.position;
    await world.must(world.server, "vpn", "block", "lift", from);
    expect(await world.must(world.server, "vpn", "block", "list")).toBe("Nothing is blocked.\n");
    await world.daemon.waitFor(/event=enrolment-block-lifted .*block=source/);
    await monitor.answer("accept", { after: last });
    await log.waitFor(/tunnel is up/);
  });

  test("a card with a token lets as many devices in as it says, also after a restart of the server", async () => {
    const world = await fresh();
    const token = (await world.must(world.server, "vpn", "token", "add", "--uses", "1")).trim();
    expect(world.daemon.output).not.toContain(token);
    await world.stopServer();
    await world.startServer();
    const [one, two] = [
      await world.device("device1", { setup: ["--token", token] }),
      await world.device("device2", { setup: ["--token", token] }),
    ];
    await one.start().waitFor(/tunnel is up/);
    const log = two.start();
    await log.waitFor(/nobody runs `walt vpn monitor`/);
    expect(await requests(world)).toMatchObject([{ warnings: ["the token on its card is used up"] }]);
    const tokens = JSON.parse(
      await world.must(world.server, "vpn", "token", "list", "--json"),
    ) as InvitationInfo[];
    expect(tokens).toMatchObject([{ id: 1, used: 1, uses: 1, state: "used up" }]);
    expect(JSON.stringify(tokens)).not.toContain(token);
    expect((await world.list())[0]?.acceptedBy).toMatch(/^token 1 of /);
    await world.must(world.server, "vpn", "token", "withdraw", "1");
    expect((await world.walt(world.server, "vpn", "token", "withdraw", "1")).status).toBe(1);
  });

  test("a board that is expected by its MAC address comes in at once", async () => {
    const world = await fresh();
    const device = await world.device("device1");
    const mac = (
      await device.host.must(["cat", `/sys/class/net/${device.host.ports[0]?.device}/address`])
    ).trim();
    await world.must(world.server, "vpn", "expect", "--mac", mac.toUpperCase(), "--note", "board 7");
    expect(await world.must(world.server, "vpn", "expect")).toContain(mac);
    await device.start().waitFor(/tunnel is up/);
    expect((await world.list())[0]?.acceptedBy).toMatch(/^expected 1 of /);
    expect(await world.must(world.server, "vpn", "expect")).toContain("used up");
  });

  test("where only monitors may answer, nothing is remembered", async () => {
    const world = await fresh('admission = "monitor"');
    const device = await world.device("device1");
    await device.start().waitFor(/nobody runs `walt vpn monitor`/);
    const code = (await device.status()).code ?? "";
    expect(await requests(world)).toEqual([]);
    const { status, stderr } = await world.walt(world.server, "vpn", "accept", code);
    expect([status, stderr]).toEqual([1, expect.stringContaining("server.admission")]);
  });
});
