/** What a command says when the daemon is not there, says no, talks nonsense, or is of another version. */

import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ApiError } from "../../src/api/api-error.ts";
import { ApiClient } from "../../src/api/client.ts";
import type { MonitorEvent } from "../../src/api/events.ts";
import { apiHandler, serveStream } from "../../src/api/handler.ts";
import { listenApi } from "../../src/api/listen.ts";
import { SERVER } from "../../src/api/routes.ts";
import { WaltError } from "../../src/errors.ts";
import { createLog } from "../../src/log.ts";
import { VERSION } from "../../src/version.ts";
import { NODE } from "./messages.ts";
import { answering, http, waltHeaders } from "./peer.ts";

const dir = mkdtempSync(join(tmpdir(), "walt-client-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

let count = 0;
let socket: string;
let client: ApiClient;
beforeEach(() => {
  socket = join(dir, `${count++}.sock`);
  client = new ApiClient({ socket, start: "walt x run" });
});

/** Message and hint; a thrown thing that is no WaltError is a failure of the test. */
async function failure(promise: Promise<unknown>): Promise<string> {
  try {
    return `no error, but ${JSON.stringify(await promise)}`;
  } catch (error) {
    if (!(error instanceof WaltError)) throw error;
    expect(error.exitCode).toBe(1);
    return `${error.message}\n${error.hint ?? ""}`;
  }
}

const ok = (body: string, headers?: string): string => http("200 OK", body, headers);
const nodes = (): Promise<unknown> => client.call(SERVER.nodes, {});
const call = (): Promise<string> => failure(nodes());
const said = (answer: string): Promise<string> => answering(socket, answer, call);

describe("a call", () => {
  test("gives the answer, parsed; what a newer version added is left out", async () => {
    const answer = ok(JSON.stringify([{ ...NODE, colour: "green" }]), waltHeaders("99.0.0"));
    expect(await answering(socket, answer, nodes)).toEqual([NODE]);
  });

  test("without a daemon", async () => {
    expect(await call()).toBe(`no daemon: ${socket} does not exist\nStart it with \`walt x run\`.`);
  });

  test("to a socket that nobody listens on", async () => {
    writeFileSync(socket, "");
    expect(await call()).toBe(
      `the daemon on ${socket} does not answer: no program listens there\nIs it running? Start it with \`walt x run\`.`,
    );
  });

  test("that is refused gives the daemon's words and hint, and a code", async () => {
    const body = '{"code":"unknown-node","error":"there is no node \\"x\\"","hint":"do this"}';
    expect(await said(http("400 Bad Request", body))).toBe('there is no node "x"\ndo this');
    const code = async (text: string): Promise<unknown> =>
      await nodes().then(
        () => "no error",
        (error: unknown) => (error instanceof ApiError ? error.code : text),
      );
    const thrown = (answer: string): Promise<unknown> =>
      answering(socket, answer, () => code("another error"));
    expect(await thrown(http("400 Bad Request", body))).toBe("unknown-node");
    // A code that only a newer server knows.
    expect(await thrown(http("409 X", '{"code":"new","error":"x"}', waltHeaders("9.9.9")))).toBe("failed");
  });

  test("words of the daemon are harmless on a terminal", async () => {
    const text = await said(http("400 X", '{"code":"failed","error":"a\\u001b[2J\\nb","hint":"\\u009bx"}'));
    expect(text).toBe("a?[2J\nb\n?x");
  });

  test("that is never answered is given up", async () => {
    client = new ApiClient({ socket, start: "walt x run", name: "the place" }, { answer: 50, silence: 50 });
    for (const begun of ["", `HTTP/1.1 200 OK\r\n${waltHeaders()}Content-Length: 1000\r\n\r\n[1`])
      expect(await answering(socket, begun, call, false)).toBe(
        "the place takes longer than 0.05 s to answer\nIts log may tell why.",
      );
  });
});

describe("another version", () => {
  const older = (body: string, status = "200 OK"): Promise<string> =>
    said(http(status, body, waltHeaders("0.0.7")));
  const versions = (what: string): string =>
    `the daemon on ${socket} is walt 0.0.7, this is walt ${VERSION}: ${what}\nInstall the same version on both.`;

  test("whose answers lack a field is named, with what does not fit", async () => {
    const { mtu: _, ...lacking } = NODE;
    expect(await older(JSON.stringify([NODE, lacking]))).toBe(
      versions("answer[1]: mtu must be a whole number from 0 to 65535, found nothing"),
    );
    expect(await older(JSON.stringify([{ ...NODE, state: "asleep" }]))).toBe(
      versions('answer[0]: state must be "up" or "down", found string "asleep"'),
    );
    expect(await older('{"nodes":[]}')).toBe(
      versions("answer: expected an array of at most 100000, found a table"),
    );
    expect(await older("<html>")).toBe(versions('answer: it is not JSON: string "<html>"'));
  });

  test("that speaks another API is named, whatever it answers", async () => {
    for (const [status, body] of [
      ["200 OK", "[]"],
      ["404 Not Found", '{"code":"unknown-request","error":"x"}'],
      ["500 X", "?"],
    ] as const) {
      expect(await said(http(status, body, waltHeaders("7.0.0", 2)))).toBe(
        `the daemon on ${socket} is walt 7.0.0, this is walt ${VERSION}: it speaks version 2 of the API, and this one version 1\nInstall the same version on both.`,
      );
    }
  });

  test("that does not understand the request is named, with its words", async () => {
    for (const code of ["unknown-request", "malformed"])
      expect(await older(JSON.stringify({ code, error: "no such request: GET /v1/nodes" }), "404 X")).toBe(
        versions("no such request: GET /v1/nodes"),
      );
  });

  test("is not blamed for a request that is wrong when it is the same", async () => {
    const body = '{"code":"malformed","error":"request: node is longer than 200 characters"}';
    expect(await said(http("400 X", body))).toBe("request: node is longer than 200 characters\n");
  });

  test("whose refusal has no code is named", async () => {
    expect(await older('{"error":"no"}', "400 X")).toBe(
      versions("answer: code must be a string, found nothing"),
    );
  });

  test("is not what the same version is called, when answer does not fit all the same", async () => {
    expect(await said(ok("[{}]"))).toBe(
      `the daemon on ${socket} is walt ${VERSION}, as this is: answer[0]: name must be a string, found nothing\nInstall the same build on both.`,
    );
  });

  test("sends events that this one does not know: they are left out", async () => {
    const lines = '{"type":"watching"}\n{"type":"weather","sun":true}\n{"type":"alive"}\n';
    expect(await answering(socket, ok(lines, waltHeaders("9.9.9")), () => collect())).toEqual([
      { type: "watching" },
      { type: "alive" },
    ]);
  });
});

describe("what is no daemon of walt", () => {
  test("is told so in one line, harmless on a terminal, with the beginning of answer", async () => {
    const html = "<!DOCTYPE html>\n<title>It works</title>\u001b[2J".repeat(1000);
    for (const [status, headers] of [
      ["200 OK", "Server: x\r\n"],
      ["404 Not Found", ""],
      ["502 Bad Gateway", waltHeaders("", 1)],
      ["200 OK", waltHeaders("1 <2>", 1)],
      ["200 OK", waltHeaders("1.0.0", "one")],
    ] as const) {
      const text = await said(http(status, html, headers));
      expect(text).toMatch(
        /^the daemon on \S+ is no daemon of walt: it answered with status \d{3}: <!DOCTYPE html>\?.{1,80}\nDoes another program listen there\? The daemon is started with `walt x run`\.$/,
      );
      expect(text).not.toMatch(/[^\P{C}\n]/u);
    }
    expect(await said(http("200 OK", "", ""))).toContain("it answered with status 200: nothing\n");
  });

  test("and speaks no HTTP, or breaks off", async () => {
    for (const answer of [
      "",
      "SSH-2.0-OpenSSH_9.2\r\n",
      "\0\0\0",
      `HTTP/1.1 200 OK\r\n${waltHeaders()}Content-Length: 1000\r\n\r\n[1`,
    ]) {
      const text = await said(answer);
      expect(text).toMatch(
        /^the daemon on \S+ does not answer: .+\nIs it running\? Start it with `walt x run`\.$/,
      );
      expect(text).not.toMatch(/verbose|typo/);
    }
  });

  test("and never ends answer is not listened to for ever", async () => {
    const endless = `HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n${"x".repeat(100_000)}`;
    expect(await answering(socket, endless, call, false)).toContain("is no daemon of walt: ");
  });

  test("is called as the user knows it", async () => {
    client = new ApiClient({ socket, start: "walt x run", name: "the server at ssh://lab" });
    expect(await said("")).toStartWith("the server at ssh://lab does not answer: ");
    expect(await said(http("200 OK", "x", ""))).toStartWith("the server at ssh://lab is no daemon of walt: ");
    expect(await said(ok("x", waltHeaders("0.0.7")))).toStartWith("the server at ssh://lab is walt 0.0.7, ");
  });
});

async function collect(): Promise<MonitorEvent[]> {
  const all: MonitorEvent[] = [];
  for await (const event of client.stream(SERVER.monitor, { name: "me" }, new AbortController().signal))
    all.push(event);
  return all;
}

describe("a stream", () => {
  const stream = (): Promise<string> => failure(collect());
  const head = `HTTP/1.1 200 OK\r\n${waltHeaders()}`;

  test("gives event by event, however they are cut", async () => {
    const chunk = (text: string): string => `${text.length.toString(16)}\r\n${text}\r\n`;
    const pieces = ['{"type":"alive"}\n{"type"', ':"watching"}\n', "\n"].map(chunk).join("");
    expect(
      await answering(socket, `${head}Transfer-Encoding: chunked\r\n\r\n${pieces}0\r\n\r\n`, collect),
    ).toEqual([{ type: "alive" }, { type: "watching" }]);
  });

  test("that is no JSON, or one endless line, is an error", async () => {
    expect(await answering(socket, ok("\u001b[2J\n"), stream)).toContain("event: it is not JSON: string ");
    const endless = `${head}Content-Length: 9999999\r\n\r\n${"x".repeat(100_000)}`;
    expect(await answering(socket, endless, stream, false)).toContain(
      "event: it is longer than 65536 characters",
    );
  });

  test("that breaks off is an error; one that we end is not ours to explain", async () => {
    expect(await answering(socket, `${head}Content-Length: 1000\r\n\r\n`, stream)).toMatch(
      /^the daemon on \S+ does not answer: /,
    );
    const stop = new AbortController();
    const answer = `${head}Content-Length: 1000\r\n\r\n{"type":"alive"}\n`;
    const read = async (): Promise<undefined> => {
      for await (const _ of client.stream(SERVER.monitor, { name: "me" }, stop.signal)) stop.abort("enough");
    };
    expect(
      await answering(socket, answer, () => read().catch((error: unknown) => error), false),
    ).not.toBeInstanceOf(WaltError);
  });

  test("that goes on for longer than a silence may last is not given up", async () => {
    client = new ApiClient({ socket, start: "walt x run" }, { answer: 1000, silence: 500 });
    const api = await listenApi(
      socket,
      undefined,
      apiHandler(
        [
          serveStream(SERVER.monitor, (_, tell) => {
            const timer = setInterval(() => tell({ type: "alive" }), 10);
            return () => clearInterval(timer);
          }),
        ],
        createLog(),
      ),
    );
    const start = performance.now();
    const stop = new AbortController();
    for await (const event of client.stream(SERVER.monitor, { name: "me" }, stop.signal)) {
      expect(event).toEqual({ type: "alive" });
      if (performance.now() - start > 700) break;
    }
    await api.stop();
  });

  test("that falls silent, or never begins, is given up; who keeps the way hears of it", async () => {
    let silences = 0;
    const silent = (): void => void silences++;
    const peer = { socket, start: "walt x run", name: "the place", silent };
    client = new ApiClient(peer, { answer: 50, silence: 50 });
    for (const begun of ["", `${head}Content-Length: 1000\r\n\r\n{"type":"alive"}\n`])
      expect(await answering(socket, begun, stream, false)).toStartWith(
        "the place takes longer than 0.05 s to answer\n",
      );
    expect(silences).toBe(2);
  });
});
