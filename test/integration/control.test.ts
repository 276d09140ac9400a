/** The control channel through proxy and server: orders of an operator reach the device, and its answers come back. */

import { expect, test } from "bun:test";
import { SERVER } from "../../src/api/routes.ts";
import type { Changes } from "../../src/config/settings.ts";
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
  }, 120_000);

  test("settings are tried: kept when the tunnel comes up with them, else the old ones are back", async () => {
    await using world = await World.create();
    const second = await world.addEntrypoint("gate2");
    const [gate1, gate2] = ["gate1.example.org:22", "gate2.example.org:22"];
    const device = await world.device("device1", { entrypoints: ["gate1.example.org"] });
    const node = await device.enrol();
    const position = (): number => device.process?.position ?? 0;
    const set = async (changes: Changes, within: number): Promise<void> => {
      const order = { order: "set" as const, changes, within, by: "me" };
      const signal = new AbortController().signal;
      for await (const event of world.api.stream(SERVER.order, { node, order }, signal)) {
        if (event.type === "failed") throw new Error(event.error);
      }
    };
    const outcome = async (changes: Changes, within: number): Promise<string> => {
      const after = position();
      await set(changes, within);
      await device.process?.waitFor(/event=settings outcome=(kept|reverted)/, { after, timeout: 60_000 });
      return device.process?.output.slice(after) ?? "";
    };
    const isUpVia = (entrypoint: string): Promise<unknown> =>
      eventually(`the node is up via ${entrypoint}`, async () => {
        const [shown] = await world.nodes();
        return shown?.state === "up" && shown.via === entrypoint;
      });
    const entrypoint = (to: string, hostKeys: string[] = []): Changes => ({
      values: { entrypoint: to },
      hostKeys,
    });
    await isUpVia(gate1);

    expect(await outcome(entrypoint("nowhere.example"), 5)).toMatch(/outcome=reverted .*nowhere\.example/);
    await isUpVia(gate1);
    expect(await outcome(entrypoint("gate2.example.org"), 5)).toMatch(/outcome=reverted .*host key/);
    await isUpVia(gate1);
    expect(set({ values: { mtu: 7 }, hostKeys: [] }, 5)).rejects.toThrow("mtu must be");

    const keys = second.sshd.hostKeys.map((key) => `gate2.example.org:22 ${key}`);
    expect(await outcome(entrypoint("gate2.example.org", keys), 60)).toContain('outcome=kept by="root (me)"');
    await isUpVia(gate2);
    const journal = await world.api.call(SERVER.events, { node, last: 100 });
    expect(journal.findLast(({ kind }) => kind === "order")).toMatchObject({
      ...{ by: "root (me)", details: { order: "set", settings: "entrypoint=gate2.example.org, host keys" } },
    });
    const shown = await world.must(device.host, "config", "show");
    expect(shown).toMatch(
      /device\.entrypoint +"gate2\.example\.org:22" +\/var\/lib\/walt-vpn\/settings\.json/,
    );

    // The power is cut while others are tried: what was kept is back.
    const after = position();
    await set(entrypoint("nowhere.example"), 3600);
    await device.process?.waitFor(/outcome=trying/, { after });
    await device.stop("SIGKILL");
    device.start();
    await isUpVia(gate2);

    // The card's values count again.
    expect(await outcome({ values: { entrypoint: null }, hostKeys: null }, 60)).toContain("outcome=kept");
    await isUpVia(gate1);
  }, 180_000);
});
