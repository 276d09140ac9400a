import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runAny } from "../../../src/linux/run.ts";
import { dnsmasqConfig } from "../../../src/server/net/dnsmasq.ts";
import { describeWith, SYSTEM_PATH } from "../../lab/need.ts";

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
