/** `walt web` by HTTP: who gets in, what its answers forbid the browser, and what an answer to a request needs. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { LiveOverview } from "../../../src/commands/web/_overview.ts";
import { parsePort, servePage, type WebServer } from "../../../src/commands/web/_server.ts";
import type { NodePage, Overview } from "../../../src/web/messages.ts";
import { eventually } from "../../lab/eventually.ts";
import { FakeServer, HTML, REQUEST } from "./fake-server.ts";

let fake: FakeServer;
let page: WebServer;
const over = new AbortController();
let [origin, token, host] = ["", "", ""];
beforeAll(async () => {
  fake = new FakeServer();
  // Only what happens ends a wait: a page that hears of nothing would wait for longer than a test.
  const live = new LiveOverview(fake.api, "local", 600_000);
  const connected = Promise.withResolvers<void>();
  void live.watch(over.signal, connected.resolve);
  await eventually("it watches", connected.promise);
  page = await servePage(fake.api, live, 0);
  const url = new URL(page.address);
  [origin, token, host] = [url.origin, url.hash.slice(1), url.host];
});
afterAll(async () => {
  over.abort();
  await page.stop();
  await fake[Symbol.asyncDispose]();
});

const bearer = (): Record<string, string> => ({ authorization: `Bearer ${token}` });

const get = (path: string, headers: Record<string, string> = bearer()): Promise<Response> =>
  fetch(`${origin}${path}`, { headers });

const post = (path: string, body: object, headers: Record<string, string> = {}): Promise<Response> =>
  fetch(`${origin}${path}`, {
    method: "POST",
    body: JSON.stringify(body),
    headers: { ...bearer(), origin, ...headers },
  });

/** The status of a request with exactly these lines: fetch would set the host itself. */
async function raw(...lines: string[]): Promise<number> {
  const socket = connect(Number(host.split(":")[1]), "127.0.0.1");
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  socket.once("data", (bytes) => resolve(bytes.toString()));
  socket.once("error", reject);
  socket.write(`${lines.join("\r\n")}\r\n\r\n`);
  const answer = await eventually("the answer", promise);
  socket.destroy();
  return Number(/^HTTP\/1\.1 (\d+)/.exec(answer)?.[1]);
}

