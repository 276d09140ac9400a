/** What an operator sees and what is typed does, without a server, with a clock of its own. */

import { beforeEach, describe, expect, test } from "bun:test";
import type { MonitorEvent, PendingRequest } from "../../src/api/events.ts";
import { type Action, MonitorScreen, READING_TIME } from "../../src/commands/vpn/_monitor-screen.ts";

const CODES = ["", "7KQ2M-X9ABC", "PG2WB-J9NS3", "PG2WC-00000", "ACCEP-T0000"];

const request = (id: string, more: Partial<PendingRequest> = {}): MonitorEvent => ({
  type: "request",
  request: {
    id,
    mac: `b8:27:eb:00:00:0${id}`,
    model: "Raspberry Pi 3 Model B Plus",
    serialNumber: `00000000deadbee${id}`,
    address: "192.0.2.1",
    fingerprint: `SHA256:${id.repeat(43)}`,
    code: CODES[Number(id)] ?? `ZZZ${id.padStart(2, "0")}-00000`,
    receivedAt: "2026-03-01T12:00:00.000Z",
    expiresAt: "2026-03-01T12:05:00.000Z",
    warnings: [],
    ...more,
  },
});
const answered = (id: string, more: Record<string, unknown> = {}): MonitorEvent =>
  ({ type: "answered", id, outcome: "accepted", by: "bob@lab", ...more }) as MonitorEvent;

/** What a terminal would show; answers that go to the server stand as `-> …`. */
function shown(actions: readonly Action[]): string {
  const text = actions.map((action) => {
    if ("print" in action) return `${action.print}\n`;
    if ("prompt" in action) return `${action.prompt}\n`;
    if ("say" in action) return `${action.say}\n`;
    const { accept, id, fingerprint, name } = action.answer;
    return `-> ${accept ? "accept" : "deny"} ${id} ${fingerprint}${name === undefined ? "" : ` ${name}`}\n`;
  });
  return `\n${text.join("")}`;
}

const ONE = 'Accept? Type the first 3 characters of the code on the device ("n" denies): ';
const WHICH = "Accept which? Type the first 3 characters of its code (`deny CODE` denies): ";

let now: number;
let screen: MonitorScreen;
beforeEach(() => {
  now = new Date(2026, 2, 1, 14, 5, 7).getTime();
  screen = new MonitorScreen({ columns: 80, colours: false });
});
const see = (event: MonitorEvent): string => shown(screen.event(event, now));
/** Type a line as soon as everything on the screen could have been read. */
const type = (text: string): string => {
  now += READING_TIME;
  return shown(screen.line(text, now));
};
const said = (id: string, accept: boolean): string =>
  `-> ${accept ? "accept" : "deny"} ${id} SHA256:${id.repeat(43)}\n`;

