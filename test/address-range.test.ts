/** IPv4 addresses that DHCP gives out. */

import { describe, expect, test } from "bun:test";
import { AddressRange } from "../src/address-range.ts";

describe("the addresses beside a machine's own", () => {
  const cases: Record<string, [address: string, first: string, last: string, mask: string]> = {
    "the server has the first address": [
      "192.168.192.1/22",
      "192.168.192.2",
      "192.168.195.254",
      "255.255.252.0",
    ],
    "the last": ["192.168.195.254/22", "192.168.192.1", "192.168.195.253", "255.255.252.0"],
    "one in the lower half": ["10.0.0.100/24", "10.0.0.101", "10.0.0.254", "255.255.255.0"],
    "one in the upper half": ["10.0.0.200/24", "10.0.0.1", "10.0.0.199", "255.255.255.0"],
    "the smallest network, first": ["10.0.0.9/29", "10.0.0.10", "10.0.0.14", "255.255.255.248"],
    "the smallest network, last": ["10.0.0.14/29", "10.0.0.9", "10.0.0.13", "255.255.255.248"],
    "the smallest network, middle": ["10.0.0.12/29", "10.0.0.9", "10.0.0.11", "255.255.255.248"],
    "the largest network": ["10.0.0.1/8", "10.0.0.2", "10.255.255.254", "255.0.0.0"],
    "addresses that are negative as 32-bit integers": [
      "223.255.0.1/16",
      "223.255.0.2",
      "223.255.255.254",
      "255.255.0.0",
    ],
  };
  for (const [name, [address, first, last, mask]] of Object.entries(cases)) {
    test(name, () => expect(AddressRange.beside(address).texts).toEqual({ first, last, mask }));
  }
});

test("which ones are in a range, and the first that fits", () => {
  const range = AddressRange.beside("10.0.0.9/29");
  for (const address of ["10.0.0.10", "10.0.0.14"]) expect(range.contains(address)).toBe(true);
  for (const address of ["10.0.0.9", "10.0.0.15", "11.0.0.10", "none", ""])
    expect(range.contains(address)).toBe(false);
  expect(range.first((address) => address > "10.0.0.12")).toBe("10.0.0.13");
  expect(range.first(() => false)).toBeUndefined();
  expect(`${range}`).toBe("10.0.0.10 to 10.0.0.14");
});
