/** The card's watchdog is fed while the real supervisor answers, and not when it hangs; the device is a FIFO here. */

import { expect, test } from "bun:test";
import { describeWith } from "../../lab/need.ts";
import { INTEGRATION, World } from "../../lab/world.ts";
import { prepareBoard, said, until } from "../card-scripts.ts";

/** Seconds of silence after which it is not fed any more; on a board 180. */
const LONGEST = 6;

describeWith([...INTEGRATION, { programs: ["busybox", "nc.openbsd"] }], "the watchdog", () => {
  test("is fed while the supervisor answers, and left to bite when it hangs", async () => {
    await using world = await World.create({ proxies: 0 });
    const device = await world.device("device1");
    const board = device.host;
    await prepareBoard(board);
    await board.must(["cp", "/etc/walt/vpn.toml", "/boot/vpn.toml"]);
    await board.must(["mkfifo", "/run/watchdog"]);
    const supervisor = device.start();
    board.spawn(["busybox", "sh", "/usr/lib/walt/screen"]);
    await until(board, "[ -f /run/walt-os.health ]");
    const hardware = board.spawn(["cat", "/run/watchdog"]);
    const feeder = board.spawn([
      "busybox",
      "sh",
      "/usr/lib/walt/watchdog",
      "/run/watchdog",
      `${LONGEST}`,
      "1",
    ]);

    await hardware.waitFor(/^(\.\n){8}/); // for longer than it may be silent
    expect(feeder.ended).toBeUndefined();
    const log = await board.must(["cat", "/run/console"]);
    expect(log).toContain("walt-os: screen: Stage");
    expect(log).not.toContain("did not answer");

    supervisor.kill("SIGSTOP");
    await said(board, /the supervisor did not answer for [0-9]+ s; the watchdog restarts the board/);
    supervisor.kill("SIGCONT");
    await hardware.exited;
    // No V among what it was written: it is not disarmed by being closed (the kernel's watchdog-api, "Magic Close").
    expect(hardware.output).toMatch(/^(\.\n)+$/);
    expect(await feeder.exited).toBe(1);
  }, 90_000);
});
