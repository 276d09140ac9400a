/** Notices as operators get them: by POST at `server.notify`, and by a monitor's command. */

import { expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { eventually } from "../lab/eventually.ts";
import { describeWith } from "../lab/need.ts";
import { INTEGRATION, World } from "../lab/world.ts";

/** An HTTP server that prints each body that it gets, on a line. */
const RECEIVER = `Bun.serve({ port: 9999, hostname: "127.0.0.1", fetch: async (request) => {
  console.log(request.method + " " + await request.text());
  return new Response("ok");
} });
console.log("listening");`;

describeWith(INTEGRATION, "notices", () => {
  test("a request waits, a node is down and up again: to an address, and to a monitor's command", async () => {
    await using world = await World.create({
      server: 'notify = "http://127.0.0.1:9999/hook"\nnotify_down = "10s"',
    });
    const { server } = world;
    const receiver = server.spawn([process.execPath, "-e", RECEIVER]);
    await receiver.waitFor(/listening/);
    // Its input stays open; the command gets the notice on its standard input and in variables.
    const command = `(echo "$WALT_EVENT $WALT_NODE $WALT_TEXT"; cat) >> told`;
    const monitor = await world.monitor("--json", "--notify", command);
    const device = await world.device("device1");
    device.start();
    await receiver.waitFor(/POST \{"event":"request-waits".*"node":null.*"server":"walt.lab.example:2222"\}/);
    const { code } = await eventually("it waits", () => device.status(), {
      fits: ({ detail }) => detail.includes("waiting for an operator"),
    });
    monitor.process.write(`accept ${code}\n`);
    await device.isUp();
    const [{ name } = { name: "" }] = await world.nodes();

    await device.stop();
    await receiver.waitFor(new RegExp(`"event":"node-down".*"node":"${name}".*is down for`), {
      timeout: 60_000,
    });
    device.start();
    await receiver.waitFor(new RegExp(`"event":"node-up".*"node":"${name}"`), { timeout: 60_000 });
    expect(receiver.output.match(/"event":"node-down"/g)).toHaveLength(1);

    const file = server.path(`${server.dir}/told`);
    const told = await eventually(
      "the command was run",
      () => Promise.resolve(existsSync(file) ? readFileSync(file, "utf8") : ""),
      { fits: (text) => text.includes("node-up") },
    );
    expect(told).toMatch(/^request-waits {2}a device asks for access: \S+.*\n\{"event":"request-waits"/);
    expect(told).toContain(`node-down ${name} ${name} is down for`);
    await monitor.stop();
    await receiver.stop();
  }, 180_000);
});
