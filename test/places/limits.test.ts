/** What a machine runs out of, or does not have: a sentence with the cause and the cure, never "a bug in walt". */

import { expect, test } from "bun:test";
import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { WaltError } from "../../src/errors.ts";
import { started } from "../../src/linux/run.ts";
import { cureOf } from "../../src/server/net/dnsmasq.ts";
import { explained } from "../../src/system-error.ts";
import { eventually } from "../lab/eventually.ts";
import type { Host } from "../lab/host.ts";
import { describeWith } from "../lab/need.ts";
import { INTEGRATION, World } from "../lab/world.ts";

test("what has run out is told with its cure, whatever was to be done with it", () => {
  const cure = (code: string): string | undefined => {
    try {
      return started("ip", () => {
        throw Object.assign(new Error(`${code}: no`), { code });
      });
    } catch (error) {
      return explained(error)?.hint;
    }
  };
  expect(cure("ENOENT")).toBe("Is ip installed?");
  expect(cure("EMFILE")).toContain("LimitNOFILE");
  expect(cure("EAGAIN")).toContain("TasksMax");
  expect(cure("ENOMEM")).toContain("free -m");
  const full = new WaltError("cannot write x", { cause: Object.assign(new Error("no"), { code: "ENOSPC" }) });
  expect(explained(full)?.hint).toContain("df -h");
});

test("dnsmasq's own words about what it lacks lead to the cure", () => {
  expect(cureOf("failed to create inotify: No file descriptors available")).toContain("max_user_instances");
  expect(cureOf("failed to bind DHCP server socket: Address already in use")).toContain("sport = :67");
  expect(cureOf("cannot open or create lease file x: No space left on device")).toContain("df -h");
  expect(cureOf("sh: 4: dnsmasq: not found")).toContain("apt-get install dnsmasq-base");
});

describeWith(INTEGRATION, "a machine that lacks something", () => {
  test("descriptors, room on the disk, TAPs", async () => {
    await using world = await World.create({ proxies: 0 });
    const { server, binary } = world;
    const device = await world.device("device");
    await device.enrol();
    await device.stop();
    await world.stopServer();
    const roles = { server, device: device.host };
    type Role = keyof typeof roles;
    const inTime = ["timeout", "--preserve-status", "20"];
    /** Starts that fail, each with what it says. */
    const fails = async (role: Role, before: string[], says: RegExp): Promise<string[]> => {
      const { status, stdout, stderr } = await roles[role].run([...inTime, ...before, binary, role, "run"]);
      const said = stdout + stderr;
      const fine = status === 1 && says.test(said) && !/bug in walt|\n {4}at /.test(said);
      return fine ? [] : [`${role} ${before.join(" ")}: ${status}: ${said.slice(-600)}`];
    };
    const wrong: string[] = [];
    for (const role of ["server", "device"] as const) {
      for (const most of [12, 16, 20, 40, 63])
        wrong.push(
          ...(await fails(
            role,
            ["prlimit", `--nofile=${most}`],
            /^walt: this process may have \d+ files open.*\nRaise/m,
          )),
        );
    }

    const fill = async (host: Host, folder: string, size: string): Promise<void> => {
      const script = `mkdir -p $1 && cp -a $1/. /srv/keep 2>/dev/null; mount -t tmpfs -o size=$2 tmpfs $1
cp -a /srv/keep/. $1/; head -c 9999999 /dev/zero > $1/filler; true`;
      await host.must(["sh", "-c", `rm -rf /srv/keep; mkdir /srv/keep; ${script}`, "sh", folder, size]);
    };
    const full = /^walt: cannot write \S+: ENOSPC: .*\nMake room on the disk/m;
    for (const [role, folder] of [
      ["server", "/var/lib/walt-vpn"],
      ["server", "/run/walt-vpn"],
      ["device", "/run/walt-vpn"],
    ] as const) {
      await fill(roles[role], folder, "64k");
      wrong.push(...(await fails(role, [], full)));
      await roles[role].must(["umount", folder]);
    }

    await server.must(["mount", "--bind", "/dev/null", "/dev/net/tun"]);
    wrong.push(...(await fails("server", [], /^walt: cannot make the TAP .*ENOTTY.*\nLoad its module/m)));
    await server.must(["umount", "/dev/net/tun"]);
    await server.must(["mount", "-t", "tmpfs", "tmpfs", "/dev/net"]);
    wrong.push(...(await fails("server", [], /^walt: cannot open \/dev\/net\/tun: .*\nLoad its module/m)));
    await server.must(["umount", "/dev/net"]);
    expect(wrong).toEqual([]);
    await world.startServer(); // and with all of them it works
  }, 240_000);
});

/** The controller of process numbers (Documentation/admin-guide/cgroup-v1/pids.rst). */
const PIDS = "/sys/fs/cgroup/pids";

describeWith([...INTEGRATION, { files: [`${PIDS}/cgroup.procs`] }], "a limit on processes", () => {
  test("dnsmasq is back by itself when processes can be made again", async () => {
    // Bun aborts when it needs another thread for itself and cannot have one. That tells nothing of dnsmasq.
    for (let attempts = 1; !(await isBack()); attempts++) expect(attempts).toBeLessThan(6);
  }, 300_000);

  /** @returns false if Bun aborted meanwhile. */
  async function isBack(): Promise<boolean> {
    await using world = await World.create({ proxies: 0 });
    const { server, daemon } = world;
    const group = `${PIDS}/walt-limits-${server.pid}`;
    mkdirSync(group);
    try {
      const limit = (most: string): void => writeFileSync(`${group}/pids.max`, most);
      const dnsmasqs = (): number[] =>
        server.processes().flatMap(({ pid, command }) => (/^dnsmasq /.test(command) ? [pid] : []));
      writeFileSync(`${group}/cgroup.procs`, String(daemon.pid));
      limit(readFileSync(`${group}/pids.current`, "utf8").trim());
      const [first] = dnsmasqs();
      if (first === undefined) throw new Error("there is no dnsmasq");
      process.kill(first, "SIGKILL");
      const told = daemon.waitFor(/event=dhcp-restart reason=.*(EAGAIN|[Rr]esource temporarily)/);
      await Promise.race([told.catch(() => {}), daemon.exited]);
      if (daemon.ended === "SIGABRT") return false;
      await told;
      limit("max");
      await eventually("another dnsmasq", () => dnsmasqs().some((pid) => pid !== first));
      expect(await world.stopServer()).toBe(0);
      return true;
    } finally {
      await server.endAll();
      await eventually("the group is empty", () => readFileSync(`${group}/cgroup.procs`, "utf8") === "");
      rmdirSync(group);
    }
  }
});
