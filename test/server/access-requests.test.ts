/** The rules of the desk, with a clock of its own. */

import { beforeEach, describe, expect, test } from "bun:test";
import type { MonitorEvent } from "../../src/api/events.ts";
import type { EnrolmentRequest, Grant } from "../../src/enrolment/messages.ts";
import { AccessRequests, type Decision, type Ticket } from "../../src/server/access-requests.ts";
import { fingerprint, generateKey, shortCode } from "../../src/ssh/keys/ed25519.ts";

const TIMEOUT = 300_000;
const START = Date.parse("2026-03-01T12:00:00Z");

class Clock {
  now = START;
  readonly timers = new Set<{ at: number; what: () => void }>();
  after = (ms: number, what: () => void): (() => void) => {
    const timer = { at: this.now + ms, what };
    this.timers.add(timer);
    return () => this.timers.delete(timer);
  };
  pass(ms: number): void {
    this.now += ms;
    for (const timer of [...this.timers]) {
      if (timer.at > this.now) continue;
      this.timers.delete(timer);
      timer.what();
    }
  }
}

let clock: Clock;
let desk: AccessRequests;
let accepted: { request: EnrolmentRequest; by: string }[];
let acceptFails: Error | undefined;

beforeEach(() => {
  clock = new Clock();
  accepted = [];
  acceptFails = undefined;
  desk = new AccessRequests({
    answerTimeout: TIMEOUT,
    now: () => clock.now,
    after: clock.after,
    accept: (request, by) => {
      if (acceptFails !== undefined) throw acceptFails;
      accepted.push({ request, by });
      return grantFor(request);
    },
  });
});

const grantFor = (request: EnrolmentRequest): Grant => ({
  node: `vpn-${request.mac.slice(9).replaceAll(":", "")}`,
  mac: "52:54:00:01:02:03",
  certificate: "ssh-ed25519-cert-v01@openssh.com AAAA",
  renewAfter: 60,
});

let count = 0;
function request(): EnrolmentRequest {
  const last = (++count).toString(16).padStart(2, "0");
  return {
    mac: `b8:27:eb:00:00:${last}`,
    model: "Pi",
    serialNumber: last,
    publicKey: generateKey("device").publicKey,
  };
}

/** A monitor: all that it was told. */
function monitor(): { events: MonitorEvent[]; leave: () => void } {
  const events: MonitorEvent[] = [];
  return { events, leave: desk.watch((event) => events.push(event)) };
}

/** The decision, if there is one already. */
function decided(ticket: Ticket): Promise<Decision | undefined> {
  return Promise.race([
    ticket.decision,
    new Promise<undefined>((resolve) => setImmediate(() => resolve(undefined))),
  ]);
}

describe("without a monitor", () => {
  test("a request is denied at once, and nothing stays", async () => {
    expect(await decided(desk.ask(request(), "192.0.2.1"))).toEqual({ denied: "nobody-watching" });
    expect(desk.pending).toEqual([]);
    expect(clock.timers.size).toBe(0);
    expect(monitor().events).toEqual([]);
  });

  test("one that has left does not count", async () => {
    monitor().leave();
    expect(desk.monitors).toBe(0);
    expect(await decided(desk.ask(request(), "192.0.2.1"))).toEqual({ denied: "nobody-watching" });
  });
});

describe("a request", () => {
  test("is shown with all that an operator needs", () => {
    const { events } = monitor();
    const asked = request();
    const ticket = desk.ask(asked, "192.0.2.1", "beware");
    const shown = {
      id: ticket.id,
      mac: asked.mac,
      model: "Pi",
      serialNumber: asked.serialNumber,
      address: "192.0.2.1",
      fingerprint: fingerprint(asked.publicKey),
      code: shortCode(asked.publicKey),
      receivedAt: "2026-03-01T12:00:00.000Z",
      expiresAt: "2026-03-01T12:05:00.000Z",
      warning: "beware",
    };
    expect(events).toEqual([{ type: "request", request: shown }]);
    expect(desk.pending).toEqual([shown]);
  });

  test("is told to all monitors, and to one that comes later", () => {
    const [one, two] = [monitor(), monitor()];
    const ticket = desk.ask(request(), "192.0.2.1");
    const three = monitor();
    for (const { events } of [one, two, three])
      expect(events.map((e) => e.type === "request" && e.request.id)).toEqual([ticket.id]);
  });

  test("waits until somebody answers", async () => {
    monitor();
    const ticket = desk.ask(request(), "192.0.2.1");
    clock.pass(TIMEOUT - 1);
    expect(await decided(ticket)).toBeUndefined();
  });
});

