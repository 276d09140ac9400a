/** What an operator sees and what his words do, without a server. */

import { describe, expect, test } from "bun:test";
import type { MonitorEvent, PendingRequest } from "../../src/api/events.ts";
import { type Action, MonitorScreen } from "../../src/commands/vpn/_monitor-screen.ts";

const request = (id: string, more: Partial<PendingRequest> = {}): MonitorEvent => ({
  type: "request",
  request: {
    id,
    mac: `b8:27:eb:00:00:0${id}`,
    model: "Raspberry Pi 3 Model B Plus",
    serialNumber: "00000000deadbeef",
    address: "192.0.2.1",
    fingerprint: "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    code: "7KQ2M-X9ABC",
    receivedAt: "2026-03-01T12:00:00.000Z",
    expiresAt: "2026-03-01T12:05:00.000Z",
    ...more,
  },
});
const answered = (id: string, more: Partial<MonitorEvent>): MonitorEvent =>
  ({ type: "answered", id, outcome: "accepted", by: "bob@lab", ...more }) as MonitorEvent;

/** What a terminal would show; answers that go to the server stand as `→ …`. */
function shown(actions: readonly Action[]): string {
  const text = actions.map((action) => {
    if ("print" in action) return `${action.print}\n`;
    if ("prompt" in action) return action.prompt;
    return `→ ${action.answer.accept ? "accept" : "deny"} ${action.answer.id}\n`;
  });
  return `\n${text.join("")}`;
}

describe("a request", () => {
  test("is shown with all its details, and asked about", () => {
    const screen = new MonitorScreen();
    expect(
      shown([...screen.event({ type: "watching" }), ...screen.event(request("1"))]),
    ).toMatchInlineSnapshot(`
      "
      Waiting for devices that ask for access. ^C ends.

      A device asks for access to the VPN:
        MAC address    b8:27:eb:00:00:01
        model          Raspberry Pi 3 Model B Plus
        serial number  00000000deadbeef
        came from      192.0.2.1
        key            SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
        short code     7KQ2M-X9ABC   (the device shows the same)
      Accept this device? (y/n) "
    `);
  });

  test("with a warning", () => {
    const screen = new MonitorScreen();
    const warning = "a registered device with this MAC address exists already: vpn-000001";
    expect(shown(screen.event(request("1", { warning })))).toContain(`  WARNING        ${warning}\nAccept`);
  });

  test("that comes during a question waits its turn", () => {
    const screen = new MonitorScreen();
    screen.event(request("1"));
    expect(shown(screen.event(request("2")))).toMatchInlineSnapshot(`
      "

      (one more device is waiting: b8:27:eb:00:00:02)
      "
    `);
    expect(screen.current?.id).toBe("1");
    expect(shown(screen.line("n"))).toMatchInlineSnapshot(`
      "
      → deny 1

      A device asks for access to the VPN:
        MAC address    b8:27:eb:00:00:02
        model          Raspberry Pi 3 Model B Plus
        serial number  00000000deadbeef
        came from      192.0.2.1
        key            SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
        short code     7KQ2M-X9ABC   (the device shows the same)
      Accept this device? (y/n) "
    `);
    expect(screen.current?.id).toBe("2");
  });
});

describe("words", () => {
  test("that mean yes, no, or neither", () => {
    for (const [words, meaning] of [
      [["y", "yes", " Y ", "accept", "a"], "→ accept 1"],
      [["n", "NO", "deny", "d"], "→ deny 1"],
      [["", "maybe", "yes please", "1", "\u001b[A"], "Accept this device? (y/n) "],
    ] as const) {
      for (const word of words) {
        const screen = new MonitorScreen();
        screen.event(request("1"));
        expect([word, shown(screen.line(word)).trim()]).toEqual([word, meaning.trim()]);
      }
    }
  });

  test("without a question", () => {
    const screen = new MonitorScreen();
    expect(screen.line("")).toEqual([]);
    expect(shown(screen.line("y"))).toBe("\nNo device is waiting.\n");
  });

  test("answer one request only: a second y is for the next", () => {
    const screen = new MonitorScreen();
    screen.event(request("1"));
    expect(shown(screen.line("y"))).toBe("\n→ accept 1\n");
    expect(shown(screen.line("y"))).toBe("\nNo device is waiting.\n");
  });
});

