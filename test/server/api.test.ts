/** The server's API over a real socket: what it answers, and to what it says no. */

import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { createConnection } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ApiError } from "../../src/api/api-error.ts";
import { ApiClient } from "../../src/api/client.ts";
import type { MonitorEvent } from "../../src/api/events.ts";
import { apiHandler, serve } from "../../src/api/handler.ts";
import { type ApiServer, listenApi } from "../../src/api/listen.ts";
import type {
  DeviceInfo,
  InvitationInfo,
  NodeDetails,
  NodeInfo,
  RotationInfo,
  TrustInfo,
} from "../../src/api/messages.ts";
import { SERVER } from "../../src/api/routes.ts";
import { formatLine, type Log } from "../../src/log.ts";
import { AccessRequests } from "../../src/server/access-requests.ts";
import { serverHandler } from "../../src/server/api.ts";
import { Orders } from "../../src/server/orders.ts";
import { generateKey } from "../../src/ssh/keys/ed25519.ts";
import { VERSION } from "../../src/version.ts";
import { HISTORY, TRUST } from "../api/messages.ts";
import { eventually } from "../lab/eventually.ts";

const dir = mkdtempSync(join(tmpdir(), "walt-server-api-"));
const socket = join(dir, "server.sock");
const logged: string[] = [];
const note = (message: string, fields?: Parameters<Log["info"]>[1]): void => {
  logged.push(formatLine("", message, fields));
};
const log: Log = { debug: note, info: note, warn: note, error: note, with: () => log };
const revoked: [string, string][] = [];
const orders: unknown[] = [];
const invitation: InvitationInfo = {
  ...{ id: 4, kind: "token", state: "valid", mac: null, serialNumber: null, note: "n", uses: 1, used: 0 },
  ...{ expiresAt: "2026-03-02T12:00:00.000Z", addedAt: "2026-03-01T12:00:00.000Z", addedBy: "al" },
};
const devices = {
  invitations: () => [invitation],
  addToken: (order: unknown) => {
    orders.push(order);
    return { ...invitation, token: "walt_AAAAAAAAAAAAAAAAAAAAAA" };
  },
  expect: (order: unknown) => {
    orders.push(order);
    return { ...invitation, kind: "board" as const };
  },
  withdraw: (...order: unknown[]) => void orders.push(order),
  rename: (...order: unknown[]) => void orders.push(order),
  setNote: (...order: unknown[]) => void orders.push(order),
  restore: (...order: unknown[]) => void orders.push(["restore", ...order]),
  remove: (...order: unknown[]) => void orders.push(["remove", ...order]),
};
const event = {
  ...{ id: 7, at: "2026-03-01T12:00:00.000Z", kind: "tunnel-up", node: "vpn-1", by: null },
  details: { via: "gate" },
};
const followers = new Set<(one: typeof event) => void>();
const journal = {
  events: (wanted: unknown) => {
    orders.push(wanted);
    return [event];
  },
  follow: (after: number, tell: (one: typeof event) => void) => {
    orders.push(after);
    followers.add(tell);
    return () => void followers.delete(tell);
  },
};
const rotated: RotationInfo = { key: "ca", fingerprint: "SHA256:x", next: null, waiting: [] };
const rotation = {
  list: () => [rotated],
  begin: (...order: unknown[]) => {
    orders.push(order);
    return { ...rotated, next: "SHA256:y", waiting: ["vpn-1"] };
  },
  finish: (...order: unknown[]) => {
    orders.push(order);
    return rotated;
  },
};
let requests: AccessRequests;
let api: ApiServer;

