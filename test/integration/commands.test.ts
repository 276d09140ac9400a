/** Every command with input that is wrong, and with what is missing around it. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { type RunResult, run } from "../../src/linux/run.ts";
import { answering, http, waltHeaders } from "../api/peer.ts";
import type { Host } from "../lab/host.ts";
import { describeWith } from "../lab/need.ts";
import type { LabProcess } from "../lab/process.ts";
import { type Sshd, startSshd } from "../lab/sshd.ts";
import { INTEGRATION, World } from "../lab/world.ts";

/** All commands, and the ones that talk to the server's daemon. */
const COMMANDS = [
  ...["run", "vpn setup-proxy", "vpn setup-node", "vpn monitor", "vpn list", "vpn revoke", "vpn events"],
  ...["node show", "node rename", "node note", "node run", "node shell", "node cp"],
  ...[
    "vpn requests",
    "vpn accept",
    "vpn deny",
    "vpn block list",
    "vpn block lift",
    "vpn expect",
    "vpn token add",
    "vpn token list",
    "vpn token withdraw",
  ],
  ...[
    "server run",
    "server install",
    "proxy setup",
    "proxy run",
    "device run",
    "device status",
    "device console",
    "device forget",
    "device install",
  ],
  ...["status", "help", "version", "completion"],
  ...["config check", "config show"],
].map((words) => words.split(" "));
const CLIENTS: readonly string[][] = [
  ["vpn", "setup-proxy", "--next", "gate.example.org", "-o", "/srv/none"],
  ["vpn", "setup-node", "--entrypoint", "ssh://walt.lab.example", "-o", "/srv/none"],
  ["vpn", "monitor"],
  ["vpn", "requests"],
  ["vpn", "accept", "PG2WB"],
  ["vpn", "deny", "PG2WB"],
  ["vpn", "block", "list"],
  ["vpn", "block", "lift", "PG2WB"],
  ["vpn", "expect", "--serial", "7"],
  ["vpn", "token", "add"],
  ["vpn", "token", "list"],
  ["vpn", "token", "withdraw", "1"],
  ["vpn", "list"],
  ["vpn", "revoke", "vpn-000000"],
  ["vpn", "events"],
  ["status"],
  ["node", "show"],
  ["node", "run", "vpn-000000", "uptime"],
  ["node", "shell", "vpn-000000"],
  ["node", "cp", "/etc/hosts", "vpn-000000:/tmp"],
  ["node", "rename", "vpn-000000", "lab-3"],
  ["node", "note", "vpn-000000", "in", "the", "cellar"],
];

/** What may answer instead of a daemon of this version, and what is said of it. */
const STRANGERS = [
  // An older server, whose every answer lacks what this version needs.
  [http("200 OK", '"older"\n', waltHeaders("0.0.7")), "is walt 0.0.7, this is walt VERSION: "],
  [
    http("404 Not Found", '{"code":"unknown-request","error":"no such request"}', waltHeaders("0.0.7")),
    "is walt 0.0.7, this is walt VERSION: no such request",
  ],
  [http("200 OK", "[]", waltHeaders("9.0.0", 2)), "is walt 9.0.0, this is walt VERSION: it speaks version 2"],
  [
    http("404 Not Found", "<html>\n\u001b[2J", "Server: x\r\n"),
    "is no daemon of walt: it answered with status 404",
  ],
  ["SSH-2.0-OpenSSH_9.2\r\n", "does not answer: "],
  ["", "does not answer: the connection was closed before the whole answer came"],
] as const;

/** A bug of ours would be a stack trace, and an escape byte would be a colour where nobody can see it. */
function expectWords(result: RunResult): void {
  expect(result.stderr).not.toMatch(/this is a bug|\n\s+at /);
  expect(result.stderr + result.stdout).not.toContain("\u001b");
}

