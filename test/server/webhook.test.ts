/** Notices by POST, to a real server: what it gets, attempts after failures, and the bounds. */

import { afterEach, beforeEach, expect, test } from "bun:test";
import { formatLine, type Log } from "../../src/log.ts";
import { Webhook } from "../../src/server/webhook.ts";
import { eventually } from "../lab/eventually.ts";

const WAITS = { first: 10, last: 20, longest: 3_600_000, patience: 10_000 };
let got: unknown[];
let logged: string[];
let answer: (request: Request) => Response | Promise<Response>;
let server: ReturnType<typeof Bun.serve>;
let hook: Webhook | undefined;
const note = (message: string, fields?: Parameters<Log["info"]>[1]): void => {
  logged.push(formatLine("", message, fields));
};
const log: Log = { debug: note, info: note, warn: note, error: note, with: () => log };

beforeEach(() => {
  [got, logged] = [[], []];
  answer = () => new Response("thank you");
  server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: async (request) => {
      const response = await answer(request);
      if (response.ok) got.push(await request.json());
      return response;
    },
  });
});
afterEach(async () => {
  await hook?.stop();
  await server.stop(true);
});

function open(waits = WAITS): Webhook {
  hook = new Webhook(`http://127.0.0.1:${server.port}/secret-token`, log, waits);
  return hook;
}
const sent = (count: number): Promise<unknown[]> =>
  eventually("the notices are there", () => Promise.resolve(got), { fits: (all) => all.length >= count });

test("each is a POST with JSON, in order", async () => {
  const requests: [string, string | null, string][] = [];
  answer = (request) => {
    requests.push([request.method, request.headers.get("content-type"), new URL(request.url).pathname]);
    return new Response("ok");
  };
  const one = open();
  for (let i = 1; i <= 3; i++) one.send({ event: "node-down", number: i });
  expect(await sent(3)).toEqual([1, 2, 3].map((number) => ({ event: "node-down", number })));
  expect(requests).toEqual(Array(3).fill(["POST", "application/json", "/secret-token"]));
  expect(logged).toEqual([]);
});

test("a server that fails is asked again; the log says so once, without what may be secret", async () => {
  let left = 3;
  answer = () => new Response("", { status: left-- > 0 ? 503 : 200 });
  open().send({ number: 1 });
  expect(await sent(1)).toEqual([{ number: 1 }]);
  await eventually("it is logged", () => Promise.resolve(logged), { fits: (all) => all.length === 2 });
  expect(logged[0]).toMatch(/event=notify-failed host=127.0.0.1:\d+ reason="status 503"/);
  expect(logged[1]).toContain("event=notify-works");
  expect(logged.join()).not.toContain("secret-token");
});

test("what the server does not want is lost, and the next one is sent; redirections are not followed", async () => {
  let left = 1;
  answer = () =>
    left-- > 0 ? new Response("", { status: 302, headers: { location: "/other" } }) : new Response();
  const one = open();
  one.send({ number: 1 });
  one.send({ number: 2 });
  expect(await sent(1)).toEqual([{ number: 2 }]);
  expect(logged[0]).toContain("lost=1");
});

test("a server that never answers takes no more than a bound: of time, and of notices that wait", async () => {
  const silent = Promise.withResolvers<Response>();
  answer = () => silent.promise;
  const one = open({ ...WAITS, patience: 200 });
  for (let i = 0; i < 300; i++) one.send({ number: i });
  one.send({ text: "x".repeat(10_000) }); // longer than any notice
  await eventually("the attempt is given up", () => Promise.resolve(logged), {
    fits: (all) => all.length > 0,
  });
  answer = () => new Response();
  silent.resolve(new Response());
  await eventually("the last one came", () => Promise.resolve(got), {
    fits: (all) => all.some((it) => (it as { number: number }).number === 299),
  });
  expect(got.length).toBeLessThanOrEqual(102);
});

test("a notice that is too old is lost", async () => {
  answer = () => new Response("", { status: 500 });
  const one = open({ ...WAITS, longest: 1 });
  one.send({ number: 1 });
  await eventually("it is given up", () => Promise.resolve(logged), {
    fits: (all) => all.some((line) => line.includes("lost=1")),
  });
  answer = () => new Response();
  one.send({ number: 2 });
  expect(await sent(1)).toEqual([{ number: 2 }]);
});

test("stops at once, whatever waits", async () => {
  answer = () => new Promise(() => {});
  const one = open();
  one.send({ number: 1 });
  await one.stop();
  one.send({ number: 2 });
  expect(got).toEqual([]);
});
