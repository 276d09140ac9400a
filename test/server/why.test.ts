/** Why a node is down or not in order: what is known of its tunnels, boot files and virtual machine. */

import { expect, test } from "bun:test";
import { stateOf, whyWords } from "../../src/commands/node/_why.ts";
import { parseReport } from "../../src/control/report.ts";
import type { Seen } from "../../src/server/registry.ts";
import { type Known, whyOf } from "../../src/server/why.ts";

const NOW = new Date("2026-03-01T12:00:00.000Z");
const at = (secondsAgo: number): Date => new Date(NOW.getTime() - 1000 * secondsAgo);
const NOTHING: Known = {
  acceptedAt: at(7200).toISOString(),
  tunnel: undefined,
  seen: undefined,
  boot: undefined,
  report: undefined,
};
const ended: Seen = {
  seenAt: at(300).toISOString(),
  endedAt: at(300).toISOString(),
  end: "silent",
  reason: "the peer was silent for 10 s",
};

/** What a command shows. */
function shown(known: Partial<Known>): [state: string, why: string | null] {
  const all = { ...NOTHING, ...known };
  const why = whyOf(all, NOW);
  const state = all.tunnel?.state ?? "down";
  return [stateOf({ state, why }), why && whyWords(why, NOW.getTime())];
}

test("a node that is down", () => {
  expect(shown({})).toEqual(["down", "its tunnel never was up since the device was accepted, 2 h 0 min ago"]);
  expect(shown({ seen: ended })).toEqual([
    "down",
    "its last tunnel ended 5 min 0 s ago: the device was silent (the peer was silent for 10 s)",
  ]);
  expect(shown({ seen: { ...ended, endedAt: null, end: null, reason: null } })[1]).toBe(
    "its tunnel was up when the server was killed, 5 min 0 s ago; it has not come back",
  );
  const problem = { at: at(2), text: "the server's bridge walt-net is full" };
  expect(shown({ seen: ended, tunnel: { state: "down", problem } })[1]).toBe(
    "its board asked for a tunnel 2.0 s ago, and did not get one: the server's bridge walt-net is full",
  );
});

test("a node that is up, and does not boot", () => {
  const up = { state: "up" } as const;
  expect(shown({ tunnel: up, seen: ended })).toEqual(["up", null]);
  const missing = "/var/lib/walt-vpn/boot/arm64/vmlinuz";
  expect(shown({ tunnel: up, boot: { at: at(3), missing } })).toEqual([
    "up, no boot files",
    `its virtual machine waits for boot files: there is no ${missing}`,
  ]);
  // It has booted since, or does not ask any more.
  expect(shown({ tunnel: up, boot: { at: at(3), missing: null } })).toEqual(["up", null]);
  expect(shown({ tunnel: up, boot: { at: at(300), missing } })).toEqual(["up", null]);
});

test("a node whose virtual machine does not run", () => {
  const facts = parseReport({ vm: { state: "waiting", lastEnd: { reason: "QEMU was killed" } } });
  const up = { state: "up" } as const;
  expect(shown({ tunnel: up, report: { receivedAt: at(1), facts } })).toEqual([
    "up, no VM",
    "its virtual machine does not run: QEMU was killed",
  ]);
  // A device without a virtual machine is in order.
  const none = parseReport({ vm: { state: "off" } });
  expect(shown({ tunnel: up, report: { receivedAt: at(1), facts: none } })).toEqual(["up", null]);
});

test("a kind that only a newer version knows is shown as it is", () => {
  expect(whyWords({ kind: "moon-phase", at: null, end: null, reason: "it is full" })).toBe(
    "moon-phase: it is full",
  );
});