describeWith([...INTEGRATION, { programs: ["script", "setpriv"] }], "commands", () => {
  let world: World;
  let server: Host;
  /** Of the binary. */
  let version: string;
  /** Another machine, from which the server is reached by ssh. */
  let operator: Host;

  beforeAll(async () => {
    world = await World.create({ proxies: 0 });
    server = world.server;
    version = (await run([world.binary, "--version"])).trim();
    operator = await world.lab.host("operator");
    operator.hosts({ "walt.lab.example": world.serverAddress });
    server.hosts({ "gate.example.org": "127.0.0.1", "walt.lab.example": "127.0.0.1" });
    // Where nobody can write, not even root; and a place that other users can run it from.
    for (const host of [server, operator]) {
      await host.must(["sh", "-c", "mkdir /srv/full && mount -t tmpfs -o ro tmpfs /srv/full"]);
      await host.must(["sh", "-c", ': > /srv/walt && mount --bind "$0" /srv/walt', world.binary]);
      await host.must(["sh", "-c", "echo precious > /srv/file"]);
    }
  }, 120_000);
  afterAll(() => world?.lab.stop());

  const walt = async (host: Host, ...args: string[]): Promise<RunResult> => {
    const result = await host.run(["/srv/walt", ...args]);
    expectWords(result);
    return result;
  };
  /** On a terminal. */
  const terminal = (host: Host, command: string, env: Record<string, string> = {}): LabProcess =>
    host.spawn(["script", "-qec", command, "/dev/null"], { env: { TERM: "xterm", ...env } });
  const nobody = (...groups: string[]): string[] => [
    ...["setpriv", "--reuid=65534", "--regid=65534"],
    groups.length === 0 ? "--clear-groups" : `--groups=${groups.join(",")}`,
  ];

  describe("help and typos", () => {
    test("--help of every command has an example, on standard output, and is no failure", async () => {
      for (const words of COMMANDS) {
        const { status, stdout, stderr } = await walt(operator, ...words, "--help");
        expect([words, status, stderr]).toEqual([words, 0, ""]);
        expect(stdout).toMatch(/\nEXAMPLES?\n\n {2}\S/);
        expect(stdout).toContain(`walt ${words.join(" ")}`);
      }
    });

    test("an unknown command or option, a word too many or too few: exit status 2 and a message", async () => {
      for (const [args, said] of [
        [["vnp", "list"], /has no command "vnp"; did you mean vpn\?/],
        [["vpn", "monitro"], /did you mean monitor\?/],
        [["vpn", "list", "--jsno"], /there is no option --jsno; did you mean --json\?/],
        [["node", "rename", "a", "b", "c"], /unexpected argument "c"/],
        [["vpn", "revoke"], /NODE is missing/],
        [["vpn"], /wants one more word/],
        [["--frobnicate"], /has no option "--frobnicate"/],
        [[], /USAGE/],
      ] as const) {
        const { status, stdout, stderr } = await walt(operator, ...args);
        expect([args, status, stdout]).toEqual([args, 2, ""]);
        expect(stderr).toMatch(said);
      }
    });

    test("arguments that cannot be: exit status 2, and nothing is asked or written", async () => {
      for (const args of [
        ["vpn", "setup-proxy", "--next", "-oProxyCommand=x", "-o", "/srv/none"],
        ["vpn", "setup-proxy", "--next=$(id)", "-o", "/srv/none"],
        ["vpn", "setup-proxy", "--next", "gate:99999", "-o", "/srv/none"],
        ["vpn", "setup-node", "--entrypoint", "a,,b", "-o", "/srv/none"],
        ["vpn", "setup-node", "--entrypoint", "http://a", "-o", "/srv/none"],
        ["vpn", "setup-node", "--entrypoint", "a,,b", "--entrypoint", "a", "-o", "/srv/none"],
        ["vpn", "setup-node", ..."abcdefghi".split("").map((name) => `--entrypoint=${name}`)],
        ["vpn", "setup-node", "--entrypoint", "a", "--next", "a b", "-o", "/srv/none"],
        ["vpn", "setup-node", "--entrypoint", "a", "--board", "zx81", "-o", "/srv/none"],
        ["node", "show", "--server", "walt.lab.example"],
        ["node", "show", "--server", "ssh://-oProxyCommand=x"],
        ["node", "show", "--server", "ssh://a:b@c"],
        ["node", "show", "--config", ""],
      ]) {
        const { status, stdout } = await walt(server, ...args);
        expect([args, status, stdout]).toEqual([args, 2, ""]);
      }
      expect(existsSync(server.path("/srv/none"))).toBe(false);
    });
  });

  describe("what is printed", () => {
    test("--json of every listing is JSON, also when there is nothing to list", async () => {
      for (const [args, kind] of [
        [["node", "show", "--json"], "[]"],
        [["vpn", "list", "--all", "--json"], "[]"],
        [["config", "show", "--json"], "[{"],
      ] as const) {
        const { status, stdout } = await walt(server, ...args);
        expect(status).toBe(0);
        expect(JSON.stringify(JSON.parse(stdout))).toStartWith(kind);
      }
      const { stderr } = await walt(server, "node", "show", "vpn-000000", "--json");
      expect(JSON.parse(stderr)).toMatchObject({ error: 'there is no node "vpn-000000"', status: 1 });
    });

    test("colours are for a terminal, and only without NO_COLOR", async () => {
      const coloured = terminal(server, "/srv/walt vpn --help");
      expect(await coloured.exited).toBe(0);
      expect(coloured.output).toContain("\u001b[");
      const plain = terminal(server, "/srv/walt vpn --help", { NO_COLOR: "1" });
      expect(await plain.exited).toBe(0);
      expect(plain.output).toContain("setup-proxy");
      expect(plain.output).not.toContain("\u001b");
    });

    test("a reader that goes away is no error", async () => {
      const { status, stdout, stderr } = await server.run([
        "bash",
        "-c",
        "set -o pipefail; /srv/walt config show | head -n 1",
      ]);
      expect([status, stderr]).toEqual([0, ""]);
      expect(stdout).toMatch(/^KEY +VALUE +FROM\n$/);
    });
  });

  describe("the daemon", () => {
    test("that does not run: every command says so, and how to start it", async () => {
      for (const args of CLIENTS) {
        const { status, stdout, stderr } = await walt(operator, ...args);
        expect([args, status, stdout]).toEqual([args, 1, ""]);
        expect(stderr).toBe(
          "walt: no daemon: /run/walt-vpn/server.sock does not exist\nStart it with `walt server run`.\n",
        );
      }
      expect(existsSync(operator.path("/srv/none"))).toBe(false);
    });

    test("that is of another version, or no daemon of walt: every command says so in one line", async () => {
      const socket = operator.path("/run/walt-vpn/server.sock");
      mkdirSync(dirname(socket), { recursive: true });
      // Each command with the first of them, and one command with all.
      const cases = [
        ...CLIENTS.map((args) => [args, STRANGERS[0]] as const),
        ...STRANGERS.map((stranger) => [["node", "show"], stranger] as const),
      ];
      for (const [args, [answer, said]] of cases) {
        const { status, stdout, stderr } = await answering(socket, answer, () => walt(operator, ...args));
        expect([args, status, stdout]).toEqual([args, 1, ""]);
        expect(stderr).toStartWith(
          `walt: the daemon on /run/walt-vpn/server.sock ${said.replace("VERSION", version)}`,
        );
        expect(stderr.trim().split("\n")).toHaveLength(2);
        rmSync(socket, { force: true });
      }
      expect(existsSync(operator.path("/srv/none"))).toBe(false);
    }, 120_000);

    test("that is followed by one of another version: a monitor ends, and says so", async () => {
      const monitor = server.spawn(["/srv/walt", "vpn", "monitor", "--json"]);
      await monitor.waitFor(/"watching"/);
      await world.stopServer();
      const socket = server.path("/run/walt-vpn/server.sock");
      const status = await answering(
        socket,
        http("200 OK", '"older"\n', waltHeaders("0.0.7")),
        () => monitor.exited,
      );
      expect(status).toBe(1);
      expect(monitor.output).toContain(
        `{"error":"the daemon on /run/walt-vpn/server.sock is walt 0.0.7, this is walt ${version}: event: `,
      );
      rmSync(socket, { force: true });
      await world.startServer();
    }, 120_000);

    test("that one may not talk to: every command says so, and what to do", async () => {
      for (const args of CLIENTS) {
        const result = await server.run([...nobody(), "/srv/walt", ...args]);
        expectWords(result);
        expect([args, result.status]).toEqual([args, 1]);
        expect(result.stderr).toMatch(
          /^walt: no permission to use \/run\/walt-vpn\/server\.sock\nRun the command as root, or become a member/,
        );
      }
    });

    test("is root's alone without the group, and the group's where there is one", async () => {
      const socket = server.path("/run/walt-vpn/server.sock");
      expect(statSync(socket).mode & 0o777).toBe(0o600);
      await world.stopServer();
      await server.must(["groupadd", "--system", "walt"]);
      await world.startServer();
      const { mode, uid, gid } = statSync(socket);
      const group = (await server.must(["getent", "group", "walt"])).split(":")[2] ?? "";
      expect([mode & 0o777, uid, String(gid)]).toEqual([0o660, 0, group]);
      const member = await server.run([...nobody(group), "/srv/walt", "node", "show", "--json"]);
      expect([member.status, member.stdout]).toEqual([0, "[]\n"]);
      expect((await server.run([...nobody("100"), "/srv/walt", "node", "show"])).status).toBe(1);
      // What only the daemon may read stays so.
      for (const file of ["keys/ca", "keys/enrolment", "registry.sqlite"])
        expect((await server.run([...nobody(group), "cat", `/var/lib/walt-vpn/${file}`])).stderr).toContain(
          "Permission denied",
        );
    });

    test("that cannot start says why: state, socket, listening, boot files, walt-net", async () => {
      const toml = (lines: string): string =>
        `role = "server"\n[server]\nlisten = "127.0.0.1:2223"\nsocket = "/run/other/s"\n${lines}`;
      for (const [lines, said] of [
        ['state = "/srv/full/x"', /cannot make the server's folders: .*\/srv\/full/],
        ['state = "/srv/file"', /cannot make .*\/srv\/file/],
        ['state = "/srv/file/x"', /cannot make the server's folders: /],
        [
          `state = "/srv/o"\nsocket = "/srv/full/s"\n[server.network]\nbridge = "br-a"\naddress = "10.1.0.1/24"`,
          /\/srv\/full/,
        ],
        ['state = "/srv/o"\n[server.network]\nmanaged = false\nbridge = "nowhere"', /nowhere/],
        ['state = "/srv/o"\n[server.network]\nbridge = "lo"', /lo is a network interface, but no bridge/],
        [`state = "/srv/o"\n[server.network]\nbridge = "br-b"\naddress = "10.2.0.1/24"`, undefined],
      ] as const) {
        server.writeFile(
          "/srv/bad.toml",
          toml(lines).replace(lines.includes("socket") ? 'socket = "/run/other/s"\n' : "\0", ""),
        );
        if (said === undefined) {
          // All is well with this one, but for the port that the running daemon has.
          server.writeFile("/srv/bad.toml", toml(lines).replace("127.0.0.1:2223", "0.0.0.0:2222"));
        }
        const { status, stderr } = await walt(server, "server", "run", "--config", "/srv/bad.toml");
        expect([lines, status]).toEqual([lines, 1]);
        expect(stderr).toMatch(said ?? /cannot listen on 0\.0\.0\.0:2222/);
      }
      // Nothing of these attempts is left, and the one that runs was not disturbed.
      expect(await server.must(["ip", "-o", "link"])).not.toMatch(/br-[ab]/);
      expect(await world.nodes()).toEqual([]);
    });

    test("the role in the file is another one: exit status 2", async () => {
      operator.writeFile("/srv/device.toml", 'role = "device"\n');
      operator.writeFile("/srv/none.toml", "");
      for (const [args, status, said] of [
        [["server", "run"], 2, /says role = "device", not "server"/],
        [["proxy", "run"], 2, /not "proxy"/],
        [["proxy", "setup"], 2, /not "proxy"/],
        [["device", "run"], 1, /device\.entrypoint is not set/],
      ] as const) {
        const result = await walt(operator, ...args, "--config", "/srv/device.toml");
        expect([args, result.status]).toEqual([args, status]);
        expect(result.stderr).toMatch(said);
      }
      const unsaid = await walt(operator, "run", "--config", "/srv/none.toml");
      expect([unsaid.status, unsaid.stderr]).toEqual([
        1,
        expect.stringContaining("/srv/none.toml does not say a role"),
      ]);
      const lacking = await walt(operator, "proxy", "run", "--config", "/srv/none.toml");
      expect(lacking.stderr).toContain("/srv/none.toml lacks proxy.next, proxy.ca, proxy.enrolment");
    });

    test("a configuration that is wrong stops every command, with line and key", async () => {
      operator.writeFile("/srv/wrong.toml", '[server]\nsokcet = "/x"\n');
      for (const args of [
        ["config", "check"],
        ["node", "show"],
        ["server", "run"],
        ["device", "status"],
        ["run"],
      ]) {
        const { status, stderr } = await walt(operator, ...args, "--config", "/srv/wrong.toml");
        expect([args, status]).toEqual([args, 1]);
        expect(stderr).toStartWith(
          "walt: /srv/wrong.toml, line 2: server.sokcet is not a key of [server]; did you mean socket?",
        );
      }
      expect((await walt(operator, "config", "check", "--config", "/srv/missing.toml")).stderr).toContain(
        "/srv/missing.toml does not exist",
      );
      operator.writeFile("/srv/server.toml", 'role = "server"\n');
      const { stdout } = await operator.run(["/srv/walt", "config", "check"], {
        env: { WALT_CONFIG: "/srv/server.toml" },
      });
      expect(stdout).toBe('/srv/server.toml: correct, role = "server"\n');
    });
  });

  describe("files", () => {
    const setups: Record<string, string[]> = {
      "setup-proxy": ["vpn", "setup-proxy", "--next", "gate.example.org"],
      "setup-node": ["vpn", "setup-node", "--board", "generic", "--entrypoint", "ssh://walt.lab.example"],
    };
    for (const [name, args] of Object.entries(setups)) {
      test(`${name}: what exists is not overwritten`, async () => {
        const { status, stderr } = await walt(server, ...args, "-o", "/srv/file");
        expect([status, stderr]).toEqual([1, expect.stringContaining("/srv/file exists already")]);
        expect(readFileSync(server.path("/srv/file"), "utf8")).toBe("precious\n");
        const folder = await walt(server, ...args, "-o", "/srv");
        expect([folder.status, folder.stderr]).toEqual([1, expect.stringContaining("/srv exists already")]);
      });

      test(`${name}: where nothing can be written it says so, and leaves nothing`, async () => {
        const before = readdirSync(server.path("/srv")).sort();
        for (const place of ["/srv/full/x", "/srv/no/such", "/srv/file/x"]) {
          const { status, stdout, stderr } = await walt(server, ...args, "-o", place);
          expect([place, status, stdout]).toEqual([place, 1, ""]);
          expect(stderr).toMatch(/^walt: (cannot write|\/srv\/no does not exist)/);
        }
        expect(readdirSync(server.path("/srv")).sort()).toEqual(before);
      });
    }

    test("setup-node leaves nothing half made, and its folder has the right modes", async () => {
      await world.must(server, ...(setups["setup-node"] ?? []), "-o", "/srv/made");
      const modes = readdirSync(server.path("/srv/made"))
        .sort()
        .map((name) => [name, statSync(server.path(`/srv/made/${name}`)).mode & 0o777]);
      expect(modes).toEqual([
        ["enrolment_key", 0o600],
        ["known_hosts", 0o644],
        ["vpn.toml", 0o644],
      ]);
      expect(readdirSync(server.path("/srv")).filter((name) => name.startsWith("made"))).toEqual(["made"]);
    });
  });

  describe("-o -", () => {
    test("is standard output: the script, the vpn.toml, the folder as an archive; and words go elsewhere", async () => {
      const script = await walt(server, "vpn", "setup-proxy", "--next", "gate.example.org", "-o", "-");
      expect([script.status, script.stdout.slice(0, 10)]).toEqual([0, "#!/bin/sh\n"]);
      expect(script.stderr).toContain("The proxy will let devices reach");
      const toml = await walt(
        server,
        "vpn",
        "setup-proxy",
        "--toml",
        "--next",
        "gate.example.org",
        "-o",
        "-",
      );
      expect(toml.stdout).toStartWith('role = "proxy"\n');
      const line =
        "/srv/walt vpn setup-node --board generic --entrypoint ssh://walt.lab.example -o - | tar -tv";
      const listed = await server.must(["bash", "-o", "pipefail", "-c", line]);
      expect(listed).toMatch(/^-rw------- 0\/0 .* \.\/enrolment_key$/m);
      expect(listed).toMatch(/^-rw-r--r-- 0\/0 .* \.\/vpn\.toml$/m);
      expect(existsSync(server.path("/srv/-"))).toBe(false);
    });
  });

  describe("hosts", () => {
    test("setup-node: a proxy that cannot be resolved or reached, or whose key is not in the file", async () => {
      server.writeFile("/srv/known", `other.example.org ssh-ed25519 ${"A".repeat(68)}\n`);
      for (const [more, said] of [
        [["--entrypoint", "nowhere.example.org"], /nowhere\.example\.org/],
        [["--entrypoint", "gate.example.org:23"], /gate\.example\.org:23/],
        [
          ["--entrypoint", "gate.example.org", "--known-hosts", "/srv/known"],
          /\/srv\/known has no host key of gate\.example\.org/,
        ],
        [
          ["--entrypoint", "gate.example.org", "--known-hosts", "/srv/unknown"],
          /\/srv\/unknown does not exist/,
        ],
      ] as const) {
        const { status, stderr } = await walt(
          server,
          "vpn",
          "setup-node",
          "--yes",
          "-o",
          "/srv/none",
          ...more,
        );
        expect([more, status > 0]).toEqual([more, true]);
        expect(stderr).toMatch(said);
      }
      expect(existsSync(server.path("/srv/none"))).toBe(false);
    });

    test("setup-proxy: a name that does not resolve here is written, with a note: the proxy may know it", async () => {
      const { status, stdout } = await walt(
        server,
        "vpn",
        "setup-proxy",
        "--next",
        "nowhere.example.org",
        "-o",
        "/srv/note.sh",
      );
      expect(status).toBe(0);
      expect(stdout).toContain(
        "Note: nowhere.example.org does not resolve on this machine; it must on the proxy.",
      );
      expect(statSync(server.path("/srv/note.sh")).mode & 0o777).toBe(0o755);
    });

    test("--server: a machine that cannot be resolved or reached, in ssh's own words", async () => {
      for (const [host, said] of [
        ["nowhere.example.org", /Could not resolve hostname/],
        ["walt.lab.example:23", /Connection refused/],
      ] as const) {
        const { status, stderr } = await walt(operator, "node", "show", "--server", `ssh://${host}`);
        expect(status).toBe(1);
        expect(stderr).toMatch(said);
        expect(stderr).toContain(`walt: ssh to ${host.split(":")[0]} ended with status 255`);
      }
    });
  });

  describe("questions", () => {
    test("are not asked without a terminal: the option is named, and nothing written", async () => {
      for (const [args, option] of [
        [["vpn", "setup-proxy", "-o", "/srv/none"], "--next"],
        [["vpn", "setup-node", "-o", "/srv/none"], "--entrypoint"],
      ] as const) {
        for (const closed of ["</dev/null", "<&-"]) {
          const result = await server.run(["sh", "-c", `exec /srv/walt "$@" ${closed}`, "walt", ...args]);
          expectWords(result);
          expect([args, closed, result.status]).toEqual([args, closed, 2]);
          expect(result.stderr).toContain(`${option} is missing, and there is no terminal to ask on`);
        }
      }
      expect(existsSync(server.path("/srv/none"))).toBe(false);
    });

    test("a monitor whose input has ended can give no answer, and says so", async () => {
      for (const closed of ["</dev/null", "<&-"]) {
        const result = await server.run(["sh", "-c", `exec /srv/walt vpn monitor ${closed}`]);
        expectWords(result);
        expect([closed, result.status]).toEqual([closed, 1]);
        expect(result.stderr).toContain("standard input has ended");
      }
    });

    test("setup-proxy asks for the next hop, and takes the server for an empty answer", async () => {
      const asked = terminal(server, "/srv/walt vpn setup-proxy -o /srv/asked.sh");
      await asked.waitFor(
        /hostname or IP of the walt server, or next proxy in case of several hops \[walt\.lab\.example:2222\]: /,
      );
      asked.write("\r");
      expect(await asked.exited).toBe(0);
      expect(readFileSync(server.path("/srv/asked.sh"), "utf8")).toContain(
        'permitopen="walt.lab.example:2222"',
      );
      const wrong = terminal(server, "/srv/walt vpn setup-proxy -o /srv/none");
      await wrong.waitFor(/several hops/);
      wrong.write("not an address!\r");
      expect(await wrong.exited).toBe(2);
      expect(existsSync(server.path("/srv/none"))).toBe(false);
    });

    for (const [name, key] of [
      ["^C", "\u0003"],
      ["^D", "\u0004"],
    ] as const) {
      test(`${name} at a question ends the command, with nothing written`, async () => {
        const asked = terminal(server, "/srv/walt vpn setup-proxy -o /srv/none");
        await asked.waitFor(/several hops/);
        asked.write(key);
        expect(await asked.exited).not.toBe(0);
        expect(asked.output).not.toMatch(/this is a bug/);
        expect(existsSync(server.path("/srv/none"))).toBe(false);
      });
    }

    test("setup-node asks for the entrypoint, shows the host keys, and trusts them only after a yes", async () => {
      const sshd = await startSshd(server);
      try {
        const ask = async (answer: string): Promise<LabProcess> => {
          const asked = terminal(server, "/srv/walt vpn setup-node --board generic -o /srv/answered");
          await asked.waitFor(/hostname or IP of the VPN entrypoint/);
          asked.write("gate.example.org\r");
          await asked.waitFor(/Host keys of gate\.example\.org:22:\s[\s\S]*256 SHA256:\S+ .*\(ED25519\)/);
          await asked.waitFor(/Are these the host keys of your proxies\?.*\(yes\/no\): /);
          const after = asked.position;
          asked.write("perhaps\r");
          await asked.waitFor(/\(yes\/no\): /, { after });
          asked.write(`${answer}\r`);
          return asked;
        };
        const no = await ask("no");
        expect(await no.exited).toBe(1);
        expect(no.output).toContain("the host keys were not confirmed; nothing was written");
        expect(existsSync(server.path("/srv/answered"))).toBe(false);
        const yes = await ask("yes");
        expect(await yes.exited).toBe(0);
        const known = readFileSync(server.path("/srv/answered/known_hosts"), "utf8");
        for (const key of sshd.hostKeys) expect(known).toContain(`gate.example.org:22 ${key}\n`);
      } finally {
        await sshd.stop();
      }
    });
  });

  describe("from another machine", () => {
    let sshd: Sshd;
    beforeAll(async () => {
      sshd = await startSshd(server);
      const key = (
        await operator.must([
          "sh",
          "-c",
          "mkdir -m 700 -p /root/.ssh && ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519 && cat /root/.ssh/id_ed25519.pub",
        ])
      ).trim();
      operator.writeFile(
        "/root/.ssh/known_hosts",
        sshd.hostKeys.map((host) => `walt.lab.example ${host}\n`).join(""),
      );
      await server.must(["mkdir", "-m", "700", "-p", "/root/.ssh"]);
      server.writeFile("/root/.ssh/authorized_keys", `${key}\n`, 0o600);
    }, 120_000);
    afterAll(() => sshd?.stop());

    test("commands work through ssh, and leave nothing behind; without the daemon they say so", async () => {
      const there = ["--server", "ssh://root@walt.lab.example"];
      const shown = await walt(operator, "node", "show", "--json", ...there);
      expect([shown.status, shown.stdout, shown.stderr]).toEqual([0, "[]\n", ""]);
      const refused = await walt(operator, "vpn", "revoke", "vpn-000000", "--yes", ...there);
      expect([refused.status, refused.stderr]).toEqual([
        1,
        expect.stringContaining('there is no node "vpn-000000"'),
      ]);

      const monitor = operator.spawn(["/srv/walt", "vpn", "monitor", "--json", ...there]);
      await monitor.waitFor(/"watching"/);
      await world.daemon.waitFor(/event=monitor-began monitor=root monitors=1/);
      const position = world.daemon.position;
      expect(await monitor.stop("SIGINT")).toBe(0);
      await world.daemon.waitFor(/event=monitor-left/, { after: position });
      expect(operator.processes()).toEqual([]);
      expect(
        readdirSync(operator.path(`${operator.dir}/tmp`)).filter((name) => name.startsWith("walt-")),
      ).toEqual([]);

      await world.stopServer();
      const gone = await walt(operator, "node", "show", ...there);
      expect(gone.status).toBe(1);
      expect(gone.stderr).toMatch(
        /walt: no daemon on walt\.lab\.example: \/run\/walt-vpn\/server\.sock does not exist there\n.*systemctl start/,
      );
      await world.startServer();
    });

    test("a user who is not in the group is told so, and which group it is", async () => {
      await server.must(["useradd", "--create-home", "--shell", "/bin/sh", "alice"]);
      await server.must(["sh", "-c", "cp -r /root/.ssh ~alice/ && chown -R alice: ~alice/.ssh"]);
      const there = ["--server", "ssh://alice@walt.lab.example"];
      for (const args of [
        ["node", "show"],
        ["status", "--json"],
      ]) {
        const { status, stdout, stderr } = await walt(operator, ...args, ...there);
        expect([args, status, stdout]).toEqual([args, 1, ""]);
        expect(stderr).toContain(
          "alice may not use the server on walt.lab.example: /run/walt-vpn/server.sock is for root and the group walt",
        );
        expect(stderr).toContain(
          "On walt.lab.example: sudo usermod -aG walt alice. It counts from the next login there.",
        );
      }
      await server.must(["usermod", "-aG", "walt", "alice"]);
      expect((await walt(operator, "node", "show", "--json", ...there)).stdout).toBe("[]\n");
    });

    test("WALT_SERVER and a name of ~/.config/walt/config.toml are used as --server is", async () => {
      const typed = (env: Record<string, string>, ...args: string[]) =>
        operator.run(["/srv/walt", "status", "--json", ...args], { env: { HOME: "/root", ...env } });
      const addressOf = ({ stdout }: RunResult): unknown =>
        (JSON.parse(stdout) as { server: { address: string } }).server.address;
      const address = "ssh://root@walt.lab.example";
      operator.writeFile("/root/.config/walt/config.toml", `[servers]\nmunich = "${address}"\n`);
      expect(addressOf(await typed({ WALT_SERVER: "munich" }))).toBe(address);
      expect(addressOf(await typed({}, "--server", "munich"))).toBe(address);
      operator.writeFile(
        "/root/.config/walt/config.toml",
        `server = "munich"\n[servers]\nmunich = "${address}"\n`,
      );
      expect(addressOf(await typed({}))).toBe(address);
      const local = await typed({}, "--server", "local");
      expect([local.status, JSON.parse(local.stderr)]).toEqual([
        1,
        { error: "no daemon: /run/walt-vpn/server.sock does not exist", hint: expect.any(String), status: 1 },
      ]);
      operator.writeFile("/root/.config/walt/config.toml", "");
    });

    test("a server of another version there, or no walt at all, is told so in one line", async () => {
      const socket = server.path("/run/walt-vpn/server.sock");
      try {
        await world.stopServer();
        for (const [answer, said] of STRANGERS) {
          const command = ["node", "show", "--server", "ssh://root@walt.lab.example"];
          const { status, stdout, stderr } = await answering(socket, answer, () =>
            walt(operator, ...command),
          );
          expect([said, status, stdout]).toEqual([said, 1, ""]);
          expect(stderr).toStartWith(
            `walt: the server at ssh://root@walt.lab.example ${said.replace("VERSION", version)}`,
          );
          expect(stderr.trim().split("\n")).toHaveLength(2);
          rmSync(socket, { force: true });
        }
      } finally {
        await world.startServer();
      }
    });
  });
});
