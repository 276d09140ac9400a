/**
 * A board of the version before the control channel with today's server, and the reverse: the tunnel is up,
 * what is missing is said plainly, and nothing fills a log.
 */

import { describe, expect, test } from "bun:test";
import { earlierBinary } from "../lab/earlier-binary.ts";
import { eventually } from "../lab/eventually.ts";
import { describeWith, need } from "../lab/need.ts";
import { INTEGRATION, World } from "../lab/world.ts";

/** The last commit without orders and reports. */
const COMMIT = "37c84e5";
const earlier = need(...INTEGRATION).skip ? { why: "needs a laboratory" } : await earlierBinary(COMMIT);

const suite = (path: string): void => {
  test("an earlier board with today's server", async () => {
    await using world = await World.create();
    const device = await world.device("device1");
    device.binary = path;
    const node = await device.enrol();
    const walt = (...words: string[]) => world.walt(world.server, ...words);
    await world.daemon.waitFor(/event=no-reports/);
    const log = world.daemon.position;
    for (const [order, ...words] of [
      ["console", "node", "console", node],
      ["log", "node", "log", node],
      ["reboot", "node", "reboot", node],
      ["set", "node", "set", node, "mtu=1500"],
    ] as const) {
      const { status, stderr } = await walt(...words);
      expect([status, stderr]).toEqual([
        1,
        `walt: the board of ${node} runs a version of walt that has no \`${order}\`\n` +
          "Write a card with this version of walt for the board, or update walt on it.\n",
      ]);
    }
    const ping = await walt("node", "ping", node, "--count", "1");
    expect([ping.status, ping.stderr]).toEqual([1, `walt: ${node} does not answer\n`]);
    expect((await walt("node", "show", node)).status).toBe(0);
    // The registry is copied some time after an acceptance.
    const said = world.daemon.output.slice(log).split("\n");
    expect(said.filter((line) => line !== "" && !line.includes("event=registry-copied"))).toEqual([]);
    expect(device.process?.output).not.toMatch(/ error |bug/);
    // None of this has ended the tunnel, and a later one comes up as well.
    expect((await world.nodes())[0]?.state).toBe("up");
    await device.stop();
    await eventually("the node is down", async () => (await world.nodes())[0]?.state === "down");
    const again = world.daemon.position;
    device.start();
    await world.daemon.waitFor(/event=tunnel-up/, { after: again });
    expect(await device.stop()).toBe(0);
  }, 120_000);

  test("today's board with an earlier server", async () => {
    await using world = await World.create({ binary: path });
    const device = await world.device("device1");
    device.binary = world.today;
    const node = await device.enrol();
    const { status, stderr } = await world.server.run([world.today, "node", "console", node]);
    expect(status).toBe(1);
    expect(stderr).toMatch(
      /^walt: the daemon on \S+ is walt .*: no such request.*\nInstall the same \w+ on both\.\n$/s,
    );
    expect((await device.status()).tunnel).toBe("up");
    expect(world.daemon.output).not.toMatch(/event=tunnel-down/);
    expect(device.process?.output).not.toMatch(/ (warn|error) .*order|bug/);
    expect(await device.stop()).toBe(0);
  }, 120_000);
};

if ("why" in earlier) describe.skip(`versions (skipped: ${earlier.why.slice(0, 200)})`, () => suite(""));
else describeWith(INTEGRATION, "versions", () => suite(earlier.path));
