/**
 * The two HTTP services under fuzz: the boot files on walt-net, which any node can ask for, and the API. No
 * request is answered with an error of the program's own, gets a file that it must not get, or keeps the next
 * request from being answered.
 */

import { afterAll, beforeAll, expect } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createConnection, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AddressRange } from "../../../src/address-range.ts";
import { type ApiServer, listenApi } from "../../../src/api/listen.ts";
import { formatLine, type Log } from "../../../src/log.ts";
import { AccessRequests } from "../../../src/server/access-requests.ts";
import { serverHandler } from "../../../src/server/api.ts";
import { Devices } from "../../../src/server/devices.ts";
import { ServerKeys } from "../../../src/server/keys.ts";
import { BootService } from "../../../src/server/net/boot-files.ts";
import { Orders } from "../../../src/server/orders.ts";
import { Registry } from "../../../src/server/registry.ts";
import { Rotation } from "../../../src/server/rotation.ts";
import { generateKey } from "../../../src/ssh/keys/ed25519.ts";
import { eventually } from "../../lab/eventually.ts";
import { damage, damageJson, damageText, fuzz, oneOf, type Random } from "../fuzz.ts";

const dir = mkdtempSync(join(tmpdir(), "walt-fuzz-http-"));
const socket = join(dir, "server.sock");
/** Errors that the services logged: bugs. */
const bugs: string[] = [];
const note = (message: string, fields?: Parameters<Log["error"]>[1]): void => {
  bugs.push(formatLine("", message, fields));
};
const log: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: note, with: () => log };
let boot: BootService;
let bootPort: number;
let api: ApiServer;
let registry: Registry;

beforeAll(async () => {
  writeFileSync(join(dir, "secret"), "secret");
  mkdirSync(join(dir, "boot/x86_64"), { recursive: true });
  for (const file of ["vmlinuz", "initrd.img"]) writeFileSync(join(dir, "boot/x86_64", file), file);
  const free = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => free.once("listening", resolve));
  const address = free.address();
  bootPort = typeof address === "object" && address !== null ? address.port : 0;
  await new Promise((resolve) => free.close(resolve));
  boot = await BootService.start("127.0.0.1", bootPort, join(dir, "boot"), log);

  registry = new Registry(join(dir, "registry.sqlite"));
  const keys = ServerKeys.load(dir);
  const none = [AddressRange.beside("10.0.0.1/8"), new Map()] as const;
  const devices = new Devices(registry, keys, { setNodes: () => {} }, () => [...none], 1000, log);
  const requests = new AccessRequests({
    ...{ answerTimeout: 60_000, remember: true, now: Date.now, after: () => () => {} },
    blocked: () => {},
    lifted: () => {},
    overloaded: () => {},
    record: () => {},
    accept: (request, by) => devices.accept(request, by),
  });
  requests.ask(
    { mac: "b8:27:eb:01:02:03", model: "Pi", serialNumber: "7", publicKey: generateKey("x").publicKey },
    "192.0.2.1",
  );
  const live = { tunnels: { stop: async () => {} }, endpoint: { stopConnections: () => {} } };
  const handler = serverHandler({
    ...{ requests, devices, rotation: new Rotation(keys, registry, log), log },
    journal: registry.journal,
    nodes: () => Promise.resolve([]),
    node: () => Promise.reject(new Error("not part of this test")),
    history: () => {
      throw new Error("not part of this test");
    },
    histories: () => [],
    ping: async () => [],
    registered: () => [],
    orders: new Orders(
      () => Promise.reject(new Error("not part of this test")),
      () => {},
    ),
    troubles: () => [],
    setBoard: () => {},
    trust: () => {
      throw new Error("not part of this test");
    },
    revoke: (node, by) => devices.revoke(node, by, live),
  });
  api = await listenApi(socket, undefined, handler);
});
afterAll(async () => {
  await Promise.all([boot.stop(), api.stop()]);
  registry.close();
  rmSync(dir, { recursive: true, force: true });
});

/** What a service answers to these bytes, until it or we end the connection. */
async function ask(to: { path: string } | { port: number }, bytes: Uint8Array | string): Promise<string> {
  let answer = "";
  const connection = createConnection({ host: "127.0.0.1", ...to });
  const closed = new Promise<void>((resolve) => connection.on("close", () => resolve()));
  connection.on("data", (data) => (answer += data.toString("latin1")));
  connection.on("error", () => {});
  connection.end(bytes);
  await eventually("the end of the connection", closed);
  return answer;
}

function request(random: Random, method: string, path: string, body?: string): Buffer {
  const length = body === undefined ? "" : `Content-Length: ${Buffer.byteLength(body)}\r\n`;
  const text = `${method} ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${length}\r\n${body ?? ""}`;
  return random(4) === 0 ? damage(Buffer.from(text), random) : Buffer.from(text);
}

fuzz("boot files: only what is there for nodes, whatever is asked", 300, async (random) => {
  const path = oneOf(
    random,
    "/boot.ipxe",
    "/boot/x86_64/boot.ipxe",
    "/boot/x86_64/vmlinuz",
    "/boot/x86_64/../../secret",
  );
  const method = oneOf(random, "GET", "GET", "HEAD", "POST", "\u0000");
  const broken = random(3) === 0 ? path : damageText(path, random);
  const answer = await ask({ port: bootPort }, request(random, method, broken));
  expect(answer).not.toContain("secret\r\n");
  expect(answer.endsWith("secret")).toBe(false);
  expect(answer).not.toMatch(/^HTTP\/1\.1 500/);
  const good = "GET /boot/x86_64/vmlinuz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
  expect(await ask({ port: bootPort }, good)).toEndWith("vmlinuz");
  expect(bugs).toEqual([]);
});

/** Requests as they should be. */
const ORDERS: readonly [[string, object], ...[string, object][]] = [
  ["/v1/requests/1", { accept: true, fingerprint: "SHA256:x", by: "al" }],
  ["/v1/tokens", { uses: 3, expires: 60_000, note: "school", by: "al" }],
  ["/v1/expected", { mac: "b8:27:eb:01:02:03", serialNumber: "7", expires: 60_000, note: "", by: "al" }],
  ["/v1/invitations/1/withdraw", { kind: "token", by: "al" }],
  ["/v1/keys/ca/finish", { force: false, by: "al" }],
  ["/v1/devices/vpn-010203/revoke", { by: "al" }],
];

fuzz("the API: an answer or a reason, and never an internal error", 600, async (random) => {
  const [path, body] = oneOf(random, ...ORDERS);
  const inPath = random(3) === 0 ? damageText(path, random) : path;
  const text = JSON.stringify(random(4) === 0 ? body : damageJson(body, random)) ?? "";
  const answer = await ask(
    { path: socket },
    random(5) === 0
      ? request(
          random,
          "GET",
          damageText(oneOf(random, "/v1/requests", "/v1/nodes?x=1", "/v1/monitor?name=al"), random),
        )
      : request(random, "POST", inPath, random(4) === 0 ? damageText(text, random) : text),
  );
  expect(answer).not.toContain("internal error");
  expect(bugs).toEqual([]);
  const good = "GET /v1/requests HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
  expect(await ask({ path: socket }, good)).toContain('"mac":"b8:27:eb:01:02:03"');
});