beforeAll(async () => {
  api = await listenApi(socket, undefined, (request) =>
    serverHandler({
      journal,
      node: (name) => Promise.resolve({ name } as NodeDetails),
      requests,
      nodes: () => Promise.resolve([{ name: "vpn-1" } as NodeInfo]),
      history: (node, span) => {
        orders.push([node, span]);
        return HISTORY;
      },
      histories: () => [HISTORY],
      ping: async (node, rounds) => {
        orders.push([node, rounds]);
        return [];
      },
      registered: () => [{ node: "vpn-1" } as DeviceInfo],
      devices,
      rotation,
      troubles: () => [],
      setBoard: () => {},
      trust: () => ({ caFile: "x" }) as TrustInfo,
      revoke: (node, by, reenrol) => {
        orders.push(["revoke", reenrol]);
        if (node !== "vpn-1")
          throw new ApiError("unknown-node", `there is no node ${JSON.stringify(node)}`, "look");
        revoked.push([node, by]);
        return "2026-03-08T12:00:00.000Z";
      },
      orders: new Orders(
        () => Promise.reject(new Error("not part of this test")),
        () => {},
      ),
      log,
    })(request, "al"),
  );
});
afterAll(async () => {
  await api.stop();
  rmSync(dir, { recursive: true, force: true });
});
beforeEach(() => {
  requests = new AccessRequests({
    answerTimeout: 60_000,
    now: Date.now,
    after: () => () => {},
    blocked: () => {},
    lifted: () => {},
    overloaded: () => {},
    record: () => {},
    remember: true,
    accept: () => ({ node: "vpn-1", mac: "52:54:00:01:02:03", certificate: "", renewAfter: 1 }),
  });
});

async function ask(method: string, path: string, body?: string): Promise<[status: number, answer: unknown]> {
  const response = await fetch(`http://walt${path}`, {
    unix: socket,
    method,
    ...(body === undefined ? {} : { body }),
  });
  return [response.status, await response.json().catch(() => undefined)];
}

const request = () => ({
  mac: "b8:27:eb:01:02:03",
  model: "Pi",
  serialNumber: "7",
  publicKey: generateKey("x").publicKey,
});

