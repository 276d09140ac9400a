import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runAny } from "../../../src/linux/run.ts";
import { dhcpRange, dnsmasqConfig } from "../../../src/server/net/dnsmasq.ts";
import { describeWith, SYSTEM_PATH } from "../../lab/need.ts";

describe("what DHCP gives out", () => {
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
    test(name, () => expect(dhcpRange(address)).toEqual({ first, last, mask }));
  }
});

describeWith({ programs: ["dnsmasq"] }, "dnsmasq", () => {
  const dir = mkdtempSync(join(tmpdir(), "walt-dnsmasq-"));
  afterAll(() => rmSync(dir, { recursive: true, force: true }));

  test("takes the configuration", async () => {
    for (const address of ["192.168.192.1/22", "10.0.0.9/29", "10.0.0.1/8"]) {
      const file = join(dir, "dnsmasq.conf");
      const options = {
        bridge: "walt-net",
        address,
        bootUrl: "http://192.168.192.1:8080/boot.ipxe",
        run: dir,
        state: dir,
      };
      writeFileSync(file, dnsmasqConfig(options));
      const { status, stderr } = await runAny(["dnsmasq", "--test", `--conf-file=${file}`], {
        env: { PATH: SYSTEM_PATH },
      });
      expect([status, stderr]).toEqual([0, expect.stringContaining("syntax check OK")]);
    }
    writeFileSync(join(dir, "bad.conf"), "dhcp-range=nonsense\n");
    const bad = await runAny(["dnsmasq", "--test", `--conf-file=${join(dir, "bad.conf")}`], {
      env: { PATH: SYSTEM_PATH },
    });
    expect(bad.status).not.toBe(0);
  });
});
