/** Garbage, half messages, and a megabyte where a kilobyte is expected, on every protocol: the daemons live and say what was wrong. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync } from "node:fs";
import { createConnection } from "node:net";
import { join } from "node:path";
import { encodeChallenge } from "../../src/enrolment/messages.ts";
import { messageOf } from "../../src/errors.ts";
import type { RunResult } from "../../src/linux/run.ts";
import { waltBinary } from "../lab/binary.ts";
import type { Host } from "../lab/host.ts";
import { Lab } from "../lab/lab.ts";
import { describeWith } from "../lab/need.ts";
import type { LabProcess } from "../lab/process.ts";
import { startSshd } from "../lab/sshd.ts";
import { INTEGRATION, World, type WorldDevice } from "../lab/world.ts";

const HOSTILE = join(import.meta.dir, "hostile.ts");
const MEGABYTE = 1 << 20;
/** What must not get into a log or onto a terminal: control and format characters, line breaks left out. */
const UNSAFE = /[^\P{C}\n]/u;
const SERVER = ["walt.lab.example", "2222"];

/**
 * OpenSSH by hand to the server's endpoint, which says `input`, and then goes or (`hold`) stays. Paths are the host's.
 */
async function ssh(
  host: Host,
  key: string,
  command: string,
  input: string | Uint8Array,
  hold = false,
): Promise<RunResult> {
  await Bun.write(host.path("/srv/input"), input);
  const options = [
    "BatchMode=yes",
    "IdentitiesOnly=yes",
    "UserKnownHostsFile=/etc/walt/known_hosts",
    "HostKeyAlias=walt-server",
  ];
  const words = [
    ...["ssh", "-F", "/dev/null", "-T", "-i", key, ...options.flatMap((o) => ["-o", o])],
    ...["-l", "walt-vpn", "-p", "2222", "walt.lab.example", command],
  ];
  // A pipe that ssh itself has open for writing, too, has no end.
  const script = hold
    ? 'rm -f /srv/pipe && mkfifo /srv/pipe && { cat /srv/input > /srv/pipe & exec "$@" <> /srv/pipe; }'
    : 'exec "$@" < /srv/input';
  return await host.run(["sh", "-c", script, "sh", ...words]);
}

/** Bytes to a UNIX socket, and what comes back until the other side closes. */
function toSocket(path: string, bytes: string | Uint8Array): Promise<string> {
  return new Promise((resolve) => {
    let said = "";
    const socket = createConnection(path, () => socket.end(bytes));
    const done = (): void => {
      socket.destroy();
      resolve(said);
    };
    socket.on("data", (data) => {
      said += String(data);
    });
    socket.on("error", done);
    socket.on("close", done);
  });
}

const NOT_HTTP: Record<string, string | Uint8Array> = {
  nothing: "",
  zeros: new Uint8Array(10_000),
  "a banner of SSH": "SSH-2.0-OpenSSH_9.2\r\n\r\n",
  "half a request": "GET /v1/no",
  "a request without a version": "GET\r\n\r\n",
  "a length that is none": "POST /v1/requests/1 HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n{}",
  "a body shorter than announced":
    'POST /v1/requests/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"by"',
  "a path of a megabyte": `GET /v1/${"x".repeat(MEGABYTE)} HTTP/1.1\r\nHost: x\r\n\r\n`,
  "a header of a megabyte": `GET /v1/nodes HTTP/1.1\r\nHost: ${"x".repeat(MEGABYTE)}\r\n\r\n`,
  "a body of a megabyte": `POST /v1/requests/1 HTTP/1.1\r\nHost: x\r\nContent-Length: ${MEGABYTE}\r\n\r\n${"x".repeat(MEGABYTE)}`,
  "chunks that are none":
    "POST /v1/requests/1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzzzz\r\n",
};