describe("requests", () => {
  test("nodes, devices and trust", async () => {
    expect(await ask("GET", "/v1/nodes")).toEqual([200, [{ name: "vpn-1" }]]);
    expect(await ask("GET", "/v1/devices")).toEqual([200, [{ node: "vpn-1" }]]);
    expect(await ask("GET", "/v1/trust")).toEqual([200, { caFile: "x" }]);
  });

  test("histories: of one node over an hour or a month, and of all", async () => {
    expect(await ask("GET", "/v1/nodes/vpn-1/history")).toEqual([200, HISTORY]);
    expect(await ask("GET", "/v1/nodes/vpn-1/history?span=month")).toEqual([200, HISTORY]);
    expect(await ask("GET", "/v1/history")).toEqual([200, [HISTORY]]);
    expect(orders.splice(0)).toEqual([
      ["vpn-1", "hour"],
      ["vpn-1", "month"],
    ]);
    expect((await ask("GET", "/v1/nodes/vpn-1/history?span=year"))[0]).toBe(400);
  });

  test("tokens and expected boards", async () => {
    expect(await ask("GET", "/v1/invitations")).toEqual([200, [invitation]]);
    const token = '{"uses":3,"expires":5000,"note":"n","by":"al"}';
    expect(await ask("POST", "/v1/tokens", token)).toMatchObject([200, { id: 4, token: expect.any(String) }]);
    const board = '{"serialNumber":"  7 ","expires":5000,"note":"","by":"al"}';
    expect(await ask("POST", "/v1/expected", board)).toMatchObject([200, { kind: "board" }]);
    expect(await ask("POST", "/v1/invitations/4/withdraw", '{"kind":"token","by":"al"}')).toEqual([200, {}]);
    expect(orders.splice(0)).toEqual([
      { uses: 3, expires: 5000, note: "n", by: "al" },
      { mac: undefined, serialNumber: "7", expires: 5000, note: "", by: "al" },
      ["token", 4, "al"],
    ]);
    for (const [path, body] of [
      ["/v1/tokens", '{"uses":0,"expires":5000,"note":"n","by":"al"}'],
      ["/v1/tokens", '{"uses":1,"expires":1e18,"note":"n","by":"al"}'],
      ["/v1/expected", '{"expires":5000,"note":"","by":"al"}'],
      ["/v1/expected", '{"serialNumber":" ","expires":5000,"note":"","by":"al"}'],
      ["/v1/invitations/x/withdraw", '{"kind":"token","by":"al"}'],
    ] as const)
      expect([path, (await ask("POST", path, body))[0]]).toEqual([path, 400]);
    expect(orders).toEqual([]);
  });

  test("a node, its name and its note", async () => {
    expect(await ask("GET", "/v1/nodes/vpn-1")).toEqual([200, { name: "vpn-1" }]);
    expect(await ask("POST", "/v1/nodes/vpn-1/rename", '{"name":"lab-3","by":"al"}')).toEqual([200, {}]);
    expect(await ask("POST", "/v1/nodes/vpn-1/note", '{"note":"x","by":"eve"}')).toEqual([200, {}]);
    expect(orders.splice(0)).toEqual([
      ["vpn-1", "lab-3", "al"],
      ["vpn-1", "x", "al (eve)"],
    ]);
    for (const body of ['{"name":"Lab","by":"al"}', '{"name":"all","by":"al"}', '{"by":"al"}'])
      expect((await ask("POST", "/v1/nodes/vpn-1/rename", body))[1]).toMatchObject({ code: "malformed" });
    expect(orders).toEqual([]);
  });

  test("every order is the user's, and what the command claims stands behind him", async () => {
    const by = "eve@laptop";
    for (const [path, order] of [
      ["/v1/nodes/vpn-1/rename", { name: "lab-3" }],
      ["/v1/nodes/vpn-1/note", { note: "" }],
      ["/v1/tokens", { uses: 1, expires: 5000, note: "" }],
      ["/v1/expected", { serialNumber: "7", expires: 5000, note: "" }],
      ["/v1/invitations/4/withdraw", { kind: "token" }],
      ["/v1/keys/ca/rotate", {}],
      ["/v1/keys/ca/finish", { force: true }],
      ["/v1/devices/vpn-1/revoke", {}],
    ] as const) {
      expect([path, (await ask("POST", path, JSON.stringify({ ...order, by })))[0]]).toEqual([path, 200]);
      const given = JSON.stringify([...orders.splice(0), ...revoked.splice(0)]);
      expect([path, given]).toEqual([path, expect.stringContaining('"al (eve@laptop)"')]);
      expect(given).not.toContain(`"${by}"`);
    }
  });

  test("a ping: its rounds are a number in its bounds", async () => {
    orders.length = 0;
    const ping = (rounds: unknown) => ask("POST", "/v1/nodes/lab-3/ping", JSON.stringify({ rounds }));
    expect(await ping(8)).toEqual([200, []]);
    expect(orders.splice(0)).toEqual([["lab-3", 8]]);
    for (const rounds of [0, 51, "8", -1, 1.5]) expect((await ping(rounds))[0]).toBe(400);
  });

  test("the journal, as much of it as is asked for", async () => {
    expect(await ask("GET", "/v1/events?last=5&node=lab-3")).toEqual([200, [event]]);
    const since = "2026-03-01T12:00:00.000Z";
    expect((await ask("GET", `/v1/events?after=7&since=${since}`))[0]).toBe(200);
    expect(orders.splice(0)).toEqual([
      { last: 5, node: "lab-3" },
      { after: 7, since },
    ]);
    for (const query of ["last=x", "after=-1", "since=yesterday"])
      expect([query, (await ask("GET", `/v1/events?${query}`))[0]]).toEqual([query, 400]);
  });

  test("who follows the journal is told what comes, and is forgotten when he goes", async () => {
    const stop = new AbortController();
    const client = new ApiClient({ socket, start: "walt server run" });
    const told = client.stream(SERVER.follow, { after: 6 }, stop.signal);
    const first = told.next();
    await eventually("it is followed", () => followers.size === 1);
    for (const tell of followers) tell(event);
    expect((await first).value).toEqual({ type: "event", event });
    expect(orders.splice(0)).toEqual([6]);
    stop.abort();
    await told.next().catch(() => {});
    await eventually("it is followed no more", () => followers.size === 0);
  });

  test("rotation of keys", async () => {
    expect(await ask("GET", "/v1/keys")).toEqual([200, [rotated]]);
    expect(await ask("POST", "/v1/keys/ca/rotate", '{"by":"al"}')).toMatchObject([
      200,
      { waiting: ["vpn-1"] },
    ]);
    expect(await ask("POST", "/v1/keys/host/finish", '{"by":"al","force":true}')).toMatchObject([
      200,
      rotated,
    ]);
    expect(orders.splice(0)).toEqual([
      ["ca", "al"],
      ["host", true, "al"],
    ]);
    expect((await ask("POST", "/v1/keys/root/rotate", '{"by":"al"}'))[0]).toBe(400);
    expect((await ask("POST", "/v1/keys/ca/finish", '{"by":"al"}'))[0]).toBe(400);
  });

  test("others do not exist", async () => {
    for (const [method, path] of [
      ["GET", "/"],
      ["GET", "/v2/nodes"],
      ["POST", "/v1/nodes"],
      ["DELETE", "/v1/devices/vpn-1"],
      ["GET", "/v1/devices/vpn-1/revoke"],
      ["POST", "/v1/devices/vpn-1/revoke/x"],
      ["POST", "/v1/devices/vpn-1"],
    ] as const) {
      expect([path, (await ask(method, path, method === "POST" ? '{"by":"x"}' : undefined))[0]]).toEqual([
        path,
        404,
      ]);
    }
    expect(revoked).toEqual([]);
  });

  test("revoke may tell the board to forget its key; restore and remove name the device by its key", async () => {
    orders.splice(0);
    await ask("POST", "/v1/devices/vpn-1/revoke", '{"by":"al"}');
    await ask("POST", "/v1/devices/vpn-1/revoke", '{"by":"al","reenrol":true}');
    for (const word of ["restore", "remove"]) {
      const path = `/v1/devices/vpn-1/${word}`;
      expect(await ask("POST", path, '{"by":"al","fingerprint":"SHA256:x"}')).toEqual([200, {}]);
      expect((await ask("POST", path, '{"by":"al"}'))[0]).toBe(400);
    }
    expect(orders.splice(0)).toEqual([
      ["revoke", false],
      ["revoke", true],
      ["restore", "vpn-1", "SHA256:x", "al"],
      ["remove", "vpn-1", "SHA256:x", "al"],
    ]);
    revoked.splice(0);
  });

  test("revoke names the node, who did it, and beside him what the command claims, made harmless", async () => {
    expect(await ask("POST", "/v1/devices/vpn-1/revoke", '{"by":"al\\u001b[2Jice"}')).toEqual([
      200,
      { passesUntil: "2026-03-08T12:00:00.000Z" },
    ]);
    expect(revoked.splice(0)).toEqual([["vpn-1", "al (al??2Jice)"]]);
    expect(await ask("POST", "/v1/devices/vpn-9/revoke", '{"by":"x"}')).toEqual([
      400,
      { code: "unknown-node", error: 'there is no node "vpn-9"', hint: "look" },
    ]);
    expect(await ask("POST", "/v1/devices/%2F%22/revoke", '{"by":"x"}')).toEqual([
      400,
      { code: "unknown-node", error: 'there is no node "/\\""', hint: "look" },
    ]);
  });

  test("a body that is not what it should be is told so", async () => {
    for (const body of [
      "",
      "{",
      "[]",
      "null",
      "{}",
      '{"by":7}',
      `{"by":"${"x".repeat(101)}"}`,
      `{"by":"${"x".repeat(9000)}"}`,
    ]) {
      const [status, answer] = await ask("POST", "/v1/devices/vpn-1/revoke", body);
      expect([body.slice(0, 20), status]).toEqual([body.slice(0, 20), 400]);
      expect(answer).toHaveProperty("error", expect.stringMatching(/^request: /));
    }
    expect(
      (await ask("POST", "/v1/requests/1", '{"by":"x","accept":"yes","fingerprint":"x"}'))[1],
    ).toHaveProperty("error", 'request: accept must be true or false, found string "yes"');
    expect(revoked).toEqual([]);
  });

  test("a path that is no URL's is told so, and is no bug of ours", async () => {
    const [status, answer] = await ask("POST", "/v1/devices/%/revoke", '{"by":"x"}');
    expect([status, JSON.stringify(answer)]).toEqual([400, expect.not.stringContaining("internal")]);
  });

  test("for a host that is none, or that breaks off, is no bug of ours", async () => {
    logged.length = 0;
    const raw = (text: string): Promise<string> =>
      new Promise((resolve) => {
        let answer = "";
        const connection = createConnection(socket, () => connection.end(text));
        connection.on("data", (bytes) => (answer += String(bytes)));
        connection.on("close", () => resolve(answer));
      });
    const close = "\r\nConnection: close\r\n";
    expect(await raw(`GET /v1/nodes HTTP/1.1\r\nHost: a%zz[${close}\r\n`)).toContain('[{"name":"vpn-1"}]');
    await raw(`POST /v1/devices/vpn-1/revoke HTTP/1.1\r\nHost: x${close}Content-Length: 100\r\n\r\n{`);
    expect(await ask("GET", "/v1/nodes")).toEqual([200, [{ name: "vpn-1" }]]);
    expect(logged).toEqual([]);
  });

  test("every answer says the version and the number of the API, an error too", async () => {
    for (const path of ["/v1/nodes", "/v9/nodes", "/v1/monitor"]) {
      const stop = new AbortController();
      const { headers } = await fetch(`http://walt${path}`, { unix: socket, signal: stop.signal });
      expect([path, headers.get("walt-version"), headers.get("walt-api")]).toEqual([path, VERSION, "1"]);
      stop.abort();
    }
  });

  test("a bug is answered as one, logged, and the next request is served", async () => {
    const handle = apiHandler(
      [
        serve(SERVER.nodes, () => {
          throw new Error("oops");
        }),
        serve(SERVER.trust, () => TRUST),
      ],
      log,
    );
    const response = await handle(new Request("http://walt/v1/nodes"), "root");
    expect([response.status, await response.json()]).toEqual([
      500,
      { code: "internal", error: "internal error: oops" },
    ]);
    expect(logged).toContain("a request failed event=api-failed request=/v1/nodes reason=oops");
    expect((await handle(new Request("http://walt/v1/trust"), "root")).status).toBe(200);
  });

  test("a megabyte of body or path is refused without being kept", async () => {
    const body = `{"by":"${"x".repeat(1 << 20)}"}`;
    expect((await ask("POST", "/v1/devices/vpn-1/revoke", body))[0]).toBe(413);
    const status = await ask("GET", `/v1/${"x".repeat(1 << 20)}`).then(
      ([s]) => s,
      () => 0,
    );
    expect([0, 404, 414, 431]).toContain(status);
    expect((await ask("GET", "/v1/nodes"))[0]).toBe(200);
  });
});

