/** Names that people give to nodes. */

import { expect, test } from "bun:test";
import { parseNodeName } from "../src/node-name.ts";

test("a DNS label that begins with a letter, of up to 32 characters, is a name", () => {
  for (const name of ["a", "lab-3", "vpn-010203", `a${"b".repeat(31)}`])
    expect(parseNodeName(name)).toBe(name);
});

test("anything else is refused in words, with the name", () => {
  for (const name of ["", "3lab", "Lab", "lab-", "-lab", "a.b", "lab 3", `a${"b".repeat(32)}`, "*"])
    expect(() => parseNodeName(name)).toThrow(`${JSON.stringify(name)} cannot be a node's name`);
  expect(() => parseNodeName("all")).toThrow("means all nodes");
  expect(() => parseNodeName("\u001b[2J")).toThrow("\\u001b[2J");
});
