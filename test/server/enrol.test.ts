/** The server's end of an enrolment on a channel without SSH, with a real registry. */

import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import type { MonitorEvent } from "../../src/api/events.ts";

import {
  type Board,
  encodeRequest,
  parseChallenge,
  parseReply,
  type Reply,
  STORED,
} from "../../src/enrolment/messages.ts";
import { formatLine, type Log } from "../../src/log.ts";
import { AccessRequests } from "../../src/server/access-requests.ts";

import { admit, grant } from "../../src/server/credentials.ts";
import { type EnrolmentService, serveEnrolment } from "../../src/server/enrol.ts";
import { ServerKeys } from "../../src/server/keys.ts";
import { type Device, Registry } from "../../src/server/registry.ts";
import { Channel } from "../../src/ssh/handshake/channel.ts";
import { fingerprint, generateKey, type KeyPair, shortCode } from "../../src/ssh/keys/ed25519.ts";
import { WireReader } from "../../src/ssh/keys/wire.ts";
import { eventually } from "../lab/eventually.ts";

const dir = mkdtempSync(join(tmpdir(), "walt-enrol-"));
const registries: Registry[] = [];
afterAll(() => {
  for (const one of registries) one.close();
  rmSync(dir, { recursive: true, force: true });
});

const keys = ServerKeys.load(dir);
const board: Board = { mac: "b8:27:eb:01:02:03", model: "Pi", serialNumber: "7" };
const NOW = new Date("2026-03-01T12:00:00Z");
const give = (device: Device) => grant(registry, keys, device, 60_000, NOW);

let invited: ReturnType<EnrolmentService["acceptInvited"]>;
let registry: Registry;
let clock: Date;
let requests: AccessRequests;
let logged: string[];
let confirmed: string[];
let log: Log;
beforeEach(() => {
  registry = new Registry(join(dir, `${registries.length}.sqlite`));
  registries.push(registry);
  logged = [];
  confirmed = [];
  clock = NOW;
  invited = { warnings: [] };
  const note = (message: string, fields?: Parameters<Log["info"]>[1]): void => {
    logged.push(formatLine("", message, fields));
  };
  log = { debug: note, info: note, warn: note, error: note, with: () => log };
  requests = new AccessRequests({
    answerTimeout: 60_000,
    now: Date.now,
    after: () => () => {},
    blocked: () => {},
    lifted: () => {},
    overloaded: () => {},
    record: () => {},
    remember: true,
    accept: (request, by) => admit(registry, keys, request, by, 60_000, clock),
  });
});

/**
 * A device's channel, without SSH around it: what the server said, line by line, and what the device says.
 */
function connect() {
  const said: string[] = [];
  let status: number | undefined;
  let held = 0;
  const channel = new Channel(0, 0, 1 << 20, 32_768, () => {
    for (let message = channel.produce(); message !== undefined; message = channel.produce()) {
      const reader = new WireReader(message.subarray(5));
      if (message[0] === 94) said.push(...reader.text().trimEnd().split("\n"));
      if (message[0] === 98 && reader.text() === "exit-status")
        status = message.readUInt32BE(message.length - 4);
    }
  });
  channel.begin();
  const keep = () => {
    held++;
    return () => held--;
  };
  const served = serveEnrolment(channel, "192.0.2.1", keep, {
    requests,
    registry,
    grant: give,
    acceptInvited: () => invited,
    confirmation: (key) => () => confirmed.push(fingerprint(key)),
    retryAfter: 5,
    log,
  });
  const send = (text: string): void => channel.receive(Buffer.from(text));
  return {
    channel,
    close: () => channel.receiveClose(),
    served,
    send,
    /** Send a request made by this key over the server's challenge. */
    request: (key: KeyPair, from: Board = board): string => {
      const text = encodeRequest(from, key, parseChallenge(said[0] ?? ""));
      send(text);
      return text;
    },
    /** The n-th line after the challenge, when it has come. A grant is confirmed unless told otherwise. */
    reply: async (n = 0, confirm = STORED): Promise<Reply> => {
      const reply = parseReply(await eventually(`reply ${n}`, () => said[n + 1]));
      if (reply.type === "granted" && confirm !== "") send(confirm);
      return reply;
    },
    get status() {
      return status;
    },
    /** How often its connection is held against eviction. */
    get held() {
      return held;
    },
  };
}

function watch(): { events: MonitorEvent[]; leave: () => void } {
  const events: MonitorEvent[] = [];
  return { events, leave: requests.watch((event) => events.push(event)) };
}