describe("monitors", () => {
  /** A monitor that reads its events one by one. */
  async function watch(name = "alice"): Promise<{ next(): Promise<MonitorEvent>; leave(): void }> {
    const stop = new AbortController();
    const response = await fetch(`http://walt/v1/monitor?name=${encodeURIComponent(name)}`, {
      unix: socket,
      signal: stop.signal,
    });
    const reader = (response.body as ReadableStream<Uint8Array>).getReader();
    let text = "";
    const next = async (): Promise<MonitorEvent> => {
      while (!text.includes("\n")) {
        const { value, done } = await reader.read();
        if (done) throw new Error("the stream ended");
        text += new TextDecoder().decode(value);
      }
      const line = text.slice(0, text.indexOf("\n"));
      text = text.slice(line.length + 1);
      return JSON.parse(line) as MonitorEvent;
    };
    expect(await next()).toEqual({ type: "watching" });
    return { next, leave: () => stop.abort() };
  }

  test("is told of a request, and its answer decides", async () => {
    const monitor = await watch();
    const ticket = requests.ask(request(), "192.0.2.1");
    expect(await monitor.next()).toMatchObject({
      type: "request",
      request: { id: ticket.id, address: "192.0.2.1" },
    });
    const path = `/v1/requests/${ticket.id}`;
    const { fingerprint } = requests.pending[0] ?? { fingerprint: "" };
    expect(await ask("POST", path, JSON.stringify({ by: "alice", accept: true, fingerprint }))).toEqual([
      200,
      { node: "vpn-1" },
    ]);
    expect(await ticket.decision).toHaveProperty("granted");
    expect(await monitor.next()).toMatchObject({
      type: "answered",
      outcome: "accepted",
      by: "al (alice)",
      node: "vpn-1",
    });
    const again = await ask("POST", path, JSON.stringify({ by: "bob", accept: false, fingerprint }));
    expect(again[0]).toBe(400);
    expect(again[1]).toMatchObject({
      code: "not-waiting",
      error: `request ${ticket.id} does not wait for an answer any more`,
    });
    monitor.leave();
  });

  test("must say which key its answer is for: another one, or none, decides nothing", async () => {
    const monitor = await watch();
    const ticket = requests.ask(request(), "192.0.2.1");
    const path = `/v1/requests/${ticket.id}`;
    expect(await ask("POST", path, '{"by":"alice","accept":true}')).toEqual([
      400,
      {
        code: "malformed",
        error: "the answer does not say which key it is for; nothing was done",
        hint: "Give the request's fingerprint with it. A `walt` that does not is older than this server.",
      },
    ]);
    const other = `SHA256:${"A".repeat(43)}`;
    const [status, answer] = await ask("POST", path, `{"by":"alice","accept":true,"fingerprint":"${other}"}`);
    expect([status, answer]).toEqual([
      400,
      expect.objectContaining({
        error: `request ${ticket.id} is of another key than the one that was answered; nothing was done`,
      }),
    ]);
    expect(requests.pending).toHaveLength(1);
    monitor.leave();
    await ticket.decision;
  });

  test("that does not read its events is left, and does not fill the memory", async () => {
    const connection = createConnection(socket);
    connection.write("GET /v1/monitor?name=sleeper HTTP/1.1\r\nHost: walt\r\n\r\n");
    await new Promise((resolve) => connection.once("data", resolve));
    connection.pause();
    const monitor = await watch();
    const event: MonitorEvent = { type: "node", node: "vpn-1", state: "up", via: "x".repeat(10_000) };
    for (let i = 0; i < 400 && requests.monitors > 1; i++) {
      requests.tell(event);
      await monitor.next();
    }
    expect(logged).toContain('a monitor left event=monitor-left monitor="al (sleeper)" monitors=1');
    // The other one goes on.
    requests.tell({ type: "alive" });
    while ((await monitor.next()).type !== "alive");
    connection.destroy();
    monitor.leave();
  });

  test("that leaves, stops counting: what waited is denied", async () => {
    const monitor = await watch("eve\u001b[2J");
    expect(logged).toContain('a monitor watches event=monitor-began monitor="al (eve??2J)" monitors=1');
    const ticket = requests.ask(request(), "192.0.2.1");
    monitor.leave();
    expect(await ticket.decision).toEqual({ denied: "nobody-watching" });
    expect(requests.monitors).toBe(0);
    expect(logged).toContain('a monitor left event=monitor-left monitor="al (eve??2J)" monitors=0');
  });

  test("that breaks off in the middle of anything, stops counting too", async () => {
    const connection = createConnection(socket);
    connection.write("GET /v1/monitor HTTP/1.1\r\nHost: walt\r\n\r\n");
    await new Promise((resolve) => connection.once("data", resolve));
    expect(requests.monitors).toBe(1);
    const ticket = requests.ask(request(), "192.0.2.1");
    connection.destroy();
    expect(await ticket.decision).toEqual({ denied: "nobody-watching" });
  });

  test("that does not read stops counting, and what waits for it is bounded", async () => {
    const connection = createConnection(socket);
    connection.write("GET /v1/monitor HTTP/1.1\r\nHost: walt\r\n\r\n");
    await new Promise((resolve) => connection.once("data", resolve));
    connection.pause();
    expect(requests.monitors).toBe(1);
    const via = "x".repeat(4000);
    let told = 0;
    for (; requests.monitors > 0 && told < 10_000; told++) {
      requests.tell({ type: "node", node: "vpn-1", state: "up", via });
      if (told % 100 === 0) await Bun.sleep(0);
    }
    connection.destroy();
    expect([requests.monitors, told < 10_000]).toEqual([0, true]);
  });
});
