/** The server's end of an enrolment on a channel without SSH, with a real desk and registry. */

import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import type { MonitorEvent } from "../../src/api/types.ts";
import {
  type Board,
  encodeRequest,
  parseChallenge,
  parseReply,
  type Reply,
} from "../../src/enrolment/messages.ts";
import { formatLine, type Log } from "../../src/log.ts";
import { AccessRequests } from "../../src/server/access-requests.ts";
import { grant } from "../../src/server/credentials.ts";
import type { Channel } from "../../src/server/endpoint.ts";
import { serveEnrolment } from "../../src/server/enrol.ts";
import { type Device, Registry } from "../../src/server/registry.ts";
import { generateKey, type KeyPair } from "../../src/ssh/keys/ed25519.ts";
import { eventually } from "../lab/eventually.ts";

const dir = mkdtempSync(join(tmpdir(), "walt-enrol-"));
const registries: Registry[] = [];
afterAll(() => {
  for (const one of registries) one.close();
  rmSync(dir, { recursive: true, force: true });
});

const ca = generateKey("ca");
const board: Board = { mac: "b8:27:eb:01:02:03", model: "Pi", serialNumber: "7" };
const NOW = new Date("2026-03-01T12:00:00Z");
const give = (device: Device) => grant(registry, ca, device, 60_000, NOW);

let registry: Registry;
let desk: AccessRequests;
let logged: string[];
let log: Log;
beforeEach(() => {
  registry = new Registry(join(dir, `${registries.length}.sqlite`));
  registries.push(registry);
  logged = [];
  const note = (message: string, fields?: Parameters<Log["info"]>[1]): void => {
    logged.push(formatLine("", message, fields));
  };
  log = { debug: note, info: note, warn: note, error: note, with: () => log };
  desk = new AccessRequests({
    answerTimeout: 60_000,
    now: Date.now,
    after: () => () => {},
    accept: (request, by) => give(registry.accept(request, by, NOW)),
  });
});

/** A device's connection: what the server said, line by line, and what it says. */
function connect() {
  const stream = new PassThrough();
  const { promise: closed, resolve: close } = Promise.withResolvers<void>();
  const said: string[] = [];
  let status: number | undefined;
  const channel = {
    stream,
    closed,
    write: (text: string) => {
      said.push(...text.trimEnd().split("\n"));
    },
    end: (code: number) => {
      status = code;
    },
    fail: () => {},
  } as unknown as Channel;
  const served = serveEnrolment(channel, "192.0.2.1", { desk, registry, grant: give, retryAfter: 5, log });
  return {
    stream,
    close,
    served,
    /** Send a request made by this key over the server's challenge. */
    request: (key: KeyPair, from: Board = board) =>
      stream.write(encodeRequest(from, key, parseChallenge(said[0] ?? ""))),
    /** The n-th line after the challenge, when it has come. */
    reply: async (n = 0): Promise<Reply> => {
      return parseReply(await eventually(`reply ${n}`, () => said[n + 1]));
    },
    get status() {
      return status;
    },
  };
}

function watch(): { events: MonitorEvent[]; leave: () => void } {
  const events: MonitorEvent[] = [];
  return { events, leave: desk.watch((event) => events.push(event)) };
}