describeWith(INTEGRATION, "garbage to the server", () => {
  let world: World;
  let device: WorldDevice;
  let node: string;

  beforeAll(async () => {
    world = await World.create({ proxies: 0 });
    device = await world.device("device1");
    node = await device.enrol();
    await device.stop();
  }, 120_000);
  afterAll(() => world?.lab.stop());

  /** The daemon is the same one, and answers. */
  async function expectAlive(): Promise<void> {
    expect(world.daemon.ended).toBeUndefined();
    expect((await world.nodes()).map((n) => n.name)).toEqual([node]);
    expect(world.daemon.output).not.toMatch(/internal error|TypeError|\n\s+at /);
  }

  const client = (...args: string[]) => device.host.spawn([process.execPath, HOSTILE, ...args]);
  const ENROLMENT = "/etc/walt/enrolment_key";
  const DEVICE = "/var/lib/walt-vpn/device_key";

  test("200 connections of garbage and silence at the endpoint: who keeps to the rules is served meanwhile", async () => {
    const attack = client("flood", ...SERVER, "200");
    await attack.waitFor(/open 200/);
    await expectAlive();
    const position = world.daemon.position;
    device.start();
    await world.daemon.waitFor(/event=tunnel-up/, { after: position });
    await attack.closeInput();
    expect(await attack.exited).toBe(0);
    expect((await world.nodes())[0]?.state).toBe("up");
    expect(await device.stop()).toBe(0);
    await expectAlive();
  });

  test("clients that go in the middle of the handshake", async () => {
    for (let i = 0; i < 3; i++) {
      const attack = client("flood", ...SERVER, "50");
      await attack.waitFor(/open 50/);
      await attack.stop("SIGKILL");
    }
    await expectAlive();
  });

  test("a user name or a command of a megabyte", async () => {
    for (const what of ["user", "command"]) {
      const attack = client("ssh", ...SERVER, ENROLMENT, what, String(MEGABYTE));
      expect(await attack.exited).toBe(0);
      expect(attack.stdout).toMatch(/^(error|closed)/);
    }
    // What fits into a packet of SSH gets words.
    const long = client("ssh", ...SERVER, ENROLMENT, "command", "30000");
    await long.exited;
    expect(long.stdout).toMatch(/^said walt: the command "x+…" is not allowed; this key may run: enrol/);
    await expectAlive();
  });

  for (const [name, input, said] of [
    ["a line of a megabyte", "x".repeat(MEGABYTE), /a line is longer than 8192 bytes/],
    ["ten megabytes of lines", '{"version":1}\n'.repeat(750_000), /mac must be a string/],
    ["bytes at random", crypto.getRandomValues(new Uint8Array(4000)), /not JSON|longer than 8192/],
    ["half a line", '{"version":1,"mac":"b8', /went away before it sent its request/],
    ["nothing", "", /went away before it sent its request/],
    ["no object", "[]\n", /expected an object, found an array of 0 values/],
    ["escape sequences", '{"version":1,"mac":"\u001b[2J\u009b\u202e"}\n', /not JSON|mac must be/],
  ] as const) {
    test(`enrolment: ${name}`, async () => {
      const position = world.daemon.position;
      const { stdout } = await ssh(device.host, ENROLMENT, "enrol", input);
      const replies = stdout
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line) as Record<string, unknown>);
      expect(replies[0]).toMatchObject({ walt: "enrolment", version: 1 });
      if (said.source.startsWith("went")) expect(replies.length).toBeLessThanOrEqual(2);
      else
        expect(replies[1]).toMatchObject({
          type: "denied",
          reason: "invalid",
          message: expect.stringMatching(said),
        });
      await world.daemon.waitFor(new RegExp(`not a valid enrolment request .*(${said.source})`), {
        after: position,
      });
      expect(world.daemon.output).not.toMatch(UNSAFE);
      await expectAlive();
    });
  }

  const hello = [0, 0, 0, 8, 1, 0, 5, 220, 0, 0, 0, 0];
  for (const [name, input, said] of [
    [
      "bytes at random, from the first on",
      [0xde, 0xad, 0xbe, 0xef, ...crypto.getRandomValues(new Uint8Array(1000))],
      /unknown type 222/,
    ],
    ["text", [...Buffer.from("SSH-2.0-OpenSSH_9.2\r\n")], /unknown type 83/],
    ["no hello", [2, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0], /HELLO/],
    ["half a hello", hello.slice(0, 7), undefined],
    ["a hello of another version", [0, 0, 0, 8, 9, 0, 5, 220, 0, 0, 0, 0], /version 9/],
    ["a hello and half a frame", [...hello, 1, 0, 0, 100, 1, 2, 3], undefined],
    ["a hello and a message that is too long", [...hello, 1, 0xff, 0xff, 0xff], /16777215/],
    ["a hello and a frame that is too short", [...hello, 1, 0, 0, 1, 0], /a frame of 1 bytes/],
    ["two hellos", [...hello, ...hello], /HELLO/],
    [
      "a hello and a megabyte at random",
      [...hello, 10, ...crypto.getRandomValues(new Uint8Array(60_000))],
      /unknown type 10/,
    ],
  ] as const) {
    test(`tunnel: ${name}`, async () => {
      const position = world.daemon.position;
      await ssh(
        device.host,
        DEVICE,
        "tunnel via=ssh://walt.lab.example:2222",
        Uint8Array.from(input),
        said !== undefined,
      );
      const [line] = await world.daemon.waitFor(/event=tunnel-down .*reason=.*/, { after: position });
      expect(line).toMatch(said ?? /reason="[^"]{5,}"/);
      await expectAlive();
      expect(await world.server.must(["ip", "-o", "link"])).not.toContain("tap-");
    });
  }

  test("tunnel: a command that is none, or says a way that is none", async () => {
    for (const command of [
      "tunnel",
      "tunnel ",
      "tunnel via=",
      "tunnel via=$(id)",
      "tunnel via=a b",
      "tunnel via=a,,b",
      "tunnel via=\u001b[2J",
      "renew now",
      `tunnel via=${"x".repeat(5000)}`,
    ]) {
      const { status, stdout, stderr } = await ssh(device.host, DEVICE, command, "");
      expect([command, status, stdout]).toEqual([command, 1, ""]);
      expect(stderr).toStartWith("walt: ");
      expect(stderr.replaceAll("\r\n", "\n")).not.toMatch(UNSAFE);
    }
    await expectAlive();
  });

  for (const [name, bytes] of Object.entries(NOT_HTTP)) {
    test(`the API's socket: ${name}`, async () => {
      const said = await toSocket(world.server.path("/run/walt-vpn/server.sock"), bytes);
      expect(said).not.toMatch(/^HTTP\/1\.1 (200|5)/);
      await expectAlive();
    });
  }
});

