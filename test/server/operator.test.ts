/** Who gave an order: the user of the socket comes first, whatever a command claims. */

import { expect, test } from "bun:test";
import { operatorOf } from "../../src/server/operator.ts";

test("is the user; a claim that names another one stands in brackets", () => {
  expect(operatorOf("alice", "alice@laptop")).toBe("alice");
  expect(operatorOf("alice", "unknown")).toBe("alice");
  expect(operatorOf("alice", "")).toBe("alice");
  expect(operatorOf("root", "alice@laptop")).toBe("root (alice@laptop)");
});

test("a claim cannot look like a user, or like the end of the brackets", () => {
  expect(operatorOf("bob", "x) alice (y")).toBe("bob (x??alice??y)");
  expect(operatorOf("bob", "\u001b[2J\n")).toBe("bob (??2J?)");
});
