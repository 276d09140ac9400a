/**
 * The card's own screen script, on a host of the laboratory in the place of a board: what it shows of a
 * supervisor's status.
 */

import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { DeviceStatus } from "../../../src/api/device-status.ts";
import type { ApiServer } from "../../../src/api/listen.ts";
import { serveStatus } from "../../../src/device/status.ts";
import { createLog } from "../../../src/log.ts";
import type { Host } from "../../lab/host.ts";
import { Lab } from "../../lab/lab.ts";
import { describeWith, LAB } from "../../lab/need.ts";

const SCRIPTS = join(import.meta.dir, "../../../device/root/usr/lib/walt");
/** A file takes the place of the terminal: each writing to it begins at its start. */
const TERMINAL = "/run/terminal";

const PREPARE = `set -e
mkdir -p /run/over/upper /run/over/work /run/walt-vpn
mount -t overlay -o lowerdir=/usr/lib,upperdir=/run/over/upper,workdir=/run/over/work overlay /usr/lib
cp -r "$0" /usr/lib/walt
mount -t tmpfs boot /boot
: >/boot/vpn.toml
: >/run/console
mount --bind /run/console /dev/console
`;

const STATUS: DeviceStatus = {
  stage: "credentials",
  detail: "asking the server for access",
  lastError: null,
  nextTryIn: null,
  since: "2026-03-01T14:05:25.335Z",
  node: null,
  mac: null,
  code: "PG2WB-J9NS3",
  fingerprint: null,
  tunnel: "down",
  via: null,
  rtt: null,
  loss: null,
  traffic: null,
  vm: "off",
  usb: [],
  certificateRenewal: null,
};

describeWith([LAB, { programs: ["busybox", "nc.openbsd"] }], "the card's screen", () => {
  let lab: Lab;
  let board: Host;
  let supervisor: ApiServer | undefined;
  let status = STATUS;

  beforeEach(async () => {
    lab = await Lab.create();
    board = await lab.host("board");
    await board.must(["sh", "-c", PREPARE, SCRIPTS]);
    mkdirSync(board.path("/run/walt-vpn"), { recursive: true });
    status = STATUS;
    const socket = board.path("/run/walt-vpn/device.sock");
    supervisor = await serveStatus(socket, { status: () => status, illness: () => undefined }, createLog());
    board.spawn(["busybox", "sh", "/usr/lib/walt/screen", TERMINAL]);
  });
  afterEach(async () => {
    await supervisor?.stop();
    await lab.stop();
  });

  /** What is on the terminal once it has this text, without the sequences that the script itself writes. */
  async function shown(text: string): Promise<string> {
    await board.must(["sh", "-c", `until grep -qF -- "$0" ${TERMINAL}; do sleep 0.1; done`, text]);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what it is about
    return readFileSync(board.path(TERMINAL), "latin1").replaceAll(/\x1b\[[HJK]/g, "");
  }

  test("address, stage and code; then the node, the error, and how long until the next try, which is not logged", async () => {
    const code = "Code     PG2WB-J9NS3   (compare it with the one in walt vpn monitor)";
    expect(await shown("PG2WB")).toBe(
      `WalT device board\n\nAddress  ${board.address()}/24 (eth0)\nStage    credentials: asking the server for access\n${code}`,
    );
    const lastError = 'a "quoted" \\ word; it ends with \\';
    status = {
      ...status,
      stage: "proxies",
      detail: "it waits…",
      node: "vpn-010203",
      lastError,
      nextTryIn: 12,
    };
    expect(await shown("Next try in 12 s")).toEndWith(
      `\nStage    proxies: it waits...\nNode     vpn-010203\nError    ${lastError}\nNext try in 12 s`,
    );
    status = { ...status, nextTryIn: 0 };
    await shown("Next try in 0 s");
    // An error of the time before is none of an installer's business once all is up.
    status = { ...status, stage: "watch", detail: "tunnel and virtual machine are up", nextTryIn: null };
    expect(await shown("Stage    watch")).toEndWith(
      "\nStage    watch: tunnel and virtual machine are up\nNode     vpn-010203",
    );
    const log = readFileSync(board.path("/run/console"), "utf8");
    expect(log).toContain("walt-os: screen: Node     vpn-010203\n");
    expect(log).not.toMatch(/Next try/);
  }, 120_000);

  test("hostile words of a proxy or a server move, colour and hide nothing, and are no other field", async () => {
    const hostile =
      'x \u001b[2J\u001b]0;title\u0007 \u009b31m \u202e \r\n\t\u007f \u0000 é ","node":"vpn-666666","nextTryIn":9 %s $(id) `id` \\';
    status = { ...STATUS, lastError: hostile };
    const text = await shown("Error    x ");
    expect(text).toMatch(/^[\n -~]*$/);
    expect(text).toContain("Code     PG2WB-J9NS3 ");
    expect(text).toContain('","node":"vpn-666666","nextTryIn":9 %s $(id) `id` \\');
    expect(text.split("\n").filter((line) => /^(Node|Next)/.test(line))).toEqual([]);
    expect(readFileSync(board.path("/run/console"), "latin1")).toMatch(/^[\n -~]*$/);
  }, 120_000);
});