describe("what became of it", () => {
  test("accepted by me", () => {
    const screen = new MonitorScreen();
    screen.event(request("1"));
    screen.line("y");
    expect(shown(screen.event(answered("1", { node: "vpn-000001" } as MonitorEvent)))).toBe(
      "\nb8:27:eb:00:00:01 accepted: it becomes node vpn-000001\n",
    );
  });

  test("denied by me", () => {
    const screen = new MonitorScreen();
    screen.event(request("1"));
    screen.line("n");
    expect(shown(screen.event(answered("1", { outcome: "denied" } as MonitorEvent)))).toBe(
      "\nb8:27:eb:00:00:01 denied\n",
    );
  });

  test("answered by somebody else during the question: told who, and the next is asked about", () => {
    const screen = new MonitorScreen();
    screen.event(request("1"));
    screen.event(request("2"));
    expect(shown(screen.event(answered("1", { node: "vpn-000001" } as MonitorEvent)))).toMatchInlineSnapshot(`
      "

      b8:27:eb:00:00:01 accepted by bob@lab as node vpn-000001

      A device asks for access to the VPN:
        MAC address    b8:27:eb:00:00:02
        model          Raspberry Pi 3 Model B Plus
        serial number  00000000deadbeef
        came from      192.0.2.1
        key            SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
        short code     7KQ2M-X9ABC   (the device shows the same)
      Accept this device? (y/n) "
    `);
    expect(screen.current?.id).toBe("2");
  });

  test("answered by somebody else while it waited", () => {
    const screen = new MonitorScreen();
    screen.event(request("1"));
    screen.event(request("2"));
    expect(shown(screen.event(answered("2", { outcome: "denied" } as MonitorEvent)))).toBe(
      "\nb8:27:eb:00:00:02 denied by bob@lab\n",
    );
    expect(screen.current?.id).toBe("1");
    expect(shown(screen.line("y"))).toBe("\n→ accept 1\n");
  });

  test("too late, and gone", () => {
    const screen = new MonitorScreen();
    screen.event(request("1"));
    expect(shown(screen.event(answered("1", { outcome: "expired", by: "nobody" } as MonitorEvent)))).toBe(
      "\n\nb8:27:eb:00:00:01 denied: nobody answered in time\n",
    );
    screen.event(request("2"));
    expect(
      shown(screen.event(answered("2", { outcome: "withdrawn", by: "the device" } as MonitorEvent))),
    ).toBe("\n\nb8:27:eb:00:00:02 withdrawn by the device\n");
    expect(screen.event(answered("9", {}))).toEqual([]);
  });

  test("an answer that the server did not take", () => {
    const screen = new MonitorScreen();
    screen.event(request("1"));
    screen.line("y");
    // Whatever the reason was, the request waits until the server says otherwise: it is asked about again.
    expect(shown(screen.failed("1", "no free node name was found"))).toMatch(
      /^\nno free node name was found\n[\s\S]*b8:27:eb:00:00:01[\s\S]*Accept this device/,
    );
    screen.line("y");
    screen.event(answered("1", {}));
    expect(shown(screen.failed("1", "request 1 does not wait for an answer any more"))).toBe(
      "\nrequest 1 does not wait for an answer any more\n",
    );
  });
});

test("nodes come and go; a sign of life is not shown", () => {
  const screen = new MonitorScreen();
  expect(
    shown([
      ...screen.event({ type: "node", node: "vpn-000001", state: "up", via: "gate:22" }),
      ...screen.event({ type: "alive" }),
      ...screen.event({ type: "node", node: "vpn-000001", state: "down", via: "gate:22" }),
    ]),
  ).toBe("\nnode vpn-000001 is up, through gate:22\nnode vpn-000001 is down\n");
});

test("what waited when the connection was lost waits no more", () => {
  const screen = new MonitorScreen();
  screen.event(request("1"));
  screen.event(request("2"));
  screen.lost();
  expect(shown(screen.line("y"))).toBe("\nNo device is waiting.\n");
  expect(shown(screen.event(request("1")))).toContain("A device asks for access");
});
