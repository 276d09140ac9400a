/** How many lines strangers can write into the log. */

import { expect, test } from "bun:test";
import type { Log } from "../../../src/log.ts";
import { plainAddress, sourceOf } from "../../../src/source.ts";
import { LogLimiter } from "../../../src/ssh/server/log-limiter.ts";

const X = { event: "detail" } as const;

function kept(): { lines: string[]; log: Log } {
  const lines: string[] = [];
  const note = (message: string, fields: Parameters<Log["info"]>[1]): void => {
    lines.push([message, fields["count"]].join(" ").trim());
  };
  const log: Log = { debug: note, info: note, warn: note, error: note, with: () => log };
  return { lines, log };
}

test("so many lines of a source, then a few a second, with the number of those between", () => {
  let now = 0;
  const limiter = new LogLimiter(() => now);
  const { lines, log } = kept();
  const limited = limiter.limit(log, "192.0.2.1").with("endpoint");
  for (let i = 0; i < 1000; i++) limited.info("x", X);
  expect(lines.splice(0)).toHaveLength(60);
  limiter.limit(log, "192.0.2.2").warn("another", X);
  expect(lines.splice(0)).toEqual(["another"]);
  now += 1000;
  for (let i = 0; i < 10; i++) limited.warn("y", X);
  expect(lines.splice(0)).toEqual(["log lines were left out 940", "y", "y"]);
  limited.debug("z", X);
  expect(lines).toEqual(["z"]);
});

test("so many of all sources together, however many there are", () => {
  let now = 0;
  const limiter = new LogLimiter(() => now);
  const { lines, log } = kept();
  for (let i = 0; i < 20_000; i++) limiter.limit(log, `192.0.2.${i}`).info("x", X);
  expect(lines.splice(0)).toHaveLength(300);
  now += 1000;
  for (let i = 0; i < 20_000; i++) limiter.limit(log, `198.51.100.${i}`).info("x", X);
  expect(lines).toHaveLength(30);
});

test("a source is an IPv4 address, or an IPv6 network", () => {
  expect(plainAddress("::ffff:192.0.2.1")).toBe("192.0.2.1");
  expect(plainAddress("2001:db8::1")).toBe("2001:db8::1");
  expect(sourceOf("::ffff:192.0.2.1")).toBe("192.0.2.1");
  expect(sourceOf("2001:db8:1:2:3:4:5:6")).toBe("2001:db8:1:2::/64");
  expect(sourceOf("2001:db8::1")).toBe("2001:db8:0:0::/64");
  expect(sourceOf("::1")).toBe("0:0:0:0::/64");
  expect(sourceOf("fe80::1%eth0")).toBe("fe80:0:0:0::/64");
});