describe("a request", () => {
  test("is shown with its code first and apart, and asked about", () => {
    expect(see({ type: "watching" }) + see(request("2"))).toMatchInlineSnapshot(`
      "
      14:05:07 Waiting for devices that ask for access. \`CODE as NAME\` also names the node. ^C ends.

      14:05:07 A device asks for access to the VPN:

        short code     PG2WB-J9NS3   (the device shows the same)

        MAC address    b8:27:eb:00:00:02
        model          Raspberry Pi 3 Model B Plus
        serial number  00000000deadbee2
        came from      192.0.2.1
        key            SHA256:2222222222222222222222222222222222222222222

      Accept? Type the first 3 characters of the code on the device ("n" denies): 
      "
    `);
  });

  test("with warnings, also one that comes later", () => {
    expect(see(request("1", { warnings: ["beware", "of it"] }))).toContain(
      "\n  WARNING  beware\n  WARNING  of it\n",
    );
    now += 10_000;
    expect(see(request("1", { warnings: ["beware", "of it", "indeed"] }))).toBe(
      `\n14:05:17 WARNING for 7KQ2M-X9ABC: indeed\n${ONE}\n`,
    );
    // It has changed: an answer that was typed before that is none.
    expect(shown(screen.line("7KQ", now + READING_TIME - 1))).toContain("Not counted: 7KQ2M-X9ABC");
  });

  test("cannot draw a code of its own: on any terminal its words stay on their line", () => {
    const evil = `Pi${"\u3000".repeat(30)}\u0301\u202e\u200b\n  short code     AAAAA-AAAAA   (the device`;
    for (const columns of [80, 60, 40]) {
      screen = new MonitorScreen({ columns, colours: false });
      const one = see(
        request("1", { model: evil, serialNumber: `${" ".repeat(63)}short code`, address: evil }),
      );
      const two = see(request("2", { model: evil.repeat(3), serialNumber: "A".repeat(64) }));
      const all = type("");
      for (const text of [one, two, all]) {
        expect(text).toMatch(/^[\n -~]*$/);
        for (const line of text.split("\n").filter((l) => /^ {2}(model|serial|[0-9A-Z]{5}-)/.test(l)))
          expect([line, line.length < columns]).toEqual([line, true]);
        expect(text).not.toMatch(/^ *short code +A/m);
        expect(text).not.toMatch(/^ *AAAAA/m);
      }
    }
  });
});

describe("several requests", () => {
  test("each more is a line; Enter lists them all; the last one is shown in full again", () => {
    see(request("1"));
    expect(see(request("2"))).toBe(
      `\n14:05:07 One more device asks for access; 2 are waiting:\n  PG2WB-J9NS3  b8:27:eb:00:00:02  Raspberry Pi 3 Model B ...  00000000deadbee2\n${WHICH}\n`,
    );
    expect(type("")).toMatchInlineSnapshot(`
      "
      2 devices are waiting:
        7KQ2M-X9ABC  b8:27:eb:00:00:01  Raspberry Pi 3 Model B ...  00000000deadbee1
        PG2WB-J9NS3  b8:27:eb:00:00:02  Raspberry Pi 3 Model B ...  00000000deadbee2
      Accept which? Type the first 3 characters of its code (\`deny CODE\` denies): 
      "
    `);
    expect(type("7kq")).toMatch(/^\n-> accept 1 \S+\n\n {2}short code {5}PG2WB-J9NS3[\s\S]*\nAccept\? /);
  });

  test("that claim the same board stand beside each other", () => {
    const mac = "b8:27:eb:00:00:01";
    see(request("1"));
    see(request("2"));
    expect(see(request("3", { mac, warnings: ["same MAC"] }))).toMatchInlineSnapshot(`
      "
      14:05:07 One more device asks for access; 3 are waiting:
        7KQ2M-X9ABC  b8:27:eb:00:00:01  Raspberry Pi 3 Model B ...  00000000deadbee1
        PG2WC-00000  b8:27:eb:00:00:01  Raspberry Pi 3 Model B ...  00000000deadbee3
        WARNING  same MAC
      Accept which? Type the first 3 characters of its code (\`deny CODE\` denies): 
      "
    `);
    const codes = [...type("").matchAll(/^ {2}([0-9A-Z]{5}-[0-9A-Z]{5})/gm)].map((m) => m[1]);
    expect(codes).toEqual(["7KQ2M-X9ABC", "PG2WC-00000", "PG2WB-J9NS3"]);
  });

  test("more than twenty are counted", () => {
    for (let i = 10; i < 40; i++) see(request(String(i)));
    const list = type("");
    expect(list.match(/^ {2}ZZZ/gm)).toHaveLength(20);
    expect(list).toContain("\n  and 10 more\n");
  });
});