describe("a new device", () => {
  test("is denied when nobody watches, and told when to come back", async () => {
    const device = connect();
    device.request(generateKey("x"));
    expect(await device.reply()).toEqual({
      type: "denied",
      reason: "nobody-watching",
      message: "nobody runs `walt vpn monitor` on the server",
      retryAfter: 5,
    });
    await device.served;
    expect(device.status).toBe(0);
    expect(registry.list()).toEqual([]);
  });

  test("waits for the operator, and gets what he says", async () => {
    watch();
    for (const [accept, type] of [
      [false, "denied"],
      [true, "granted"],
    ] as const) {
      const device = connect();
      device.request(generateKey("x"));
      expect(await device.reply()).toEqual({ type: "pending" });
      expect(device.status).toBeUndefined();
      desk.answer(desk.pending[0]?.id ?? "", accept, "alice");
      expect(await device.reply(1)).toMatchObject({ type });
      await device.served;
      expect(device.status).toBe(0);
    }
    expect(registry.list().map((d) => [d.node, d.acceptedBy])).toEqual([["vpn-010203", "alice"]]);
  });

  test("that goes away while it waits is taken off the desk", async () => {
    const { events } = watch();
    const device = connect();
    device.request(generateKey("x"));
    await device.reply();
    device.close();
    await device.served;
    expect(desk.pending).toEqual([]);
    expect(events.at(-1)).toMatchObject({ type: "answered", outcome: "withdrawn" });
  });

  test("with the MAC address of a registered one comes with a warning", async () => {
    registry.accept({ ...board, publicKey: generateKey("old").publicKey }, "alice", NOW);
    watch();
    const device = connect();
    device.request(generateKey("x"));
    await device.reply();
    expect(desk.pending[0]?.warning).toBe(
      "a registered device with this MAC address exists already: vpn-010203",
    );
    device.close();
    await device.served;
  });

  test("that goes on talking is not listened to, and its stream does not stop", async () => {
    watch();
    const device = connect();
    device.request(generateKey("x"));
    await device.reply();
    expect(device.stream.listenerCount("data")).toBe(0);
    // Far more than a stream keeps: it comes through only if it is thrown away.
    for (let i = 0; i < 100; i++) {
      if (!device.stream.write(Buffer.alloc(65_536, 0x41)))
        await new Promise((resolve) => device.stream.once("drain", resolve));
    }
    desk.answer(desk.pending[0]?.id ?? "", true, "alice");
    expect(await device.reply(1)).toMatchObject({ type: "granted" });
    await device.served;
  });
});

describe("a known device", () => {
  test("is given its credentials again without a question: the first did not reach its disk", async () => {
    const key = generateKey("x");
    const device = registry.accept({ ...board, publicKey: key.publicKey }, "alice", NOW);
    const first = give(device);
    const { events } = watch();
    const again = connect();
    again.request(key);
    expect(await again.reply()).toMatchObject({ type: "granted", node: first.node, mac: first.mac });
    await again.served;
    expect(events).toEqual([]);
    expect(registry.byNode(first.node)?.certificateSerial).toBe(2);
  });

  test("that was revoked is denied, also when somebody watches", async () => {
    const key = generateKey("x");
    registry.revoke(registry.accept({ ...board, publicKey: key.publicKey }, "alice", NOW), NOW);
    const { events } = watch();
    const device = connect();
    device.request(key);
    expect(await device.reply()).toMatchObject({ type: "denied", reason: "revoked" });
    await device.served;
    expect(events).toEqual([]);
  });
});

describe("what is no request", () => {
  test("is denied with what is wrong, and logged", async () => {
    watch();
    for (const [line, message] of [
      ["hello\n", 'enrolment request: not JSON: string "hello"'],
      ["{}\n", "enrolment request: version must be a whole number from 1 to 1, found nothing"],
      [`${"x".repeat(10_000)}`, "a line of more than 8192 bytes"],
    ] as const) {
      const device = connect();
      device.stream.write(line);
      expect(await device.reply()).toEqual({ type: "denied", reason: "invalid", message, retryAfter: 5 });
      await device.served;
      expect(logged.at(-1)).toBe(
        formatLine("", "not a valid enrolment request", { from: "192.0.2.1", reason: message }),
      );
    }
    expect(desk.pending).toEqual([]);
  });

  test("made for another connection's challenge is denied", async () => {
    watch();
    const [one, two] = [connect(), connect()];
    const key = generateKey("x");
    let stolen: Buffer = Buffer.alloc(0);
    one.stream.once("data", (bytes: Buffer) => (stolen = bytes));
    one.request(key);
    await one.reply();
    two.stream.write(stolen);
    expect(await two.reply()).toMatchObject({
      reason: "invalid",
      message: expect.stringContaining("signature"),
    });
    one.close();
    await Promise.all([one.served, two.served]);
  });

  test("is the end of the stream", async () => {
    const device = connect();
    device.stream.end();
    await device.served;
    expect(logged.at(-1)).toContain("the device went away before it sent its request");
  });
});