describe("an answer", () => {
  test("accepts: the device gets its grant, all monitors hear who did it and the node's name", async () => {
    const [one, two] = [monitor(), monitor()];
    const asked = request();
    const ticket = desk.ask(asked, "192.0.2.1");
    const grant = grantFor(asked);
    expect(desk.answer(ticket.id, true, "alice")).toBe(grant.node);
    expect(await decided(ticket)).toEqual({ granted: grant });
    expect(accepted).toEqual([{ request: asked, by: "alice" }]);
    for (const { events } of [one, two])
      expect(events.at(-1)).toEqual({
        type: "answered",
        id: ticket.id,
        outcome: "accepted",
        by: "alice",
        node: grant.node,
      });
    expect(desk.pending).toEqual([]);
    expect(clock.timers.size).toBe(0);
  });

  test("denies: nobody is registered", async () => {
    const { events } = monitor();
    const ticket = desk.ask(request(), "192.0.2.1");
    expect(desk.answer(ticket.id, false, "bob")).toBeUndefined();
    expect(await decided(ticket)).toEqual({ denied: "operator" });
    expect(accepted).toEqual([]);
    expect(events.at(-1)).toEqual({
      type: "answered",
      id: ticket.id,
      outcome: "denied",
      by: "bob",
      reason: "operator",
    });
  });

  test("the first wins; the second is told that it came too late", async () => {
    monitor();
    const ticket = desk.ask(request(), "192.0.2.1");
    desk.answer(ticket.id, false, "alice");
    expect(() => desk.answer(ticket.id, true, "bob")).toThrow(
      `request ${ticket.id} does not wait for an answer any more`,
    );
    expect(await decided(ticket)).toEqual({ denied: "operator" });
    expect(accepted).toEqual([]);
  });

  test("to a request that never was", () => {
    monitor();
    for (const id of ["99", "", "__proto__"])
      expect(() => desk.answer(id, true, "x")).toThrow(/does not wait/);
  });

  test("concerns one request only", async () => {
    monitor();
    const [one, two] = [desk.ask(request(), "a"), desk.ask(request(), "b")];
    desk.answer(two.id, true, "alice");
    expect(await decided(one)).toBeUndefined();
    expect(desk.pending.map((r) => r.id)).toEqual([one.id]);
  });

  test("that cannot be carried out leaves the request on the desk", async () => {
    const { events } = monitor();
    const ticket = desk.ask(request(), "192.0.2.1");
    acceptFails = new Error("disk full");
    expect(() => desk.answer(ticket.id, true, "alice")).toThrow("disk full");
    expect(await decided(ticket)).toBeUndefined();
    expect(events.map((e) => e.type)).toEqual(["request"]);
    acceptFails = undefined;
    desk.answer(ticket.id, true, "alice");
    expect(await decided(ticket)).toHaveProperty("granted");
  });
});

describe("a request ends without an answer", () => {
  test("when its time is over", async () => {
    const { events } = monitor();
    const ticket = desk.ask(request(), "192.0.2.1");
    clock.pass(TIMEOUT);
    expect(await decided(ticket)).toEqual({ denied: "timeout" });
    expect(events.at(-1)).toEqual({
      type: "answered",
      id: ticket.id,
      outcome: "expired",
      by: "nobody",
      reason: "timeout",
    });
    expect(() => desk.answer(ticket.id, true, "late")).toThrow(/does not wait/);
  });

  test("when the device goes away", async () => {
    const { events } = monitor();
    const ticket = desk.ask(request(), "192.0.2.1");
    ticket.withdraw();
    expect(await decided(ticket)).toHaveProperty("denied");
    expect(events.at(-1)).toMatchObject({ type: "answered", outcome: "withdrawn", by: "the device" });
    expect(clock.timers.size).toBe(0);
  });

  test("a withdrawal after the answer changes nothing", async () => {
    const { events } = monitor();
    const ticket = desk.ask(request(), "192.0.2.1");
    desk.answer(ticket.id, true, "alice");
    ticket.withdraw();
    expect(events.map((e) => e.type)).toEqual(["request", "answered"]);
    expect(await decided(ticket)).toHaveProperty("granted");
  });

  test("when the last monitor leaves, not before", async () => {
    const [one, two] = [monitor(), monitor()];
    const tickets = [desk.ask(request(), "a"), desk.ask(request(), "b")];
    one.leave();
    one.leave(); // a second time means nothing
    for (const ticket of tickets) expect(await decided(ticket)).toBeUndefined();
    two.leave();
    for (const ticket of tickets) expect(await decided(ticket)).toEqual({ denied: "nobody-watching" });
    expect(clock.timers.size).toBe(0);
    expect(two.events.filter((e) => e.type === "answered")).toEqual([]);
  });

  test("when the same device asks again: the newer request takes its place", async () => {
    const { events } = monitor();
    const asked = request();
    const [first, second] = [desk.ask(asked, "a"), desk.ask({ ...asked, serialNumber: "2" }, "b")];
    expect(await decided(first)).toEqual({ denied: "busy" });
    expect(events.map((e) => (e.type === "answered" ? e.outcome : e.type))).toEqual([
      "request",
      "withdrawn",
      "request",
    ]);
    first.withdraw(); // its connection ends: the newer one is not touched
    desk.answer(second.id, true, "alice");
    expect(await decided(second)).toHaveProperty("granted");
    expect(accepted[0]?.request.serialNumber).toBe("2");
  });
});

test("no more than 64 wait; the next is told to come back, and gets in when one was answered", async () => {
  monitor();
  const tickets = Array.from({ length: 64 }, () => desk.ask(request(), "a"));
  expect(await decided(desk.ask(request(), "a"))).toEqual({ denied: "busy" });
  expect(desk.pending).toHaveLength(64);
  desk.answer(tickets[0]?.id ?? "", false, "x");
  expect(await decided(desk.ask(request(), "a"))).toBeUndefined();
});

test("ids are never used twice", () => {
  monitor();
  const ids = Array.from({ length: 5 }, () => {
    const { id } = desk.ask(request(), "a");
    desk.answer(id, false, "x");
    return id;
  });
  expect(new Set(ids).size).toBe(5);
});

test("anybody may be told anything", () => {
  const [one, two] = [monitor(), monitor()];
  two.leave();
  desk.tell({ type: "node", node: "vpn-1", state: "up", via: "x" });
  expect(one.events).toHaveLength(1);
  expect(two.events).toHaveLength(0);
});
