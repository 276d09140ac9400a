/** The rules for requests for access, with a clock of its own. */

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
let requests: AccessRequests;
let accepted: { request: EnrolmentRequest; by: string; name?: string }[];
let recorded: [kind: string, code: string, by: string | undefined][];
let acceptFails: Error | undefined;
let overloads: (number | string)[][];
let blocks: [block: string, code: string, by: string][];

beforeEach(() => {
  clock = new Clock();
  accepted = [];
  recorded = [];
  acceptFails = undefined;
  overloads = [];
  blocks = [];
  requests = new AccessRequests({
    answerTimeout: TIMEOUT,
    now: () => clock.now,
    after: clock.after,
    blocked: (block, { code }, by) => blocks.push([block, code, by]),
    lifted: (block, what, by) => blocks.push([`${block} lifted`, what, by]),
    overloaded: (denied, from) => overloads.push([denied, ...from]),
    remember: true,
    record: (kind, { code }, by) => recorded.push([kind, code, by]),
    accept: (request, by, name) => {
      if (acceptFails !== undefined) throw acceptFails;
      accepted.push({ request, by, ...(name === undefined ? {} : { name }) });
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
  return { events, leave: requests.watch((event) => events.push(event)) };
}

/** Answer what is shown under this id. */
function answer(id: string, accept: boolean, by: string): string | undefined {
  const shown = requests.pending.find((one) => one.id === id);
  return requests.answer(id, { accept, fingerprint: shown?.fingerprint ?? "", by });
}

/** The decision, if there is one already. */
function decided(ticket: Ticket): Promise<Decision | undefined> {
  return Promise.race([
    ticket.decision,
    new Promise<undefined>((resolve) => setImmediate(() => resolve(undefined))),
  ]);
}

describe("without a monitor", () => {
  test("a request is denied at once, and no monitor is told of it later", async () => {
    expect(await decided(requests.ask(request(), "192.0.2.1"))).toEqual({ denied: "nobody-watching" });
    expect(requests.pending).toEqual([]);
    expect(clock.timers.size).toBe(0);
    expect(monitor().events).toEqual([]);
  });

  test("one that has left does not count", async () => {
    monitor().leave();
    expect(requests.monitors).toBe(0);
    expect(await decided(requests.ask(request(), "192.0.2.1"))).toEqual({ denied: "nobody-watching" });
  });
});

describe("a request", () => {
  test("is shown with all that an operator needs", () => {
    const { events } = monitor();
    const asked = request();
    const ticket = requests.ask(asked, "192.0.2.1", ["beware"]);
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
      warnings: ["beware"],
    };
    expect(events).toEqual([{ type: "request", request: shown }]);
    expect(requests.pending).toEqual([shown]);
  });

  test("is told to all monitors, and to one that comes later", () => {
    const [one, two] = [monitor(), monitor()];
    const ticket = requests.ask(request(), "192.0.2.1");
    const three = monitor();
    for (const { events } of [one, two, three])
      expect(events.map((e) => e.type === "request" && e.request.id)).toEqual([ticket.id]);
  });

  test("waits until somebody answers", async () => {
    monitor();
    const ticket = requests.ask(request(), "192.0.2.1");
    clock.pass(TIMEOUT - 1);
    expect(await decided(ticket)).toBeUndefined();
  });
});

describe("an answer", () => {
  test("accepts: the device gets its grant, all monitors hear who did it and the node's name", async () => {
    const [one, two] = [monitor(), monitor()];
    const asked = request();
    const ticket = requests.ask(asked, "192.0.2.1");
    const grant = grantFor(asked);
    expect(answer(ticket.id, true, "alice")).toBe(grant.node);
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
    expect(requests.pending).toEqual([]);
    expect(clock.timers.size).toBe(0);
  });

  test("denies: nobody is registered", async () => {
    const { events } = monitor();
    const ticket = requests.ask(request(), "192.0.2.1");
    expect(answer(ticket.id, false, "bob")).toBeUndefined();
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
    const ticket = requests.ask(request(), "192.0.2.1");
    answer(ticket.id, false, "alice");
    expect(() => answer(ticket.id, true, "bob")).toThrow(
      `request ${ticket.id} does not wait for an answer any more`,
    );
    expect(await decided(ticket)).toEqual({ denied: "operator" });
    expect(accepted).toEqual([]);
  });

  test("to a request that never was", () => {
    monitor();
    for (const id of ["99", "", "__proto__"]) expect(() => answer(id, true, "x")).toThrow(/does not wait/);
  });

  test("concerns one request only", async () => {
    monitor();
    const [one, two] = [requests.ask(request(), "a"), requests.ask(request(), "b")];
    answer(two.id, true, "alice");
    expect(await decided(one)).toBeUndefined();
    expect(requests.pending.map((r) => r.id)).toEqual([one.id]);
  });

  test("that cannot be carried out leaves the request waiting", async () => {
    const { events } = monitor();
    const ticket = requests.ask(request(), "192.0.2.1");
    acceptFails = new Error("disk full");
    expect(() => answer(ticket.id, true, "alice")).toThrow("disk full");
    expect(await decided(ticket)).toBeUndefined();
    expect(events.map((e) => e.type)).toEqual(["request"]);
    acceptFails = undefined;
    answer(ticket.id, true, "alice");
    expect(await decided(ticket)).toHaveProperty("granted");
  });
});

describe("a request ends without an answer", () => {
  test("when its time is over", async () => {
    const { events } = monitor();
    const ticket = requests.ask(request(), "192.0.2.1");
    clock.pass(TIMEOUT);
    expect(await decided(ticket)).toEqual({ denied: "timeout" });
    expect(events.at(-1)).toEqual({
      type: "answered",
      id: ticket.id,
      outcome: "expired",
      by: "nobody",
      reason: "timeout",
    });
    // An answer that comes late is for the next time that it asks.
    expect(requests.list()).toMatchObject([{ id: ticket.id, state: "remembered" }]);
  });

  test("when the device goes away", async () => {
    const { events } = monitor();
    const ticket = requests.ask(request(), "192.0.2.1");
    ticket.withdraw();
    expect(await decided(ticket)).toHaveProperty("denied");
    expect(events.at(-1)).toMatchObject({ type: "answered", outcome: "withdrawn", by: "the device" });
    expect(clock.timers.size).toBe(0);
  });

  test("a withdrawal after the answer changes nothing", async () => {
    const { events } = monitor();
    const ticket = requests.ask(request(), "192.0.2.1");
    answer(ticket.id, true, "alice");
    ticket.withdraw();
    expect(events.map((e) => e.type)).toEqual(["request", "answered"]);
    expect(await decided(ticket)).toHaveProperty("granted");
  });

  test("when the last monitor leaves, not before", async () => {
    const [one, two] = [monitor(), monitor()];
    const tickets = [requests.ask(request(), "a"), requests.ask(request(), "b")];
    one.leave();
    one.leave(); // a second time means nothing
    for (const ticket of tickets) expect(await decided(ticket)).toBeUndefined();
    two.leave();
    for (const ticket of tickets) expect(await decided(ticket)).toEqual({ denied: "nobody-watching" });
    expect(clock.timers.size).toBe(0);
    expect(two.events.filter((e) => e.type === "answered")).toEqual([]);
  });

  test("when the same device asks again in other words: it is a request of its own, at the end", async () => {
    const { events } = monitor();
    const asked = request();
    const first = requests.ask(asked, "a");
    const between = requests.ask(request(), "b");
    const second = requests.ask({ ...asked, mac: "b8:27:eb:ff:ff:ff" }, "a");
    expect(await decided(first)).toEqual({ denied: "busy" });
    expect(events.map((e) => (e.type === "answered" ? e.outcome : e.type))).toEqual([
      "request",
      "request",
      "withdrawn",
      "request",
    ]);
    expect(requests.pending.map((r) => r.id)).toEqual([between.id, second.id]);
    // The answer to what was shown before does not hit it.
    const { fingerprint: print } = requests.pending[1] ?? { fingerprint: "" };
    expect(() => requests.answer(first.id, { accept: true, fingerprint: print, by: "x" })).toThrow(
      /does not wait/,
    );
  });
});

describe("the same device on a new connection", () => {
  test("keeps its id, its place and its time; nobody is told anything", async () => {
    const { events } = monitor();
    const asked = request();
    const first = requests.ask(asked, "a");
    const between = requests.ask(request(), "b");
    clock.pass(1000);
    const again = requests.ask(asked, "a");
    expect(again.id).toBe(first.id);
    expect(await decided(first)).toEqual({ denied: "busy" });
    expect(requests.pending.map((r) => r.id)).toEqual([first.id, between.id]);
    expect(events.map((e) => e.type)).toEqual(["request", "request"]);
    first.withdraw(); // its old connection ends: the new one is not touched
    expect(await decided(again)).toBeUndefined();
    clock.pass(TIMEOUT - 1000);
    expect(await decided(again)).toEqual({ denied: "timeout" });
  });

  test("gets the answer, and may go away", async () => {
    const { events } = monitor();
    const asked = request();
    requests.ask(asked, "a");
    const again = requests.ask(asked, "a");
    answer(again.id, true, "alice");
    expect(await decided(again)).toHaveProperty("granted");
    const other = request();
    requests.ask(other, "a");
    requests.ask(other, "a").withdraw();
    expect(events.at(-1)).toMatchObject({ outcome: "withdrawn", by: "the device" });
  });
});

describe("an answer for another key", () => {
  test("is refused, and the request goes on waiting", async () => {
    monitor();
    const [one, two] = [requests.ask(request(), "a"), requests.ask(request(), "a")];
    const [, shown] = requests.pending;
    for (const accept of [true, false]) {
      expect(() =>
        requests.answer(one.id, { accept, fingerprint: shown?.fingerprint ?? "", by: "alice" }),
      ).toThrow(/is of another key than the one that was answered; nothing was done/);
    }
    expect(await decided(one)).toBeUndefined();
    expect(await decided(two)).toBeUndefined();
    expect(accepted).toEqual([]);
  });
});

describe("two keys that claim the same", () => {
  const warnings = (): (readonly string[])[] => requests.pending.map((r) => r.warnings);
  const words = (claim: string, code: string, state = "waits"): string =>
    `${code}, which ${state}, claims the same ${claim}; only the code tells which one the device is`;

  test("MAC address: both are shown with a warning, the older one anew", () => {
    const { events } = monitor();
    const [one, two] = [request(), request()];
    const first = requests.ask(one, "a");
    const second = requests.ask({ ...two, mac: one.mac }, "b", ["beware"]);
    expect(warnings()).toEqual([
      [words("MAC address", shortCode(two.publicKey))],
      ["beware", words("MAC address", shortCode(one.publicKey))],
    ]);
    expect(events.map((e) => e.type === "request" && e.request.id)).toEqual([first.id, second.id, first.id]);
    expect(events.slice(1).map((e) => e.type === "request" && e.request.warnings.length)).toEqual([2, 1]);
  });

  test("serial number, and an empty one is nobody's", () => {
    monitor();
    const [one, two] = [request(), request()];
    requests.ask(one, "a");
    requests.ask({ ...two, serialNumber: one.serialNumber }, "b");
    expect(warnings()).toEqual([
      [words("serial number", shortCode(two.publicKey))],
      [words("serial number", shortCode(one.publicKey))],
    ]);
    requests.ask({ ...request(), serialNumber: "" }, "a");
    requests.ask({ ...request(), serialNumber: "" }, "a");
    expect(warnings().slice(2)).toEqual([[], []]);
  });

  test("each has one warning of a kind, however many come", () => {
    const { events } = monitor();
    const first = request();
    for (let i = 0; i < 20; i++) requests.ask({ ...request(), mac: first.mac }, "a");
    expect(warnings().map((list) => list.length)).toEqual(Array(20).fill(1));
    expect(events).toHaveLength(21);
  });

  test("one that slides in where another was: the warning says so, for as long as that could have waited", () => {
    monitor();
    const [one, two] = [request(), request()];
    requests.ask(one, "a").withdraw();
    const second = requests.ask({ ...two, mac: one.mac }, "a");
    expect(warnings()).toEqual([
      [words("MAC address", shortCode(one.publicKey), "was withdrawn a short while ago")],
    ]);
    second.withdraw();
    clock.pass(TIMEOUT);
    requests.ask({ ...request(), mac: one.mac }, "a");
    expect(warnings()).toEqual([[]]);
  });

  test("the same key is no other", () => {
    monitor();
    const asked = request();
    requests.ask(asked, "a").withdraw();
    requests.ask(asked, "a");
    expect(warnings()).toEqual([[]]);
  });
});

describe("limits", () => {
  test("one source has half of the places; others still get in, and a place is free again after an answer", async () => {
    const { events } = monitor();
    const tickets = Array.from({ length: 64 }, () => requests.ask(request(), "192.0.2.1"));
    clock.pass(60_000); // so that it is not the rate
    expect(await decided(requests.ask(request(), "192.0.2.1"))).toEqual({ denied: "busy" });
    expect(requests.pending).toHaveLength(64);
    expect(await decided(requests.ask(request(), "192.0.2.2"))).toBeUndefined();
    answer(tickets[0]?.id ?? "", false, "x");
    answer(tickets[1]?.id ?? "", false, "x");
    expect(await decided(requests.ask(request(), "192.0.2.1"))).toBeUndefined();
    // What waits was never touched.
    for (const ticket of tickets.slice(2)) expect(await decided(ticket)).toBeUndefined();
    expect(events.filter((e) => e.type === "answered").map((e) => e.outcome)).toEqual(["denied", "denied"]);
  });

  test("a source that asks and goes away, again and again, is not shown more than once a second", () => {
    const { events } = monitor();
    for (let i = 0; i < 1000; i++) requests.ask(request(), "192.0.2.1").withdraw();
    const shown = (): number => events.filter((e) => e.type === "request").length;
    expect(shown()).toBe(64);
    clock.pass(1000);
    for (let i = 0; i < 1000; i++) requests.ask(request(), "192.0.2.1").withdraw();
    expect(shown()).toBe(65);
    // Another source is not kept out by it.
    requests.ask(request(), "192.0.2.2");
    expect(shown()).toBe(66);
  });

  test("those denied are told in one event at once, then in one every 10 s", () => {
    const { events } = monitor();
    const more = (): void => {
      for (let i = 0; i < 500; i++) requests.ask(request(), "192.0.2.1").withdraw();
    };
    more();
    const told = (): unknown[] => events.filter((e) => e.type === "overload");
    expect(told()).toEqual([{ type: "overload", denied: 1, from: ["192.0.2.1"] }]);
    clock.pass(9999);
    expect(told()).toHaveLength(1);
    clock.pass(1);
    expect(told().slice(1)).toEqual([{ type: "overload", denied: 435, from: ["192.0.2.1"] }]);
    expect(overloads).toEqual([
      [1, "192.0.2.1"],
      [435, "192.0.2.1"],
    ]);
    clock.pass(10_000);
    expect(told()).toHaveLength(2);
    expect(clock.timers.size).toBe(0);
  });
});

test("ids are never used twice", () => {
  monitor();
  const ids = Array.from({ length: 5 }, () => {
    const { id } = requests.ask(request(), "a");
    answer(id, false, "x");
    return id;
  });
  expect(new Set(ids).size).toBe(5);
});

test("anybody may be told anything", () => {
  const [one, two] = [monitor(), monitor()];
  two.leave();
  requests.tell({ type: "node", node: "vpn-1", state: "up", via: "x" });
  expect(one.events).toHaveLength(1);
  expect(two.events).toHaveLength(0);
});

describe("what no operator saw", () => {
  const print = (asked: EnrolmentRequest): string => fingerprint(asked.publicKey);
  const later = (asked: EnrolmentRequest, accept: boolean): string | undefined => {
    const id = requests.list().find((one) => one.fingerprint === print(asked))?.id ?? "";
    return requests.answer(id, { accept, fingerprint: print(asked), by: "carol" });
  };

  test("is remembered by key, with how often it asked and when", () => {
    const asked = request();
    requests.ask(asked, "192.0.2.1", ["beware"]);
    clock.pass(5000);
    requests.ask(asked, "192.0.2.1", ["beware"]);
    expect(requests.list()).toMatchObject([
      {
        code: shortCode(asked.publicKey),
        state: "remembered",
        asked: 2,
        lastAskedAt: "2026-03-01T12:00:05.000Z",
        warnings: ["beware"],
      },
    ]);
    expect(requests.pending).toEqual([]);
  });

  test("is accepted later: the device is registered, and remembered no more", () => {
    const asked = request();
    requests.ask(asked, "192.0.2.1");
    expect(later(asked, true)).toBe(grantFor(asked).node);
    expect(accepted).toEqual([{ request: asked, by: "carol" }]);
    expect(requests.list()).toEqual([]);
  });

  test("stays when it cannot be registered", () => {
    const asked = request();
    requests.ask(asked, "192.0.2.1");
    acceptFails = new Error("no clock");
    expect(() => later(asked, true)).toThrow("no clock");
    expect(requests.list()).toHaveLength(1);
  });

  test("that was denied is denied from then on, also with a monitor, until it is accepted", async () => {
    const asked = request();
    requests.ask(asked, "192.0.2.1");
    later(asked, false);
    const { events } = monitor();
    expect(await decided(requests.ask(asked, "192.0.2.1"))).toEqual({ denied: "operator" });
    expect(events).toEqual([]);
    expect(requests.list()).toMatchObject([{ state: "denied", asked: 2 }]);
    expect(later(asked, true)).toBe(grantFor(asked).node);
  });

  test("an answer is for the key and the words that were listed", () => {
    const asked = request();
    requests.ask(asked, "192.0.2.1");
    const [{ id = "" } = {}] = requests.list();
    expect(() => requests.answer(id, { accept: true, fingerprint: "SHA256:x", by: "carol" })).toThrow(
      "another key",
    );
    requests.ask({ ...asked, model: "Another" }, "192.0.2.1");
    expect(() => requests.answer(id, { accept: true, fingerprint: print(asked), by: "carol" })).toThrow(
      "does not wait",
    );
    expect(accepted).toEqual([]);
  });

  test("waits like any other once somebody watches, and is remembered again after it has expired", () => {
    const asked = request();
    requests.ask(asked, "192.0.2.1");
    const { leave } = monitor();
    requests.ask(asked, "192.0.2.1");
    expect(requests.list()).toMatchObject([{ state: "waiting" }]);
    clock.pass(TIMEOUT);
    expect(requests.list()).toMatchObject([{ state: "remembered" }]);
    requests.ask(asked, "192.0.2.1");
    leave();
    expect(requests.list()).toMatchObject([{ state: "remembered" }]);
  });

  test("what a monitor denied is not remembered", () => {
    monitor();
    const ticket = requests.ask(request(), "192.0.2.1");
    answer(ticket.id, false, "bob");
    expect(requests.list()).toEqual([]);
  });

  test("two keys that claim the same are listed with a warning", () => {
    const [one, two] = [request(), request()];
    requests.ask(one, "192.0.2.1");
    requests.ask({ ...two, mac: one.mac }, "192.0.2.1");
    const [first, second] = requests.list();
    expect(first?.warnings).toEqual([
      expect.stringContaining(`${shortCode(two.publicKey)} claims the same MAC`),
    ]);
    expect(second?.warnings).toEqual([
      expect.stringContaining(`${shortCode(one.publicKey)} claims the same MAC`),
    ]);
  });

  test("a flood of new keys does not push out the board that asked before, nor one of another source", () => {
    const [honest, far] = [request(), request()];
    for (let round = 0; round < 400; round++) {
      if (round % 5 === 0) requests.ask(honest, "192.0.2.1");
      if (round === 300) requests.ask(far, "198.51.100.1");
      for (let n = 0; n < 3; n++) requests.ask(request(), "192.0.2.1");
      clock.pass(1000);
    }
    const listed = requests.list();
    expect(listed.length).toBeLessThanOrEqual(256);
    for (const one of [honest, far]) expect(listed.map((r) => r.fingerprint)).toContain(print(one));
  }, 120_000);

  test("is forgotten a day after it asked last", () => {
    requests.ask(request(), "192.0.2.1");
    clock.pass(86_400_000 - 1);
    expect(requests.list()).toHaveLength(1);
    clock.pass(1);
    expect(requests.list()).toEqual([]);
  });

  test("is not remembered where only monitors may answer", () => {
    const strict = new AccessRequests({ ...requests.options, remember: false });
    strict.ask(request(), "192.0.2.1");
    expect(strict.list()).toEqual([]);
  });
});

describe("the journal is told", () => {
  const watch = () => requests.watch(() => {});
  const ASKED = "enrolment-requested";
  const DENIED = "enrolment-denied";

  test("of a key once while it is remembered, however often it asks, and whoever watches then", () => {
    const asked = request();
    const code = shortCode(asked.publicKey);
    for (let i = 0; i < 3; i++) requests.ask(asked, "192.0.2.1");
    watch();
    requests.ask(asked, "192.0.2.1");
    clock.pass(TIMEOUT);
    requests.ask(asked, "192.0.2.1");
    expect(recorded).toEqual([[ASKED, code, undefined]]);
  });

  test("of what an operator denied, and of what nobody answered in time", () => {
    watch();
    const [one, two] = [request(), request()];
    const [first, second] = [shortCode(one.publicKey), shortCode(two.publicKey)];
    const ticket = requests.ask(one, "192.0.2.1");
    requests.ask(two, "192.0.2.1");
    answer(ticket.id, false, "alice");
    clock.pass(TIMEOUT);
    expect(recorded).toEqual([
      [ASKED, first, undefined],
      [ASKED, second, undefined],
      [DENIED, first, "alice"],
      [DENIED, second, undefined],
    ]);
  });

  test("of nothing that the limits deny, and that nobody remembers", () => {
    watch();
    for (let i = 0; i < 200; i++) requests.ask(request(), "192.0.2.1");
    expect(recorded).toHaveLength(64);
  });
});

test("a name comes with the answer, and goes to whoever registers the device; also later", () => {
  requests.watch(() => {});
  const named = { accept: true, by: "alice", name: "lab-3" };
  const [one, two] = [request(), request()];
  const ticket = requests.ask(one, "192.0.2.1");
  requests.answer(ticket.id, { ...named, fingerprint: fingerprint(one.publicKey) });
  requests.ask(two, "192.0.2.1");
  clock.pass(TIMEOUT);
  const [remembered] = requests.list();
  requests.answer(remembered?.id ?? "", { ...named, fingerprint: fingerprint(two.publicKey), name: "lab-4" });
  expect(accepted).toMatchObject([{ name: "lab-3" }, { name: "lab-4" }]);
});

describe("a block", () => {
  const deny = (id: string, block: "key" | "source"): void => {
    const shown = requests.pending.find((one) => one.id === id);
    requests.answer(id, { accept: false, fingerprint: shown?.fingerprint ?? "", by: "alice", block });
  };

  test("of a key: no monitor sees it again, others are seen, and it can still be accepted", async () => {
    const { events } = monitor();
    const asked = request();
    const ticket = requests.ask(asked, "192.0.2.1");
    deny(ticket.id, "key");
    expect(await ticket.decision).toEqual({ denied: "operator" });
    events.length = 0;
    expect(await decided(requests.ask(asked, "198.51.100.1"))).toEqual({ denied: "operator" });
    expect(events).toEqual([]);
    expect(requests.ask(request(), "192.0.2.1").waits).toBe(true);
    expect(blocks).toEqual([["key", shortCode(asked.publicKey), "alice"]]);
    const listed = requests.list().find(({ code }) => code === shortCode(asked.publicKey));
    expect(listed).toMatchObject({ state: "denied" });
    const { id = "", fingerprint: print = "" } = listed ?? {};
    expect(requests.answer(id, { accept: true, fingerprint: print, by: "bob" })).toBeDefined();
  });

  test("of a source: all that waits from there is denied, and what comes within an hour", async () => {
    const { events } = monitor();
    const [one, two, other] = [
      requests.ask(request(), "192.0.2.1"),
      requests.ask(request(), "192.0.2.1"),
      requests.ask(request(), "198.51.100.1"),
    ];
    deny(one.id, "source");
    expect([await one.decision, await two.decision]).toEqual([
      { denied: "operator" },
      { denied: "operator" },
    ]);
    expect(await decided(other)).toBeUndefined();
    events.length = 0;
    clock.pass(3_599_000);
    expect(await decided(requests.ask(request(), "192.0.2.1"))).toEqual({ denied: "operator" });
    expect(events.filter(({ type }) => type === "request")).toEqual([]);
    clock.pass(1000);
    expect(requests.ask(request(), "192.0.2.1").waits).toBe(true);
  });

  test("of sources is bounded: the one that was blocked first is free again", async () => {
    monitor();
    const from = (i: number): string => `10.${i >> 8}.${i & 255}.1`;
    for (let i = 0; i <= 256; i++) {
      clock.pass(1000);
      deny(requests.ask(request(), from(i)).id, "source");
    }
    expect(requests.ask(request(), from(0)).waits).toBe(true);
    expect(requests.ask(request(), from(1)).waits).toBe(false);
  });

  test("is listed, and can be lifted: what asks again is shown", async () => {
    monitor();
    const [one, other] = [request(), request()];
    deny(requests.ask(one, "192.0.2.1").id, "key");
    clock.pass(1000);
    deny(requests.ask(other, "2001:db8::7").id, "source");
    const at = new Date(clock.now).toISOString();
    const until = new Date(clock.now + 3_600_000).toISOString();
    const [key, source] = requests.blocks();
    expect(key).toMatchObject({ kind: "key", code: shortCode(one.publicKey), mac: one.mac, by: "alice" });
    const what = "2001:db8:0:0::/64";
    expect(source).toEqual({ kind: "source", what, code: null, mac: null, by: "alice", at, until });
    requests.lift("key", fingerprint(one.publicKey), "bob");
    requests.lift("source", what, "bob");
    expect(blocks.slice(2)).toEqual([
      ["key lifted", fingerprint(one.publicKey), "bob"],
      ["source lifted", what, "bob"],
    ]);
    expect(requests.blocks()).toEqual([]);
    expect(requests.ask(one, "192.0.2.1").waits).toBe(true);
    expect(requests.ask(request(), "2001:db8::8").waits).toBe(true);
    expect(() => requests.lift("source", what, "bob")).toThrow(`the source ${what} is not blocked`);
    expect(() => requests.lift("key", "SHA256:none", "bob")).toThrow("the key SHA256:none is not blocked");
  });

  test("whose time is over is not listed", () => {
    monitor();
    deny(requests.ask(request(), "192.0.2.1").id, "source");
    expect(requests.blocks()).toHaveLength(1);
    clock.pass(3_600_000);
    expect(requests.blocks()).toEqual([]);
    expect(() => requests.lift("source", "192.0.2.1", "bob")).toThrow("is not blocked");
  });
});
