/** `walt node ping`: which part of the way to a node is slow, or does not answer. */

import { expect, test } from "bun:test";
import type { Pinged } from "../../src/api/ping.ts";
import { FAR, Wire } from "../bench/tunnel/wire.ts";
import { eventually } from "../lab/eventually.ts";
import { describeWith } from "../lab/need.ts";
import { INTEGRATION, pingable, World } from "../lab/world.ts";

describeWith([...INTEGRATION, { programs: ["ping"] }], "walt node ping", () => {
  test("every part has its line; the slow one is named; a node that is not there does not answer", async () => {
    await using world = await World.create();
    const wire = await Wire.lay(world);
    await wire.shape("open");
    const device = await world.device("device1", { network: FAR });
    await wire.admit(device.host, 1);
    const node = await device.enrol();
    const ping = (...more: string[]) => world.walt(world.server, "node", "ping", node, "-c", "3", ...more);

    const absent = await ping();
    expect([absent.status, absent.stderr]).toEqual([1, `walt: ${node} does not answer\n`]);
    expect(absent.stdout).toMatch(/^board to proxy gate1\.example\.org:22 .* 0 of 3$/m);
    expect(absent.stdout).toMatch(/^server to board, through gate1\.example\.org:22 .* 0 of 3$/m);

    const info = (await world.nodes())[0];
    const there = await device.plugNode(info?.address ?? "", info?.mac ?? "");
    expect(await pingable(there, "192.168.192.1")).toBe(true);
    const answers = await eventually("the node answers", async () => {
      const result = await ping("--json");
      return result.status === 0 ? result : undefined;
    });
    const { parts } = JSON.parse(answers.stdout) as { parts: Pinged[] };
    expect(parts.map(({ part, problem }) => [part, problem])).toEqual([
      ["proxy", null],
      ["tunnel", null],
      ["node", null],
    ]);

    // A slow wire between the board and its proxy: 600 ms, more than any busy machine adds to another part. The tunnel may end when wires are changed.
    await wire.shape("satellite");
    const slow = await eventually(
      "the slow part is named",
      async () => {
        const { stdout } = await ping();
        return stdout.includes("The slow part is") ? stdout : undefined;
      },
      { within: 90_000 },
    );
    expect(slow).toMatch(
      /^The slow part is from the board to proxy gate1\.example\.org:22: \d+ of \d+ ms\.$/m,
    );

    await device.stop();
    await eventually("the node is down", async () => (await world.nodes())[0]?.state === "down");
    const down = await ping();
    expect([down.status, down.stdout]).toEqual([1, expect.stringContaining(`the tunnel of ${node} is down`)]);
  }, 240_000);
});
