/** The settings that a card's own scripts read: only what cannot surprise a shell. */

import { expect, test } from "bun:test";
import { osSettingsFile } from "../../../src/image/card/os-settings.ts";

test("one line each, and no file for nothing", () => {
  expect(osSettingsFile({})).toBeUndefined();
  const all = {
    hostname: "roof-3",
    address: "10.1.2.3/24",
    gateway: "10.1.2.1",
    dns: ["10.1.2.1", "1.1.1.1"],
    vlan: 12,
    ntp: ["ntp.example.org", "2001:db8::7"],
  };
  expect(osSettingsFile(all)).toBe(
    "hostname roof-3\nvlan 12\naddress 10.1.2.3/24\ngateway 10.1.2.1\ndns 10.1.2.1\ndns 1.1.1.1\nntp ntp.example.org\nntp 2001:db8::7\n",
  );
});

test("what is no such value is refused, with the value", () => {
  const refused = (settings: Parameters<typeof osSettingsFile>[0]) => () => osSettingsFile(settings);
  for (const hostname of ["", "-x", "a b", "a.b", "$(reboot)", "x\ny", "x".repeat(64)])
    expect(refused({ hostname })).toThrow("is not a host name");
  for (const address of [
    "10.0.0.1",
    "10.0.0.1/33",
    "10.0.0.1/0",
    "10.0.0.256/8",
    "fe80::1/64",
    "10.0.0.1/24/1",
  ])
    expect(refused({ address })).toThrow("is not an IPv4 address with prefix length");
  for (const vlan of [0, 4095, 1.5, Number.NaN]) expect(refused({ vlan })).toThrow("is not a VLAN's number");
  expect(refused({ address: "10.0.0.2/24", gateway: "gate" })).toThrow(
    'gateway "gate" is not an IPv4 address',
  );
  for (const ntp of ["", "-x", "a b", "a..b", "ntp.example.org;reboot", "x".repeat(64), "1.2.3.4 iburst"])
    expect(refused({ ntp: ["192.0.2.1", ntp] })).toThrow("is not a host name or an IP address");
  expect(refused({ dns: ["10.0.0.1"] })).toThrow("a DNS server is given without a static address");
});
