/** Rotation of the server's keys while a device is connected and another one is off. */

import { expect, test } from "bun:test";
import type { RotationInfo } from "../../src/api/messages.ts";
import { eventually } from "../lab/eventually.ts";
import { describeWith } from "../lab/need.ts";
import { INTEGRATION, World } from "../lab/world.ts";

const KEYS = ["ca", "host", "enrolment"] as const;

describeWith(INTEGRATION, "rotation", () => {
  test("boards get the new keys with their certificates; what has them goes on when the old ones are gone", async () => {
    await using world = await World.create({ server: 'certificate_validity = "10s"' });
    const { server } = world;
    const rotations = async (): Promise<RotationInfo[]> =>
      JSON.parse(await world.must(server, "vpn", "rotate", "--json")) as RotationInfo[];
    const setUpProxies = async (): Promise<void> => {
      for (const proxy of world.proxies) await world.setupProxy(proxy.host, "walt.lab.example:2222");
    };
    const [on, off] = [await world.device("device1"), await world.device("device2")];
    const [node, sleeper] = [await on.enrol(), await off.enrol()];
    await off.stop();

    for (const key of KEYS) await world.must(server, "vpn", "rotate", key);
    await setUpProxies();
    await eventually("the board that is on has all new keys", rotations, {
      fits: (all) => all.every((one) => !one.waiting.includes(node)),
    });
    expect((await rotations()).map((one) => one.waiting)).toEqual([[sleeper], [sleeper], [sleeper]]);
    for (const key of KEYS) {
      const refused = await world.walt(server, "vpn", "rotate", key, "--finish");
      expect([refused.status, refused.stderr]).toEqual([1, expect.stringContaining(sleeper)]);
    }

    // A board that comes back in time gets them too.
    off.start();
    await eventually("all boards have all new keys", rotations, {
      fits: (all) => all.every((one) => one.next !== null && one.waiting.length === 0),
    });
    for (const key of KEYS) await world.must(server, "vpn", "rotate", key, "--finish");
    await setUpProxies();
    const lines = await world.proxies[0]?.host.must(["cat", "/home/walt-vpn/.ssh/authorized_keys"]);
    expect(lines?.trim().split("\n")).toHaveLength(2);

    // Everything anew: the connections to the proxies, and that to the server.
    for (const device of [on, off]) {
      await device.stop();
      await device.start().waitFor(/tunnel is up/);
    }
    // A card that was made after it lets a new board in; one that was made before it does not.
    const late = await world.device("device3");
    await late.enrol();
  }, 180_000);
});