describe("an answer", () => {
  test("names a code: it goes to the request with that code, with its key", () => {
    see(request("1"));
    see(request("2"));
    expect(type("pg2")).toStartWith(`\n${said("2", true)}`);
    expect(type("deny 7kq2m-x9abc")).toBe(`\n${said("1", false)}`);
  });

  test("may name the node", () => {
    see(request("1"));
    expect(type("7kq as lab-3")).toBe(`\n${said("1", true).trimEnd()} lab-3\n`);
  });

  test("that is only a y accepts nothing, with one request and with several", () => {
    see(request("1"));
    for (const word of ["y", "yes", "accept", "Y"])
      expect(type(word)).toBe(
        `\n"${word.toLowerCase()}" alone accepts nothing: type the first characters of the code that the device shows.\n${ONE}\n`,
      );
    see(request("2"));
    expect(type("y")).toContain("accepts nothing");
  });

  test("n denies the only one, and nobody when there are several", () => {
    see(request("1"));
    see(request("2"));
    expect(type("n")).toBe(`\nSeveral devices are waiting: type \`deny\` and the code of one.\n${WHICH}\n`);
    see(answered("2"));
    now += READING_TIME;
    expect(type("n")).toBe(`\n${said("1", false)}`);
  });

  test("is refused when it fits several, none, or is too short", () => {
    see(request("2"));
    see(request("3"));
    expect(type("PG2")).toContain('"PG2" fits several (PG2WB-J9NS3, PG2WC-00000): type more of the code.');
    expect(type("PG")).toContain('"PG" is not the beginning of a code: at least 3');
    expect(type("XYZ")).toContain('No device that waits has a code that begins like "XYZ".');
    expect(type("\u001b[Ax\u202e")).toContain('"?[Ax?" is not the beginning');
    expect(type("pg2wc")).toStartWith(`\n${said("3", true)}`);
  });

  test("that is a word and the beginning of a code is told, not taken", () => {
    see(request("4"));
    expect(type("accep")).toBe(`\n${said("4", true)}`);
  });

  test("typed before the request was on the screen for half a second does not count", () => {
    see(request("2"));
    const early = shown(screen.line("PG2", now + READING_TIME - 1));
    expect(early).toBe(
      `\nNot counted: PG2WB-J9NS3 had not been on the screen for half a second. Look, and type it again.\n${ONE}\n`,
    );
    expect(shown(screen.line("PG2", now + 2 * READING_TIME))).toBe(`\n${said("2", true)}`);
  });

  test("a clock that is set back does not keep an operator out", () => {
    see(request("2"));
    now -= 3_600_000;
    expect(shown(screen.line("PG", now))).toContain("not the beginning");
    expect(type("PG2")).toBe(`\n${said("2", true)}`);
  });

  test("a denial neither", () => {
    see(request("2"));
    expect(shown(screen.line("n", now + READING_TIME - 1))).toContain("Not counted");
  });

  test("meant for a request that has just gone does not hit another one with the same beginning", () => {
    see(request("2"));
    see(request("3"));
    see(answered("2", { outcome: "withdrawn", by: "the device" }));
    expect(type("pg2")).toContain('"pg2" fits several (PG2WC-00000, PG2WB-J9NS3)');
    now += 10_000;
    expect(type("pg2")).toBe(`\n${said("3", true)}`);
  });

  test("to what is gone says so", () => {
    see(request("1"));
    see(request("2"));
    see(answered("2", { outcome: "withdrawn", by: "the device" }));
    expect(type("pg2")).toContain("PG2WB-J9NS3 does not wait any more: nothing was done.");
  });

  test("without a question", () => {
    expect(type("")).toBe("\n");
    expect(type("y")).toBe("\nNo device is waiting.\n");
  });

  test("a flood of wrong lines is complained about twice a second, no more", () => {
    see(request("1"));
    now += 10_000;
    const complaints = Array.from({ length: 1000 }, (_, ms) => screen.line("y", now + ms)).filter(
      (actions) => actions.length > 0,
    );
    expect(complaints).toHaveLength(2);
  });

  test("that the server did not take: it tells why, and the request is asked about again", () => {
    see(request("1"));
    type("7kq");
    expect(shown(screen.failed("1", "no free node name\u001b was found", now))).toMatch(
      /^\n14:05:07 no free node name\? was found\n\n {2}short code {5}7KQ2M-X9ABC[\s\S]*\nAccept\? /,
    );
    type("7kq");
    see(answered("1"));
    expect(shown(screen.failed("1", "request 1 does not wait", now))).toBe(
      "\n14:05:08 request 1 does not wait\n",
    );
  });
});

