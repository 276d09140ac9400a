/** A kernel without IPv6. */

import { expect, test } from "bun:test";
import { anyAddress, hasIpv6 } from "../../src/linux/ipv6.ts";

test("where there is no IPv6, everybody's address is that of IPv4; a chosen address stays", () => {
  expect(anyAddress("::", false)).toBe("0.0.0.0");
  expect(anyAddress("::", true)).toBe("::");
  expect(anyAddress("::1", false)).toBe("::1");
  expect(typeof hasIpv6()).toBe("boolean");
});
