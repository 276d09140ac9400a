/** The laboratory itself: what its hosts share and what they do not, and that nothing of it stays. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { messageOf } from "../../src/errors.ts";
import { run } from "../../src/linux/run.ts";
import { eventually } from "./eventually.ts";
import type { Host } from "./host.ts";
import { Lab } from "./lab.ts";
import { describeWith, LAB, need } from "./need.ts";
import { isAlive } from "./proc.ts";
import { startSshd } from "./sshd.ts";

const PING = { programs: ["ping"] };

async function reaches(from: Host, address: string): Promise<boolean> {
  return (await from.run(["ping", "-c1", "-W1", address])).status === 0;
}

/** The message a promise fails with. (`expect().rejects` spins the event loop inside a microtask: streams stand still then.) */
async function failure(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => "it did not fail",
    (error: unknown) => messageOf(error),
  );
}

describeWith([LAB, PING], "laboratory", () => {
  let lab: Lab;
  let server: Host;
  let proxy: Host;
  let device: Host;

  beforeAll(async () => {
    lab = await Lab.create();
    device = await lab.host("device");
    proxy = await lab.host("proxy", { networks: ["internet", "lan"] });
    server = await lab.host("server", { networks: ["lan"] });
  });
  afterAll(() => lab.stop());

  test("hosts of one network reach each other, and others only what is on both", async () => {
    expect(await reaches(device, proxy.address())).toBe(true);
    expect(await reaches(proxy, server.address("lan"))).toBe(true);
    expect(await reaches(device, server.address("lan"))).toBe(false);
    const six = proxy.port().ipv6;
    if (six !== undefined) expect(await reaches(device, six)).toBe(true);
  });

  test("a cut wire carries nothing until it is mended", async () => {
    await device.port().wire("down");
    expect(await reaches(device, proxy.address())).toBe(false);
    await device.port().wire("up");
    expect((await device.run(["ping", "-c1", "-w20", proxy.address()])).status).toBe(0);
  });

  test("a private network of the same name in another laboratory is another network", async () => {
    await using other = await Lab.create();
    const same = await other.host("device");
    expect(same.address()).toBe(device.address());
    expect(await reaches(same, proxy.address())).toBe(false);
  });

  test("a user, files and host names of one host are nowhere else", async () => {
    proxy.hosts({ "gate.example.org": device.address() });
    await proxy.must(["useradd", "-m", "walt-lab-user"]);
    await proxy.must([
      "sh",
      "-c",
      "mkdir -p /etc/walt /run/walt-vpn /var/lib/walt-vpn; echo hello > /etc/walt/own",
    ]);
    expect(await proxy.must(["getent", "hosts", "gate.example.org"])).toContain(device.address());
    expect(readFileSync(proxy.path("/etc/walt/own"), "utf8")).toBe("hello\n");
    for (const folder of ["/etc/walt", "/run/walt-vpn", "/var/lib/walt-vpn", "/home/walt-lab-user"]) {
      expect((await device.run(["test", "-e", folder])).status).toBe(1);
    }
    expect((await device.run(["getent", "hosts", "gate.example.org"])).status).not.toBe(0);
    expect((await device.run(["id", "walt-lab-user"])).status).not.toBe(0);
    expect(readFileSync("/etc/passwd", "utf8")).not.toContain("walt-lab-user");
    expect(existsSync("/home/walt-lab-user")).toBe(false);
    expect(await proxy.must(["cat", "/etc/machine-id"])).not.toBe(
      await device.must(["cat", "/etc/machine-id"]),
    );
  });

  test("a host's folder is seen by it and by the outside, not by other hosts", async () => {
    const file = join(proxy.dir, "secret");
    await proxy.must(["sh", "-c", 'echo hidden > "$0"', file]);
    expect(readFileSync(file, "utf8")).toBe("hidden\n");
    expect((await device.run(["test", "-e", file])).status).toBe(1);
  });

  test("run gives status, output and input; 127 where there is no such program", async () => {
    const done = await device.run(["sh", "-c", "cat; echo oops >&2; exit 7"], { input: "given" });
    expect(done).toEqual({ status: 7, stdout: "given", stderr: "oops\n" });
    expect((await device.run(["walt-no-such-program"])).status).toBe(127);
  });

  test("run that takes too long is ended with its children and says what it printed", async () => {
    const slow = device.run(["sh", "-c", "echo begun; sleep 1234"], { timeout: 500 });
    expect(await failure(slow)).toMatch(/longer than 500 ms:\nbegun/);
    expect(device.processes().filter((one) => one.command.includes("1234"))).toEqual([]);
  });

  test("waitFor tells the match, or how the program ended and its last words", async () => {
    const program = device.spawn(["sh", "-c", "echo one 1; read line; echo two 2; echo bye >&2; exit 4"]);
    expect((await program.waitFor(/one (\d)/))[1]).toBe("1");
    const after = program.position;
    program.write("go on\n");
    expect((await program.waitFor(/(\w+) \d/, { after }))[1]).toBe("two");
    expect(await failure(program.waitFor(/three/))).toMatch(/ended \(exit 4\) before \/three\/[\s\S]*bye/);
    expect(await program.exited).toBe(4);
  });

  test("stop sends SIGTERM to the program, and SIGKILL to what does not listen", async () => {
    const polite = device.spawn([
      "sh",
      "-c",
      "trap 'echo ending; exit 3' TERM; echo up; while :; do sleep 0.05; done",
    ]);
    await polite.waitFor(/up/);
    expect(await polite.stop()).toBe(3);
    expect(polite.output).toContain("ending");
    const deaf = device.spawn(["sh", "-c", "trap '' TERM; echo up; sleep 1234; echo never"]);
    await deaf.waitFor(/up/);
    expect(await deaf.stop("SIGTERM", { grace: 100 })).toBe(137);
    expect(device.processes()).toEqual([]);
  });

  test("processes that left their group and session end with the laboratory, and its folder goes", async () => {
    const other = await Lab.create();
    const host = await other.host("server");
    await host.must(["sh", "-c", "setsid sleep 4321 </dev/null >/dev/null 2>&1 &"]);
    const pids = host.processes().map((one) => one.pid);
    expect(pids).toHaveLength(1);
    await other.stop();
    expect(pids.filter(isAlive)).toEqual([]);
    expect(existsSync(other.dir)).toBe(false);
  });

  test("killed without a chance to clean up, it leaves no process and no folder", async () => {
    const program = `
      const { eventually } = await import(${JSON.stringify(join(import.meta.dir, "eventually.ts"))});
      const { Lab } = await import(${JSON.stringify(join(import.meta.dir, "lab.ts"))});
      const lab = await Lab.create();
      const host = await lab.host("server");
      host.spawn(["sleep", "4321"]);
      await eventually("a process", () => host.processes().length > 0);
      console.log(JSON.stringify({ dir: lab.dir, pids: host.processes().map((one) => one.pid) }));
      process.kill(process.pid, "SIGKILL");`;
    const child = Bun.spawn([process.execPath, "-e", program], { stdout: "pipe" });
    const left = JSON.parse(await new Response(child.stdout).text()) as { dir: string; pids: number[] };
    expect(left.pids).toHaveLength(1);
    const rest = () => ({ alive: left.pids.filter(isAlive), folder: existsSync(left.dir) });
    await eventually("nothing is left", rest, { fits: ({ alive, folder }) => alive.length === 0 && !folder });
  });

  const sshd = need({ files: ["/usr/sbin/sshd"], programs: ["ssh-keyscan"] });
  test.skipIf(sshd.skip && process.env["CI"] !== "true")(
    `sshd listens with keys of its own, and ends with its sessions${sshd.skip ? ` (${sshd.why})` : ""}`,
    async () => {
      const first = await startSshd(proxy);
      const scan = await device.must(["ssh-keyscan", "-t", "ed25519", proxy.address()]);
      expect(scan).toContain(first.hostKeys[0] ?? "no key");
      await first.stop("SIGKILL");
      expect(proxy.processes()).toEqual([]);
      const second = await startSshd(proxy, { port: 2022 });
      expect(second.hostKeys).toEqual(first.hostKeys);
      expect(await device.must(["ssh-keyscan", "-p", "2022", proxy.address()])).toContain("ssh-ed25519");
      await second.stop();
    },
  );

  test("the machine's own network and mounts are as before", async () => {
    expect(readFileSync("/proc/self/mountinfo", "utf8")).not.toContain(lab.dir);
    expect(await run(["ip", "-o", "link"])).not.toMatch(/ (br0|p0-1)[@:]/);
  });
});
