/** What a WalT server on the same machine knows of nodes; where it is not, nothing, and nobody complains. */

import { expect, test } from "bun:test";
import { WaltNodes } from "../../../src/server/net/walt-nodes.ts";

const NODE = {
  ...{ name: "lab-7", model: "qemu-arm-64", virtual: false, image: "pi-qemu", booted: true },
  ...{ ip: "192.168.152.7", mac: "52:54:00:01:02:03", config: {} },
};

/** The nodes that are known when WalT's API answers this. */
async function known(answer: () => Response | Promise<Response>): Promise<object> {
  using server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: answer });
  return Object.fromEntries(await new WaltNodes(`http://127.0.0.1:${server.port}/api/v1/nodes`).byMac());
}

test("nodes by MAC address", async () => {
  const { name, model, image, booted, ip } = NODE;
  expect(await known(() => Response.json({ num_nodes: 1, nodes: [NODE] }))).toEqual({
    [NODE.mac]: { name, model, image, booted, address: ip },
  });
  const old = { name, mac: NODE.mac };
  expect(await known(() => Response.json({ nodes: [old] }))).toEqual({
    [NODE.mac]: { name, model: null, image: null, booted: null, address: null },
  });
});

test.each([
  ["a page of another program", () => new Response("<html>")],
  ["no such page", () => new Response("", { status: 404 })],
  ["something else", () => Response.json({ nodes: [{ name: 7 }] })],
  ["no answer", () => new Promise<Response>(() => {})],
  ["too much", () => new Response("x".repeat(5 << 20))],
])("%s: nothing is known", async (_, answer) => {
  expect(await known(answer)).toEqual({});
});

test("nobody answers, and an answer is not asked for again at once", async () => {
  let now = 0;
  let asked = 0;
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: () => {
      asked++;
      return Response.json({ nodes: [] });
    },
  });
  const nodes = new WaltNodes(`http://127.0.0.1:${server.port}/`, () => now);
  for (const time of [0, 1000, 6000]) {
    now = time;
    expect((await nodes.byMac()).size).toBe(0);
  }
  expect(asked).toBe(2);
  await server.stop(true);
  now = 20_000;
  expect((await nodes.byMac()).size).toBe(0);
});
