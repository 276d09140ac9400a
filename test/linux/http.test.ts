/** HTTP with bounds: who has to go, and what a client that breaks off or does too much at once gets. */

import { afterEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { createConnection, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EVENTS, type HttpOptions, HttpServer } from "../../src/linux/http.ts";
import { userOf } from "../../src/linux/peer-user.ts";
import { eventually } from "../lab/eventually.ts";

const cleanup: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of cleanup.splice(0).reverse()) await end();
});

/** Serve on a UNIX socket; its path. */
async function serve(more: Partial<HttpOptions>): Promise<string> {
  const dir = mkdtempSync(join(tmpdir(), "walt-http-"));
  cleanup.push(() => rmSync(dir, { recursive: true }));
  const path = join(dir, "x.sock");
  const http = await HttpServer.start({
    ...{ place: { path, bind: (listen) => listen() }, most: 8, each: 4, idle: 0, maxBody: 100 },
    ...{ clientOf: () => "one", answer: () => new Response("hello"), failed: () => {} },
    onError: () => new Response("error", { status: 500 }),
    ...more,
  });
  cleanup.push(() => http.stop());
  return path;
}

interface Client {
  socket: Socket;
  got: string;
  isClosed: boolean;
}

async function connect(path: string): Promise<Client> {
  const socket = createConnection({ path, allowHalfOpen: true });
  const client: Client = { socket, got: "", isClosed: false };
  socket.on("error", () => {}).on("data", (bytes) => (client.got += bytes.toString("latin1")));
  socket.once("end", () => socket.end());
  socket.once("close", () => (client.isClosed = true));
  cleanup.push(() => socket.destroy());
  await new Promise((resolve) => socket.once("connect", resolve));
  return client;
}

const closed = (client: Client): Promise<unknown> =>
  eventually("the connection's end", () => client.isClosed || undefined);
const GET = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const hello = async (path: string): Promise<string> =>
  await (await fetch("http://x/", { unix: path, signal: AbortSignal.timeout(20_000) })).text();

test("the oldest connections of the client with most have to go, and another one is served", async () => {
  let client = "greedy";
  const path = await serve({ clientOf: () => client });
  const held: Client[] = [];
  for (let i = 0; i < 10; i++) held.push(await connect(path));
  await eventually("six are closed", () => held.filter((one) => one.isClosed).length, {
    fits: (n) => n === 6,
  });
  expect(held.slice(6).some((one) => one.isClosed)).toBe(false);
  client = "other";
  expect(await hello(path)).toBe("hello");
  // In all there are 8.
  for (client of ["a", "b", "c"]) for (let i = 0; i < 3; i++) held.push(await connect(path));
  await eventually("eight are left", () => held.filter((one) => !one.isClosed).length, {
    fits: (n) => n <= 8,
  });
  client = "other";
  expect(await hello(path)).toBe("hello");
});

test("a connection on which nothing happens is ended, before a request and after one", async () => {
  const path = await serve({ idle: 50 });
  const [silent, asking] = [await connect(path), await connect(path)];
  asking.socket.write(GET);
  await closed(silent);
  await closed(asking);
  expect(asking.got).toStartWith("HTTP/1.1 200 OK\r\n");
  expect(asking.got).toEndWith("hello");
});

test("requests one after the other, and never two at once", async () => {
  let [now, most] = [0, 0];
  const answer = async (): Promise<Response> => {
    most = Math.max(most, ++now);
    await Bun.sleep(5);
    now--;
    return new Response("hello");
  };
  const path = await serve({ answer });
  const polite = await connect(path);
  for (let i = 1; i <= 3; i++) {
    polite.socket.write(GET);
    await eventually("an answer", () => polite.got.split("hello").length, { fits: (n) => n === i + 1 });
  }
  const greedy = await connect(path);
  greedy.socket.write(GET.repeat(1000));
  await closed(greedy);
  expect(most).toBe(1);
});

test("a body that is too large is refused, whether its length is told or not", async () => {
  const asked: string[] = [];
  const answer = async (request: Request): Promise<Response> => {
    asked.push(await request.text());
    return new Response("hello");
  };
  const path = await serve({ answer });
  const post = async (headers: string, body: string): Promise<string> => {
    const client = await connect(path);
    client.socket.write(`POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${headers}\r\n\r\n${body}`);
    await closed(client);
    return client.got.slice(0, 12);
  };
  const chunk = `1000\r\n${"x".repeat(4096)}\r\n0\r\n\r\n`;
  expect(await post("Content-Length: 101", "x".repeat(101))).toBe("HTTP/1.1 413");
  expect(await post("Transfer-Encoding: chunked", chunk)).toBe("HTTP/1.1 413");
  expect(await post("Content-Length: 100", "x".repeat(100))).toBe("HTTP/1.1 200");
  expect(asked).toEqual(["x".repeat(100)]);
});

test("who has said all gets the answer; who breaks off gets none; and events end with either", async () => {
  let ended = 0;
  const answer = (request: Request): Response => {
    if (request.method === "GET") return new Response("hello");
    request.signal.addEventListener("abort", () => ended++);
    const events = new ReadableStream({ start: (out) => out.enqueue(new TextEncoder().encode("{}\n")) });
    return new Response(events, { headers: { "content-type": EVENTS } });
  };
  const path = await serve({ answer });
  const whole = await connect(path);
  whole.socket.end(GET);
  await closed(whole);
  expect(whole.got).toEndWith("hello");
  const part = await connect(path);
  part.socket.end("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{");
  await closed(part);
  expect(part.got).toBe("");
  for (const end of ["end", "destroy"] as const) {
    const watcher = await connect(path);
    watcher.socket.write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    await eventually("an event", () => watcher.got.includes("{}\n") || undefined);
    watcher.socket[end]();
    await eventually("its end", () => ended, { fits: (n) => n === (end === "end" ? 1 : 2) });
  }
});

test("what is no HTTP is refused", async () => {
  const path = await serve({});
  for (const [text, status] of [
    ["garbage\r\n\r\n", 400],
    [`GET / HTTP/1.1\r\nHost: x\r\n${"a: b\r\n".repeat(20_000)}\r\n`, 431],
    ["GET http://[ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 400],
    ["TRACE / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 400],
  ] as const) {
    const client = await connect(path);
    client.socket.write(text);
    await closed(client);
    expect([text.slice(0, 20), client.got.slice(0, 12)]).toEqual([text.slice(0, 20), `HTTP/1.1 ${status}`]);
  }
  expect(await hello(path)).toBe("hello");
});

test("the user at the other end of a UNIX socket", async () => {
  const dir = mkdtempSync(join(tmpdir(), "walt-user-"));
  cleanup.push(() => rmSync(dir, { recursive: true }));
  const user = Promise.withResolvers<string | undefined>();
  const server = createServer((socket) => {
    user.resolve(userOf(socket));
    socket.destroy();
    expect(userOf(socket)).toBeUndefined();
  });
  cleanup.push(() => server.close());
  await new Promise<void>((resolve) => server.listen(join(dir, "x.sock"), resolve));
  createConnection(join(dir, "x.sock")).on("error", () => {});
  expect(await eventually("a connection", user.promise)).toBe(String(process.getuid?.()));
});
