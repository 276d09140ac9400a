/** The parts of the way to a node, as the server measures them. */

import { expect, test } from "bun:test";
import { pingParts, pingTimes } from "../../src/server/ping.ts";
import { controlWire } from "../control/wire.ts";

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);
const OUTPUT = `PING 192.168.192.23 (192.168.192.23) 56(84) bytes of data.
64 bytes from 192.168.192.23: icmp_seq=1 ttl=64 time=0.912 ms
64 bytes from 192.168.192.23: icmp_seq=3 ttl=64 time=12.3 ms
64 bytes from 192.168.192.23: icmp_seq=3 ttl=64 time=99 ms (DUP!)
64 bytes from 192.168.192.23: icmp_seq=9 ttl=64 time=1 ms

--- 192.168.192.23 ping statistics ---
`;

test("times by their numbers: one that is lost, a double one, one too many", () => {
  expect(pingTimes(OUTPUT, 3)).toEqual([0.912, null, 12.3]);
  expect(pingTimes("", 2)).toEqual([null, null]);
});

test("proxies, tunnel and node at once; what cannot be measured has its reason", async () => {
  const { asker } = controlWire(async (order, stream) => {
    if (order.order === "hops")
      return await stream.write(utf8('{"hops":[{"name":"gate:22","rtts":[1.5,null]}]}\n'));
    for await (const bytes of stream.input) await stream.write(bytes);
  });
  const commands: (readonly string[])[] = [];
  const run = async (command: readonly string[]) => {
    commands.push(command);
    return { status: 0, stdout: OUTPUT, stderr: "" };
  };
  const target = { via: "gate:22", address: "192.168.192.23", give: asker.give.bind(asker) };
  const parts = await pingParts(target, 2, run);
  expect(parts).toEqual([
    { part: "proxy", name: "gate:22", rtts: [1.5, null], problem: null },
    { part: "tunnel", name: "gate:22", rtts: [expect.any(Number), expect.any(Number)], problem: null },
    { part: "node", name: "192.168.192.23", rtts: [0.912, null], problem: null },
  ]);
  expect(commands[0]?.slice(-1)).toEqual(["192.168.192.23"]);

  const down = {
    ...{ via: "gate:22", address: null },
    give: () => Promise.reject(new Error("the tunnel is down")),
  };
  expect((await pingParts(down, 1, run)).map(({ part, problem }) => [part, problem])).toEqual([
    ["proxy", "the tunnel is down"],
    ["tunnel", "the tunnel is down"],
    ["node", "its address is not known"],
  ]);
  const broken = async () => ({ status: 2, stdout: "", stderr: "ping: socket: Operation not permitted\n" });
  expect((await pingParts(target, 1, broken)).at(-1)?.problem).toBe("ping: socket: Operation not permitted");
});