describeWith(INTEGRATION, "garbage to a device", () => {
  let lab: Lab;
  let device: Host;
  let fake: Host;
  let binary: string;

  /** A server that is none: sshd lets the device in and runs /srv/say whatever it asks for. */
  beforeAll(async () => {
    binary = await waltBinary();
    lab = await Lab.create();
    fake = await lab.host("fake");
    device = await lab.host("device1");
    await fake.must(["useradd", "-m", "-s", "/bin/sh", "walt-vpn"]);
    const sshd = await startSshd(fake, { port: 2222 });
    mkdirSync(device.path("/etc/walt"), { recursive: true });
    const key = (
      await device.must([
        "sh",
        "-c",
        "ssh-keygen -q -t ed25519 -N '' -f /etc/walt/enrolment_key && cat /etc/walt/enrolment_key.pub",
      ])
    ).trim();
    fake.writeFile("/home/walt-vpn/.ssh/authorized_keys", `command="sh /srv/say" ${key}\n`);
    device.writeFile("/etc/walt/known_hosts", `walt-server ${sshd.hostKeys[0]}\n`);
    device.writeFile(
      "/etc/walt/vpn.toml",
      `role = "device"\n[device]\nentrypoint = "ssh://${fake.address()}:2222"\n[device.vm]\nstart = false\n`,
    );
  }, 120_000);
  afterAll(() => lab?.stop());

  const greeting = `printf '%s\\n' '${encodeChallenge(Buffer.alloc(32, 7)).trim()}'`;
  const afterRequest = (say: string): string => `${greeting}\nread line\n${say}`;
  for (const [name, script, said] of [
    ["nothing", "exit 0", /ended the connection before it greeted/],
    ["an error of its shell", "echo oops >&2; exit 3", /oops|ended the connection/],
    [
      "bytes at random",
      "head -c 4000 /dev/urandom; echo; cat",
      /the server's greeting: it is not JSON|longer than 8192 bytes/,
    ],
    ["a line without end", "cat /dev/zero", /a line is longer than 8192 bytes/],
    ["lines without end", "yes hello", /the server's greeting: it is not JSON: string "hello"/],
    [
      "another version",
      `printf '%s\\n' '{"walt":"enrolment","version":7}'; cat`,
      /speaks version 7 of the enrolment protocol/,
    ],
    [
      "escape sequences",
      "printf '\\033[2J\\302\\233x\\342\\200\\256\\n'; cat",
      /not JSON: string "\\u001b\[2J\\u009bx\\u202e"|not JSON: string \S+u001b/,
    ],
    ["half a reply", afterRequest(`printf '{"type":"pend'`), /ended the connection before it answered/],
    [
      "no reply that there is",
      afterRequest(`echo '{"type":"maybe"}'; cat`),
      /type must be "pending" or "granted" or "denied"/,
    ],
    [
      "a reply of a megabyte",
      afterRequest("head -c 1048576 /dev/zero; cat"),
      /a line is longer than 8192 bytes/,
    ],
    [
      "credentials that are none",
      afterRequest(`echo '{"type":"granted","node":"../../x","mac":"x"}'; cat`),
      /the server's reply: node must be/,
    ],
  ] as const) {
    test(`${name} instead of an enrolment: the device says so, asks again, and has nothing`, async () => {
      fake.writeFile("/srv/say", `${script}\n`);
      const log = device.spawn([binary, "device", "run"]);
      await log.waitFor(said);
      const position = log.position;
      await log.waitFor(said, { after: position });
      const status = JSON.parse(await device.must([binary, "device", "status", "--json"])) as Record<
        string,
        unknown
      >;
      expect(String(status["lastError"])).toMatch(said);
      expect(status).toMatchObject({ node: null, tunnel: "down" });
      expect(log.output).not.toMatch(UNSAFE);
      expect(await log.stop("SIGTERM", { grace: 10_000 })).toBe(0);
      expect(await device.must(["ls", "/var/lib/walt-vpn"])).not.toContain("credentials");
    });
  }

  describe("its status socket", () => {
    let log: LabProcess;
    beforeAll(async () => {
      fake.writeFile("/srv/say", "exit 0\n");
      log = device.spawn([binary, "device", "run"]);
      await log.waitFor(/before it greeted/);
    });
    afterAll(async () => {
      expect(await log.stop("SIGTERM", { grace: 10_000 })).toBe(0);
    });
    for (const [name, bytes] of Object.entries(NOT_HTTP)) {
      test(name, async () => {
        const said = await toSocket(device.path("/run/walt-vpn/device.sock"), bytes).catch(messageOf);
        expect(said).not.toMatch(/^HTTP\/1\.1 (200|5)/);
        expect(log.ended).toBeUndefined();
        expect(JSON.parse(await device.must([binary, "device", "status", "--json"]))).toHaveProperty("stage");
      });
    }
  });
});