describe("what became of it", () => {
  test("accepted and denied by me", () => {
    see(request("1"));
    type("7kq");
    expect(see(answered("1", { node: "vpn-000001" }))).toBe(
      "\n14:05:07 7KQ2M-X9ABC (b8:27:eb:00:00:01) accepted: it becomes node vpn-000001\n",
    );
    see(request("2"));
    type("n");
    expect(see(answered("2", { outcome: "denied" }))).toBe(
      "\n14:05:08 PG2WB-J9NS3 (b8:27:eb:00:00:02) denied\n",
    );
  });

  test("answered by somebody else during the question: told who, and what still waits is asked about", () => {
    see(request("1"));
    see(request("2"));
    expect(see(answered("1", { node: "vpn-000001" }))).toMatch(
      /^\n14:05:07 7KQ2M-X9ABC \(b8:27:eb:00:00:01\) accepted by bob@lab as node vpn-000001\n\n {2}short code {5}PG2WB/,
    );
    expect(see(answered("2", { outcome: "denied" }))).toBe(
      "\n14:05:07 PG2WB-J9NS3 (b8:27:eb:00:00:02) denied by bob@lab\n",
    );
  });

  test("too late, and gone", () => {
    see(request("1"));
    expect(see(answered("1", { outcome: "expired", by: "nobody" }))).toBe(
      "\n14:05:07 7KQ2M-X9ABC (b8:27:eb:00:00:01) denied: nobody answered in time\n",
    );
    see(request("2"));
    expect(see(answered("2", { outcome: "withdrawn", by: "the device" }))).toBe(
      "\n14:05:07 PG2WB-J9NS3 (b8:27:eb:00:00:02) withdrawn by the device\n",
    );
    expect(see(answered("9"))).toBe("\n");
  });

  test("what waited when the connection was lost waits no more", () => {
    see(request("1"));
    see(request("2"));
    screen.lost();
    expect(type("pg2")).toBe("\nNo device is waiting.\n");
    expect(see(request("1"))).toContain("A device asks for access");
  });
});

test("nodes come and go, and a question is asked again behind that; a sign of life is not shown", () => {
  const up: MonitorEvent = { type: "node", node: "vpn-000001", state: "up", via: "gate:22" };
  expect(see(up)).toBe("\n14:05:07 node vpn-000001 is up, through gate:22\n");
  expect(see({ type: "alive" })).toBe("\n");
  see(request("1"));
  expect(see({ ...up, state: "down" })).toBe(`\n14:05:07 node vpn-000001 is down\n${ONE}\n`);
});

test("requests that the limits denied are one line", () => {
  expect(see({ type: "overload", denied: 1, from: ["192.0.2.1"] })).toBe(
    "\n14:05:07 1 more request was denied: too many at once, from 192.0.2.1\n",
  );
  expect(see({ type: "overload", denied: 435, from: ["192.0.2.1", "2001:db8::1"] })).toBe(
    "\n14:05:07 435 more requests were denied: too many at once, from 192.0.2.1, 2001:db8::1\n",
  );
});

test("colours only where there are some", () => {
  screen = new MonitorScreen({ columns: 80, colours: true });
  const text = see(request("1", { warnings: ["beware"] }));
  expect(text).toContain("\u001b[1m7KQ2M-X9ABC\u001b[0m");
  expect(text).toContain("\u001b[1;31mWARNING\u001b[0m  beware");
  // Without them there is not one escape sequence: every other test here compares whole lines.
});
