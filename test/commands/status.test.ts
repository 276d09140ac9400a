/** `walt status`: what is on the screen, and what needs attention. */

import { expect, test } from "bun:test";
import type { NodeInfo } from "../../src/api/messages.ts";
import { attentionOf } from "../../src/commands/_attention.ts";
import { statusText } from "../../src/commands/status.ts";
import { NODE } from "../api/messages.ts";

const NOW = Date.parse("2026-03-01T15:05:25.335Z");
const node = (name: string, more: Partial<NodeInfo> = {}): NodeInfo => ({ ...NODE, name, ...more });

test("all is well", () => {
  const attention = attentionOf([node("lab-1")], [], [], NOW);
  const all = { requests: [], nodes: { up: ["lab-1"], down: [] }, attention };
  expect(statusText({ server: { version: "0.1.0", address: "local" }, ...all }, 80)).toMatchInlineSnapshot(`
"WHAT      VALUE
server    walt 0.1.0, on this machine
nodes     1: 1 up, 0 down
requests  none

Nothing needs attention."
`);
});

test("troubles first, then nodes that are down, lossy ways, and what was begun", () => {
  const nodes = [
    node("lab-10", { state: "down" }),
    node("lab-2", { state: "down", since: null }),
    node("lab-3", { loss: 0.2 }),
  ];
  const attention = attentionOf(
    nodes,
    [{ kind: "filter", text: "a firewall drops frames", cure: "iptables -I FORWARD …" }],
    [{ key: "ca", fingerprint: "SHA256:a", next: "SHA256:b", waiting: ["lab-2"] }],
    NOW,
  );
  const all = { requests: ["PG2WB-J9NS3"], nodes: { up: ["lab-3"], down: ["lab-2", "lab-10"] }, attention };
  expect(
    statusText({ server: { version: "0.1.0", address: "ssh://lab.example" }, ...all }, 80),
  ).toMatchInlineSnapshot(`
"WHAT      VALUE
server    walt 0.1.0, ssh://lab.example
nodes     3: 1 up, 2 down
requests  1 to answer (walt vpn requests): PG2WB-J9NS3

Needs attention:
- a firewall drops frames
  iptables -I FORWARD …
- lab-2 has not been up since the server's start
  walt node show lab-2
- lab-10 is down since 1 h 0 min
  walt node show lab-10
- the way to lab-3 loses packets (20 %)
  walt node ping lab-3
- a new ca key stands beside the old one
  walt vpn rotate"
`);
});

test("a node that is up, and waits for boot files, is not in order", () => {
  const why = { kind: "no-boot-files", at: null, end: null, reason: "x86_64/vmlinuz" };
  expect(attentionOf([node("lab-1"), node("lab-2", { why })], [], [], NOW)).toEqual([
    { what: "lab-2 is up, no boot files", cure: "walt node show lab-2" },
  ]);
  const many = Array.from({ length: 50 }, (_, i) => node(`lab-${i}`, { why }));
  expect(attentionOf(many, [], [], NOW)).toEqual([
    {
      what: expect.stringContaining("50 nodes are not in order: lab-0, "),
      cure: "walt node show --state up",
    },
  ]);
});

test("of fifty nodes that are down there is one line", () => {
  const nodes = Array.from({ length: 50 }, (_, i) => node(`lab-${i}`, { state: "down" }));
  const [only, ...others] = attentionOf(nodes, [], [], NOW);
  expect(others).toEqual([]);
  expect(only?.what).toBe(
    "50 nodes are down: lab-0, lab-1, lab-2, lab-3, lab-4, lab-5, lab-6, lab-7, lab-8, lab-9, …",
  );
});
