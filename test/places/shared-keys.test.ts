/** A card that was copied: two boards with one key. */

import { beforeEach, describe, expect, test } from "bun:test";
import { cpSync } from "node:fs";
import { type Board, SharedKeys, sharedCure, sharedText } from "../../src/server/shared-keys.ts";
import { describeWith } from "../lab/need.ts";
import { INTEGRATION, World } from "../lab/world.ts";

const A: Board = { mac: "b8:27:eb:00:00:0a", serialNumber: "a" };
const B: Board = { mac: "b8:27:eb:00:00:0b", serialNumber: "b" };
const DEVICE = { id: 7, boardMac: A.mac };

let now: number;
let keys: SharedKeys;
beforeEach(() => {
  now = 0;
  keys = new SharedKeys(() => now);
});

/** A tunnel comes up, and its board tells who it is; whether that is news. */
function tunnel(board: Board, device = DEVICE): boolean {
  now += 1000;
  keys.cameUp(device);
  return keys.seen(device, board);
}

describe("two boards are noticed", () => {
  test("when one comes back that the other has displaced, and told once", () => {
    expect([A, A, B, A, B, A].map((board) => tunnel(board))).toEqual([
      false,
      false,
      false,
      true,
      false,
      false,
    ]);
    expect(keys.boards(DEVICE)).toEqual([A.mac, B.mac]);
    expect(sharedText("lab-3", [A.mac, B.mac])).toBe(
      `lab-3: two devices use this key: MAC ${A.mac} and MAC ${B.mac}. ${A.mac} keeps the tunnel, the other waits`,
    );
    expect(sharedCure("lab-3", [A.mac, B.mac])).toContain(`walt node board lab-3 ${B.mac}`);
  });

  test("not when a card is moved to another board, nor when it is moved back on another day", () => {
    expect([tunnel(A), tunnel(B)]).toEqual([false, false]);
    now += 86_400_000;
    expect(tunnel(A)).toBe(false);
    expect(keys.boards(DEVICE)).toBeUndefined();
  });

  test("later when only their MAC addresses differ: a board may have two network cards", () => {
    const wireless = { ...A, mac: B.mac };
    expect([A, wireless, A, wireless, A].map((board) => tunnel(board))).toEqual([
      ...[false, false, false, false, true],
    ]);
  });
});

describe("the tunnel that is up", () => {
  const both = (device = DEVICE): void => [A, B, A].forEach((board) => void tunnel(board, device));

  test("stays if the registered board has it; the other one waits, for as long as it tries", () => {
    both();
    for (let minutes = 0; minutes < 60; minutes += 9) {
      expect(keys.keeps(DEVICE)).toBe(true);
      now += 9 * 60_000;
    }
    now += 600_000;
    expect(keys.keeps(DEVICE)).toBe(false);
  });

  test("goes to the board that an operator has named", () => {
    both();
    const settled = { ...DEVICE, boardMac: B.mac };
    expect(keys.keeps(settled)).toBe(false);
    tunnel(B, settled);
    expect(keys.keeps(settled)).toBe(true);
  });

  test("ends as ever while its board has not said which it is, and without a second board", () => {
    both();
    keys.cameUp(DEVICE);
    expect(keys.keeps(DEVICE)).toBe(false);
    expect(keys.keeps({ id: 8, boardMac: A.mac })).toBe(false);
  });
});

describeWith(INTEGRATION, "a device and its copy", () => {
  test("both are named, the first keeps the tunnel, and an operator gives it to the other", async () => {
    await using world = await World.create();
    const [first, copy] = [await world.device("device1"), await world.device("device2")];
    const node = await first.enrol();
    const state = "/var/lib/walt-vpn";
    cpSync(first.host.path(state), copy.host.path(state), { recursive: true });
    const monitor = await world.monitor("--json");
    copy.start();
    const [, board = "", other = ""] = await world.daemon.waitFor(
      /two devices use this key: MAC (\S+) and MAC (\S+?)\. /,
      { timeout: 120_000 },
    );
    expect((await world.list())[0]?.boardMac).toBe(board);
    await first.isUp();
    const { stderr, stdout } = await world.walt(world.server, "node", "show", node);
    expect(stderr).toContain(`Warning: ${node}: two devices use this key: MAC ${board} and MAC ${other}.`);
    expect(stdout).toContain(`two devices use this key: MAC ${board} and MAC ${other}`);
    expect(monitor.events()).toContainEqual({ type: "key-shared", node, boards: [board, other] });
    await copy.process?.waitFor(/two devices use this key/);

    await world.must(world.server, "node", "board", node, other);
    await copy.isUp();
    await first.process?.waitFor(/two devices use this key/);
    expect((await copy.status()).tunnel).toBe("up");
  }, 180_000);
});