describe("who gets in", () => {
  test("the page's files need no token and have nothing secret; all else needs it", async () => {
    const html = await (await get("/", {})).text();
    expect(html).toStartWith("<!doctype html>");
    expect(html).not.toContain(token);
    for (const path of ["/api/overview?seen=0", "/api/node?node=lab-3", "/api/histories", "/api/no-such"]) {
      const said = [{}, { authorization: "Bearer x" }, { authorization: `Basic ${token}` }];
      const wrong = await Promise.all(said.map((headers) => get(path, headers as Record<string, string>)));
      expect(wrong.map(({ status }) => status)).toEqual([401, 401, 401]);
      expect(await wrong[0]?.json()).toEqual({
        error: expect.stringContaining("the token is missing or wrong"),
      });
    }
    expect((await get("/api/overview?seen=0")).status).toBe(200);
    expect((await get(`/api/overview?seen=0&token=${token}`, {})).status).toBe(401);
    expect((await get("/api/no-such")).status).toBe(404);
    expect((await get("/api/constructor")).status).toBe(404);
  });

  test("another name that leads to 127.0.0.1 is refused, also with the token", async () => {
    const authorization = `authorization: Bearer ${token}`;
    for (const path of ["/", "/api/overview?seen=0"]) {
      const line = `GET ${path} HTTP/1.1`;
      const of = (name: string): Promise<number> => raw(line, `host: ${name}`, authorization);
      expect(await of("evil.example")).toBe(421);
      expect(await of(`evil.example:${host.split(":")[1]}`)).toBe(421);
      expect(await of("127.0.0.1")).toBe(421);
      expect(await of(host)).toBe(200);
      expect(await of(host.replace("127.0.0.1", "localhost"))).toBe(200);
    }
  });

  test("another site's page is refused, also with the token", async () => {
    const answer = { id: "1", fingerprint: "SHA256:x", typed: "PG2", accept: true, name: "", note: "" };
    for (const other of [
      "http://evil.example",
      "null",
      "http://127.0.0.1:1",
      origin.replace("http", "https"),
    ])
      expect((await post("/api/answer", answer, { origin: other })).status).toBe(403);
    const noOrigin = await fetch(`${origin}/api/answer`, { method: "POST", body: "{}", headers: bearer() });
    expect(noOrigin.status).toBe(403);
    expect((await get("/api/overview?seen=0", { ...bearer(), "sec-fetch-site": "cross-site" })).status).toBe(
      403,
    );
    expect((await get("/api/overview?seen=0", { ...bearer(), "sec-fetch-site": "same-site" })).status).toBe(
      403,
    );
    expect(fake.told).toEqual([]);
  });

  test("a console's WebSocket needs token, host and origin", async () => {
    const socket = (more: readonly string[]): Promise<number> =>
      raw(
        "GET /api/console?node=lab-3&mode=watch HTTP/1.1",
        "connection: Upgrade",
        "upgrade: websocket",
        "sec-websocket-version: 13",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
        ...more,
      );
    const right = `sec-websocket-protocol: walt, ${token}`;
    expect(await socket([`host: ${host}`, `origin: ${origin}`])).toBe(401);
    expect(await socket([`host: ${host}`, `origin: ${origin}`, "sec-websocket-protocol: walt, x"])).toBe(401);
    expect(await socket([`host: ${host}`, "origin: http://evil.example", right])).toBe(403);
    expect(await socket([`host: ${host}`, right])).toBe(403);
    expect(await socket(["host: evil.example", `origin: ${origin}`, right])).toBe(421);
    expect(fake.told).toEqual([]);
    expect(await socket([`host: ${host}`, `origin: ${origin}`, right])).toBe(101);
  });

  test("every answer forbids scripts of others, inline scripts, frames and other hosts", async () => {
    for (const path of ["/", "/api/overview?seen=0", "/api/no-such"]) {
      const { headers } = await get(path);
      const policy = headers.get("content-security-policy")?.split("; ") ?? [];
      expect(policy).toContain("default-src 'none'");
      expect(policy).toContain("script-src 'self'");
      expect(policy).toContain("frame-ancestors 'none'");
      expect(policy).toContain("require-trusted-types-for 'script'");
      expect(policy.find((one) => one.startsWith("connect-src"))).not.toMatch(/\*|https?:/);
      expect(headers.get("x-content-type-options")).toBe("nosniff");
      expect(headers.get("referrer-policy")).toBe("no-referrer");
      expect(headers.get("cache-control")).toBe("no-store");
    }
    const html = await (await get("/", {})).text();
    expect(html).not.toMatch(/<script(?![^>]* src=)|<style|\son\w+=|https?:\/\//);
  });
});

test("an answer is given for what was typed of the code, and for nothing else", async () => {
  fake.ask();
  fake.ask({ ...REQUEST, id: "2", fingerprint: "SHA256:y", code: "PG2XX-00000" });
  const overview = async (): Promise<Overview> =>
    (await get("/api/overview?seen=0")).json() as Promise<Overview>;
  const { requests } = await eventually("both are shown", overview, {
    fits: (one) => one.requests.length === 2,
  });
  const [asked] = requests;
  expect(asked).toMatchObject({ id: "1", code: "PG2WB-J9NS3", model: HTML.slice(0, 40), state: "waiting" });
  const { id, fingerprint } = REQUEST;
  const answer = async (typed: string, more: object = {}): Promise<[number, string]> => {
    const body = { id, fingerprint, typed, accept: true, name: "lab-7", note: "shelf 2", ...more };
    const response = await post("/api/answer", body);
    const { error, text } = (await response.json()) as { error?: string; text?: string };
    return [response.status, error ?? text ?? ""];
  };
  expect(await answer("")).toEqual([400, '"" is not the beginning of a short code']);
  expect(await answer("PG")).toEqual([400, '"PG" is not the beginning of a short code']);
  expect((await answer("XXX"))[1]).toContain("does not begin with");
  expect((await answer("PG2XX"))[1]).toContain("does not begin with");
  expect((await answer("PG2"))[1]).toContain("fits several requests");
  expect((await answer("PG2WB", { fingerprint: "SHA256:y" }))[1]).toContain("nothing was done");
  expect((await answer("PG2WB", { name: "Lab 7" }))[1]).toContain("cannot be a node's name");
  expect(fake.told).toEqual([expect.objectContaining({ order: "console" })]);
  fake.told.length = 0;
  expect(await answer("pg2w")).toEqual([200, "PG2WB-J9NS3 is accepted as lab-7"]);
  expect(fake.told).toEqual([
    { id, fingerprint, accept: true, name: "lab-7", by: expect.any(String) },
    { node: "lab-7", note: "shelf 2", by: expect.any(String) },
  ]);
});

test("a page that waits hears of a request at once", async () => {
  const { version } = (await (await get("/api/overview?seen=0")).json()) as Overview;
  const next = get(`/api/overview?seen=${version}`);
  fake.ask({ ...REQUEST, id: "3" });
  const overview = (await (await next).json()) as Overview;
  expect(overview.version).toBeGreaterThan(version);
  expect(overview.requests.map(({ id }) => id)).toContain("3");
  expect(overview).toMatchObject({ problem: null, nodes: [{ name: "lab-3", isUp: true, state: "up" }] });
});

test("one node, its history, and orders for it", async () => {
  const node = (await (await get("/api/node?node=lab-3")).json()) as NodePage;
  expect(node).toMatchObject({ row: { name: "lab-3", note: HTML }, isOff: false });
  expect(node.usb).toEqual([{ port: "1-1.2", id: "0781:5567", name: HTML }]);
  expect(node.counters.map(([what]) => what)).toContain("round trip");
  expect(await (await get("/api/history?node=lab-3&span=month")).json()).toMatchObject({ node: "lab-3" });
  expect((await get("/api/history?node=lab-3&span=year")).status).toBe(400);
  fake.told.length = 0;
  expect((await post("/api/reboot", { node: "lab-3", what: "everything" })).status).toBe(400);
  const done = await post("/api/reboot", { node: "lab-3", what: "board" });
  expect(await done.json()).toEqual({ text: "lab-3: rebooted" });
  await post("/api/power", { node: "lab-3", on: false });
  expect(fake.told).toMatchObject([
    { order: "reboot", what: "board" },
    { order: "power", on: false },
  ]);
  expect((await post("/api/reboot", { node: "x".repeat(9000), what: "vm" })).status).toBe(413);
});

test("the command prints the address, and its end is the page's end", async () => {
  writeFileSync(join(fake.folder, "vpn.toml"), `role = "server"\n[server]\nsocket = "${fake.socket}"\n`);
  const main = new URL("../../../src/main.ts", import.meta.url).pathname;
  const child = Bun.spawn([process.execPath, main, "web"], {
    ...{ stdout: "pipe", stderr: "pipe" },
    env: { ...process.env, WALT_CONFIG: join(fake.folder, "vpn.toml") },
  });
  try {
    const reader = child.stdout.getReader();
    let text = "";
    while (!text.includes("\n")) text += new TextDecoder().decode((await reader.read()).value);
    const address = new URL(text.slice(0, text.indexOf("\n")));
    expect(address.hostname).toBe("127.0.0.1");
    expect((await fetch(address.origin)).status).toBe(200);
    child.kill("SIGTERM");
    expect(await eventually("its end", child.exited)).toBe(0);
    expect(fetch(address.origin)).rejects.toThrow();
  } finally {
    child.kill("SIGKILL");
  }
});

test("ports", () => {
  expect([parsePort(undefined), parsePort("8080")]).toEqual([0, 8080]);
  for (const wrong of ["0", "65536", "x", "-1", ""]) expect(() => parsePort(wrong)).toThrow("--port must be");
});