/** What alice says to the one that waits first. */
function answer(accept: boolean): void {
  const { id, fingerprint } = requests.pending[0] ?? { id: "", fingerprint: "" };
  requests.answer(id, { accept, fingerprint, by: "alice" });
}

describe("a device that is invited", () => {
  test("gets its credentials though nobody watches", async () => {
    const granted = {
      node: "vpn-1",
      mac: "52:54:00:01:02:03",
      certificate: "ssh-ed25519-cert-v01@openssh.com A",
      renewAfter: 9,
    };
    invited = { granted };
    const device = connect();
    device.request(generateKey("x"));
    expect(await device.reply()).toEqual({ type: "granted", ...granted });
    await device.served;
    expect(requests.list()).toEqual([]);
  });

  test("no longer waits for an operator, nor is it remembered, if it asked before it was invited", async () => {
    const [early, waiting] = [generateKey("early"), generateKey("waiting")];
    const granted = {
      node: "vpn-1",
      mac: "52:54:00:01:02:03",
      certificate: "ssh-ed25519-cert-v01@openssh.com A",
      renewAfter: 9,
    };
    const first = connect();
    first.request(early);
    expect(await first.reply()).toMatchObject({ reason: "nobody-watching" });
    const { events, leave } = watch();
    const second = connect();
    second.request(waiting);
    expect(await second.reply()).toEqual({ type: "pending" });
    expect(requests.list().map(({ state }) => state)).toEqual(["waiting", "remembered"]);
    invited = { granted };
    for (const key of [early, waiting]) {
      const device = connect();
      device.request(key);
      expect(await device.reply()).toEqual({ type: "granted", ...granted });
      await device.served;
    }
    expect(requests.list()).toEqual([]);
    expect(events.at(-1)).toMatchObject({ type: "answered", outcome: "withdrawn" });
    expect(await second.reply(1)).toMatchObject({ type: "denied", reason: "busy" });
    leave();
  });

  test("confirms that it has stored them; one that is older just goes, and one that says something else has not", async () => {
    const granted = {
      ...{ node: "vpn-1", mac: "52:54:00:01:02:03", certificate: "ssh-ed25519-cert-v01@openssh.com A" },
      renewAfter: 9,
    };
    invited = { granted };
    for (const [confirm, count] of [
      [STORED, 1],
      ["", 0],
      ['{"type":"other"}\n', 0],
      ["nonsense\n", 0],
    ] as const) {
      confirmed = [];
      const device = connect();
      const key = generateKey("x");
      device.request(key);
      await device.reply(0, confirm);
      if (confirm === "") device.close();
      await device.served;
      expect(confirmed).toEqual(count === 1 ? [fingerprint(key.publicKey)] : []);
    }
  });

  test("in vain is asked about, with a warning", async () => {
    invited = { warnings: ["the token on its card is expired"] };
    const { events } = watch();
    const device = connect();
    device.request(generateKey("x"));
    expect(await device.reply()).toEqual({ type: "pending" });
    expect(events).toMatchObject([{ request: { warnings: ["the token on its card is expired"] } }]);
  });
});

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
      expect(device.held).toBe(1);
      answer(accept);
      expect(await device.reply(1)).toMatchObject({ type });
      await device.served;
      expect([device.status, device.held]).toEqual([0, 0]);
    }
    expect(registry.list().map((d) => [d.node, d.acceptedBy])).toEqual([["vpn-010203", "alice"]]);
  });

  test("that goes away while it waits waits no more", async () => {
    const { events } = watch();
    const device = connect();
    device.request(generateKey("x"));
    await device.reply();
    device.close();
    await device.served;
    expect(requests.pending).toEqual([]);
    expect(events.at(-1)).toMatchObject({ type: "answered", outcome: "withdrawn" });
  });

  test("with the MAC address of a registered one comes with a warning", async () => {
    registry.accept({ ...board, publicKey: generateKey("old").publicKey }, "alice", NOW);
    watch();
    const device = connect();
    device.request(generateKey("x"));
    await device.reply();
    expect(requests.pending[0]?.warnings).toEqual([
      "a registered device with this MAC address exists already: vpn-010203",
    ]);
    device.close();
    await device.served;
  });

  test("what it says about itself is plain before anybody sees it, and the log has its short code", async () => {
    const { events } = watch();
    const key = generateKey("x");
    const device = connect();
    const model = `Pi\u3000\u0301\u202e\u200b ${" ".repeat(60)}short code`;
    device.request(key, { ...board, model, serialNumber: "9".repeat(64) });
    await device.reply();
    expect(events[0]).toMatchObject({
      request: { model: "Pi???? short code", serialNumber: `${"9".repeat(37)}...` },
    });
    expect(logged.at(-1)).toContain(
      `a device asks for access event=enrolment-requested request=1 code=${shortCode(key.publicKey)} mac=`,
    );
    answer(false);
    await device.served;
    expect(logged.at(-1)).toContain(`code=${shortCode(key.publicKey)}`);
  });

  test("that the limits deny is told to come back, and has no log line of its own", async () => {
    watch();
    for (let i = 0; i < 70; i++) {
      requests.ask({ ...board, publicKey: generateKey("x").publicKey }, "192.0.2.1");
    }
    const before = logged.length;
    const device = connect();
    device.request(generateKey("x"));
    expect(await device.reply()).toMatchObject({ type: "denied", reason: "busy", retryAfter: 5 });
    await device.served;
    expect([logged.length, device.held]).toEqual([before, 0]);
  });

  test("is stored with its certificate, or not at all: with a clock that was never set the operator is told why", async () => {
    clock = new Date("1970-01-01T00:20:00Z");
    watch();
    const key = generateKey("x");
    const device = connect();
    device.request(key);
    await device.reply();
    expect(() => answer(true)).toThrow("the server's clock says 1970-01-01T00:20:00.000Z");
    expect(registry.list()).toEqual([]);
    // It waits on; when it goes and asks again it is a new device, not one that is known.
    expect(requests.pending).toHaveLength(1);
    answer(false);
    expect(await device.reply(1)).toMatchObject({ reason: "operator" });
    const again = connect();
    again.request(key);
    expect(await again.reply()).toEqual({ type: "pending" });
    clock = NOW;
    answer(true);
    expect(await again.reply(1)).toMatchObject({ type: "granted" });
    await Promise.all([device.served, again.served]);
  });

  test("that goes on talking is not listened to, and gets no more room for it", async () => {
    watch();
    const device = connect();
    device.request(generateKey("x"));
    await device.reply();
    const { ourWindow } = device.channel.windows;
    device.channel.receive(Buffer.alloc(ourWindow, 0x41));
    await Promise.resolve();
    expect(device.channel.windows.ourWindow).toBe(0);
    expect(() => device.channel.receive(Buffer.of(0x41))).toThrow("more than its window");
    answer(true);
    expect(await device.reply(1, "")).toMatchObject({ type: "granted" });
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
    const reply = await device.reply();
    expect(reply).toMatchObject({ type: "denied", reason: "revoked" });
    expect(reply).not.toHaveProperty("forget");
    await device.served;
    expect(events).toEqual([]);
  });
});

