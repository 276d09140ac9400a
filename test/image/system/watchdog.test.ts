/**
 * The card's watchdog is fed while the real supervisor answers, and not when it hangs; the device is a FIFO
 * here.
 */

import { expect, test } from "bun:test";
import { serveStatus } from "../../../src/device/status.ts";
import { createLog } from "../../../src/log.ts";
import { Lab } from "../../lab/lab.ts";
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
    await until(board, ". /usr/lib/walt/common; ask /v1/health");
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
    expect(log).not.toContain("has not been well");

    supervisor.kill("SIGSTOP");
    await said(
      board,
      /the supervisor has not been well for [0-9]+ s .it does not answer.; the watchdog restarts the board/,
    );
    supervisor.kill("SIGCONT");
    await hardware.exited;
    // No V among what it was written: it is not disarmed by being closed (the kernel's watchdog-api, "Magic
    // Close").
    expect(hardware.output).toMatch(/^(\.\n)+$/);
    expect(await feeder.exited).toBe(1);
  }, 120_000);

  test("restarts a board whose supervisor answers, but says that it is not well; and says why", async () => {
    await using lab = await Lab.create();
    const board = await lab.host("board");
    await prepareBoard(board);
    let illness: string | undefined;
    const never = (): never => {
      throw new Error("nobody asks for it");
    };
    const api = await serveStatus(
      board.path("/run/walt-vpn/device.sock"),
      {
        status: never,
        illness: () => illness,
      },
      createLog(),
    );
    try {
      await board.must(["mkfifo", "/run/watchdog"]);
      const hardware = board.spawn(["cat", "/run/watchdog"]);
      const feeder = board.spawn(["busybox", "sh", "/usr/lib/walt/watchdog", "/run/watchdog", "4", "1"]);
      await hardware.waitFor(/^(\.\n){4}/);
      illness = "the supervisor is stopping";
      await said(board, /has not been well for [0-9]+ s .the supervisor is stopping.; the watchdog restarts/);
      expect(await feeder.exited).toBe(1);
    } finally {
      await api.stop();
    }
  }, 120_000);
});
