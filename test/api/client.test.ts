/** What a command says when the daemon is not there, says no, or talks nonsense. */

import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ApiClient } from "../../src/api/client.ts";
import { WaltError } from "../../src/errors.ts";

const dir = mkdtempSync(join(tmpdir(), "walt-client-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

let count = 0;
let socket: string;
let client: ApiClient;
beforeEach(() => {
  socket = join(dir, `${count++}.sock`);
  client = new ApiClient(socket, "walt x run");
});

/** Message and hint; a thrown thing that is no WaltError is a failure of the test. */
async function failure(promise: Promise<unknown>): Promise<string> {
  try {
    return `no error, but ${JSON.stringify(await promise)}`;
  } catch (error) {
    if (!(error instanceof WaltError)) throw error;
    return `${error.message}\n${error.hint ?? ""}`;
  }
}

async function collect(events: AsyncIterable<unknown>): Promise<unknown[]> {
  const all: unknown[] = [];
  for await (const event of events) all.push(event);
  return all;
}

/** A server that answers each connection's first bytes with `answer`, and then ends it unless told. */
async function answering<T>(answer: string, use: () => Promise<T>, end = true): Promise<T> {
  const sockets = new Set<Socket>();
  const server: Server = createServer((connection) => {
    sockets.add(connection);
    connection.on("error", () => {});
    connection.once("data", () => {
      connection.write(answer);
      if (end) connection.end();
    });
  });
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  try {
    return await use();
  } finally {
    for (const one of sockets) one.destroy();
    server.close();
  }
}

const http = (status: string, body: string): string =>
  `HTTP/1.1 ${status}\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`;
const ok = (body: string): string => http("200 OK", body);
const call = (): Promise<string> => failure(client.call("GET", "/v1/nodes"));

describe("a call", () => {
  test("gives the answer's JSON", async () => {
    expect(await answering(ok('[{"a":1}]'), () => client.call("GET", "/v1/nodes"))).toEqual([{ a: 1 }]);
  });

  test("without a daemon", async () => {
    expect(await call()).toBe(`no daemon: ${socket} does not exist\nStart it with \`walt x run\`.`);
  });

  test("to a socket that nobody listens on", async () => {
    writeFileSync(socket, "");
    expect(await call()).toMatch(
      /^the daemon does not answer on .*: .+\nIs it running\? Start it with `walt x run`\.$/,
    );
  });

  test("that is refused gives the daemon's words and hint", async () => {
    const body = '{"error":"there is no node \\"x\\"","hint":"do this"}';
    expect(await answering(http("400 Bad Request", body), call)).toBe('there is no node "x"\ndo this');
    expect(await answering(http("500 X", "{}"), call)).toBe("status 500\n");
  });

  test("answered with anything else is an error, harmless on a terminal and not longer than a line", async () => {
    const gibberish = "\u001b[2J<html>\r\n".repeat(1000);
    for (const answer of [ok(gibberish), http("400 Bad Request", gibberish), ok(""), ok('{"a":')]) {
      const said = await answering(answer, call);
      expect(said.split("\n")[0]).toMatch(/answered /);
      expect(said).not.toMatch(/[^\P{C}\n]/u);
      expect(said.length).toBeLessThan(400);
    }
  });

  test("to what is no HTTP, or breaks off", async () => {
    for (const answer of [
      "SSH-2.0-OpenSSH_9.2\r\n",
      "\0\0\0",
      "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n[1",
    ])
      expect(await answering(answer, call)).toMatch(/^the daemon does not answer on .*: .+\nIs it running\?/);
  });

  test("is explained by the place that the user knows, without advice to programmers", async () => {
    client = new ApiClient(socket, "walt x run", "/run/x of lab");
    expect(await answering("", call)).toMatch(
      /^the daemon does not answer on \/run\/x of lab: ((?!verbose).)+\n/,
    );
    expect(await answering(ok("x"), call)).toStartWith(
      "/run/x of lab answered what walt does not understand: x\n",
    );
  });

  test("that is never answered is given up", async () => {
    client = new ApiClient(socket, "walt x run", "the place", 50);
    for (const begun of ["", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n[1"])
      expect(await answering(begun, call, false)).toBe(
        `the daemon on the place takes longer than 0.05 s to answer\nIts log may tell why.`,
      );
  });
});

describe("a stream", () => {
  const stream = (): Promise<string> =>
    failure(collect(client.stream("/v1/monitor", new AbortController().signal)));

  test("gives line by line, however they are cut", async () => {
    const chunk = (text: string): string => `${text.length.toString(16)}\r\n${text}\r\n`;
    const answer = `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${['{"a":1}\n{"b"', ":2}\n", "\n"].map(chunk).join("")}0\r\n\r\n`;
    expect(await answering(answer, () => collect(client.stream("/x", new AbortController().signal)))).toEqual(
      [{ a: 1 }, { b: 2 }],
    );
  });

  test("that is no JSON, or one endless line, is an error", async () => {
    expect(await answering(ok("\u001b[2J\n"), stream)).toContain("what walt does not understand: ?[2J");
    const endless = `HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n${"x".repeat(100_000)}`;
    expect(await answering(endless, stream, false)).toContain("what walt does not understand: xxx");
  });

  test("that breaks off is an error; one that we end is not ours to explain", async () => {
    expect(await answering("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", stream)).toMatch(
      /^the daemon does not answer on /,
    );
    const stop = new AbortController();
    const answer = 'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"a":1}\n';
    const read = async (): Promise<undefined> => {
      for await (const _ of client.stream("/x", stop.signal)) stop.abort("enough");
    };
    expect(await answering(answer, () => read().catch((error: unknown) => error), false)).not.toBeInstanceOf(
      WaltError,
    );
  });
});
