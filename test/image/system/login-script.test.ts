/**
 * The card's sshd and clock start only on cards that were made for them, with nothing but keys, and with a
 * host key of the board's own. The programs are stand-ins here that keep what they were told; the real ones
 * run on the emulated board.
 */

import { afterEach, beforeEach, expect, test } from "bun:test";
import type { ApiServer } from "../../../src/api/listen.ts";
import { serveStatus } from "../../../src/device/status.ts";
import { createLog } from "../../../src/log.ts";
import type { Host } from "../../lab/host.ts";
import { Lab } from "../../lab/lab.ts";
import { describeWith, LAB } from "../../lab/need.ts";
import { prepareBoard, said, until } from "../card-scripts.ts";

/** Keeps its arguments, and runs until it is ended. */
const DAEMON = `#!/bin/sh
echo "$*" >>"/run/\${0##*/}.asked"
exec sleep 1000
`;
/** A key is a file that is not empty. */
const KEYGEN = `#!/bin/sh
case $1 in
-y) [ -s "$3" ] && echo "Fingerprint: SHA256:$(cat "$3")" ;;
-t) cat /proc/sys/kernel/random/uuid >"$4" ;;
esac
`;
const KEY = "ssh-ed25519 AAAA ada\n";

describeWith([LAB, { programs: ["busybox", "nc.openbsd"] }], "the card's login and clock", () => {
  let lab: Lab;
  let board: Host;
  let supervisor: ApiServer | undefined;

  beforeEach(async () => {
    lab = await Lab.create();
    board = await lab.host("board");
    await prepareBoard(board);
    await board.must(["sh", "-c", "mkdir -p /var/lib/walt-vpn"]);
    // The scripts let the supervisor go first.
    const never = (): never => {
      throw new Error("nobody asks for it");
    };
    const socket = board.path("/run/walt-vpn/device.sock");
    supervisor = await serveStatus(socket, { status: never, illness: () => undefined }, createLog());
    for (const name of ["dropbear", "chronyd"]) board.writeFile(`/usr/local/bin/${name}`, DAEMON, 0o755);
    board.writeFile("/usr/local/bin/dropbearkey", KEYGEN, 0o755);
  });
  afterEach(async () => {
    await supervisor?.stop();
    await lab.stop();
  });

  const script = (name: string): string[] => ["busybox", "sh", `/usr/lib/walt/${name}`];
  const hostKey = (): Promise<string> => board.must(["cat", "/var/lib/walt-vpn/host_key"]);

  /** Start the login script, and end it when its sshd runs. */
  async function login(): Promise<string> {
    await board.must(["rm", "-f", "/run/dropbear.asked"]);
    const running = board.spawn(script("login"));
    await until(board, "[ -s /run/dropbear.asked ]");
    await running.stop("SIGKILL", { tree: true });
    return await board.must(["cat", "/run/dropbear.asked"]);
  }

  test("neither starts on a card that was not made for it", async () => {
    expect((await board.run(script("login"))).status).toBe(0);
    expect((await board.run(script("clock"))).status).toBe(0);
    expect(await board.must(["sh", "-c", "ls /run /var/lib/walt-vpn"])).not.toMatch(/asked|host_key/);
  }, 120_000);

  test("sshd takes the card's keys and no passwords; the host key is made once, and again when it was cut short", async () => {
    board.writeFile("/boot/authorized_keys", KEY);
    expect(await login()).toMatch(/^-F -E -s -p 22 -r \/var\/lib\/walt-vpn\/host_key /);
    expect(await board.must(["cat", "/root/.ssh/authorized_keys"])).toBe(KEY);
    expect(await board.must(["stat", "-c", "%a", "/root/.ssh", "/root/.ssh/authorized_keys"])).toBe(
      "700\n600\n",
    );
    const first = await hostKey();
    await said(board, /root may log in by ssh with the card.s keys; host key SHA256:[0-9a-f-]+/);
    await login();
    expect(await hostKey()).toBe(first);
    board.writeFile("/var/lib/walt-vpn/host_key", "");
    await login();
    expect(await hostKey()).not.toBe("");
    expect(await hostKey()).not.toBe(first);
    expect(await board.must(["ls", "/var/lib/walt-vpn"])).toBe("host_key\n");
  }, 120_000);

  test("the clock follows the card's servers, and nobody else asks it", async () => {
    board.writeFile("/boot/os.txt", "ntp ntp.example.org\nntp 192.0.2.9\n");
    board.spawn(script("clock"));
    await until(board, "[ -s /run/chronyd.asked ]");
    expect(await board.must(["cat", "/run/chronyd.asked"])).toMatch(
      /server ntp\.example\.org iburst server 192\.0\.2\.9 iburst makestep 1 -1 rtcsync port 0 cmdport 0 /,
    );
  }, 120_000);
});
