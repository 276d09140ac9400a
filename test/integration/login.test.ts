/** Commands, shells and copies on nodes, by ssh to the node's own sshd: on the server, and from another machine. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import type { NodeInfo } from "../../src/api/messages.ts";
import type { RunResult } from "../../src/linux/run.ts";
import { eventually } from "../lab/eventually.ts";
import type { Host } from "../lab/host.ts";
import { describeWith } from "../lab/need.ts";
import type { LabProcess } from "../lab/process.ts";
import { type Sshd, startSshd } from "../lab/sshd.ts";
import { INTEGRATION, pingable, WALT_NET, World } from "../lab/world.ts";

/** The file in which a user's machine keeps the nodes' host keys. */
const KNOWN = "/root/.ssh/walt_known_nodes";

describeWith([...INTEGRATION, { programs: ["script", "scp"] }], "logins on nodes", () => {
  let world: World;
  let server: Host;
  /** Another machine, from which the server is reached by ssh. */
  let operator: Host;
  let serverSshd: Sshd;
  /** The nodes' machines, in the order of their devices. */
  const hosts: Host[] = [];
  const sshds: Sshd[] = [];
  const nodes: NodeInfo[] = [];

  beforeAll(async () => {
    world = await World.create({ proxies: 0 });
    server = world.server;
    operator = await world.lab.host("operator");
    operator.hosts({ "walt.lab.example": world.serverAddress });
    serverSshd = await startSshd(server);
    const keys = await Promise.all([server, operator].map(makeKey));
    operator.writeFile(
      "/root/.ssh/known_hosts",
      serverSshd.hostKeys.map((host) => `walt.lab.example ${host}\n`).join(""),
    );
    authorize(server, keys);
    for (const name of ["device1", "device2", "device3"]) {
      const device = await world.device(name);
      const label = await device.enrol();
      const node = (await world.nodes()).find((one) => one.name === label);
      if (node === undefined) throw new Error(`${label} is not listed`);
      const host = await device.plugNode(node.address ?? "", node.mac);
      expect(await pingable(host, WALT_NET)).toBe(true);
      authorize(host, keys);
      sshds.push(await startSshd(host));
      hosts.push(host);
      nodes.push(node);
    }
  }, 180_000);
  afterAll(() => world?.lab.stop());

  async function makeKey(host: Host): Promise<string> {
    await host.must([
      "sh",
      "-c",
      "mkdir -m 700 -p /root/.ssh && ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519",
    ]);
    // The operator's own configuration is for other hosts, and does not count behind the server.
    host.writeFile(
      "/root/.ssh/config",
      "Host *-* 192.168.*\n  User nobody\n  Port 1\n  ProxyCommand false\n",
    );
    return readFileSync(host.path("/root/.ssh/id_ed25519.pub"), "utf8");
  }
  const authorize = (host: Host, keys: string[]): void => {
    host.writeFile("/root/.ssh/authorized_keys", keys.join(""), 0o600);
    host.writeFile("/root/.hushlogin", "");
    Bun.spawnSync(["chmod", "700", host.path("/root/.ssh")]);
  };
  const node = (index: number): string => nodes[index]?.name ?? "";
  const hostOf = (index: number): Host => hosts[index] ?? server;
  const THERE = ["--server", "ssh://root@walt.lab.example"];
  /** `walt node …` on the server, or on the operator's machine with `--server`. */
  const run = (host: Host, verb: string, ...args: string[]): Promise<RunResult> =>
    world.walt(host, "node", verb, ...(host === operator ? THERE : []), ...args);
  /** Its standard error without the lines about host keys. */
  const said = ({ stderr }: RunResult): string => stderr.replaceAll(/^.*: host key .*\n/gm, "");
  const sorted = (text: string): string[] =>
    text
      .trimEnd()
      .split("\n")
      .map((line) => line.trimEnd())
      .toSorted();
  /** No file of a command is left on a machine. */
  const expectNoFiles = (host: Host): void => {
    const files = readdirSync(host.path(`${host.dir}/tmp`));
    expect(files.filter((name) => name.startsWith("walt-"))).toEqual([]);
  };
  /** A shell on the first node, on a terminal of the operator. */
  const shell = (): LabProcess => {
    const command = [world.binary, "node", "shell", ...THERE, node(0)].join(" ");
    return operator.spawn(["script", "-qec", command, "/dev/null"], { env: { TERM: "xterm" } });
  };
  /** The first node boots an image with new host keys, or with these. @returns a folder with those before. */
  async function bootImage(keys?: string): Promise<string> {
    const host = hostOf(0);
    const old = (await host.must(["mktemp", "-d", "/root/keys-XXXXXX"])).trim();
    await sshds[0]?.stop();
    const copy = keys === undefined ? "" : `cp -p ${keys}/* /etc/ssh/`;
    await host.must(["sh", "-c", `mv /etc/ssh/ssh_host_* ${old}\n${copy}`]);
    sshds[0] = await startSshd(host);
    return old;
  }

  for (const [where, from] of [
    ["on the server", () => server],
    ["from another machine", () => operator],
  ] as const) {
    test(`${where}: input, output and exit status are the command's; the host key is learnt at the first contact`, async () => {
      const first = await run(from(), "run", node(0), "--", "echo out; echo err >&2; exit 255");
      expect([first.status, first.stdout, said(first)]).toEqual([255, "out\n", "err\n"]);
      expect(first.stderr).toMatch(
        /first contact: host key ED25519 SHA256:\S+ is kept in \/root\/.ssh\/walt_known_nodes\n/,
      );
      expect(readFileSync(from().path(KNOWN), "utf8")).toStartWith(`${nodes[0]?.mac} ssh-ed25519 `);
      const words = ["node", "run", ...(from() === operator ? THERE : []), node(0), "cat"];
      const piped = await from().run([world.binary, ...words], { input: "a\u0000b" });
      expect(piped).toEqual({ status: 0, stdout: "a\u0000b", stderr: "" });
    }, 120_000);

    test(`${where}: another image's host key is refused, accepted on demand, and known beside the old one from then on`, async () => {
      const first = await bootImage();
      const refused = await run(from(), "run", node(0), "id");
      expect([refused.status, refused.stdout]).toEqual([1, ""]);
      expect(refused.stderr).toMatch(
        /^walt: \S+ shows a host key that it has not shown before\n {2}now: {4}ED25519 \S+\n {2}before: ED25519 \S+, since /,
      );
      expect(refused.stderr).toMatch(/repeat the command with --new-host-key\.\n$/);
      expect(refused.stderr).not.toContain("@@@");
      // It was not learnt by that.
      const accepted = await run(from(), "run", "--new-host-key", node(0), "id -un");
      expect([accepted.status, accepted.stdout]).toEqual([0, "root\n"]);
      expect(accepted.stderr).toContain("another image: host key ED25519 ");
      expect(await run(from(), "run", node(0), "id -un")).toEqual({
        status: 0,
        stdout: "root\n",
        stderr: "",
      });
      await bootImage(first);
      expect(await run(from(), "run", node(0), "id -un")).toEqual({
        status: 0,
        stdout: "root\n",
        stderr: "",
      });
    }, 120_000);

    test(`${where}: nodes without sshd, and nodes that do not answer`, async () => {
      await sshds[0]?.stop();
      await hostOf(1).ip("link set eth0 down");
      try {
        const none = await run(from(), "run", node(0), "id");
        expect([none.status, none.stderr]).toEqual([
          1,
          expect.stringMatching(
            /^walt: \S+ has no SSH server: it refuses connections to \S+:22\nIts image has no sshd, /,
          ),
        ]);
        const silent = await run(from(), "run", node(1), "id");
        expect([silent.status, silent.stderr]).toEqual([
          1,
          expect.stringMatching(/^walt: \S+ is up, but does not answer at \S+\nIt may be booting, /),
        ]);
        const all = await run(from(), "run", "all", "--", "id -un");
        expect([all.status, all.stdout]).toEqual([1, `${node(2)}: root\n`]);
        expect(said(all)).toMatch(/2 of 3 nodes failed\n$/);
      } finally {
        sshds[0] = await startSshd(hostOf(0));
        await hostOf(1).ip("link set eth0 up");
      }
    }, 120_000);
  }

  test("of several nodes each line begins with the name, and the worst status counts", async () => {
    const line = `id -un; printf '\\033[1m'; test $(hostname) != ${hostOf(1).name} || { echo no >&2; exit 7; }`;
    const result = await run(operator, "run", "all", "--", line);
    expect([result.status, sorted(result.stdout), sorted(said(result))]).toEqual([
      7,
      nodes.flatMap(({ name }) => [`${name}:`, `${name}: root`]).toSorted(),
      [`${node(1)}: exit status 7`, `${node(1)}: no`, "walt: 1 of 3 nodes failed"].toSorted(),
    ]);
  }, 120_000);

  test("--json: a line for each line of output, and for each end", async () => {
    const { status, stdout } = await run(operator, "run", "--json", node(0), "--", "echo a; exit 2");
    expect(status).toBe(2);
    const lines = stdout.trim().split("\n");
    expect(lines.map((line): unknown => JSON.parse(line))).toEqual([
      { node: node(0), from: "stdout", line: "a" },
      { node: node(0), status: 2 },
    ]);
  }, 120_000);

  test("a shell has a terminal; at a new host key it asks, and what is typed later is the shell's", async () => {
    await run(operator, "run", node(0), "true"); // its key is known
    const first = await bootImage();
    const careful = shell();
    await careful.waitFor(/is this its key\? \(yes\/no\): /);
    careful.write("no\n");
    await careful.waitFor(/was not accepted; nothing was done/);
    expect(await eventually("the command's end", careful.exited)).toBe(1);
    const bold = shell();
    await bold.waitFor(/is this its key\? \(yes\/no\): /);
    bold.write("yes\n");
    await bold.waitFor(/another image: host key /);
    bold.write("tty; echo $((6 * 7)) $TERM; exit 5\n");
    await bold.waitFor(/\/dev\/pts\/\d+\r\n42 xterm\r\n/);
    expect(await eventually("the shell's end", bold.exited)).toBe(5);
    await bootImage(first);
    const words = [world.binary, "node", "shell", ...THERE, node(0)];
    const piped = await operator.run(words, { input: "echo $((6 * 7)); exit 4\n" });
    expect([piped.status, piped.stdout]).toEqual([4, "42\n"]);
  }, 120_000);

  test("files to all nodes, and from all to a folder for each; what cannot be copied is told", async () => {
    operator.writeFile("/srv/to/a b.txt", "text\n");
    const there = await run(operator, "cp", "-r", "/srv/to", "all:/srv/");
    expect([there.status, sorted(there.stdout)]).toEqual([
      0,
      nodes.map(({ name }) => `${name}: copied`).toSorted(),
    ]);
    const back = await run(operator, "cp", "all:/srv/to/a b.txt", `${node(0)}:/etc/hostname`, "/srv/back");
    expect(back.status).toBe(0);
    expect(sorted(await operator.must(["sh", "-c", "cd /srv/back; grep . */*"]))).toEqual(
      [
        ...nodes.map(({ name }) => `${name}/a b.txt:text`),
        `${node(0)}/hostname:${hostOf(0).name}`,
      ].toSorted(),
    );
    expect(await run(operator, "cp", `${node(1)}:/etc/hostname`, "/srv/one")).toEqual({
      status: 0,
      stdout: "",
      stderr: "",
    });
    expect(readFileSync(operator.path("/srv/one"), "utf8")).toBe(`${hostOf(1).name}\n`);
    const none = await run(operator, "cp", `${node(1)}:/none`, "/srv/none");
    expect([none.status, none.stderr]).toEqual([1, `walt: ${node(1)}: /none: No such file or directory\n`]);
  }, 120_000);

  test("copies from several nodes: one that shows a new host key does not hinder the others", async () => {
    await run(operator, "run", node(0), "true"); // its key is known
    const first = await bootImage();
    const { status, stdout, stderr } = await run(
      operator,
      "cp",
      `${node(0)}:/etc/hostname`,
      `${node(1)}:/etc/hostname`,
      "/srv/some",
    );
    expect([status, stdout]).toEqual([1, `${node(1)}: copied\n`]);
    expect(readFileSync(operator.path(`/srv/some/${node(1)}/hostname`), "utf8")).toBe(`${hostOf(1).name}\n`);
    expect(stderr).toStartWith(`${node(0)}: ${node(0)} shows a host key that it has not shown before\n`);
    await bootImage(first);
  }, 120_000);

  test("a user who is not let in is told with the keys that were tried; -i gives another key", async () => {
    const refused = await run(server, "run", node(0), "--user", "nobody", "id");
    expect([refused.status, said(refused)]).toEqual([
      1,
      expect.stringMatching(
        /^walt: \S+ does not let nobody in \(it takes publickey.*\); tried: \/root\/.ssh\/id_ed25519\n/,
      ),
    ]);
    await server.must(["mv", "/root/.ssh/id_ed25519", "/root/.ssh/lab"]);
    expect((await run(server, "run", node(0), "id")).stderr).toContain("tried: no key, as there is none");
    expect((await run(server, "run", "-i", "/root/.ssh/lab", node(0), "id")).status).toBe(0);
    await server.must(["mv", "/root/.ssh/lab", "/root/.ssh/id_ed25519"]);
  }, 120_000);

  test("a signal leaves neither ssh nor files behind", async () => {
    for (const from of [server, operator]) {
      const words = [
        "node",
        "run",
        ...(from === operator ? THERE : []),
        node(0),
        "--",
        "echo begun; sleep 1000",
      ];
      const command = from.spawn([world.binary, ...words]);
      await command.waitFor(/begun/);
      expect(await command.stop("SIGTERM")).toBe(143);
      const left = (): unknown[] =>
        from.processes().filter((one) => one.command.includes("walt_known_nodes"));
      await eventually("the end of every ssh", left, { fits: ({ length }) => length === 0 });
      expectNoFiles(from);
    }
    await eventually("the end of every process", () => operator.processes().length === 0);
  }, 120_000);

  test("a server whose sshd forbids connections through it is told", async () => {
    await serverSshd.stop();
    serverSshd = await startSshd(server, { extraConfig: "AllowTcpForwarding no" });
    const { status, stderr } = await run(operator, "run", node(0), "id");
    expect([status, stderr]).toEqual([
      1,
      expect.stringMatching(
        /^walt: the sshd of the server's machine forbids connections through it\nAllow them .*AllowTcpForwarding local/,
      ),
    ]);
    expectNoFiles(operator);
    expect(operator.processes()).toEqual([]);
  }, 120_000);

  test("a node whose tunnel is down is told at once", async () => {
    await world.devices[2]?.stop();
    await eventually("the node is down", async () =>
      (await world.nodes()).some(({ state }) => state === "down"),
    );
    const { status, stderr } = await run(server, "run", node(2), "id");
    expect([status, stderr]).toEqual([
      1,
      expect.stringMatching(/^walt: \S+ is down: its device has had no tunnel for /),
    ]);
  }, 120_000);
});
