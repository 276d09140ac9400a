/** Standard output and standard error of commands: full disks, readers that go, errors as JSON, help as wide as the terminal. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { apiHandler, serve } from "../../src/api/handler.ts";
import { SERVER } from "../../src/api/routes.ts";
import { createLog } from "../../src/log.ts";
import { DETAILS, EVENT, NODE, REGISTERED } from "../api/messages.ts";

const WALT = [process.execPath, join(import.meta.dir, "../../src/main.ts")];
const NODES = Array.from({ length: 500 }, (_, i) => ({ ...NODE, name: `lab-${i}` }));

let dir: string;
let server: Bun.Server<undefined>;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "walt-streams-"));
  const socket = join(dir, "server.sock");
  const handle = apiHandler(
    [
      serve(SERVER.nodes, () => NODES),
      serve(SERVER.node, () => DETAILS),
      serve(SERVER.troubles, () => []),
      serve(SERVER.requests, () => []),
      serve(SERVER.rotations, () => []),
      serve(SERVER.invitations, () => []),
      serve(SERVER.devices, () => [{ ...REGISTERED, state: "up" as const, revokedAt: null }]),
      serve(SERVER.events, () => [EVENT]),
    ],
    createLog(),
  );
  server = Bun.serve({ unix: socket, fetch: (request) => handle(request, "root") });
  writeFileSync(join(dir, "vpn.toml"), `role = "server"\n[server]\nsocket = "${socket}"\n`);
});
afterAll(async () => {
  await server.stop(true);
  rmSync(dir, { recursive: true });
});

/** What a shell says of a line in which `walt` is the command. */
async function shell(line: string): Promise<{ status: number; stdout: string; stderr: string }> {
  const child = Bun.spawn(["bash", "-c", `walt() { '${WALT.join("' '")}' "$@"; }; ${line}`], {
    env: { ...process.env, WALT_CONFIG: join(dir, "vpn.toml"), HOME: dir, WALT_SERVER: "" },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const [stdout, stderr, status] = await Promise.all([
    child.stdout.text(),
    child.stderr.text(),
    child.exited,
  ]);
  return { status, stdout, stderr };
}

const LISTINGS = [
  ...[
    "help",
    "version",
    "--version",
    "--help",
    "vpn --help",
    "help vpn accept",
    "config check",
    "config show",
  ],
  ...["status", "node show", "node show lab-3", "node show --json", "vpn list", "vpn requests", "vpn events"],
  ...["vpn token list", "vpn expect", "vpn rotate"],
];

describe.each(LISTINGS)("walt %s", (words) => {
  test("prints, and to a full disk it fails with status 1 and says so", async () => {
    const good = await shell(`walt ${words}`);
    expect([words, good.status, good.stdout.length > 0]).toEqual([words, 0, true]);
    const { status, stderr } = await shell(`walt ${words} > /dev/full`);
    expect([words, status, stderr]).toEqual([
      words,
      1,
      expect.stringMatching(/^walt: cannot write to standard output: .*no space left/m),
    ]);
  });
});

test("a reader that has gone is no error, and nothing is said", async () => {
  expect(await shell("set -o pipefail; walt node show --json | head -n 1")).toEqual({
    ...{ status: 0, stdout: "[\n", stderr: "" },
  });
});

test("with --json an error is one line of JSON on standard error, and standard output is empty", async () => {
  const json = await shell("walt node show nowhere --state down --json");
  expect([json.status, json.stdout]).toEqual([1, ""]);
  expect(JSON.parse(json.stderr)).toEqual({
    error: 'there is no node "nowhere"',
    hint: expect.stringContaining("walt node show"),
    status: 1,
  });
  const usage = await shell("walt node show --json --jsno");
  expect([usage.status, JSON.parse(usage.stderr)]).toEqual([2, expect.objectContaining({ status: 2 })]);
  const plain = await shell("walt node show nowhere --state down");
  expect(plain.stderr).toStartWith('walt: there is no node "nowhere"\n');
});

test("JSON of the configuration has values, and no TOML in strings", async () => {
  const rows = JSON.parse((await shell("walt config show --json")).stdout) as {
    key: string;
    value: unknown;
  }[];
  const values = Object.fromEntries(rows.map(({ key, value }) => [key, value]));
  expect(values).toMatchObject({
    role: "server",
    "server.listen": "[::]:2222",
    "server.network.managed": true,
    "server.network.mtu": 1500,
    "server.network.vlans": [],
  });
});

test("names and columns as typed", async () => {
  const { stdout } = await shell("walt node show 'lab-1?' --columns name,mac");
  expect(stdout.split("\n").slice(0, 3)).toEqual([
    "NAME    MAC",
    `lab-10  ${NODE.mac}`,
    `lab-11  ${NODE.mac}`,
  ]);
  const wrong = await shell("walt node show --columns nmae");
  expect([wrong.status, wrong.stderr]).toEqual([2, 'walt: there is no column "nmae"; did you mean name?\n']);
});

test("walt help explains a word that is none, and a group lists its commands", async () => {
  const typo = await shell("walt help vpn acept");
  expect([typo.status, typo.stderr]).toEqual([
    2,
    'walt: walt vpn has no command "acept"; did you mean accept?\n`walt vpn --help` explains it.\n',
  ]);
  expect((await shell("walt help vpn token")).stdout).toBe((await shell("walt vpn token --help")).stdout);
});

test("on a machine that is a device, walt status says where to look", async () => {
  writeFileSync(join(dir, "device.toml"), 'role = "device"\n');
  const { status, stderr } = await shell(`walt status --config ${dir}/device.toml`);
  expect([status, stderr]).toEqual([
    1,
    "walt: this machine is a device, and has no server\n`walt device status` shows how it is. Name a server with --server, or in WALT_SERVER.\n",
  ]);
});

/** Commands that run until they are stopped, or change this machine. */
const LASTING =
  /^(run|server run|proxy run|device run|server install|device install|proxy setup|server restore|image build)$/;

describe("without any program that is not in the binary", async () => {
  const { root } = await import("../../src/commands/root.ts");
  const { leaves } = await import("./leaves.ts");
  for (const [words, { examples }] of await leaves(root)) {
    const name = words.join(" ");
    if (LASTING.test(name)) continue;
    test(`walt ${name} is explained, and never called a bug`, async () => {
      const example = examples[0]?.replace(/^.*?(walt )/, "$1").replace(/ [#|&<>].*/, "") ?? "";
      const nobody = `cd '${dir}'; export PATH=/nonexistent; `;
      for (const line of [example, `${example} --server ssh://lab.example`]) {
        const { stderr } = await shell(`${nobody}${line}`);
        expect([line, stderr]).toEqual([line, expect.not.stringMatching(/this is a bug|\n\s+at /)]);
      }
    });
  }
});
