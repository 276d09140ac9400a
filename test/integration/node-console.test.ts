/** A node's console, logs and reboots from the lab, through proxy and server, with the commands that an operator types. */

import { expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { ownTarget } from "../lab/binary.ts";
import { eventually } from "../lab/eventually.ts";
import type { Host } from "../lab/host.ts";
import { describeWith } from "../lab/need.ts";
import type { LabProcess } from "../lab/process.ts";
import { startSshd } from "../lab/sshd.ts";
import { INTEGRATION, World } from "../lab/world.ts";

const ARM = ownTarget() === "arm64";
const QEMU = ARM ? "qemu-system-aarch64" : "qemu-system-x86_64";
const PROMPT = /iPXE initialising[\s\S]*iPXE> /;
const SLOW = { timeout: 60_000 };
const LONG = { within: 60_000 };

/** Nodes boot a script in place of a kernel, which iPXE runs: its own command line. */
function bootShell(world: World): void {
  const boot = `/var/lib/walt-vpn/boot/${ARM ? "arm64" : "x86_64"}`;
  world.server.writeFile(`${boot}/vmlinuz`, "#!ipxe\nshell\n");
  world.server.writeFile(`${boot}/initrd.img`, "none");
}

/** What is typed so that the shell says a word, which is not in the echo of what is typed. */
const say = (word: string): string => `echo ${word.slice(0, 1)}\${net0/none}${word.slice(1)}\r`;

const countOf = (process: LabProcess, what: string): number => process.output.split(what).length - 1;

/** A host from which root may use the server through ssh. */
async function operatorHost(world: World): Promise<Host> {
  const { server } = world;
  const operator = await world.lab.host("operator", { networks: [server.ports[0]?.network ?? ""] });
  const sshd = await startSshd(server);
  operator.hosts({ "walt.lab.example": world.serverAddress });
  await operator.must([
    "sh",
    "-c",
    "mkdir -p -m 700 /root/.ssh && ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519",
  ]);
  const key = await operator.must(["cat", "/root/.ssh/id_ed25519.pub"]);
  operator.writeFile(
    "/root/.ssh/known_hosts",
    sshd.hostKeys.map((one) => `walt.lab.example ${one}\n`).join(""),
  );
  await server.must(["mkdir", "-m", "700", "-p", "/root/.ssh"]);
  server.writeFile("/root/.ssh/authorized_keys", key, 0o600);
  return operator;
}

describeWith(
  [...INTEGRATION, { programs: [QEMU, "script", "stty"] }],
  "a node's console from the lab",
  () => {
    test("boot, input, several watchers, one writer; it goes on after the server's restart; reboot", async () => {
      await using world = await World.create();
      bootShell(world);
      const device = await world.device("device1", { toml: "[device.vm]\nmemory = 128\n" });
      const node = await device.enrol();
      const attach = (...more: string[]): LabProcess =>
        world.server.spawn([world.binary, "node", "console", node, ...more]);
      const command = [world.binary, "node", "console", node].join(" ");
      const typing = world.server.spawn(
        ["script", "-qec", `${command}; echo status $?; stty -a`, "/dev/null"],
        { env: { TERM: "xterm" } },
      );
      await typing.waitFor(PROMPT, SLOW);
      const [raw, plain] = [attach("--watch", "--raw"), attach("--watch")];
      await raw.waitFor(PROMPT);
      const { mac } = await device.status();
      // The firmware may lose a character of a long line while the machine is busy: it is typed again then.
      const said = new RegExp(`\\nthis is ${mac}`);
      for (let tries = 0; tries < 5 && !said.test(typing.output); tries++) {
        const after = typing.position;
        typing.write(`echo this is \${net0/mac}\r`);
        await typing.waitFor(/\nthis is [\s\S]*iPXE>/, { after });
      }
      for (const one of [typing, raw, plain]) await one.waitFor(said);
      expect(raw.stdout).toContain("\u001b[");
      expect(plain.output).not.toMatch(/[^\P{Cc}\n\t]/u);

      // One writer, until somebody takes the console.
      const second = await world.walt(world.server, "node", "console", node);
      expect([second.status, second.stderr.split("\n")[0]]).toEqual([
        1,
        expect.stringMatching(/^walt: root.* is typing on the console$/),
      ]);
      const taker = attach("--take", "--raw");
      await typing.waitFor(/has taken the console: you can only watch now/);
      typing.write("nothing\r");
      await typing.waitFor(/what you type is not sent/);
      await taker.waitFor(PROMPT);
      const booted = countOf(raw, "iPXE initialising");

      // The server is away: what is said meanwhile comes later, once, and everybody has the place that he had.
      await world.stopServer();
      await typing.waitFor(/The way to the console is lost/);
      const local = device.host.spawn([world.binary, "device", "console", "--take"]);
      await local.waitFor(PROMPT);
      local.write(say("meanwhile"));
      await local.waitFor(/\nmeanwhile/);
      expect(await local.stop("SIGINT")).toBe(0);
      await world.startServer();
      for (const one of [typing, raw, plain, taker]) await one.waitFor(/\nmeanwhile/, SLOW);
      const before = raw.position;
      taker.write(say("again"));
      for (const one of [typing, raw, plain, taker]) {
        await one.waitFor(/\nagain/);
        expect(countOf(one, "\nmeanwhile")).toBe(1);
      }
      expect(raw.output.slice(0, before)).toContain("meanwhile");
      expect(countOf(raw, "iPXE initialising")).toBe(booted);

      // Input that ends leaves the writer's place, and goes on watching.
      await taker.closeInput();
      const piped = await eventually(
        "the writer's place is free",
        async () => {
          const one = attach();
          await one.waitFor(/iPXE initialising|is typing/);
          return one.output.includes("is typing") ? undefined : one;
        },
        LONG,
      );
      piped.write(say("piped"));
      for (const one of [taker, piped]) await one.waitFor(/\npiped/);
      expect(piped.stdout).not.toContain("\u001b");
      for (const one of [taker, piped, plain]) expect(await one.stop("SIGINT")).toBe(0);

      typing.write("\r~?");
      await typing.waitFor(/~\. {2}leave the console/);
      typing.write("~.");
      await typing.waitFor(/Left the console/);
      expect((await typing.waitFor(/status (\d+)/))[1]).toBe("0");
      await typing.waitFor(/ icanon /);
      expect(await typing.exited).toBe(0);

      // Who leaves a silent console leaves his place at once.
      const next = world.server.spawn(["script", "-qec", command, "/dev/null"], { env: { TERM: "xterm" } });
      await next.waitFor(PROMPT);

      // A guest that ends while it is asked to has reacted; by force no guest is asked.
      const asked = world.server.spawn([world.binary, "node", "reboot", node]);
      await device.process?.waitFor(/event=order order=reboot/);
      const [rebooted, log] = [raw.position, device.process?.position ?? 0];
      next.write("reboot\r");
      expect([await asked.exited, asked.output]).toEqual([0, `${node}: rebooted\n`]);
      await raw.waitFor(PROMPT, { ...SLOW, after: rebooted });
      const hard = raw.position;
      expect(await world.must(world.server, "node", "reboot", node, "--hard")).toBe(`${node}: rebooted\n`);
      await raw.waitFor(/\[walt: stopped: rebooted by root/, { after: hard });
      await raw.waitFor(PROMPT, { ...SLOW, after: hard });
      expect(device.process?.output.slice(log)).not.toMatch(/ warn | error /);

      // From another machine, through ssh.
      const operator = await operatorHost(world);
      const there = ["--server", "ssh://root@walt.lab.example"];
      const far = operator.spawn(
        ["script", "-qec", `${command} --take ${there.join(" ")}; echo status $?`, "/dev/null"],
        { env: { TERM: "xterm" } },
      );
      await far.waitFor(PROMPT, SLOW);
      far.write(say("far"));
      await far.waitFor(/\nfar/);
      await world.stopServer();
      await far.waitFor(/The way to the console is lost/, SLOW);
      await world.startServer();
      const back = far.position;
      await eventually(
        "it is typed again",
        async () => {
          far.write(say("back"));
          return await far.waitFor(/\nback/, { after: back, timeout: 2000 }).catch(() => undefined);
        },
        LONG,
      );
      far.write("\r~.");
      expect((await far.waitFor(/status (\d+)/))[1]).toBe("0");
      expect(readdirSync(operator.path(`${operator.dir}/tmp`))).toEqual([]);
    }, 300_000);
  },
);
