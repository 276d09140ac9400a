/** DHCP on walt-net: dnsmasq's configuration, and what of its words goes into the log. */

import { afterAll, afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runAny } from "../../../src/linux/run.ts";
import { formatLine, type Log } from "../../../src/log.ts";
import { Dnsmasq, dnsmasqConfig, dnsmasqLog } from "../../../src/server/net/dnsmasq.ts";
import { eventually } from "../../lab/eventually.ts";
import { describeWith, SYSTEM_PATH } from "../../lab/need.ts";
import { childrenOf, isAlive } from "../../lab/proc.ts";

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
        leases: join(dir, "dhcp.leases"),
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

test("a node that asks without end does not fill the log, and others are still seen", () => {
  const logged: string[] = [];
  const note: Log["info"] = (message, fields) => void logged.push(formatLine("", message, fields));
  const log: Log = { debug: () => {}, info: note, warn: note, error: note, with: () => log };
  const say = dnsmasqLog(log);
  for (let i = 0; i < 2000; i++) say("DHCPACK(walt-net) 192.168.192.2 d6:01:02:03:04:05 vpn-030405");
  say("DHCPACK(walt-net) 192.168.192.3 d6:01:02:03:04:06 vpn-030406");
  expect(logged.length).toBeWithin(2, 100);
  expect(logged.at(-1)).toBe("DHCPACK(walt-net) 192.168.192.3 d6:01:02:03:04:06 vpn-030406 event=dhcp");
});

describe("a dnsmasq that ends", () => {
  const path = process.env["PATH"];
  const dir = mkdtempSync(join(tmpdir(), "walt-dnsmasq-"));
  const logged: string[] = [];
  const note: Log["info"] = (message, fields) => void logged.push(formatLine("", message, fields));
  const log: Log = { debug: note, info: note, warn: note, error: note, with: () => log };
  const times = (text: string): number => logged.filter((line) => line.includes(text)).length;
  const pid = (): number => Number(readFileSync(join(dir, "pid"), "utf8"));
  const played = `#!/bin/sh\necho $$ > ${dir}/pid; echo 'dnsmasq: started, played' >&2; exec sleep 1000\n`;
  let dnsmasq: Dnsmasq;

  beforeEach(async () => {
    logged.length = 0;
    writeFileSync(join(dir, "dnsmasq"), played, { mode: 0o755 });
    process.env["PATH"] = `${dir}:/usr/bin:/bin`;
    dnsmasq = await Dnsmasq.start(
      {
        ...{ bridge: "b", address: "10.0.0.1/24", bootUrl: "http://x/" },
        ...{ run: dir, leases: join(dir, "leases") },
      },
      "",
      log,
    );
  });
  afterEach(async () => {
    process.env["PATH"] = path;
    await dnsmasq.stop();
  });
  afterAll(() => rmSync(dir, { recursive: true }));

  test("and cannot be started again for a while is started later", async () => {
    process.env["PATH"] = dir; // without sh, which starts it
    process.kill(pid(), "SIGKILL");
    await eventually("two attempts in vain", () => times("event=dhcp-restart") >= 3);
    process.env["PATH"] = `${dir}:/usr/bin:/bin`;
    await eventually("the second start", () => times("started, played") === 2);
  });

  test("is started again also when one of its shells is killed; no other is left", async () => {
    const shells = (): [main: number, reader: number] => {
      const main = childrenOf(process.pid).find((child) => childrenOf(child).includes(pid())) ?? 0;
      return [main, childrenOf(main).find((child) => child !== pid()) ?? 0];
    };
    for (const which of [0, 1] as const) {
      const before = pid();
      const starts = times("started, played");
      const killed = await eventually("its shells", shells, { fits: (all) => !all.includes(0) });
      process.kill(killed[which], "SIGKILL");
      await eventually("the next start", () => times("started, played") > starts);
      const left = (): number[] => [before, ...killed].filter(isAlive);
      await eventually("the end of the others", left, { fits: ({ length }) => length === 0 });
    }
  });
});
