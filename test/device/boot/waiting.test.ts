/** How long devices wait: one alone as told, and many one after the other, so that no sshd drops any. */

import { describe, expect, test } from "bun:test";
import { retryWait } from "../../../src/device/boot/state.ts";
import { type Wait, waitTime } from "../../../src/device/boot/waiting.ts";
import { chance } from "../../tunnel/rig.ts";

const alone: Wait = { ms: 500, keepProxies: false, peers: { count: 1 }, lost: false, dropped: false };

describe("one wait", () => {
  const most = (o: Partial<Wait>): number => waitTime({ ...alone, ...o }, () => 1);
  const least = (o: Partial<Wait>): number => waitTime({ ...alone, ...o }, () => 0);

  test("of a device among few is as long as told, with a little jitter", () => {
    expect([least({}), most({ lost: true, peers: { count: 10 } })]).toEqual([500, 600]);
    expect(most({ ms: 0, lost: true, peers: { count: 1000 } })).toBe(0);
  });

  test("after a loss is longer by up to the time in which all have their turns; then the turn stays", () => {
    expect([least({ lost: true, peers: { count: 24 } }), most({ lost: true, peers: { count: 24 } })]).toEqual(
      [500, 2500],
    );
    const turn = { count: 24, turn: 12 };
    expect([least({ lost: true, peers: turn }), most({ lost: true, peers: turn })]).toEqual([1500, 1500]);
    expect([least({ peers: { count: 24 } }), most({ peers: { count: 24 } })]).toEqual([2000, 2000]);
    expect(most({ ms: 4000, peers: { count: 24 } })).toBe(4000);
  });

  test("over proxies that stay is that of the server, which takes more at once", () => {
    expect(most({ keepProxies: true, lost: true, peers: { count: 100 } })).toBe(600);
    expect(most({ keepProxies: true, lost: true, peers: { count: 500 } })).toBe(5500);
  });

  test("of a device that was dropped is spread, also when it knows of no peers", () => {
    expect([least({ dropped: true }), most({ dropped: true })]).toEqual([500, 2600]);
    expect(most({ dropped: true, peers: { count: 120 } })).toBe(10_500);
  });
});

/** sshd's MaxStartups 10:30:100, and how long a login takes: connections that are pending. */
const [BEGIN, RATE, FULL] = [10, 0.3, 100];
const LOGIN = 700;

/**
 * So many devices lose their proxy at 0, and it is back after `away` ms: ms from then until each is in again, and
 * how many connections were dropped. `turns`: the server has told each its turn.
 */
function outage(devices: number, away: number, turns = true): { back: number[]; drops: number } {
  const below = chance(scattered);
  const random = (): number => below(1_000_000) / 1_000_000;
  const wait = (turn: number, o: Partial<Wait>): number => {
    const peers = { count: devices, turn: turns ? turn : undefined };
    return waitTime({ ...alone, peers, ...o }, random);
  };
  const queue = Array.from({ length: devices }, (_, turn) => ({
    ...{ turn, at: wait(turn, { lost: true }), failures: 1 },
  }));
  const pending: number[] = [];
  const back: number[] = [];
  let drops = 0;
  for (;;) {
    const one = queue.sort((a, b) => b.at - a.at).pop();
    if (one === undefined) break;
    while ((pending[0] ?? Number.POSITIVE_INFINITY) <= one.at) pending.shift();
    const again = (o: Partial<Wait>): void => {
      const failures = one.failures + 1;
      queue.push({ ...one, at: one.at + wait(one.turn, { ms: retryWait(failures), ...o }), failures });
    };
    const { length } = pending;
    const share = length < BEGIN ? 0 : RATE + ((1 - RATE) * (length - BEGIN)) / (FULL - BEGIN);
    if (one.at < away) again({});
    else if (random() < share) {
      drops++;
      again({ dropped: true });
    } else {
      pending.push(one.at + LOGIN);
      back.push(one.at + LOGIN - away);
    }
  }
  return { back: back.sort((a, b) => a - b), drops };
}

/** A seed whose first numbers have nothing in common. */
const scattered = 0x5bd1e995;

describe("many devices behind one proxy", () => {
  test("40 and 100 are back within 10 s of an outage of any length, and none is dropped", () => {
    for (const devices of [40, 100])
      for (const away of [0, 3000, 10_000, 60_000]) {
        const { back, drops } = outage(devices, away);
        expect({ devices, away, drops }).toEqual({ devices, away, drops: 0 });
        expect(back).toHaveLength(devices);
        expect(back.at(-1)).toBeLessThan(10_000);
      }
  });

  test("1000 are back in the time that sshd needs for so many logins", () => {
    const { back, drops } = outage(1000, 30_000);
    expect({ length: back.length, drops }).toEqual({ length: 1000, drops: 0 });
    expect(back.at(-1)).toBeLessThan(85_000);
  });

  test("that were told no turns come back at random moments: few are dropped, and they are back soon after", () => {
    const { back, drops } = outage(100, 10_000, false);
    expect(drops).toBeLessThan(15);
    expect(back.at(-1)).toBeLessThan(20_000);
  });
});
