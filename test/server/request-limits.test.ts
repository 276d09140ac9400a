/** Places and rates of requests for access, for each source and in all. */

import { describe, expect, test } from "bun:test";
import { MAX_WAITING, RequestLimits } from "../../src/server/request-limits.ts";
import { sourceOf } from "../../src/source.ts";

test("an IPv6 network of 64 bits is one source, an IPv4 address is one of its own", () => {
  for (const [address, source] of [
    ["192.0.2.1", "192.0.2.1"],
    ["2001:db8:0:7:1:2:3:4", "2001:db8:0:7::/64"],
    ["2001:db8:0:7::9", "2001:db8:0:7::/64"],
    ["2001:0db8::7:0:0:0:9", "2001:db8:0:7::/64"],
    ["2001:db8::9", "2001:db8:0:0::/64"],
    ["::1", "0:0:0:0::/64"],
    ["fe80::1%eth0", "fe80:0:0:0::/64"],
    ["a name", "a name"],
  ] as const) {
    expect([address, sourceOf(address)]).toEqual([address, source]);
  }
});

/** How many of `count` get in. */
function enter(limits: RequestLimits, source: string, count: number, now: number): number {
  return Array.from({ length: count }, () => limits.enter(source, now)).filter(Boolean).length;
}

describe("places", () => {
  test("each source may have as many as are still free, and what left may come again", () => {
    const limits = new RequestLimits();
    let now = 0;
    const got = ["a", "b", "c", "d", "e", "f", "g", "h"].map((source) => {
      now += 60_000;
      return enter(limits, source, 200, now);
    });
    expect(got).toEqual([64, 32, 16, 8, 4, 2, 1, 1]);
    expect(got.reduce((sum, one) => sum + one, 0)).toBe(MAX_WAITING);
    limits.leave("a");
    limits.leave("nobody");
    // The one that has most does not get it; one that has none does.
    expect(enter(limits, "a", 1, now + 60_000)).toBe(0);
    expect(enter(limits, "i", 1, now + 60_000)).toBe(1);
  });
});

describe("rates", () => {
  const churn = (limits: RequestLimits, source: string, now: number): number => {
    let got = 0;
    for (let i = 0; i < 1000; i++) {
      if (!limits.enter(source, now)) continue;
      got++;
      limits.leave(source);
    }
    return got;
  };

  test("of one source: 64 at once, then one a second", () => {
    const limits = new RequestLimits();
    expect(churn(limits, "a", 0)).toBe(64);
    expect(churn(limits, "a", 999)).toBe(0);
    expect(churn(limits, "a", 5000)).toBe(5);
    expect(churn(limits, "a", 10_000_000)).toBe(64);
  });

  test("of all: 128 at once, then four a second", () => {
    const limits = new RequestLimits();
    const all = (now: number): number =>
      Array.from({ length: 50 }, (_, i) => churn(limits, `s${i}`, now)).reduce((a, b) => a + b, 0);
    expect(all(0)).toBe(128);
    expect(all(10_000)).toBe(40);
  });

  test("a clock that is set back keeps nobody out for longer than that", () => {
    const limits = new RequestLimits();
    expect(churn(limits, "a", 1e12)).toBe(64);
    expect(churn(limits, "a", 0)).toBe(0);
    expect(churn(limits, "a", 3000)).toBe(3);
  });

  test("many sources do not fill the memory, and those that are quiet again are forgotten", () => {
    const limits = new RequestLimits();
    let got = 0;
    for (let i = 0; i < 10_000; i++)
      if (limits.enter(`s${i}`, 0)) {
        limits.leave(`s${i}`);
        got++;
      }
    expect(got).toBe(128);
    expect(churn(limits, "new", 1_000_000)).toBe(64);
  });
});