describe("a revoked device that is to ask again", () => {
  test("is told to forget its key, by a word of its own, as often as it asks", async () => {
    const key = generateKey("x");
    registry.revoke(registry.accept({ ...board, publicKey: key.publicKey }, "alice", NOW), NOW, true);
    const { events } = watch();
    for (let i = 0; i < 2; i++) {
      const device = connect();
      device.request(key);
      expect(await device.reply()).toMatchObject({ type: "denied", reason: "revoked", forget: true });
      await device.served;
      expect(registry.byKey(key.publicKey)?.reenrol).toBe("told");
    }
    expect(logged.at(-1)).toContain("event=device-told-to-forget");
    expect(events).toEqual([]);
  });
});

describe("what is no request", () => {
  test("is denied with what is wrong, and logged", async () => {
    watch();
    for (const [line, message] of [
      ["hello\n", 'enrolment request: it is not JSON: string "hello"'],
      ["{}\n", "enrolment request: version must be a whole number from 1 to 1, found nothing"],
      [`${"x".repeat(10_000)}`, "a line is longer than 8192 bytes"],
    ] as const) {
      const device = connect();
      device.send(line);
      expect(await device.reply()).toEqual({ type: "denied", reason: "invalid", message, retryAfter: 5 });
      await device.served;
      expect(logged.at(-1)).toBe(
        formatLine("", "not a valid enrolment request", {
          event: "enrolment-malformed",
          from: "192.0.2.1",
          reason: message,
        }),
      );
    }
    expect(requests.pending).toEqual([]);
  });

  test("made for another connection's challenge is denied", async () => {
    watch();
    const [one, two] = [connect(), connect()];
    const key = generateKey("x");
    const stolen = one.request(key);
    await one.reply();
    two.send(stolen);
    expect(await two.reply()).toMatchObject({
      reason: "invalid",
      message: expect.stringContaining("signature"),
    });
    one.close();
    await Promise.all([one.served, two.served]);
  });

  test("is the end of the stream", async () => {
    const device = connect();
    device.channel.receiveEof();
    await device.served;
    expect(logged.at(-1)).toContain("the device went away before it sent its request");
  });
});
