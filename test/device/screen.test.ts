/** What a board's screen shows, as lines of ASCII. */

import { expect, test } from "bun:test";
import { screenText } from "../../src/device/screen.ts";
import { statusHandler } from "../../src/device/status.ts";
import { createLog } from "../../src/log.ts";
import { STATUS } from "../api/messages.ts";

test("the code until there is a node, the error until all is up, the next try while it waits", () => {
  const asking = { ...STATUS, stage: "credentials", detail: "it waits…", node: null, nextTryIn: 0 };
  expect(screenText(asking)).toBe(
    "Stage    credentials: it waits...\n" +
      "Code     PG2WB-J9NS3   (compare it with the one in walt vpn monitor)\n" +
      "Next try in 0 s\n",
  );
  expect(screenText({ ...STATUS, stage: "ssh", detail: "x", lastError: "no way" })).toBe(
    "Stage    ssh: x\nNode     vpn-010203\nError    no way\n",
  );
  expect(screenText({ ...STATUS, lastError: "no way" })).toBe(
    "Stage    watch: tunnel and virtual machine are up\nNode     vpn-010203\n",
  );
});

test("whatever an error says, it is one line of printable ASCII, and not longer than a few rows", () => {
  const everything = Array.from({ length: 0x10000 }, (_, unit) => String.fromCharCode(unit)).join("");
  for (const lastError of [everything, `${"x".repeat(5000)}\nNode     vpn-666666`, "😀\u202e\u009b\r\n"]) {
    const text = screenText({ ...STATUS, stage: "ssh", lastError });
    expect(text).toMatch(/^Stage [ -~]+\nNode [ -~]+\nError [ -~]+\n$/);
    expect(text.length).toBeLessThan(1000);
  }
});

test("it and the health are answered as plain text, with the version", async () => {
  const handle = statusHandler(() => STATUS, createLog());
  for (const [path, body] of [
    ["/v1/screen", screenText(STATUS)],
    ["/v1/health", "well\n"],
  ] as const) {
    const response = await handle(new Request(`http://walt${path}`));
    expect([response.status, await response.text()]).toEqual([200, body]);
    expect(response.headers.get("content-type")).toStartWith("text/plain");
    expect(response.headers.has("walt-version")).toBe(true);
  }
});
