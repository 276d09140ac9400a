/** The control channel through proxy and server: orders of an operator reach the device, and its answers come back. */

import { expect, test } from "bun:test";
import { SERVER } from "../../src/api/routes.ts";
import { eventually } from "../lab/eventually.ts";
import { describeWith } from "../lab/need.ts";
import { INTEGRATION, World } from "../lab/world.ts";

describeWith(INTEGRATION, "control channel", () => {
  test("an order, its input and its answer; no order without a tunnel", async () => {
    await using world = await World.create();
    const device = await world.device("device1");
    const node = await device.enrol();
    const api = world.api;
    const signal = new AbortController().signal;
    const text = "there and back ".repeat(4000);
    let got = "";
    let last = "";
    for await (const event of api.stream(SERVER.order, { node, order: { order: "echo" } }, signal)) {
      last = event.type;
      if (event.type === "begun") {
        void (async () => {
          for (let at = 0; at < text.length; at += 3000) {
            const bytes = Buffer.from(text.slice(at, at + 3000)).toString("base64");
            await api.call(SERVER.input, { session: event.session, bytes, end: at + 3000 >= text.length });
          }
        })();
      }
      if (event.type === "output") got += event.bytes.toString();
    }
    expect(last).toBe("done");
    expect(got === text).toBe(true);
    await device.stop();
    await eventually("the node is down", async () => (await world.nodes())[0]?.state === "down");
    const gone = api.stream(SERVER.order, { node, order: { order: "echo" } }, signal).next();
    await expect(gone).rejects.toThrow("is down");
  }, 90_000);
});
