/**
 * Programs of the machine that are missing, fail at once, hang or print without end: nothing turns without a pause,
 * logs without a bound, grows, or outlives a signal, and the log names the program.
 */

import { expect, test } from "bun:test";
import { existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { waltBinary } from "../lab/binary.ts";
import { eventually } from "../lab/eventually.ts";
import type { Host } from "../lab/host.ts";
import { Lab } from "../lab/lab.ts";
import { describeWith, LAB, SYSTEM_PATH } from "../lab/need.ts";
import type { LabProcess } from "../lab/process.ts";
import { INTEGRATION, World } from "../lab/world.ts";

const QEMU = process.arch === "arm64" ? "qemu-system-aarch64" : "qemu-system-x86_64";
const NEEDS = [...INTEGRATION, { programs: [QEMU, "bridge"] }];

/** All that device, server and commands run of the machine. */
const PROGRAMS: readonly string[] = [
  ...["ip", "bridge", "ssh", "scp", "ssh-add", "sh", "cat", "sleep", "kill", "dnsmasq", "ping", QEMU],
  ...["iptables", "iptables-legacy", "nft", "getent", "systemctl", "reboot"],
];

/** How a program behaves. Each notes that it was called. */
const KINDS = {
  missing: undefined,
  fails: "echo broken >&2; exit 1",
  // Nor does it end when it is asked to.
  hangs: "trap '' TERM; exec /bin/sleep 1000",
  talks: "trap '' TERM; /usr/bin/yes words >&2 & exec /usr/bin/yes words",
} as const;
type Kind = keyof typeof KINDS;

/** A folder of programs, in which one behaves in another way than it should. */
class Programs {
  readonly folder: string;
  readonly #calls: string;

  constructor(readonly host: Host) {
    this.folder = join(host.dir, "programs");
    this.#calls = join(host.dir, "calls");
    mkdirSync(host.path(this.folder), { recursive: true });
    for (const name of PROGRAMS) this.mend(name);
  }

  /** Start a program that finds these and no others. */
  spawn(command: readonly string[]): LabProcess {
    return this.host.spawn(["/usr/bin/env", `PATH=${this.folder}`, ...command]);
  }

  /** How often the broken program was called since it was broken. */
  get calls(): number {
    const path = this.host.path(this.#calls);
    return existsSync(path) ? readFileSync(path, "utf8").length : 0;
  }

  mend(name: string): void {
    const own = Bun.which(name, { PATH: SYSTEM_PATH });
    rmSync(this.#path(name), { force: true });
    if (own !== null) symlinkSync(own, this.#path(name));
  }

  break(name: string, kind: Kind): void {
    rmSync(this.#path(name), { force: true });
    rmSync(this.host.path(this.#calls), { force: true });
    const script = KINDS[kind];
    if (script === undefined) return;
    const text = `#!/bin/sh\nprintf x >> ${this.#calls}\n${script}\n`;
    writeFileSync(this.#path(name), text, { mode: 0o755 });
  }

  #path(name: string): string {
    return this.host.path(join(this.folder, name));
  }
}

/** Lines of its log, and calls of a program, that a process may need at once, and in each second after that. */
const LINES = { first: 60, each: 8 };
const CALLS = { first: 30, each: 8 };
/** kB of memory that a process may ever have had. */
const MEMORY = 400_000;
/** ms that a process is watched after it has named the program. It is part of what is tested. */
const WATCHED = 2500;
/** ms from SIGTERM to the end. */
const ENDS = 60_000;

/**
 * Watch a process that was just started, until it has named the program, and for a while more.
 * @returns what it did too much of.
 */
async function watched(run: LabProcess, programs: Programs, names: RegExp): Promise<string[]> {
  const from = performance.now();
  await run.waitFor(names, { timeout: 90_000 });
  await Bun.sleep(WATCHED);
  const seconds = (performance.now() - from) / 1000;
  const pid = run.pid;
  const status = pid === undefined ? "" : readFileSync(`/proc/${pid}/status`, "utf8");
  const memory = Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]);
  const lines = run.output.split("\n").length;
  const { calls } = programs;
  return [
    ...(lines > LINES.first + LINES.each * seconds ? [`${lines} lines in ${seconds} s`] : []),
    ...(calls > CALLS.first + CALLS.each * seconds ? [`${calls} calls in ${seconds} s`] : []),
    ...(memory < MEMORY ? [] : [`${memory} kB`]),
    ...(run.output.includes("bug in walt") ? ["a bug"] : []),
  ];
}

/** Each program, and the words by which the log names it in each kind of trouble. */
const DEVICE: readonly (readonly [program: string, words: Readonly<Record<Kind, RegExp>>])[] = [
  [
    "ip",
    {
      missing: /cannot run ip: /,
      fails: /ip -j address failed \(exit 1\): broken/,
      hangs: /ip -j address took longer than 15000 ms and was killed/,
      talks: /ip -j address printed more than 4194304 bytes and was killed/,
    },
  ],
  [
    "ssh",
    {
      missing: /cannot run ssh: /,
      fails: /proxy \S+: broken/,
      hangs: /proxy \S+ does not answer: no session within 40000 ms/,
      talks: /proxy \S+ does not behave like a proxy: it sent more than/,
    },
  ],
  [
    QEMU,
    {
      missing: new RegExp(`the program ${QEMU} is missing`),
      fails: /QEMU ended \(exit 1\): broken/,
      hangs: /event=stage stage=vm/, // it has a minute to start
      talks: /event=stage stage=vm/,
    },
  ],
];

describeWith(NEEDS, "a device with a program that does not work", () => {
  test("each in each way", async () => {
    await using world = await World.create({ proxies: 1 });
    const device = await world.device("device");
    await device.enrol();
    await device.stop();
    const toml = readFileSync(device.host.path("/etc/walt/vpn.toml"), "utf8");
    device.host.writeFile("/etc/walt/vpn.toml", toml.replace("start = false", "start = true"));
    const programs = new Programs(device.host);
    const wrong: string[] = [];
    for (const [program, words] of DEVICE) {
      for (const [kind, names] of Object.entries(words) as [Kind, RegExp][]) {
        programs.break(program, kind);
        const run = programs.spawn([device.binary, "device", "run"]);
        const found = await watched(run, programs, names);
        const status = await run.stop("SIGTERM", { grace: ENDS });
        if (status !== 0) found.push(`status ${status}`);
        wrong.push(...found.map((one) => `${program} ${kind}: ${one}`));
        await eventually("nothing is left", () => device.host.processes().length === 0).catch(() =>
          wrong.push(`${program} ${kind} left ${JSON.stringify(device.host.processes())}`),
        );
      }
      programs.mend(program);
    }
    expect(wrong).toEqual([]);
    await device.start().waitFor(/event=device-starts/);
    await device.isUp(); // and with all programs it works
  }, 600_000);
});

const COMMAND: Readonly<Record<Kind, RegExp>> = {
  missing: /^walt: cannot run ssh: .*\nIs ssh installed\?/m,
  fails: /^walt: ssh to lab\.example ended with status 1/m,
  hangs: /^walt: ssh -V took longer than 15000 ms and was killed/m,
  talks: /^walt: ssh -V printed more than 4194304 bytes and was killed/m,
};

describeWith([LAB], "a command with an ssh that does not work", () => {
  test("ends, and says why; a signal ends it sooner", async () => {
    await using lab = await Lab.create();
    const host = await lab.host("operator");
    const programs = new Programs(host);
    const words = [await waltBinary(), "vpn", "list", "--server", "ssh://lab.example"];
    for (const [kind, says] of Object.entries(COMMAND) as [Kind, RegExp][]) {
      programs.break("ssh", kind);
      const run = programs.spawn(words);
      expect([kind, await run.exited, run.output]).toEqual([kind, 1, expect.stringMatching(says)]);
      expect(run.output.length).toBeLessThan(1000);
    }
    programs.break("ssh", "hangs");
    const stopped = programs.spawn(words);
    await eventually("the call that hangs", () => programs.calls > 0);
    expect(await stopped.stop("SIGTERM", { grace: ENDS })).toBe(128 + 15);
    await eventually("nothing is left", () => host.processes().length === 0);
  }, 240_000);
});

const STOPPED = /SIGTERM|the server is being stopped/;

/** The same of the server's start, after which it ends; those that only hang are ended by a signal as well. */
const SERVER: typeof DEVICE = [
  [
    "ip",
    {
      missing: /^walt: cannot run ip: /m,
      fails: /^walt: ip -j -4 \w+ failed \(exit 1\): broken/m,
      hangs: /^walt: ip link show dev walt-net took longer than 15000 ms and was killed/m,
      talks: /^walt: ip link show dev walt-net printed more than 4194304 bytes and was killed/m,
    },
  ],
  [
    "sh",
    {
      missing: /^walt: cannot run sh: /m,
      fails: /^walt: dnsmasq ended at its start: broken/m,
      hangs: /^walt: dnsmasq ended at its start: it did not start within 15 s/m,
      talks: /^walt: dnsmasq ended at its start: it did not start within 15 s/m,
    },
  ],
  [
    "dnsmasq",
    {
      missing: /^walt: dnsmasq ended at its start: .*dnsmasq: not found/m,
      fails: /^walt: dnsmasq ended at its start: broken/m,
      hangs: /^walt: dnsmasq ended at its start: it did not start within 15 s/m,
      talks: /^walt: dnsmasq ended at its start: it did not start within 15 s/m,
    },
  ],
];

describeWith(NEEDS, "the server with a program that does not work", () => {
  test("from its start: it ends, and says why; a signal ends it sooner", async () => {
    await using world = await World.create({ proxies: 0 });
    const { server, binary } = world;
    await world.stopServer();
    const programs = new Programs(server);
    const wrong: string[] = [];
    for (const [program, words] of SERVER) {
      for (const [kind, names] of Object.entries(words) as [Kind, RegExp][]) {
        programs.break(program, kind);
        const run = programs.spawn([binary, "server", "run"]);
        await run.waitFor(names, { timeout: 90_000 });
        const lines = run.output.split("\n").length;
        const status = await run.exited;
        if (status !== 1 || lines > LINES.first || run.output.includes("bug in walt"))
          wrong.push(`${program} ${kind}: status ${status}, ${lines} lines: ${run.output.slice(-500)}`);
        if (kind === "hangs") {
          const stopped = programs.spawn([binary, "server", "run"]);
          await eventually("the call that hangs", () => programs.calls > 1);
          const end = await stopped.stop("SIGTERM", { grace: ENDS });
          await stopped.waitFor(/event=server-stops/);
          if (end !== 0 || !STOPPED.test(stopped.output)) wrong.push(`${program} ${kind}: ${stopped.output}`);
        }
        await eventually("nothing is left", () => server.processes().length === 0).catch(() =>
          wrong.push(`${program} ${kind} left ${JSON.stringify(server.processes())}`),
        );
        if (existsSync(server.path("/sys/class/net/walt-net")))
          wrong.push(`${program} ${kind} left walt-net`);
      }
      programs.mend(program);
    }
    expect(wrong).toEqual([]);
  }, 600_000);

  test("while it runs: it goes on, ends in order, and works when the program does again", async () => {
    await using world = await World.create({ proxies: 0 });
    const { server, binary } = world;
    const device = await world.device("device");
    await device.enrol();
    const programs = new Programs(server);
    const wrong: string[] = [];
    for (const [program, names] of [
      ["ip", /cannot make this node's|event=tunnel-|ip .*(cannot|took|printed|failed)/],
      ["bridge", /bridge -batch .*(cannot|took|printed|failed)|cannot run bridge/],
    ] as const) {
      for (const kind of Object.keys(KINDS) as Kind[]) {
        await world.stopServer();
        const run = programs.spawn([binary, "server", "run"]);
        world.daemon = run;
        await run.waitFor(/event=server-ready/);
        programs.break(program, kind);
        const found = await watched(run, programs, names);
        programs.mend(program);
        await device.isUp();
        programs.break(program, kind);
        const status = await run.stop("SIGTERM", { grace: ENDS });
        programs.mend(program);
        if (status !== 0) found.push(`status ${status}`);
        wrong.push(...found.map((one) => `${program} ${kind}: ${one}: ${run.output.slice(-1000)}`));
        await server.run(["ip", "link", "delete", "walt-net"]);
        await world.startServer();
      }
    }
    expect(wrong).toEqual([]);
  }, 600_000);
});
